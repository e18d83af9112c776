import { expect, test } from "vitest";

import { retryAfter, traceparent } from "./api";
import { date, filters, milliseconds, openable, stages, timeLeft, verdicts } from "./format";
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

test("each request begins a recorded trace of its own, as W3C has it", () => {
  const made = Array.from({ length: 100 }, traceparent);
  for (const each of made) expect(each).toMatch(/^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01$/);
  expect(new Set(made).size).toBe(100);
});

test("an answer's path in words", () => {
  expect([0.04, 9.96, 42.4, 1234].map(milliseconds)).toEqual(["0.0 ms", "10.0 ms", "42 ms", "1.2 s"]);
  const none = { authors: [], sources: [], languages: [], since: null, until: null };
  expect(filters(none)).toBe("");
  expect(filters({ ...none, authors: ["alpha"], since: "2024-05-01" })).toBe("by alpha · since May 1, 2024");
  const verdict = (it: "quoted" | "unsupported") => ({ start: 0, end: 1, verdict: it, score: 0 });
  expect(verdicts([verdict("quoted"), verdict("unsupported"), verdict("quoted")])).toBe("2 quoted, 1 unsupported");
  const passage = (scores: Record<string, number>) => ({ scores }) as never;
  expect(stages([passage({ text: 1, confidence: 1 }), passage({ dense: 1, fused: 0 })])).toEqual([
    "dense",
    "text",
    "fused",
    "confidence",
  ]);
});
