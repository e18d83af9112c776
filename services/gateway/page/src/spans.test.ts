import { expect, test } from "vitest";

import { unitIndices, unitRange } from "./spans";

test("a code point beyond the basic plane is one position and two units", () => {
  const text = "a😀b𝒳c";
  expect(unitIndices(text, [0, 1, 2, 3, 4, 5])).toEqual([0, 1, 3, 4, 6, 7]);
  const [from, to] = unitRange(text, 1, 4);
  expect(text.slice(from, to)).toBe("😀b𝒳");
});

test("positions beyond the end stop at the end, in any order", () => {
  expect(unitIndices("ab", [9, 1, 2])).toEqual([2, 1, 2]);
});
