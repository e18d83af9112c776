import DOMPurify from "dompurify";
import { expect, test } from "vitest";

import { blocks, plain, spoken } from "./answer";
import type { Citation, Support } from "./types";

const cite = (number: number, answer_start: number, answer_end: number, title = `Title ${number}`): Citation => ({
  number,
  document_id: `d${number}`,
  version: 1,
  title,
  url: `https://example.org/${number}`,
  author: "alpha",
  heading: "",
  start: 0,
  end: 5,
  quote: "quote",
  answer_start,
  answer_end,
  published: null,
  chunk_id: "",
});
const unsupported = (start: number, end: number): Support => ({ start, end, verdict: "unsupported", score: 0 });

function shown(text: string, citations: Citation[] = [], support: Support[] = []): HTMLElement {
  const root = document.createElement("div");
  for (const block of blocks(text, citations, support)) root.append(block.nodes());
  return root;
}

test("a marker becomes a chip right after its claim, and an unknown number stays text", () => {
  const root = shown("**It rains.**[1] Or not [7].", [cite(1, 0, 13)]);
  expect(root.querySelector("strong")?.textContent).toBe("It rains.");
  expect(root.querySelectorAll(".chip")).toHaveLength(1);
  expect(root.querySelector("strong")?.nextElementSibling?.className).toBe("chip");
  expect(root.textContent).toContain("Or not [7].");
});

test("the same number twice opens the span of its own sentence", () => {
  const text = "First. [1] Second. [1]";
  const root = shown(text, [cite(1, 0, 6), cite(1, 11, 18)]);
  expect([...root.querySelectorAll<HTMLElement>(".chip")].map((chip) => chip.dataset.citation)).toEqual(["0", "1"]);
});

test("a citation whose marker is missing gets its chip at the end of its sentence, counted in code points", () => {
  const root = shown("😀 Claim. More.", [cite(1, 0, 8)]);
  expect(root.querySelector("p")?.textContent).toBe("😀 Claim.1 More.");
});

test("several numbers in one bracket are several chips", () => {
  const root = shown("Claim [1, 2].", [cite(1, 0, 6), cite(2, 0, 6)]);
  expect([...root.querySelectorAll(".chip")].map((chip) => chip.textContent)).toEqual(["1", "2"]);
});

test("brackets in code are code", () => {
  const root = shown("Take `row[1]` [1]\n\n```\na[1]\n```\n", [cite(1, 0, 13)]);
  expect(root.querySelector("p code")?.textContent).toBe("row[1]");
  expect(root.querySelector("pre")?.textContent).toBe("a[1]");
  expect(root.querySelectorAll(".chip")).toHaveLength(1);
});

test("an unsupported sentence is marked wherever it stands, and Markdown around it still parses", () => {
  const text = "Fine. **Bad claim.** Fine.\n\n- first\n- worse\n";
  const root = shown(text, [], [unsupported(6, 20), unsupported(28, 44)]);
  const marked = [...root.querySelectorAll(".unsupported")].map((span) => span.textContent);
  expect(marked).toEqual(["Bad claim.", "first", "worse"]);
  expect(root.querySelectorAll("li")).toHaveLength(2);
  expect(root.querySelector("strong")?.textContent).toContain("Bad claim.");
  expect(root.querySelectorAll(".said")).toHaveLength(3);
});

test("images and raw HTML are shown as they are written, and make no element", () => {
  const image = "![x](https://evil.example/a.png)";
  const tag = '<img src=x onerror="alert(1)">';
  const root = shown(`${image} and ${tag}\n\n<script>alert(1)</script>\n`);
  expect(root.querySelector("img, script")).toBeNull();
  expect(root.textContent).toContain(image);
  expect(root.textContent).toContain(tag);
  expect(root.textContent).toContain("<script>alert(1)</script>");
});

