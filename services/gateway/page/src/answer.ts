/**
 * An answer's Markdown made into DOM, its citations into chips, its unsupported sentences marked.
 *
 * Comes in: text, citations and verdicts (spans in code points of that text). Goes out: blocks, each with the nodes to
 * show. Does not know: where text comes from; it trusts none of it. marked only reads the Markdown: its tokens become
 * elements of a fixed few kinds and text nodes, one by one, and no string is ever parsed as HTML. So raw HTML and
 * images are shown as the text they are written in, and a link has an address of http or https or is no link.
 *
 * Chips and marks are put into the Markdown as placeholders before it is read, because only there do the spans hold,
 * and are looked up again in the tokens. A placeholder is made of rare punctuation, so that emphasis and lists are read
 * around it as if around a bracket; that punctuation in the text itself becomes a placeholder too.
 */

import { Lexer, type Token, type Tokens } from "marked";

import { openable } from "./format";
import { unitIndices } from "./spans";
import type { Citation, Support } from "./types";

export interface Block {
  /** Changes when, and only when, the block must be shown anew. */
  key: string;
  nodes: () => DocumentFragment;
}

type Item =
  | { kind: "chip"; citation: number; number: number; literal: string }
  | { kind: "literal"; literal: string }
  | { kind: "open" | "close"; literal: "" };

interface Edit {
  at: number;
  remove: number;
  item: Item;
}

