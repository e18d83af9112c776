"""Chooses what to quote: the passages' own sentences that answer, within a budget of words.

Comes in: a question and the passages found for it, best first. Goes out: quotations in reading order, each an exact
span of one passage. Does not know: how an answer is laid out, engines, whether the passages answer at all.

Every unit of the passages (segment.py) gets a relevance from the cosine to the question, the weighted share of the
question's words that it and its heading hold, its passage's rank, and its neighbours' relevance (an answer is seldom
one sentence alone). Units are then taken greedily by what they add per square root of a word: relevance, and the
words that relevant sentences share and the answer has not said yet (a relevance model in the sense of Lavrenko &
Croft 2001 under a budget, as in Takamura & Okumura 2009). Numbers below were chosen on one half of the questions
in the benchmark of answers and hold on the other; the choice is flat around them.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.domain import Passage
from services.generator.segment import Kind, Segment, segments
from services.generator.vectors import SentenceVectors
from services.generator.words import Weights, terms, words

BUDGET = 70
"""Words quoted in one answer: a paragraph, read at a glance."""
PASSAGES = 6
"""Best passages that are quoted from."""
LONGEST = 60
"""Words of one unit; a longer sentence is cut after a clause."""
EMBEDDED_SENTENCES = 3
EMBEDDED_WORDS = 30
"""Sentences whose cosine is asked for: the most promising by words alone, as many as an encoder does in some 5 ms on
a laptop. The others' cosine is estimated (`_ESTIMATE`). With 7 of 70 words answers held as many of the reference
answers' words, and with none, where questions and texts share words; these are for those that don't."""
FURNITURE_WORDS = 25
"""Of a line, at most, that is taken for a page's furniture by its words: a longer one speaks of them."""
CODE_LINES = 40
"""Of a code block that is quoted whole where code is asked for."""
RELEVANT = 0.35
"""Share of the best unit's relevance that a unit needs to be quoted."""

_COSINE, _COVERAGE, _RANK = 0.6, 0.3, 0.02
_ESTIMATE = (0.01, 0.23, 0.7, 0.5)
"""Cosine ≈ first + second · coverage with heading + third · own coverage + fourth · the passage's cosine: a linear fit,
correlation .64."""
_FRAGMENT, _QUESTION, _SYMBOLS = 0.1, 0.15, 0.15
"""Taken off for what is no sentence (the page's furniture), asks instead of telling, or is code."""
_NEIGHBOUR = 0.15
_TEMPERATURE = 0.08
_RELEVANCE = 7.0
_NEW_SOURCE, _SAME_SOURCE = 0.8, 0.6
"""Later units' relevance counts for less, least where their document already speaks."""
_FIRST = 1.2
"""The best passage opens the answer if its unit is nearly as good as another's."""
_SAID = 0.8
"""A unit of whose terms so many were said is left out."""

