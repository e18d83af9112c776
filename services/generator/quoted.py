"""An answer without a model: the author's own sentences, headed, each with its number and its exact span.

Comes in: quotations and the passages they are from. Goes out: the answer's text in pieces, with a citation and a
verdict for each quotation. Does not know: how the quotations were chosen, journals, wire.

What is shown is the quotation made harmless (harmless.py) and laid out as a sentence, a list item or a code block;
the citation's `quote` is the span as it stands in the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from services.domain import AnswerEvent, Citation, Delta, Evidence, Filter, Passage, Support, Verdict
from services.generator.harmless import harmless, label
from services.generator.quotes import Quotation
from services.generator.segment import Kind, segments

NEAREST = 3
"""Passages offered where the corpus does not answer."""
FIRST = 240
"""Characters of a first sentence that stands in a list."""
_CELL = re.compile(r"\s*(?<!\\)\|\s*")
_MARKED = re.compile(r"^(?:[-*+•]|\d+[.)])\s+")


def cite(number: int, passage: Passage, start: int, end: int, answer_start: int, answer_end: int) -> Citation:
    """A citation of `passage.text[start:end]`, whose place in the document follows from the passage's."""
    return Citation(
        number=number,
        document_id=passage.document_id,
        version=passage.version,
        title=passage.title,
        url=passage.url,
        author=passage.author,
        start=passage.start + start,
        end=passage.start + end,
        quote=passage.text[start:end],
        answer_start=answer_start,
        answer_end=answer_end,
        heading=passage.heading,
        chunk_id=passage.chunk_id,
        published=passage.published,
    )


def in_order(
    quotations: Sequence[Quotation], passages: Sequence[Passage]
) -> tuple[list[Quotation], tuple[Passage, ...]]:
    """The passages in the order in which they are quoted, then the others: so numbers count up from 1. Quotations
    that follow one another in the text are joined."""
    order = list(dict.fromkeys(quotation.passage for quotation in quotations))
    order += [place for place in range(len(passages)) if place not in order]
    number = {place: at for at, place in enumerate(order)}
    joined: list[Quotation] = []
    for quotation in quotations:
        moved = replace(quotation, passage=number[quotation.passage])
        last = joined[-1] if joined else None
        if last is not None and _joins(last, moved, passages[quotation.passage].text):
            joined[-1] = replace(last, end=moved.end)
        else:
            joined.append(moved)
    return joined, tuple(passages[place] for place in order)


def _joins(last: Quotation, following: Quotation, text: str) -> bool:
    same = (last.passage, last.block, last.kind) == (following.passage, following.block, following.kind)
    return same and last.kind is Kind.SENTENCE and not text[last.end : following.start].strip()


def answer(evidence: Evidence, quotations: Sequence[Quotation], passages: Sequence[Passage]) -> Iterator[AnswerEvent]:
    """Events of the whole answer; passages and quotations as `in_order` gave them."""
    text = _Growing()
    if evidence is Evidence.CLOSEST:
        yield from text.plain("Nothing here answers this outright. The closest passages say:\n\n")
    for at, quotation in enumerate(quotations):
        passage = passages[quotation.passage]
        before = quotations[at - 1] if at else None
        if before is None or before.passage != quotation.passage:
            yield from text.plain(("\n\n" if at else "") + f"**{heading(passage)}**\n\n")
        else:
            yield from text.plain(_between(before, quotation))
        shown = _shown(passage.text[quotation.start : quotation.end], quotation.kind)
        after = "\n" if quotation.kind is Kind.CODE else " "
        start = text.length + (2 if quotation.kind in (Kind.ITEM, Kind.ROW) else 0)
        yield text.grow(f"{shown}{after}[{quotation.passage + 1}]")
        yield cite(quotation.passage + 1, passage, quotation.start, quotation.end, start, text.length)
        yield Support(start, text.length, Verdict.QUOTED, 1.0)


