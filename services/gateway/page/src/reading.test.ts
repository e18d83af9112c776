import { expect, test } from "vitest";

import { isProgram, neighbourhood, readable } from "./reading";

const TEXT = [
  "# Head *one*\n\nA paragraph with **bold**, `code`, a [link](https://example.org)\nand 😀 on two lines.\n\n",
  "- item one\n- item two\n  goes on\n1. third\n\n> quoted\n> twice\n\n```python\nx = 1  # not a heading\n\ny = a[1]\n```\n\n",
  "| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n\n![alt](https://evil.example/x.png)\nlast line without end",
].join("");

const joined = (pieces: { text: string }[]) => pieces.map((piece) => piece.text).join("");

test("the pieces joined are the text again, and blocks follow one another without a gap", () => {
  const blocks = readable(TEXT, 0, 0);
  expect(joined(blocks.flatMap((block) => block.pieces))).toBe(TEXT);
  blocks.forEach((block, index) => expect(block.start).toBe(index ? blocks[index - 1]!.end : 0));
});

test("for every span, the highlighted pieces are exactly its code points", () => {
  const points = [...TEXT];
  for (let start = 0; start < points.length; start += 7) {
    for (const length of [1, 13, 90, points.length]) {
      const end = Math.min(points.length, start + length);
      const marked = readable(TEXT, start, end)
        .flatMap((block) => block.pieces)
        .filter((piece) => piece.highlighted);
      expect(joined(marked)).toBe(points.slice(start, end).join(""));
    }
  }
});

test("blocks are what Markdown says they are, and its signs are set apart", () => {
  const blocks = readable(TEXT, 0, 0);
  expect(blocks.map((block) => block.kind)).toEqual([
    "heading",
    "paragraph",
    "item",
    "item",
    "item",
    "quote",
    "code",
    "code",
    "rule",
    "paragraph",
  ]);
  const visible = (index: number) => joined(blocks[index]!.pieces.filter((piece) => piece.style !== "syntax"));
  expect(visible(0)).toBe("Head one");
  expect(visible(2)).toBe("item one");
  expect(visible(6)).toBe("x = 1  # not a heading\n\ny = a[1]");
  expect(visible(9)).toBe("alt\nlast line without end");
});

test("a program is one block, its comments no headings", () => {
  expect(isProgram("https://example.org/repo/main.py?ref=x")).toBe(true);
  expect(isProgram("file:guide.md")).toBe(false);
  const blocks = readable("# comment\nx = 1\n", 0, 9, true);
  expect(blocks.map((block) => block.kind)).toEqual(["code"]);
  expect(joined(blocks[0]!.pieces.filter((piece) => piece.highlighted))).toBe("# comment");
});

test("the neighbourhood holds the span and reaches no further than asked", () => {
  const text = Array.from({ length: 100 }, (_, i) => `Paragraph number ${i}.\n\n`).join("");
  const at = text.indexOf("Paragraph number 50.");
  const blocks = readable(text, at, at + 20);
  const [from, to] = neighbourhood(blocks, 60, 60);
  expect(from).toBeGreaterThan(45);
  expect(to).toBeLessThan(56);
  expect(blocks.slice(from, to).some((block) => block.pieces.some((piece) => piece.highlighted))).toBe(true);
});