const OPEN = "⸢";
const CLOSE = "⸣";
const PLACEHOLDER = /⸢(\d+)⸣/g;
const MARKER = /\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]/g;
/** Where a Markdown block's own signs end and its words begin. */
const LINE_SIGNS = /^[ \t]*(?:(?:[-*+]|\d{1,9}[.)]|>|#{1,6})[ \t]+|>|\|[ \t]*)*/;
const NO_WORDS = /^(?:[\s|:=-]*|[ \t]*(?:```|~~~).*)$/;

/** The blocks of an answer, in order. */
export function blocks(text: string, citations: readonly Citation[], support: readonly Support[]): Block[] {
  const { source, items } = withPlaceholders(text, citations, support);
  return new Lexer({ gfm: true })
    .lex(source)
    .filter((token) => token.type !== "space" && token.type !== "def")
    .map((token) => ({
      key: token.raw.replace(PLACEHOLDER, (_, index: string) => signature(items[Number(index)]!)),
      nodes: () => new Painter(items, citations).paint([token]),
    }));
}

/** An answer without Markdown's signs and chips, for reading aloud. */
export function spoken(text: string): string {
  return plain(text.replace(MARKER, ""));
}

/** Where escaped punctuation waits, out of the way of what takes Markdown's marks off. */
const ESCAPED = 0xe000;

/** Words without Markdown's signs, for a glance at a passage. */
export function plain(text: string): string {
  return text
    .replace(/\\([!-/:-@[-`{-~])/g, (_, escaped: string) => String.fromCharCode(ESCAPED + escaped.charCodeAt(0)))
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^[ \t]*(?:[-+>]|\*(?!\*)|#{1,6})[ \t]+|^[ \t]*(?:```|~~~).*$/gm, "")
    .replace(/\*\*|`|(?<!\w)[*_]+(?=\S)|(?<=\S)[*_]+(?!\w)|\|/g, "")
    .replace(/[\ue000-\ue07f]/g, (each) => String.fromCharCode(each.charCodeAt(0) - ESCAPED))
    .replace(/\s+/g, " ")
    .trim();
}

function withPlaceholders(text: string, citations: readonly Citation[], support: readonly Support[]) {
  const edits = [...chipEdits(text, citations), ...markEdits(text, support), ...literalEdits(text)];
  for (const edit of edits) {
    const around = edits.find((other) => other.at < edit.at && edit.at < other.at + other.remove);
    if (around) edit.at = around.at + around.remove;
  }
  const rank = { close: 0, chip: 1, literal: 1, open: 2 };
  // What inserts goes before what replaces at the same place, an opening mark included.
  edits.sort(
    (a, b) => a.at - b.at || Number(a.remove > 0) - Number(b.remove > 0) || rank[a.item.kind] - rank[b.item.kind],
  );
  let source = "";
  let done = 0;
  edits.forEach((edit, index) => {
    source += text.slice(done, edit.at) + OPEN + index + CLOSE;
    done = edit.at + edit.remove;
  });
  return { source: source + text.slice(done), items: edits.map((edit) => edit.item) };
}

/** A chip in the place of each `[n]`, and at the end of a cited sentence that has none. */
function chipEdits(text: string, citations: readonly Citation[]): Edit[] {
  const ends = unitIndices(
    text,
    citations.map((citation) => citation.answer_end),
  );
  const starts = unitIndices(
    text,
    citations.map((citation) => citation.answer_start),
  );
  const edits: Edit[] = [];
  const shown = new Set<number>();
  for (const match of text.matchAll(MARKER)) {
    const numbers = match[1]!.split(",").map(Number);
    const chosen = numbers.map((number) => nearest(number, match.index));
    if (chosen.some((index) => index === -1)) continue;
    chosen.forEach((index, position) => {
      shown.add(index);
      edits.push({
        at: position === 0 ? match.index : match.index + match[0].length,
        remove: position === 0 ? match[0].length : 0,
        item: { kind: "chip", citation: index, number: numbers[position]!, literal: position === 0 ? match[0] : "" },
      });
    });
  }
  const length = [...text].length;
  const numbersShown = new Set([...shown].map((index) => citations[index]!.number));
  citations.forEach((citation, index) => {
    const arrived = citation.answer_end <= length;
    if (numbersShown.has(citation.number) || !arrived || citation.answer_end === 0) return;
    edits.push({
      at: ends[index]!,
      remove: 0,
      item: { kind: "chip", citation: index, number: citation.number, literal: "" },
    });
  });
  return edits;

  function nearest(number: number, at: number): number {
    let best = -1;
    let least = Infinity;
    citations.forEach((citation, index) => {
      if (citation.number !== number) return;
      const distance = at < starts[index]! ? starts[index]! - at : Math.max(0, at - ends[index]!);
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }
}

/** Each unsupported sentence between marks, line by line so that no mark reaches over a Markdown block's edge. */
function markEdits(text: string, support: readonly Support[]): Edit[] {
  const edits: Edit[] = [];
  for (const { start, end, verdict } of support) {
    if (verdict !== "unsupported") continue;
    const [from, to] = unitIndices(text, [start, end]) as [number, number];
    let line = from;
    while (line < to) {
      const newline = text.indexOf("\n", line);
      const stop = newline === -1 || newline > to ? to : newline;
      const words = text.slice(line, stop);
      const atLineStart = line === 0 || text[line - 1] === "\n";
      const open = line + (atLineStart ? LINE_SIGNS.exec(words)![0].length : 0);
      const close = line + words.replace(/[\s|]+$/, "").length;
      if (!NO_WORDS.test(words) && open < close) {
        edits.push({ at: open, remove: 0, item: { kind: "open", literal: "" } });
        edits.push({ at: close, remove: 0, item: { kind: "close", literal: "" } });
      }
      line = stop + 1;
    }
  }
  return edits;
}

function literalEdits(text: string): Edit[] {
  return [...text.matchAll(/[⸢⸣]/g)].map((match) => ({
    at: match.index,
    remove: 1,
    item: { kind: "literal", literal: match[0] },
  }));
}

function restored(text: string, items: readonly Item[]): string {
  return text.replace(PLACEHOLDER, (_, index: string) => items[Number(index)]!.literal);
}

function signature(item: Item): string {
  return item.kind === "chip" ? `${OPEN}${item.number}:${item.citation}${CLOSE}` : `${OPEN}${item.kind}${CLOSE}`;
}

/** Makes one block's tokens into nodes. */
class Painter {
  #unsupported = false;
  /** Within a link: chips found there, which stand after it. */
  #afterLink: Node[] | null = null;

  constructor(
    readonly items: readonly Item[],
    readonly citations: readonly Citation[],
  ) {}

  paint(tokens: readonly Token[]): DocumentFragment {
    const made = document.createDocumentFragment();
    made.append(...tokens.flatMap((token) => this.#nodes(token)));
    return made;
  }

  #nodes(token: Token): Node[] {
    switch (token.type) {
      case "paragraph":
        return [this.#element("p", token.tokens)];
      case "heading":
        return [this.#element(`h${Math.min(6, token.depth + 2)}` as "h3", token.tokens)];
      case "blockquote":
        return [this.#element("blockquote", token.tokens)];
      case "list":
        return [this.#list(token as Tokens.List)];
      case "table":
        return [this.#table(token as Tokens.Table)];
      case "code":
        return [this.#code(token.text)];
      case "hr":
        return [document.createElement("hr")];
      case "strong":
      case "em":
      case "del":
        return [this.#element(token.type, token.tokens)];
      case "codespan":
        return [this.#verbatim(token.text)];
      case "br":
        return [document.createElement("br")];
      case "link":
        return this.#link(token as Tokens.Link);
      case "escape":
        return this.#words(token.text);
      case "text":
        return token.tokens ? token.tokens.flatMap((inner) => this.#nodes(inner)) : this.#words(decoded(token.text));
      default:
        // Raw HTML, images, and whatever marked may learn to read: as written.
        return this.#words(token.raw);
    }
  }

  #element(name: keyof HTMLElementTagNameMap, tokens: readonly Token[] = []): HTMLElement {
    const element = document.createElement(name);
    element.append(this.paint(tokens));
    return element;
  }

  #list(token: Tokens.List): HTMLElement {
    const list = document.createElement(token.ordered ? "ol" : "ul");
    if (list instanceof HTMLOListElement && typeof token.start === "number") list.start = token.start;
    list.append(...token.items.map((item) => this.#element("li", item.tokens)));
    return list;
  }

  #table(token: Tokens.Table): HTMLElement {
    const table = document.createElement("table");
    table.tabIndex = 0;
    const head = table.createTHead().insertRow();
    head.append(...token.header.map((cell) => this.#element("th", cell.tokens)));
    const rows = table.createTBody();
    for (const row of token.rows) rows.insertRow().append(...row.map((cell) => this.#element("td", cell.tokens)));
    return table;
  }

  #code(text: string): HTMLElement {
    const block = document.createElement("pre");
    block.tabIndex = 0;
    block.append(this.#verbatim(text));
    return block;
  }

  /** Code: brackets in it are its own. A mark that ends within it must still end. */
  #verbatim(text: string): HTMLElement {
    const code = document.createElement("code");
    code.textContent = restored(text, this.items);
    for (const [, index] of text.matchAll(PLACEHOLDER)) {
      const { kind } = this.items[Number(index)]!;
      if (kind === "open" || kind === "close") this.#unsupported = kind === "open";
    }
    return code;
  }

  #link(token: Tokens.Link): Node[] {
    const address = openable(restored(token.href, this.items));
    if (!address) return token.tokens.flatMap((inner) => this.#nodes(inner));
    const link = document.createElement("a");
    link.href = address;
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
    link.title = address;
    this.#afterLink = [];
    link.append(this.paint(token.tokens));
    const after = this.#afterLink;
    this.#afterLink = null;
    return [link, ...after];
  }

  #words(text: string): Node[] {
    return text.split(PLACEHOLDER).flatMap((part, index) => {
      // Every second part is a placeholder's number.
      if (index % 2 === 0) return this.#text(part);
      const item = this.items[Number(part)]!;
      switch (item.kind) {
        case "literal":
          return this.#text(item.literal);
        case "open":
          this.#unsupported = true;
          return [];
        case "close":
          if (!this.#unsupported) return [];
          this.#unsupported = false;
          return [note()];
        case "chip": {
          const made = chip(item, this.citations[item.citation]!);
          if (!this.#afterLink) return [made];
          this.#afterLink.push(made);
          return [];
        }
      }
    });
  }

  #text(text: string): Node[] {
    if (!text) return [];
    if (!this.#unsupported) return [document.createTextNode(text)];
    const span = document.createElement("span");
    span.className = "unsupported";
    span.textContent = text;
    return [span];
  }
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** `&lt;` → `<`, as Markdown has it; what is not known stays as written. */
function decoded(text: string): string {
  return text.replace(/&(?:#(\d{1,6})|#x([\da-f]{1,5})|(\w{2,5}));/gi, (whole, decimal, hex, name) => {
    if (name) return ENTITIES[name as string] ?? whole;
    const point = decimal ? Number(decimal) : parseInt(hex as string, 16);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : (whole as string);
  });
}

function note(): HTMLElement {
  const sign = document.createElement("span");
  sign.className = "unsupported-note";
  sign.title = "No source given supports this sentence";
  const visible = document.createElement("span");
  visible.ariaHidden = "true";
  visible.textContent = "?";
  const said = document.createElement("span");
  said.className = "said";
  said.textContent = " (not supported by the sources) ";
  sign.append(visible, said);
  return sign;
}

function chip(item: { citation: number; number: number }, citation: Citation): HTMLElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.dataset.citation = String(item.citation);
  button.textContent = String(item.number);
  button.ariaLabel = `Source ${item.number}: ${citation.title || citation.url || "untitled"}`;
  return button;
}
