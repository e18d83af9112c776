import { expect, test } from "vitest";

import { retryAfter } from "./api";
import { date, openable, timeLeft } from "./format";
import { question, questions } from "./questions";

test("only http and https addresses are opened", () => {
  expect(openable("https://example.org/a")).toBe("https://example.org/a");
  for (const address of ["javascript:alert(1)", "file:///etc/passwd", "upload:a.md", "data:text/html,x", "//x", ""]) {
    expect(openable(address)).toBeNull();
  }
});

test("Retry-After is read as seconds and as a date", () => {
  expect(retryAfter("7")).toBe(7);
  expect(retryAfter("Thu, 01 Jan 1970 00:00:30 GMT", 10_000)).toBe(20);
  expect(retryAfter("soon")).toBeNull();
  expect(retryAfter(null)).toBeNull();
});

test("dates and durations read well, and odd ones do no harm", () => {
  expect(date("2024-05-01")).toBe("May 1, 2024");
  expect(date("in May")).toBe("in May");
  expect(date(null)).toBe("");
  expect(timeLeft(2)).toBe("a moment left");
  expect(timeLeft(42)).toBe("about 45 s left");
  expect(timeLeft(90)).toBe("about 2 min left");
  expect(timeLeft(null)).toBe("");
});

test("questions come from titles", () => {
  expect(question("How to add a source | Twin")).toBe("How do I add a source?");
  expect(question("Why spans?")).toBe("Why spans?");
  expect(question("Why spans are exact")).toBe("Why spans are exact?");
  expect(question("Sources")).toBe("What is there to know about “Sources”?");
  expect(questions(["Sources", "Sources", "x", "Guide"], 4)).toHaveLength(2);
});