_SYMBOL = re.compile(r"[{}<>\\=\[\]();_\"|`/$]|--")
_FINISHED = re.compile(r"[.!?;:…。！？)”\"'`*_]\W*$")
_STOPPED = re.compile(r"[.!…。！]\W*$")
_LEADING = re.compile(r":\W*$")
_TOLD = re.compile(r"[.…。]\W*$")
_FURNITURE = re.compile(
    r"©|\(c\)\s*(?:19|20)\d\d|\ball rights reserved\b|^\W*(?:image|photo|picture|figure|illustration|credits?)s?\s+"
    r"(?:by|from|via|courtesy|source)\b|\breferral link\b|^\W*(?:subscribe|sign (?:up|in)|start writing|get the app)\b",
    re.IGNORECASE,
)
"""What stands on a page beside its text, and says nothing of it."""
_ASKING = re.compile(r"[?？]\W*$")
_CLAUSE = re.compile(r"[,;:–—)](?=\s)")
_ASKS_CODE = re.compile(
    r"\b(code|snippet|command|script|syntax|implement\w*|example (?:of|for|code)|function call|config\w*|yaml|json|sql|"
    r"regex)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quotation:
    """`passage.text[start:end]` of the passage at `passage` among those given."""

    passage: int
    start: int
    end: int
    kind: Kind
    block: int
    """Paragraph or list of the passage it stands in: neighbours of one block are read on."""


@dataclass(slots=True, eq=False)
class _Unit:
    passage: int
    place: int
    """Among its passage's segments."""
    segment: Segment
    start: int
    end: int
    text: str
    lead: Segment | None
    lead_text: str
    terms: frozenset[str]
    context: frozenset[str]
    """Of the unit, its lead and its headings."""
    lead_terms: frozenset[str]
    words: int
    lead_words: int
    coverage: float = 0.0
    own: float = 0.0
    cosine: float = 0.0
    relevance: float = 0.0
    vector: np.ndarray | None = field(default=None, repr=False)


async def choose(
    question: str, passages: Sequence[Passage], vectors: SentenceVectors, budget: int = BUDGET
) -> list[Quotation]:
    """Quotations in reading order: passages by their best quotation, within a passage by place.

    Empty only where the passages hold no text. One call to the encoder.
    """
    asks_code = bool(_ASKS_CODE.search(question))
    wanted = frozenset(terms(question)) or frozenset(words(question))
    units, weights = await asyncio.to_thread(_units, passages[:PASSAGES], asks_code, wanted)
    if not units:
        return []
    promising = sorted(units, key=lambda unit: -(_COSINE * unit.cosine + _COVERAGE * unit.coverage))
    asked: list[_Unit] = []
    room = EMBEDDED_WORDS
    for unit in promising[: 2 * EMBEDDED_SENTENCES]:
        if unit.words <= room and len(asked) < EMBEDDED_SENTENCES:
            asked.append(unit)
            room -= unit.words
    if asked:
        rows = await vectors.get([question, *(unit.text for unit in asked)])
        for unit, row in zip(asked, rows[1:], strict=True):
            unit.vector = row
            unit.cosine = float(row @ rows[0])
    _judge(units, asks_code)
    chosen = _select(units, weights, wanted, budget)
    return _arranged(chosen)


def _units(passages: Sequence[Passage], asks_code: bool, wanted: frozenset[str]) -> tuple[list[_Unit], Weights]:
    """Everything that may be quoted, with its relevance by words."""
    found: list[_Unit] = []
    spare: list[_Unit] = []
    for rank, passage in enumerate(passages):
        cut = segments(passage.text, passage.language)
        heading = frozenset(terms(f"{passage.title} {passage.heading}"))
        small = len(words(passage.text)) <= 12
        for place, segment in enumerate(cut):
            start, end = segment.start, _cut(passage.text, segment)
            text = passage.text[start:end]
            unit = _unit(rank, place, segment, start, end, text, cut, passage.text, heading)
            if segment.kind is Kind.HEADING or not unit.terms:
                continue
            if segment.kind is Kind.CODE and not asks_code:
                spare.append(unit)
                continue
            listed = segment.kind in (Kind.ITEM, Kind.ROW, Kind.CODE) or unit.lead is not None
            fragment = unit.words < 4 and not listed and not _TOLD.search(text)
            fragment = fragment or (unit.words <= FURNITURE_WORDS and _FURNITURE.search(text) is not None)
            repeats_heading = unit.terms <= heading and not _STOPPED.search(text)
            (spare if (fragment or repeats_heading) and not small else found).append(unit)
    units = found or spare
    weights = Weights(unit.terms for unit in units)
    total = weights.total(wanted) or 1.0
    for unit in units:
        unit.coverage = weights.total(wanted & unit.context) / total
        unit.own = weights.total(wanted & unit.terms) / total
        dense = passages[unit.passage].scores.get("dense", 0.0)
        constant, with_heading, own, of_passage = _ESTIMATE
        unit.cosine = constant + with_heading * unit.coverage + own * unit.own + of_passage * dense
    return units, weights


def _unit(
    rank: int,
    place: int,
    segment: Segment,
    start: int,
    end: int,
    text: str,
    cut: Sequence[Segment],
    whole: str,
    heading: frozenset[str],
) -> _Unit:
    lead = cut[segment.lead] if segment.lead is not None else None
    lead_text = whole[lead.start : lead.end] if lead is not None else ""
    own, lead_terms = frozenset(terms(text)), frozenset(terms(lead_text))
    return _Unit(
        passage=rank,
        place=place,
        segment=segment,
        start=start,
        end=end,
        text=text,
        lead=lead,
        lead_text=lead_text,
        terms=own,
        context=own | heading | lead_terms,
        lead_terms=lead_terms,
        words=len(text.split()),
        lead_words=len(lead_text.split()),
    )


def _cut(text: str, segment: Segment) -> int:
    """Where a quotation of the segment ends: at its end, or after a clause where it is too long."""
    if segment.kind is Kind.CODE:
        lines = text[segment.start : segment.end].split("\n")
        return segment.end if len(lines) <= CODE_LINES else segment.start + len("\n".join(lines[:CODE_LINES]))
    pieces = list(re.finditer(r"\S+", text[segment.start : segment.end]))
    if len(pieces) <= LONGEST:
        return segment.end
    limit = segment.start + pieces[LONGEST - 1].end()
    clauses = [match.end() for match in _CLAUSE.finditer(text, segment.start, limit)]
    half = segment.start + pieces[LONGEST // 2].end()
    return clauses[-1] if clauses and clauses[-1] >= half else limit


def _judge(units: Sequence[_Unit], asks_code: bool) -> None:
    for unit in units:
        unit.relevance = _COSINE * unit.cosine + _COVERAGE * unit.coverage - _RANK * unit.passage
        if unit.segment.kind is Kind.CODE:
            continue
        listed = unit.segment.kind in (Kind.ITEM, Kind.ROW) or unit.lead is not None
        if not listed and not _FINISHED.search(unit.text):
            unit.relevance -= _FRAGMENT
        if _ASKING.search(unit.text):
            unit.relevance -= _QUESTION
        if not asks_code and len(_SYMBOL.findall(unit.text)) > 0.8 * unit.words:
            unit.relevance -= _SYMBOLS
    before = {(unit.passage, unit.place): unit.relevance for unit in units}
    for unit in units:
        beside = (before.get((unit.passage, unit.place + step), 0.0) for step in (-1, 1))
        unit.relevance += _NEIGHBOUR * sum(max(each, 0.0) for each in beside)


def _select(units: Sequence[_Unit], weights: Weights, wanted: frozenset[str], budget: int) -> list[_Unit]:
    best = max(unit.relevance for unit in units)
    value = _expected(units, weights, wanted, best)
    leads = {(unit.passage, unit.segment.start): unit for unit in units if _LEADING.search(unit.text)}
    able = [
        unit
        for unit in units
        if unit.relevance >= RELEVANT * best and not (_LEADING.search(unit.text) and unit.words > 1)
    ] or [max(units, key=lambda unit: unit.relevance)]
    chosen: list[_Unit] = []
    said: set[str] = set()
    left: float = budget
    while able:
        gains = [(_gain(unit, chosen, said, value, left), unit) for unit in able]
        gain, unit = max(gains, key=lambda pair: pair[0])
        if gain <= 0:
            break
        left -= _cost(unit, chosen)
        lead = leads.get((unit.passage, unit.lead.start)) if unit.lead is not None else None
        for taken in (lead, unit):
            if taken is not None and taken not in chosen:
                chosen.append(taken)
                said |= taken.terms
        able.remove(unit)
    return chosen


def _expected(units: Sequence[_Unit], weights: Weights, wanted: frozenset[str], best: float) -> dict[str, float]:
    """How much an answer gains by each term: what relevant units say, and what was asked."""
    mass: defaultdict[str, float] = defaultdict(float)
    seen: set[str] = set()
    for unit in units:
        key = " ".join(words(unit.text))
        if key not in seen:
            seen.add(key)
            weight = math.exp((unit.relevance - best) / _TEMPERATURE)
            for term in unit.terms:
                mass[term] += weight
    highest = max(mass.values(), default=1.0) or 1.0
    return {
        term: math.sqrt(count / highest) * min(weights[term], 5.0) / 5.0
        + (weights[term] / 5.0 if term in wanted else 0.0)
        for term, count in mass.items()
    }


def _cost(unit: _Unit, chosen: Sequence[_Unit]) -> int:
    """Words that the unit takes of the budget. A code block is looked at rather than read."""
    own = 20 if unit.segment.kind is Kind.CODE else unit.words
    lead = unit.lead
    if lead is None or any(each.passage == unit.passage and each.start == lead.start for each in chosen):
        return own
    return own + unit.lead_words


def _gain(unit: _Unit, chosen: Sequence[_Unit], said: set[str], value: dict[str, float], left: float) -> float:
    cost = _cost(unit, chosen)
    if cost > left:
        return 0.0
    if chosen and len(unit.terms & said) > _SAID * len(unit.terms):
        return 0.0
    if unit.vector is not None and any(
        each.vector is not None and float(unit.vector @ each.vector) > 0.95 for each in chosen
    ):
        return 0.0
    new = (unit.terms | unit.lead_terms) - said
    if not chosen:
        share = _FIRST if unit.passage == 0 else 1.0
    else:
        share = _SAME_SOURCE if any(each.passage == unit.passage for each in chosen) else _NEW_SOURCE
    gain = sum(value.get(term, 0.0) for term in new) + _RELEVANCE * max(unit.relevance, 0.0) * share
    return gain / math.sqrt(max(cost, 3))


def _arranged(chosen: Sequence[_Unit]) -> list[Quotation]:
    best: dict[int, float] = {}
    for unit in chosen:
        best[unit.passage] = max(best.get(unit.passage, -math.inf), unit.relevance)
    order = sorted(chosen, key=lambda unit: (-best[unit.passage], unit.passage, unit.start))
    return [Quotation(unit.passage, unit.start, unit.end, unit.segment.kind, unit.segment.block) for unit in order]
