"""A cleaned text cut into the passages that are embedded, searched and cited.

Comes in: a document's cleaned Markdown, its id and title, and the encoder whose tokens count. Goes out: chunks, each an
exact span of the text. Does not know: storage, vectors, how the text came.

What holds for every text and every encoder:
- The spans are in order, don't overlap, and every character that lies in none of them is white space.
- `embedded_text` fits the encoder's window whole.
- A heading is in the same span as the first text below it, and its path stands in `Chunk.heading` of every chunk
  below it. A path beyond a quarter of the window loses its elements from the left.
- A change in one place moves boundaries only near that place (`_anchors`).

How: the text is a row of units (sentences, list items, table rows, lines of code, headings), cut at anchors into
stretches, and each stretch into chunks by dynamic programming: sizes near TARGET, cuts where they hurt least. Linear in
the text.
"""

from __future__ import annotations

import math
import unicodedata
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import sentencex

from services.domain import Chunk, chunk_id
from services.feature.blocks import Block, blocks, width
from services.ports import Encoder

CHUNKER = "chunk/1"
"""Grows with every change that can give other chunks for the same text."""

TARGET = 0.8
"""Of the window: the size that chunks tend to (`make bench-retrieval` shows recall and IoU by size)."""
HEADING = 0.25
"""Of the window, at most: the path of headings."""
TABLE_HEADER = 0.19
"""Of the window, at most: the header row that a split table's later chunks carry with their heading."""
UNIT = 0.4
"""Of the window, at most: a longer sentence or line is cut between words. HEADING + TABLE_HEADER + UNIT < 1, so that
a unit always fits."""
WHOLE = 0.2
"""Of the window: a paragraph up to this is not cut between its sentences."""
SPREAD = 8
"""Characters that count as one token where the tokenizer sees fewer (white space in code, one endless word)."""
SENTENCES = 4096
"""Characters looked at for sentences at once."""
PIECE = 32_768
"""Characters tokenised at once."""
ANCHOR = 2.0
"""Targets: no two anchors are nearer to each other. Smaller: edits stay more local, sizes vary more."""

# What a cut before a unit costs, in the currency of a chunk's squared relative distance from the target size.
SECTION, PARAGRAPH, ITEM, SENTENCE, LINE, WORD, GLUED = 0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 10.0
MIXED = 0.35
"""What it costs that a chunk holds text of one more section."""


@dataclass(slots=True)
class _Unit:
    start: int
    end: int
    """Behind the last character that is not white space."""
    kind: str
    cost: float
    """Of a cut before it."""
    section: int = 0
    header: str = ""
    """The header row of the table that it is a later row of."""


def chunk(text: str, document_id: str, title: str, encoder: Encoder, language: str | None = None) -> list[Chunk]:
    """The chunks of a cleaned text, in order. `language` (ISO 639-1) guides the splitting into sentences.

    CPU-bound: call it in a thread. The encoder's tokenizer sees each character once for the cuts and once to check.
    """
    window = encoder.identity.window
    special = encoder.count([""])[0]
    found = blocks(text)
    tokens = _Tokens(text, found, encoder)
    units, paths = _units(text, found, tokens, title, window, language or "en")
    headings = _headings(paths, encoder, int(window * HEADING))
    reserved = encoder.count([heading + "\n" for heading in headings])
    spans: list[tuple[int, int, str, str]] = []
    room = [window - each for each in reserved]
    for first, last in _anchors(text, units, tokens, window * TARGET * ANCHOR):
        for i, j in _pack(units[first:last], tokens, room, window):
            part = units[first + i : first + j]
            heading = headings[part[0].section]
            if part[-1].section != part[0].section:
                heading = _shared(paths[part[0].section : part[-1].section + 1], headings[part[0].section])
            if part[0].header:
                heading = f"{heading} › {part[0].header}" if heading else part[0].header
            weight: Counter[str] = Counter()
            for unit in part:
                weight[unit.kind] += unit.end - unit.start
            spans.append((part[0].start, part[-1].end, heading, weight.most_common(1)[0][0]))
    return list(_finish(text, document_id, spans, encoder, window, special))


