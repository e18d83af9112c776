/**
 * Code points and JavaScript's own units.
 *
 * Comes in: text, positions in Unicode code points (what the API speaks). Goes out: positions in UTF-16 units (what
 * strings here are indexed by). Does not know: documents, answers.
 */

/** UTF-16 index of each of `points` (code points, any order), clamped to the text's end. */
export function unitIndices(text: string, points: readonly number[]): number[] {
  const order = points.map((_, i) => i).sort((a, b) => points[a]! - points[b]!);
  const found = new Array<number>(points.length);
  let unit = 0;
  let point = 0;
  for (const i of order) {
    while (point < points[i]! && unit < text.length) {
      unit += text.codePointAt(unit)! > 0xffff ? 2 : 1;
      point += 1;
    }
    found[i] = unit;
  }
  return found;
}

/** UTF-16 half-open range of a code point range. */
export function unitRange(text: string, start: number, end: number): [number, number] {
  const [from, to] = unitIndices(text, [start, Math.max(start, end)]);
  return [from!, to!];
}
