"""An answer that an engine writes: streamed, its citations real, each sentence checked against what it cites.

Comes in: the engine's pieces of text, and the passages that its prompt held. Goes out: the answer's events. Does not
know: engines, prompts, journals.

*Mark* gives text as it comes and a verdict once a sentence is whole. *Replace* holds each sentence until it is
checked, and gives the passage's own words in the place of an unsupported one. Either way text is made harmless first,
so verdicts and citations refer to what is shown.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.domain import AnswerEvent, Citation, Delta, Passage, Support, Usage, Verdict
from services.generator.harmless import Settling, harmless
from services.generator.quoted import cite
from services.generator.segment import Kind, segments
from services.generator.support import Checked, Checker
from services.generator.words import terms

MARK, REPLACE = "mark", "replace"
_MARKS = re.compile(r"(?:[ \t]*\[\d{1,3}\])+")
_NUMBER = re.compile(r"\[(\d{1,3})\]")
_LEAD_WORDS = 8
"""A line of so few words that ends in ":" announces and states nothing."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    start: int
    end: int
    """In the text that the engine has written so far, made harmless."""
    kind: Kind


class _Cutting:
    """Finds whole sentences in a text that grows. Marks right after a sentence are its own."""

    def __init__(self) -> None:
        self.text = ""
        self._done = 0

    def grow(self, piece: str) -> list[_Sentence]:
        """Those that are whole by now: something other than a mark follows them."""
        self.text += piece
        if not re.search(r"[.!?:;。！？…\n]", self.text[self._done :]):
            return []
        found = self._units()
        whole = [each for each in found if self.text[each.end :].strip()]
        if whole:
            self._done = whole[-1].end
        return whole

    def end(self) -> list[_Sentence]:
        found = self._units()
        self._done = len(self.text)
        return found

    def _units(self) -> list[_Sentence]:
        tail = self.text[self._done :]
        found: list[_Sentence] = []
        reached = 0
        for unit in segments(tail):
            start = max(unit.start, reached)
            start += len(tail[start : unit.end]) - len(tail[start : unit.end].lstrip())
            if start >= unit.end:
                continue
            end = unit.end
            if marks := _MARKS.match(tail, end):
                end = marks.end()
            reached = end
            found.append(_Sentence(self._done + start, self._done + end, unit.kind))
        return found


async def events(
    pieces: AsyncGenerator[str | Usage, None],
    passages: Sequence[Passage],
    make_checker: Callable[[], Checker],
    support: str,
) -> AsyncGenerator[AnswerEvent, None]:
    """Text, citations and verdicts as they come about, last the usage. The checker is made in a
    thread, once there is text to check: it must not delay the engine's first word."""
    settling = Settling(range(1, len(passages) + 1), {passage.url for passage in passages})
    cutting = _Cutting()
    giving = _Replacing(passages) if support == REPLACE else _Marking(passages)
    usage: Usage | None = None

    checker: asyncio.Task[Checker] | None = None

    def checking() -> asyncio.Task[Checker]:
        nonlocal checker
        checker = checker or asyncio.create_task(asyncio.to_thread(make_checker))
        return checker

    async def judged(sentences: Sequence[_Sentence]) -> AsyncIterator[AnswerEvent]:
        for sentence in sentences:
            text = cutting.text[sentence.start : sentence.end]
            for event in giving.sentence(cutting.text, sentence, await _check(await checking(), text, sentence.kind)):
                yield event

    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Usage):
                usage = piece
                continue
            safe = settling.feed(piece)
            if safe:
                sentences = cutting.grow(safe)
                for event in giving.text(safe):
                    yield event
                checking()
                async for event in judged(sentences):
                    yield event
    safe = settling.end()
    last = cutting.grow(safe)
    for event in giving.text(safe):
        yield event
    async for event in judged([*last, *cutting.end()]):
        yield event
    if usage is not None:
        yield usage


async def plain(pieces: AsyncGenerator[str | Usage, None]) -> AsyncGenerator[AnswerEvent, None]:
    """Text that rests on no passages: nothing in it is cited, nothing is checked."""
    settling = Settling()
    length = 0
    usage: Usage | None = None
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Usage):
                usage = piece
            elif safe := settling.feed(piece):
                length += len(safe)
                yield Delta(safe)
    if safe := settling.end():
        length += len(safe)
        yield Delta(safe)
    if length:
        yield Support(0, length, Verdict.UNCHECKED, 0.0)
    if usage is not None:
        yield usage


