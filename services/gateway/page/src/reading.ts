/**
 * A document's text made readable, with one span of it highlighted.
 *
 * Comes in: cleaned text (Markdown, or source code) and a span in code points. Goes out: blocks of pieces; all pieces
 * joined are the text again, and the highlighted ones are exactly the span. Markdown's own signs are pieces of their
 * own, which the page hides. Does not know: the DOM. Nothing becomes a link or an image.
 */

import { unitRange } from "./spans";

export type Style = "text" | "syntax" | "strong" | "emphasis" | "code" | "link";

export interface Piece {
  text: string;
  style: Style;
  highlighted: boolean;
}

export interface Block {
  kind: "paragraph" | "heading" | "item" | "quote" | "code" | "rule";
  /** heading: 1 to 6; item: how deep it is set in, from 0. */
  level: number;
  /** UTF-16 range in the whole text. */
  start: number;
  end: number;
  pieces: Piece[];
}

const FENCE = /^[ \t]*(```+|~~~+)/;
const HEADING = /^(#{1,6})[ \t]+/;
const ITEM = /^([ \t]*)([-*+][ \t]+)/;
const NUMBERED = /^([ \t]*)\d{1,9}[.)][ \t]+/;
const QUOTE = /^[ \t]*>[ \t]?/;
const TABLE = /^[ \t]*\|/;
const RULE = /^[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*$/;
const INLINE = new RegExp(
  [
    /(?<image>!\[)(?<alt>[^\]\n]*)(?<imageEnd>\]\([^)\n]*\))/,
    /(?<link>\[)(?<label>[^\]\n]+)(?<linkEnd>\]\([^)\n]*\))/,
    /(?<tick>`)(?<code>[^`\n]+)(?<tickEnd>`)/,
    /(?<stars>\*\*)(?<strong>\S(?:.*?\S)?)(?<starsEnd>\*\*)/,
    /(?<![\w*])(?<star>\*)(?<emphasis>[^\s*](?:[^*\n]*[^\s*])?)(?<starEnd>\*)(?![\w*])/,
  ]
    .map((pattern) => pattern.source)
    .join("|"),
  "g",
);
const PROGRAM =
  /\.(?:py|pyi|js|mjs|jsx|ts|tsx|go|rs|java|kt|scala|swift|c|h|cc|cpp|hpp|cs|rb|php|sh|bash|sql|ya?ml|toml|json|css|scss|lua|r|proto|ini|cfg|xml|svelte|vue)$/i;