# ── Measuring ───────────────────────────────────────────────────────────────────────────────────────


class _Tokens:
    """Where the encoder's tokens begin, of the whole text."""

    def __init__(self, text: str, found: Sequence[Block], encoder: Encoder) -> None:
        self._starts: list[int] = []
        at = 0
        ends = [block.end for block in found]
        place = 0
        while at < len(text):
            # As many whole blocks as a piece holds; where one is longer, up to some white space in it.
            end = at
            while place < len(ends) and ends[place] - at <= PIECE:
                end = ends[place]
                place += 1
            if place == len(ends):
                end = max(end, min(len(text), at + PIECE))
            elif end == at:
                end = _cut(text, at, at + PIECE)
            spans = encoder.token_spans(text[at:end])
            self._starts += [start + at for start, _ in spans]
            at = end

    def before(self, places: Sequence[int]) -> list[int]:
        """How many tokens begin before each place."""
        return [bisect_left(self._starts, place) for place in places]

    def count(self, start: int, end: int) -> int:
        """How many begin within."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def between(self, start: int, end: int) -> list[int]:
        """Where those begin that begin within."""
        return self._starts[bisect_left(self._starts, start) : bisect_left(self._starts, end)]


def _size(tokens: int, characters: int) -> int:
    return max(tokens, -(-characters // SPREAD))


# ── Units ───────────────────────────────────────────────────────────────────────────────────────────


def _units(
    text: str, found: Sequence[Block], tokens: _Tokens, title: str, window: int, language: str
) -> tuple[list[_Unit], list[tuple[str, ...]]]:
    """The units in order, and each section's path of headings."""
    root = (title,) if title else ()
    paths: list[tuple[str, ...]] = [root]
    above: list[tuple[int, str]] = []
    units: list[_Unit] = []
    largest, whole = int(window * UNIT), int(window * WHOLE)
    counts = tokens.before([place for block in found for place in (block.start, block.end)])
    for number, block in enumerate(found):
        size = _size(counts[2 * number + 1] - counts[2 * number], block.end - block.start)
        glued = bool(units) and units[-1].kind == "heading"
        if block.kind == "heading":
            while above and above[-1][0] >= block.level:
                above.pop()
            above.append((block.level, block.title))
            words = tuple(words for _, words in above if words)
            same = bool(root and words) and words[0].casefold() == title.casefold()
            path = words if same else root + words
            if glued or not units:
                # Headings in a row open one section.
                paths[-1] = path
            else:
                paths.append(path)
        before = len(units)
        for start, end, cost, header in _pieces(text, block, size, tokens, largest, whole, window, language):
            units.append(_Unit(start, end, block.kind, cost, len(paths) - 1, header))
        if len(units) == before:
            continue
        first = units[before]
        if glued:
            first.cost = GLUED
        elif block.kind == "heading":
            first.cost = SECTION
        elif before and text[units[before - 1].end - 1] == ":":
            first.cost = max(first.cost, SENTENCE)  # "as follows:" belongs to what follows
    return units, paths