test("links go to http and https only, and open apart", () => {
  const root = shown(
    "[a](https://example.org/x) [b](javascript:alert(1)) [c](data:text/html,x) [d](//evil.example) <m@x.example>",
  );
  const links = [...root.querySelectorAll("a")];
  expect(links.map((link) => link.getAttribute("href"))).toEqual(["https://example.org/x"]);
  expect(links[0]!.rel).toContain("noopener");
  expect(links[0]!.target).toBe("_blank");
});

test("a title of hostile HTML is only a label's text", () => {
  const root = shown("Claim [1]", [cite(1, 0, 5, "<img src=x onerror=alert(1)>")]);
  expect(root.querySelector("img")).toBeNull();
  expect(root.querySelector(".chip")!.getAttribute("aria-label")).toContain("<img");
});

test("the placeholder's own signs in an answer stay themselves", () => {
  expect(shown("A ⸢0⸣ and ⸣ [1]", [cite(1, 0, 9)]).textContent).toBe("A ⸢0⸣ and ⸣ 1");
});

test("a block's key changes only with what it shows", () => {
  const before = blocks("One [1].\n\nTwo", [cite(1, 0, 3)], []);
  const after = blocks("One [1].\n\nTwo more", [cite(1, 0, 3)], []);
  expect(after[0]!.key).toBe(before[0]!.key);
  expect(after[1]!.key).not.toBe(before[1]!.key);
});

test("what is read aloud has no signs", () => {
  expect(spoken("## Head\n- **bold** [link](https://x.example) [1]\n")).toBe("Head bold link");
});

test("whatever is thrown at it, what comes out is what a sanitiser would leave as it is", () => {
  const hostile = [
    "<svg/onload=alert(1)>",
    "<img src=x onerror=alert(1)>\n\n<iframe src='https://evil.example'></iframe>",
    "[x](javascript:alert(1) 'title')",
    "[x](JaVaScRiPt:alert(1))\n[y](vbscript:x) [z](&#106;avascript:alert(1))",
    "![a](https://evil.example/x.png)![b][r]\n\n[r]: https://evil.example/y.png",
    "<https://example.org/?q=<script>alert(1)</script>>",
    "| <b onclick=x> | [a](data:text/html,x) |\n|---|---|\n| &lt;script&gt; | `<img>` |",
    "<style>@import 'https://evil.example/x.css'</style>\n<link rel=stylesheet href=https://evil.example>",
    "> <math><mtext><table><mglyph><style><img src onerror=alert(1)>\n> - [ ] <form action=https://evil.example>",
    "# <base href=https://evil.example>\n<meta http-equiv=refresh content='0;url=https://evil.example'>",
  ];
  for (const text of hostile) {
    const root = shown(text);
    const clean = DOMPurify.sanitize(root.innerHTML, { ADD_ATTR: ["target"] });
    expect(root.innerHTML).toBe(clean);
    expect(root.querySelector("img, script, style, iframe, link, form, svg, math, base, meta, object")).toBeNull();
    for (const link of root.querySelectorAll("a")) expect(link.protocol).toMatch(/^https?:$/);
  }
});

test("entities, escapes, lists, tables and headings read as Markdown has them", () => {
  const root = shown("# Top\n\nA &amp; B \\*c\\* &copy;\n\n3. three\n4. four\n\n| a | b |\n|---|---|\n| 1 | **2** |\n");
  expect(root.querySelector("h3")?.textContent).toBe("Top");
  expect(root.querySelector("p")?.textContent).toBe("A & B *c* &copy;");
  expect(root.querySelector("ol")?.start).toBe(3);
  expect(root.querySelector("td strong")?.textContent).toBe("2");
});

test("a chip within a link stands after it", () => {
  const root = shown("[the guide [1]](https://example.org)", [cite(1, 0, 10)]);
  expect(root.querySelector("a .chip")).toBeNull();
  expect(root.querySelectorAll(".chip")).toHaveLength(1);
});

test("escaped punctuation is read as what it stands for", () => {
  expect(plain("1\\. The snake\\_case rule")).toBe("1. The snake_case rule");
  expect(plain("\\*not bold\\* and **bold**, C:\\new")).toBe("*not bold* and bold, C:\\new");
});