/** Whether the document at this address is source code as a whole. */
export function isProgram(address: string): boolean {
  return PROGRAM.test(address.replace(/[?#].*$/, ""));
}

/** The text in blocks, `start` to `end` (code points) highlighted; an empty span highlights nothing. */
export function readable(text: string, start: number, end: number, program = false): Block[] {
  const [from, to] = unitRange(text, start, end);
  const found = program ? [{ kind: "code", level: 0, start: 0, end: text.length } as const] : outline(text);
  return found.map((block) => ({ ...block, pieces: highlight(pieces(text, block), block.start, from, to) }));
}

/** The part of the blocks within `reach` UTF-16 units of the highlighted span (or of the beginning). */
export function neighbourhood(blocks: readonly Block[], above: number, below: number): [number, number] {
  const marked = (block: Block) => block.pieces.some((piece) => piece.highlighted);
  const first = Math.max(0, blocks.findIndex(marked));
  const last = Math.max(first, blocks.findLastIndex(marked));
  let from = first;
  let to = last;
  while (from > 0 && blocks[first]!.start - blocks[from - 1]!.start <= above) from -= 1;
  while (to < blocks.length - 1 && blocks[to + 1]!.end - blocks[last]!.end <= below) to += 1;
  return [from, to + 1];
}

type Outline = Omit<Block, "pieces">;

function outline(text: string): Outline[] {
  const found: Outline[] = [];
  let open: Outline | null = null;
  let fence = "";
  let at = 0;
  while (at < text.length) {
    const newline = text.indexOf("\n", at);
    const next = newline === -1 ? text.length : newline + 1;
    const line = text.slice(at, newline === -1 ? next : newline);
    if (fence) {
      open!.end = next;
      if (line.trim().startsWith(fence) && /^[`~]+$/.test(line.trim())) {
        fence = "";
        open = null;
      }
    } else if (!line.trim()) {
      // Blank lines belong to what stands above them.
      const above = found.at(-1);
      if (above) above.end = next;
      else found.push({ kind: "paragraph", level: 0, start: at, end: next });
      open = null;
    } else {
      const kind = kindOf(line);
      const goesOn: boolean =
        open !== null &&
        ((kind.kind === "paragraph" && open.kind !== "heading" && open.kind !== "rule" && open.kind !== "code") ||
          (kind.kind === open.kind && (kind.kind === "quote" || kind.kind === "code") && !kind.fence));
      if (goesOn) open!.end = next;
      else {
        open = { kind: kind.kind, level: kind.level, start: at, end: next };
        found.push(open);
        fence = kind.fence;
      }
    }
    at = next;
  }
  return found;
}

function kindOf(line: string): { kind: Block["kind"]; level: number; fence: string } {
  const fence = FENCE.exec(line);
  if (fence) return { kind: "code", level: 0, fence: fence[1]! };
  const heading = HEADING.exec(line);
  if (heading) return { kind: "heading", level: heading[1]!.length, fence: "" };
  if (RULE.test(line)) return { kind: "rule", level: 0, fence: "" };
  const item = ITEM.exec(line) ?? NUMBERED.exec(line);
  if (item)
    return { kind: "item", level: Math.min(3, Math.floor(item[1]!.replace(/\t/g, "  ").length / 2)), fence: "" };
  if (QUOTE.test(line)) return { kind: "quote", level: 0, fence: "" };
  if (TABLE.test(line)) return { kind: "code", level: 0, fence: "" };
  return { kind: "paragraph", level: 0, fence: "" };
}

type Plain = Omit<Piece, "highlighted">;

function pieces(text: string, block: Outline): Plain[] {
  const raw = text.slice(block.start, block.end);
  const body = raw.replace(/\n[\s]*$/, "");
  const tail: Plain[] = raw.length > body.length ? [{ text: raw.slice(body.length), style: "syntax" }] : [];
  if (block.kind === "rule") return [{ text: raw, style: "syntax" }];
  if (block.kind === "code") {
    const fenced = /^([ \t]*(?:```+|~~~+)[^\n]*(?:\n|$))([\s\S]*?)(\n?[ \t]*(?:```+|~~~+)[ \t]*)?$/.exec(body);
    if (!fenced) return [{ text: body, style: "text" }, ...tail];
    return [
      { text: fenced[1]!, style: "syntax" },
      { text: fenced[2]!, style: "text" },
      { text: fenced[3] ?? "", style: "syntax" },
      ...tail,
    ];
  }
  if (block.kind === "quote") {
    return [...body.split(/(?<=\n)/).flatMap((line) => signed(line, QUOTE)), ...tail];
  }
  if (block.kind === "heading") return [...signed(body, HEADING), ...tail];
  if (block.kind === "item" && ITEM.test(body)) return [...signed(body, ITEM), ...tail];
  return [...inline(body), ...tail];
}

function signed(line: string, sign: RegExp): Plain[] {
  const length = sign.exec(line)?.[0].length ?? 0;
  return [{ text: line.slice(0, length), style: "syntax" }, ...inline(line.slice(length))];
}

function inline(text: string): Plain[] {
  const found: Plain[] = [];
  let done = 0;
  for (const match of text.matchAll(INLINE)) {
    const groups = match.groups!;
    const style: Style = groups.code
      ? "code"
      : groups.strong
        ? "strong"
        : groups.emphasis || groups.image
          ? "emphasis"
          : "link";
    const opening = groups.image ?? groups.link ?? groups.tick ?? groups.stars ?? groups.star!;
    const closing = groups.imageEnd ?? groups.linkEnd ?? groups.tickEnd ?? groups.starsEnd ?? groups.starEnd!;
    found.push({ text: text.slice(done, match.index), style: "text" });
    found.push({ text: opening, style: "syntax" });
    found.push({ text: match[0].slice(opening.length, match[0].length - closing.length), style });
    found.push({ text: closing, style: "syntax" });
    done = match.index + match[0].length;
  }
  found.push({ text: text.slice(done), style: "text" });
  return found;
}

function highlight(plain: readonly Plain[], at: number, from: number, to: number): Piece[] {
  const found: Piece[] = [];
  for (const { text, style } of plain) {
    const cuts = [from - at, to - at].map((cut) => Math.min(Math.max(cut, 0), text.length)) as [number, number];
    const parts = [text.slice(0, cuts[0]), text.slice(cuts[0], cuts[1]), text.slice(cuts[1])];
    parts.forEach((part, index) => {
      if (part) found.push({ text: part, style, highlighted: index === 1 });
    });
    at += text.length;
  }
  return found;
}