def _pieces(
    text: str, block: Block, size: int, tokens: _Tokens, largest: int, whole: int, window: int, language: str
) -> Iterator[tuple[int, int, float, str]]:
    """(start, end, cost of a cut before, table header) of a block's units; none is larger than `largest`."""
    parts: list[tuple[int, int, float]]
    header = ""
    if block.kind == "code":
        parts = list(_code_lines(text, block))
    elif block.kind == "table":
        lines = list(_lines(text, block.start, block.end))
        if len(lines) > 2:
            cells = " | ".join(cell.strip() for cell in text[slice(*lines[0])].strip().strip("|").split("|"))
            limit = int(window * TABLE_HEADER)
            if tokens.count(*lines[0]) <= limit and len(cells) <= limit * SPREAD:
                header = cells
        parts = [
            (start, end, PARAGRAPH if not place else GLUED if place <= 2 else ITEM)
            for place, (start, end) in enumerate(lines)
        ]
    else:
        cost = PARAGRAPH if block.kind != "list" else ITEM if block.item else SENTENCE
        if size <= whole or block.kind == "heading":
            parts = [(block.start, block.end, cost)]
        else:
            parts = [
                (start, end, SENTENCE if place else cost)
                for place, (start, end) in enumerate(_sentences(text, block.start, block.end, language))
            ]
    rows = 0
    for start, end, cost in parts:
        start, end = _trim(text, start, end, keep_indentation=block.kind in ("code", "list"))
        if start == end:
            continue
        if _size(tokens.count(start, end), end - start) <= largest:
            yield start, end, cost, header if rows > 2 else ""
            rows += 1
            continue
        for place, (piece_start, piece_end) in enumerate(_words(text, start, end, tokens, largest)):
            yield piece_start, piece_end, WORD if place else cost, header if rows > 2 or (rows and place) else ""
        rows += 1


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        newline = text.find("\n", start, end)
        stop = end if newline < 0 else newline + 1
        yield start, stop
        start = stop


def _code_lines(text: str, block: Block) -> Iterator[tuple[int, int, float]]:
    """Lines; a cut is cheapest where a new outermost piece begins after a white line."""
    blank, number = False, 0
    for start, end in _lines(text, block.start, block.end):
        line = text[start:end]
        if line.isspace():
            blank = True
            continue
        outermost = width(line) == 0
        cost = ITEM if blank and outermost else SENTENCE if blank else LINE if outermost else WORD
        if number == 0:
            cost = PARAGRAPH
        elif number == 1 and text.startswith(("```", "~~~"), block.start):
            cost = GLUED
        elif line.lstrip().startswith(("```", "~~~", "}", ")", "]")):
            cost = GLUED  # what closes belongs to what it closes
        yield start, end, cost
        blank = False
        number += 1


def _sentences(text: str, start: int, end: int, language: str) -> Iterator[tuple[int, int]]:
    while start < end:
        # A window at a time, for sentencex takes quadratic time where quotation marks don't pair; the last sentence of
        # a window may go on in the next one.
        stop = min(end, start + SENTENCES)
        found = sentencex.segment(language, text[start:stop])
        if stop < end and len(found) > 1:
            found = found[:-1]
        for sentence in found:
            yield start, start + len(sentence)
            start += len(sentence)


