"""Cuts Markdown into the units that can be quoted or checked: sentences, list items, code blocks, table rows.

Comes in: a passage's text or an answer's. Goes out: segments in text order, each an exact span, none overlapping.
Does not know: questions, scores, models.

A chunk may begin in the middle of a list or of a fenced block, and web pages often lose their list marks: so lines
after one that ends in ":" count as its list, and whether a line end ends a paragraph is judged from the paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from sentencex import get_sentence_boundaries


class Kind(StrEnum):
    SENTENCE = "sentence"
    ITEM = "item"
    CODE = "code"
    ROW = "row"
    HEADING = "heading"


@dataclass(frozen=True, slots=True)
class Segment:
    """`text[start:end]`, without white space or list mark around it."""

    start: int
    end: int
    kind: Kind
    lead: int | None = None
    """Place, among the segments, of the line ending in ":" that introduces this one."""
    block: int = 0
    """Paragraph, list or table that it stands in."""


_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n`]*)$")
_HEADING = re.compile(r"^ {0,3}#{1,6}(?:\s|$)")
_RULE = re.compile(r"^ {0,3}(?:([-*_=])[ \t]*)(?:\1[ \t]*){2,}$")
_ITEM = re.compile(r"^(\s*)(?:[-*+•‣◦·]|\d{1,3}[.)]|\([a-z0-9]{1,2}\))\s+(?=\S)")
_ROW = re.compile(r"^\s*\|.*\|\s*$")
_SEPARATOR = re.compile(r"^[\s|:-]+$")
_QUOTED = re.compile(r"^ {0,3}>[ \t]?")
_SKIPPED = re.compile(r"^\s*(?:!\[[^\]]*\]\([^)]*\)|\[[^\]]+\]:\s.*|<[^>]*>|<!--.*-->)\s*$")
_ENDED = re.compile(r"[.!?…。!?:;][\"'”’)\]*_`]*$")
_LEAD = re.compile(r":[\"'”’)\]*_`]*$")
_LABEL_WORDS = 5
"""A line of so few words without a full stop is a label of the line under it."""
_LABEL_STOP = re.compile(r"[.!?;,…]$")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(„\"'])(?:approx|incl|excl|inkl|exkl|zzgl|bzw|ggf|evtl|bspw|vgl|cf|e\.\s?g|i\.\s?e|z\.\s?B|d\.\s?h|u\.\s?a)\.$",
    re.IGNORECASE,
)
"""What no sentence ends with, whatever its language: the library knows those of the language that it is told."""
_NUMBERED = re.compile(r"(?:^|[\s(])(?:sec|fig|figs|eq|eqs|nr|no|vol|pp|ch|ca|max|min)\.$", re.IGNORECASE)
"""What goes on where a number follows."""
_DAY = re.compile(r"(?:^|\s)(?:[1-9]|[12]\d|3[01])\.$")
_MONTH = re.compile(
    r"(?:jan(?:uar)?|jän(?:ner)?|feb(?:ruar|er)?|märz|apr(?:il)?|mai|juni?|juli?|aug(?:ust)?|sept?(?:ember)?|okt(?:ober)?|"
    r"nov(?:ember)?|dez(?:ember)?)\b",
    re.IGNORECASE,
)
"""After a day with a full stop, as German has it."""


@dataclass(slots=True)
class _Line:
    start: int
    end: int
    text: str


def _lines(text: str) -> Iterator[_Line]:
    position = 0
    for line in text.split("\n"):
        yield _Line(position, position + len(line), line.rstrip("\r"))
        position += len(line) + 1


def segments(text: str, language: str | None = None) -> list[Segment]:
    """Every quotable unit of the text in order. `language`: ISO 639-1, English where unknown."""
    found: list[Segment] = []
    paragraph: list[_Line] = []
    block = 0
    lead: int | None = None
    fence: tuple[str, int] | None = None
    code_end = 0
    item_indent: int | None = None

    def flush() -> None:
        nonlocal lead, block, item_indent
        if not paragraph:
            return
        kind = Kind.ITEM if item_indent is not None else Kind.SENTENCE
        opened = lead
        for start, end in _paragraph(text, paragraph, language or "en", kind):
            inherited = opened if kind is Kind.ITEM else _still(found, opened, text, start)
            found.append(Segment(start, end, kind, inherited, block))
            if _LEAD.search(text[start:end]) and kind is Kind.SENTENCE:
                opened = len(found) - 1
            elif inherited is None:
                opened = None
        lead = opened
        paragraph.clear()
        item_indent = None
        block += 1

    for line in _lines(text):
        if fence is not None:
            code_end = line.end
            mark = line.text.strip()
            if mark.startswith(fence[0]) and not mark.strip(fence[0][0]):
                found.append(Segment(fence[1], code_end, Kind.CODE, lead, block))
                fence, block = None, block + 1
            continue
        if opening := _FENCE.match(line.text):
            flush()
            fence = (opening[1], line.start)
            code_end = line.end
            continue
        if not line.text.strip():
            flush()
            continue
        if _RULE.match(line.text) or _SKIPPED.match(line.text):
            flush()
            continue
        if _HEADING.match(line.text):
            flush()
            found.append(Segment(line.start, line.start + len(line.text.rstrip()), Kind.HEADING, None, block))
            lead, block = None, block + 1
            continue
        if _ROW.match(line.text):
            flush()
            if not _SEPARATOR.match(line.text):
                left = len(line.text) - len(line.text.lstrip())
                found.append(Segment(line.start + left, line.start + len(line.text.rstrip()), Kind.ROW, lead, block))
            continue
        if item := _ITEM.match(line.text):
            flush()
            item_indent = len(item[1])
            paragraph.append(_Line(line.start + item.end(), line.end, line.text[item.end() :]))
            continue
        if paragraph and item_indent is not None and not line.text.startswith((" ", "\t")):
            # A line without indent under an item continues it only where Markdown's lazy continuation is likely.
            if _ENDED.search(paragraph[-1].text.rstrip()):
                flush()
                lead = None
        elif not paragraph and lead is not None and found and found[-1].kind is Kind.ITEM:
            lead = None
        paragraph.append(line)
    flush()
    if fence is not None:
        found.append(Segment(fence[1], code_end, Kind.CODE, lead, block))
    return found


def _still(found: list[Segment], lead: int | None, text: str, start: int) -> int | None:
    """The lead that still holds for a plain line: only directly under it, or under others that it introduced."""
    if lead is None or not found:
        return None
    last = found[-1]
    near = "\n\n" not in text[last.end : start].replace("\r", "") or len(found) - 1 == lead
    return lead if near and (len(found) - 1 == lead or last.lead == lead) else None


def _paragraph(text: str, lines: list[_Line], language: str, kind: Kind) -> Iterator[tuple[int, int]]:
    """Sentences of consecutive lines; a short line without a full stop goes with the one under it."""
    pieces = [(lines[0].start, lines[-1].end)] if kind is Kind.ITEM or _wrapped(lines) else _logical(lines)
    label: int | None = None
    for start, end in pieces:
        piece = text[start:end]
        stripped = piece.strip()
        if not stripped:
            continue
        first = start + len(piece) - len(piece.lstrip())
        if kind is Kind.SENTENCE and len(pieces) > 1 and _is_label(stripped) and end != pieces[-1][1]:
            if label is None:
                label = first
            else:
                yield (label, _trim(text, label, first))
                label = first
            continue
        if quoted := _QUOTED.match(text[first:end]):
            first += quoted.end()
        for sentence_start, sentence_end in sentences(text, first, end, language):
            yield (label if label is not None else sentence_start, sentence_end)
            label = None
    if label is not None:
        yield (label, _trim(text, label, pieces[-1][1]))


def _trim(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())


def _is_label(line: str) -> bool:
    return len(line.split()) <= _LABEL_WORDS and not _LABEL_STOP.search(line) and not _LEAD.search(line)


def _wrapped(lines: list[_Line]) -> bool:
    """Whether the line ends are a text editor's: a full line that ends within a sentence, the next going on."""
    if len(lines) < 2:
        return True
    width = max(len(line.text) for line in lines)
    if width > 140:
        return False
    unfinished = sum(
        not _ENDED.search(above.text.rstrip()) and (len(above.text) > 0.7 * width or below.text.lstrip()[:1].islower())
        for above, below in pairwise(lines)
    )
    return width > 40 and unfinished >= 0.5 * (len(lines) - 1)