def moved(event: AnswerEvent, by: int) -> AnswerEvent:
    """The event of an answer that begins `by` code points later."""
    match event:
        case Citation():
            return replace(event, answer_start=event.answer_start + by, answer_end=event.answer_end + by)
        case Support():
            return replace(event, start=event.start + by, end=event.end + by)
    return event


async def _check(checker: Checker, text: str, kind: Kind) -> Checked:
    plain = _MARKS.sub("", text).strip()
    announces = plain.endswith(":") and len(plain.split()) <= _LEAD_WORDS
    if kind is Kind.HEADING or announces:
        return Checked(0.0, Verdict.UNCHECKED, 0, 0, 0)
    return await checker.check(text, _cited(text))


def _cited(text: str) -> list[int]:
    """Places of the passages that a sentence's marks name."""
    return [int(number) - 1 for number in dict.fromkeys(_NUMBER.findall(text))]


class _Marking:
    """Text goes out as it comes."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages

    def text(self, piece: str) -> list[AnswerEvent]:
        return [Delta(piece)] if piece else []

    def sentence(self, text: str, sentence: _Sentence, checked: Checked) -> list[AnswerEvent]:
        shown = text[sentence.start : sentence.end]
        return [
            *_citations(self._passages, shown, checked, sentence.start, sentence.end),
            Support(sentence.start, sentence.end, checked.verdict, checked.score),
        ]


class _Replacing:
    """Text goes out a checked sentence at a time."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._taken = 0
        """Of the engine's text."""
        self._length = 0
        """Of the answer."""
        self._quoted: set[tuple[int, int, int]] = set()

    def text(self, piece: str) -> list[AnswerEvent]:
        return []

    def sentence(self, text: str, sentence: _Sentence, checked: Checked) -> list[AnswerEvent]:
        between = text[self._taken : sentence.start]
        shown = text[sentence.start : sentence.end]
        self._taken = sentence.end
        if checked.verdict is not Verdict.UNSUPPORTED:
            start, end = self._place(between, shown)
            return [
                Delta(between + shown),
                *_citations(self._passages, shown, checked, start, end),
                Support(start, end, checked.verdict, checked.score),
            ]
        span = (checked.passage, checked.start, checked.end)
        if span in self._quoted:
            return []
        self._quoted.add(span)
        passage = self._passages[checked.passage]
        quote = harmless(" ".join(passage.text[checked.start : checked.end].split()))
        replacement = f"“{quote}” [{checked.passage + 1}]"
        if not between and self._length:
            between = " "
        start, end = self._place(between, replacement)
        return [
            Delta(between + replacement),
            cite(checked.passage + 1, passage, checked.start, checked.end, start, end),
            Support(start, end, Verdict.QUOTED, 1.0),
        ]

    def _place(self, between: str, shown: str) -> tuple[int, int]:
        start = self._length + len(between)
        self._length = start + len(shown)
        return start, self._length


def _citations(passages: Sequence[Passage], shown: str, checked: Checked, start: int, end: int) -> list[Citation]:
    """One a passage that the sentence's marks name, of the passage's sentence nearest to it; a supported sentence
    without marks is given the passage that supports it."""
    cited = [place for place in _cited(shown) if place < len(passages)]
    if not cited and checked.verdict is Verdict.SUPPORTED:
        cited = [checked.passage]
    found: list[Citation] = []
    for place in cited:
        passage = passages[place]
        if place == checked.passage and checked.end > checked.start:
            first, last = checked.start, checked.end
        else:
            first, last = _nearest(passage, shown)
        found.append(cite(place + 1, passage, first, last, start, end))
    return found


def _nearest(passage: Passage, shown: str) -> tuple[int, int]:
    """The passage's sentence that shares most words with this one; the whole passage where it has no sentence."""
    wanted = frozenset(terms(shown))
    spans = [
        (each.start, each.end) for each in segments(passage.text, passage.language) if each.kind is not Kind.HEADING
    ]
    if not spans:
        return 0, len(passage.text)
    return max(spans, key=lambda span: len(wanted & frozenset(terms(passage.text[span[0] : span[1]]))))