def _words(text: str, start: int, end: int, tokens: _Tokens, largest: int) -> Iterator[tuple[int, int]]:
    """Pieces of at most `largest`: cut at a line's end, else between words, else between tokens, else anywhere."""
    step = max(1, largest // 2)
    starts = tokens.between(start, end)
    at = start
    place = 0
    while at < end:
        limit = min(end, at + largest * SPREAD)
        while place < len(starts) and starts[place] <= at:
            place += 1
        if place + step < len(starts) and starts[place + step] < limit:
            limit = starts[place + step]
        stop = end if limit >= end else _cut(text, at, limit)
        piece = _trim(text, at, stop)
        if piece[0] < piece[1]:
            yield piece
        at = stop
        while place < len(starts) and starts[place] < at:
            place += 1


def _cut(text: str, start: int, limit: int) -> int:
    """The best place to cut in the second half of start..limit: behind a newline, a space, or between characters that
    are seen as two. Greater than start."""
    if limit >= len(text):
        return len(text)
    half = start + (limit - start) // 2
    newline = text.rfind("\n", half, limit)
    if newline >= 0 and newline + 1 > start:
        return newline + 1
    for place in range(limit, max(half, start), -1):
        if text[place - 1].isspace():
            return place
    for place in range(limit, max(half, start), -1):
        if not _joined(text[place - 1], text[place]):
            return place
    return max(start + 1, limit)


def _joined(before: str, after: str) -> bool:
    """Whether a cut between the two would tear one visible character apart (roughly UAX 29's clusters)."""
    if after.isascii():
        return False
    return (
        unicodedata.combining(after) != 0
        or unicodedata.category(after) in ("Mn", "Me", "Mc")
        or after in "\u200d\ufe0e\ufe0f"
        or before == "\u200d"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\U0001f1e6" <= after <= "\U0001f1ff" and "\U0001f1e6" <= before <= "\U0001f1ff")
    )


def _trim(text: str, start: int, end: int, *, keep_indentation: bool = False) -> tuple[int, int]:
    """Without the white space around; a first line keeps its indentation where it means something."""
    end = start + len(text[start:end].rstrip())
    begin = end - len(text[start:end].lstrip())
    if keep_indentation and begin < end:
        begin = max(start, text.rfind("\n", start, begin) + 1)
    return begin, end


# ── Headings ────────────────────────────────────────────────────────────────────────────────────────


def _headings(paths: Sequence[tuple[str, ...]], encoder: Encoder, limit: int) -> list[str]:
    """Each path as one line within `limit` tokens, shortened from the left; one heading too long keeps its start."""
    special = encoder.count([""])[0]
    lines = [" › ".join(path) for path in paths]
    shortened: dict[str, str] = {}
    for path, line, count in zip(paths, lines, encoder.count(lines), strict=True):
        if count - special <= limit and len(line) <= limit * SPREAD:
            continue
        if line in shortened:
            continue
        rest = list(path)
        while len(rest) > 1 and not _fits(" › ".join(rest), encoder, special, limit):
            rest.pop(0)
        kept = " › ".join(rest)[: limit * SPREAD]
        while kept and not _fits(kept, encoder, special, limit):
            kept = kept[: _cut(kept, 0, len(kept) - 1) if len(kept) > 1 else 0].rstrip()
        shortened[line] = kept
    return [shortened.get(line, line) for line in lines]


def _fits(line: str, encoder: Encoder, special: int, limit: int) -> bool:
    return len(line) <= limit * SPREAD and encoder.count([line])[0] - special <= limit


def _shared(paths: Sequence[tuple[str, ...]], longest: str) -> str:
    """The path that these sections have in common."""
    common = paths[0]
    for path in paths[1:]:
        same = 0
        while same < min(len(common), len(path)) and common[same] == path[same]:
            same += 1
        common = common[:same]
    line = " › ".join(common)
    # Where the whole path had to be shortened this one is shortened as it was, or is short enough by itself.
    return line if len(line) <= len(longest) else ""


# ── Cutting ─────────────────────────────────────────────────────────────────────────────────────────


def _anchors(text: str, units: Sequence[_Unit], tokens: _Tokens, apart: float) -> Iterator[tuple[int, int]]:
    """Stretches (first unit, behind the last) that are cut into chunks by themselves.

    An anchor is a unit before which a cut is cheaper than before any other within `apart` tokens on either side; among
    equals the hash of the words that follow decides. So it depends on the text around it alone, and a change moves only
    the anchors near it (content-defined chunking: Schleimer et al. 2003, "Winnowing", local minima).
    """
    if not units:
        return
    places = tokens.before([unit.start for unit in units])
    keys = [
        (unit.cost, zlib.crc32(text[unit.start : min(unit.end, unit.start + 64)].encode("utf-8", "surrogatepass")))
        for unit in units
    ]
    total = tokens.before([units[-1].end])[0]
    clear = [True] * len(units)
    # Nearest unit before and behind that is as good or better: a stack of what may still be one.
    for order in (range(len(units)), range(len(units) - 1, -1, -1)):
        stack: list[int] = []
        for number in order:
            while stack and keys[stack[-1]] > keys[number]:
                stack.pop()
            near = places[stack[-1]] if stack else (0 if order.step > 0 else total)
            if abs(places[number] - near) < apart:
                clear[number] = False
            stack.append(number)
    first = 0
    for number in range(1, len(units)):
        if clear[number] and units[number].cost < LINE:
            yield first, number
            first = number
    yield first, len(units)


def _pack(units: Sequence[_Unit], tokens: _Tokens, room: Sequence[int], window: int) -> list[tuple[int, int]]:
    """The cheapest cuts of one stretch into chunks, as (first unit, behind the last).

    A chunk that begins inside a section ends within it; one that goes on into the next section takes it whole.
    """
    # The innermost loop of all: plain lists, and _size written out.
    target = window * TARGET
    begins = [unit.start for unit in units]
    starts = tokens.before(begins)
    ends = tokens.before([unit.end for unit in units])
    sections = [unit.section for unit in units]
    opens = [number == 0 or section != sections[number - 1] for number, section in enumerate(sections)]
    header = int(window * TABLE_HEADER)
    rooms = [room[unit.section] - (header if unit.header else 0) for unit in units]
    best = [0.0] + [math.inf] * len(units)
    came = [0] * (len(units) + 1)
    for stop in range(1, len(units) + 1):
        behind, end, section = ends[stop - 1], units[stop - 1].end + SPREAD - 1, sections[stop - 1]
        closes = stop == len(units) or opens[stop]
        price = units[stop].cost if stop < len(units) else 0.0
        cheapest, origin = math.inf, stop - 1
        for first in range(stop - 1, -1, -1):
            size = behind - starts[first]
            spread = (end - begins[first]) // SPREAD
            if spread > size:
                size = spread
            if size > rooms[first] and first < stop - 1:
                break
            cost = best[first] + (size / target - 1) ** 2
            if sections[first] != section:
                if not (closes and opens[first]):
                    continue
                cost += MIXED * (section - sections[first])
            if cost < cheapest:
                cheapest, origin = cost, first
        best[stop], came[stop] = cheapest + price, origin
    cuts: list[tuple[int, int]] = []
    stop = len(units)
    while stop:
        cuts.append((came[stop], stop))
        stop = came[stop]
    return cuts[::-1]


# ── Finishing ───────────────────────────────────────────────────────────────────────────────────────


def _finish(
    text: str, document: str, spans: Sequence[tuple[int, int, str, str]], encoder: Encoder, window: int, special: int
) -> Iterator[Chunk]:
    """Chunks with their ids. Where pieces measured alone come to more than the window together, they are cut again."""
    occurrences: Counter[str] = Counter()
    pending = [
        Chunk("", document, 0, start, end, text[start:end], heading, kind) for start, end, heading, kind in spans
    ][::-1]
    ordinal = 0
    while pending:
        batch = [pending.pop() for _ in range(min(512, len(pending)))]
        counts = encoder.count([each.embedded_text for each in batch])
        for place, (each, count) in enumerate(zip(batch, counts, strict=True)):
            if count > window:
                pending.extend(reversed(batch[place + 1 :]))
                pending.extend(reversed(_halves(text, each, encoder, window)))
                break
            embedded = each.embedded_text
            occurrences[embedded] += 1
            yield replace(
                each,
                id=chunk_id(document, embedded, occurrences[embedded]),
                ordinal=ordinal,
                tokens=count,
            )
            ordinal += 1


def _halves(text: str, each: Chunk, encoder: Encoder, window: int) -> list[Chunk]:
    if len(each.text) == 1:
        return [replace(each, heading="")]
    if each.heading and encoder.count([each.heading])[0] > window // 2:
        return [replace(each, heading="")]
    middle = _cut(text, each.start, each.start + max(1, (each.end - each.start) * 2 // 3))
    parts = []
    for start, end in (_trim(text, each.start, middle), _trim(text, middle, each.end)):
        if start < end:
            parts.append(replace(each, start=start, end=end, text=text[start:end]))
    return parts