def _logical(lines: list[_Line]) -> list[tuple[int, int]]:
    """One piece a line; a line that goes on in lower case after a long, unfinished one belongs to that."""
    pieces: list[tuple[int, int]] = []
    above = ""
    for line in lines:
        if line.text[:1].islower() and len(above) > 60 and not _ENDED.search(above):
            pieces[-1] = (pieces[-1][0], line.end)
        else:
            pieces.append((line.start, line.end))
        above = line.text.rstrip()
    return pieces


def sentences(text: str, start: int, end: int, language: str = "en") -> Iterator[tuple[int, int]]:
    """Spans of the sentences in `text[start:end]`, without white space around them."""
    open_from: int | None = None
    for boundary in get_sentence_boundaries(language, text[start:end]):
        first, last = start + boundary["start_index"], start + boundary["end_index"]
        piece = text[first:last]
        stripped = piece.strip()
        if not stripped:
            continue
        first += len(piece) - len(piece.lstrip())
        last = first + len(stripped)
        begun = first if open_from is None else open_from
        if last < end and _goes_on(stripped, text[last:end].lstrip()):
            open_from = begun
            continue
        open_from = None
        yield (begun, last)
    if open_from is not None:
        yield (open_from, _trim(text, open_from, end))


def _goes_on(piece: str, rest: str) -> bool:
    """Whether the full stop that a piece ends with is an abbreviation's or a day's."""
    return bool(rest) and (
        _ABBREVIATED.search(piece) is not None
        or (_NUMBERED.search(piece) is not None and rest[0].isdigit())
        or (_DAY.search(piece) is not None and _MONTH.match(rest) is not None)
    )