def listed(passages: Sequence[Passage]) -> Iterator[AnswerEvent]:
    """What there is, by title and date, each with its first sentence; the order is the passages'."""
    text = _Growing()
    for number, passage in enumerate(passages, 1):
        day = f" ({passage.published[:10]})" if passage.published else ""
        yield from text.plain(("\n" if number > 1 else "") + f"- **{heading(passage)}**{day}")
        spans = [each for each in segments(passage.text, passage.language) if each.kind is not Kind.HEADING]
        first, last = (spans[0].start, spans[0].end) if spans else (0, len(passage.text))
        sentence = _shown(passage.text[first:last], Kind.SENTENCE)
        quoted = bool(spans) and spans[0].kind is Kind.SENTENCE and len(sentence) <= FIRST
        before = ": " if quoted else " "
        start = text.length + len(before)
        yield text.grow(f"{before}{sentence} [{number}]" if quoted else f"{before}[{number}]")
        yield cite(number, passage, first, last, start, text.length)
        yield Support(start, text.length, Verdict.QUOTED if quoted else Verdict.UNCHECKED, 1.0 if quoted else 0.0)


def declined(passages: Sequence[Passage], filter: Filter) -> Iterator[AnswerEvent]:
    """The corpus does not speak of it: said so, and the nearest passages offered by title, each cited. Without any, it
    was the filter that left nothing, or nothing is there."""
    text = _Growing()
    if not passages and (asked := _narrowed(filter)):
        yield from text.plain(f"No document matches {asked}. Ask without it, or see what is there in the library.")
        return
    if not passages:
        yield from text.plain(
            "There is nothing here to answer from yet. Bring documents in first: the page's library takes addresses "
            "and files, and so does `twin ingest`."
        )
        return
    yield from text.plain("The documents do not speak of this. The nearest passages are:\n\n")
    for number, passage in enumerate(passages[:NEAREST], 1):
        start = text.length + 2
        yield text.grow(f"- {heading(passage)} [{number}]")
        spans = [each for each in segments(passage.text, passage.language) if each.kind is not Kind.HEADING]
        first, last = (spans[0].start, spans[0].end) if spans else (0, len(passage.text))
        yield cite(number, passage, first, last, start, text.length)
        yield Support(start, text.length, Verdict.UNCHECKED, 0.0)
        yield text.grow("\n" if number < min(NEAREST, len(passages)) else "")


def _narrowed(filter: Filter) -> str:
    named = {
        "the author": filter.authors,
        "the source": filter.sources,
        "the language": filter.languages,
        "since": (filter.since,) if filter.since else (),
        "until": (filter.until,) if filter.until else (),
    }
    return ", ".join(f"{name} {', '.join(map(label, values))}" for name, values in named.items() if values)


def said(message: str) -> Iterator[AnswerEvent]:
    """A sentence of Twin's own."""
    yield from _Growing().plain(message)


def heading(passage: Passage) -> str:
    """What a passage is called: its document's title, and the last of its headings where that says more."""
    title = passage.title.strip()
    last = passage.heading.rpartition(" › ")[2].strip()
    named = [title] if title else []
    if last and last.casefold() != title.casefold():
        named.append(last)
    return " › ".join(label(each) for each in named) or "Untitled"


class _Growing:
    def __init__(self) -> None:
        self.length = 0

    def grow(self, piece: str) -> Delta:
        self.length += len(piece)
        return Delta(piece)

    def plain(self, piece: str) -> Iterator[AnswerEvent]:
        """Text that nothing needs to support."""
        start = self.length
        yield self.grow(piece)
        stripped = piece.strip()
        if stripped:
            first = start + len(piece) - len(piece.lstrip())
            yield Support(first, first + len(stripped), Verdict.UNCHECKED, 0.0)


def _between(before: Quotation, following: Quotation) -> str:
    listed = (Kind.ITEM, Kind.ROW)
    if before.kind in listed and following.kind in listed:
        return "\n"
    if before.kind is following.kind is Kind.SENTENCE and before.block == following.block:
        return " … "
    return "\n\n"


def _shown(quote: str, kind: Kind) -> str:
    if kind is Kind.CODE:
        return harmless(quote).rstrip("\n")
    line = " ".join(_MARKED.sub("", quote).split())
    if kind is Kind.ROW:
        line = " · ".join(cell for cell in _CELL.split(line) if cell)
    # A line must not open a block of its own: a heading, a quotation, a list within the list.
    shown = harmless(line).strip()
    shown = re.sub(r"^([#>+=|-]|\d+(?=[.)]))", r"\\\1", shown)
    return f"- {shown}" if kind in (Kind.ITEM, Kind.ROW) else shown
