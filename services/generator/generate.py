"""From a conversation to the events of its answer.

Comes in: a GenerateRequest. Goes out: Started, text with citations and verdicts, Usage, Finished; or an error before
the first event, or Failed after it. Does not know: gRPC, stores, which engine writes.

    what is it?  ─ greeting, housekeeping ─▶ a plain answer
        │ question
     search ─ none ─▶ declined, the nearest offered
        │ answer, closest, uncalibrated
     no engine ─▶ quotations          engine ─▶ prompt ─▶ text, checked
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from services import telemetry
from services.clients import Embedded
from services.domain import (
    AnswerEvent,
    Citation,
    Delta,
    Evidence,
    Failed,
    Finished,
    GenerateRequest,
    Generation,
    Message,
    Passage,
    Scope,
    SearchRequest,
    SearchResult,
    Started,
    Step,
    Support,
    Usage,
    digest,
)
from services.errors import Forbidden, Internal, InvalidInput, TooLarge, TwinError
from services.generator import conversation, prompt, quoted, quotes, written
from services.generator.admission import Admission
from services.generator.conversation import Talk
from services.generator.journal import Record
from services.generator.support import Checker
from services.generator.vectors import SentenceVectors
from services.ports import LanguageModel, Sampling

log = structlog.get_logger()

QUOTES = "quotes"
"""The model's name where there is none."""
MOST_PASSAGES = 50
PIECE = 200_000
"""Code points of a text that has become one piece: a message holds 4 MiB."""


class Retriever(Protocol):
    async def search(self, request: SearchRequest) -> SearchResult: ...

    async def embed(self, texts: Sequence[str]) -> Embedded: ...


@dataclass(frozen=True, slots=True)
class Budget:
    passages: int
    answer_tokens: int
    history_tokens: int
    concurrent: int
    """Answers at once."""
    patience: float = 10.0
    """Seconds that a request may be expected to wait for its turn; else it is refused at once."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that is tried on a share of the conversations."""

    model: LanguageModel
    share: float
    """0 to 1."""

    def takes(self, conversation: str) -> bool:
        """The same each time for the same conversation."""
        drawn = int(digest("candidate", conversation)[:8], 16) / 0xFFFFFFFF
        return drawn < self.share


@dataclass(slots=True)
class _Answer:
    """What the journal will be told."""

    request: GenerateRequest
    model: LanguageModel | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.perf_counter)
    question: str = ""
    prompt: str = ""
    passages: tuple[Passage, ...] = ()
    evidence: Evidence = Evidence.UNCALIBRATED
    text: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    support: list[Support] = field(default_factory=list)
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    timings: dict[str, float] = field(default_factory=dict)
    reason: str = "cancelled"
    trace: str = field(default_factory=telemetry.trace_id)
    found: SearchResult | None = None
    made: list[Step] = field(default_factory=list)
    """What was done with the passages that were found."""

    @property
    def model_name(self) -> str:
        return self.model.name if self.model is not None else QUOTES

    def note(self, name: str) -> None:
        self.timings.setdefault(name, (time.perf_counter() - self.began) * 1000)

    def did(self, name: str, detail: str, began: float, passages: int) -> None:
        """A step that so many passages came out of. `began`: by time.perf_counter."""
        self.made.append(Step(name, detail, (time.perf_counter() - began) * 1000, passages))

    def take(self, event: AnswerEvent) -> None:
        match event:
            case Delta():
                self.note("first_token")
                self.text.append(event.text)
            case Citation():
                self.citations.append(event)
            case Support():
                self.support.append(event)
            case Usage():
                self.usage = event


class Generate:
    def __init__(
        self,
        retriever: Retriever,
        model: LanguageModel | None,
        record: Record,
        budget: Budget,
        candidate: Candidate | None = None,
    ) -> None:
        self._retriever = retriever
        self._model = model
        self._candidate = candidate
        self._admission = Admission(budget.concurrent, budget.patience)
        self._record = record
        self._budget = budget
        self._vectors = SentenceVectors(retriever)

    def _pick(self, request: GenerateRequest) -> LanguageModel | None:
        """The engines of this conversation: the candidate's for its share of them."""
        if self._candidate is None:
            return self._model
        first = next((each.content for each in request.messages if each.role == "user"), "")
        return self._candidate.model if self._candidate.takes(f"{request.key_id}\n{first}") else self._model

    async def __call__(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """The answer's events. Closing the iterator stops the engine's work; what was given by then is kept."""
        async with aclosing(self.together(request)) as batches:
            async for events in batches:
                for event in events:
                    yield event

    async def whole(self, request: GenerateRequest) -> list[AnswerEvent]:
        """All events of the answer, at its end."""
        _valid(request)
        async with self._admission.place(request.key_id), aclosing(self._admitted(request)) as events:
            return _joined([event async for event in events])

    async def together(self, request: GenerateRequest) -> AsyncGenerator[list[AnswerEvent], None]:
        """The answer's events, those together that wait together, since each batch costs a message on every way that it
        goes.

        The answer is made at the engine's pace and waits here for who reads slowly, so that a slow reader keeps no
        place and no engine busy. What waits is an answer of `max_tokens` at most."""
        _valid(request)
        made: asyncio.Queue[AnswerEvent | None] = asyncio.Queue()

        async def make() -> None:
            try:
                async with self._admission.place(request.key_id), aclosing(self._admitted(request)) as events:
                    async for event in events:
                        made.put_nowait(event)
            finally:
                made.put_nowait(None)

        making = asyncio.create_task(make())
        try:
            ended = False
            while not ended:
                waiting = [await made.get()]
                while not made.empty():
                    waiting.append(made.get_nowait())
                ended = waiting[-1] is None
                if events := _joined([event for event in waiting if event is not None]):
                    yield events
            await making  # its error, where it had one
        finally:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)

    async def _admitted(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        answer = _Answer(request, self._pick(request))
        begun = False
        try:
            async with aclosing(self._answer(answer)) as events:
                async for event in events:
                    answer.take(event)
                    begun = True
                    if not isinstance(event, Usage):
                        yield event
            answer.note("total")
            yield answer.usage
            answer.reason = "length" if 0 < self._tokens(answer) <= answer.usage.completion_tokens else "stop"
            yield Finished(answer.reason, dict(answer.timings))
        except TwinError as error:
            if not begun:
                raise
            answer.reason = error.code
            yield Failed(error.code, error.message)
        except Exception as error:
            if not begun:
                raise
            log.error("answer broke off", exc_info=error)
            answer.reason = Internal.code
            yield Failed(Internal.code, "Something went wrong inside Twin; the log has the cause under this trace.")
        finally:
            if begun:
                answer.note("total")
                self._record.save(self._entry(answer))
                self._count(answer)

    async def _answer(self, answer: _Answer) -> AsyncGenerator[AnswerEvent, None]:
        request = answer.request
        answer.question = request.messages[-1].content
        talk = conversation.kind(request.messages)
        if talk.housekeeping and answer.model is not None:
            async for event in self._plain(answer, answer.model):
                yield event
            return
        if talk is not Talk.QUESTION:
            answer.evidence = Evidence.ANSWER
            yield self._started(answer)
            reply = conversation.reply(
                talk, request.messages, request.author, answer.model.name if answer.model else ""
            )
            for event in quoted.said(reply):
                yield event
            return
        if request.k == 0:
            if answer.model is None:
                raise InvalidInput(
                    "k is 0 (no passages), and Twin answers in quotations: there is nothing to quote. Leave k out, or "
                    "set TWIN_LLM_URL to a language model.",
                    param="twin.k",
                )
            async for event in self._plain(answer, answer.model):
                yield event
            return
        found = await self._search(request)
        answer.note("search")
        answer.found, answer.question, answer.evidence = found, found.question, found.evidence
        answer.passages = _allowed(found.passages, request)
        if found.evidence is Evidence.NONE or not answer.passages:
            answer.evidence = Evidence.NONE
            yield self._started(answer, found.notices)
            for event in quoted.declined(answer.passages, found.filter):
                yield event
            return
        if answer.model is None and found.listing:
            yield self._started(answer, found.notices)
            for event in quoted.listed(answer.passages):
                yield event
            return
        if answer.model is None:
            began = time.perf_counter()
            if found.vector:
                self._vectors.know(found.question, found.vector, found.encoder)
            chosen = await quotes.choose(found.question, answer.passages, self._vectors)
            quotations, answer.passages = quoted.in_order(chosen, answer.passages)
            quoting = len({each.passage for each in quotations})
            answer.did(
                "quote",
                f"{len(quotations)} quotations from {quoting} of {len(answer.passages)} passages",
                began,
                quoting,
            )
            yield self._started(answer, found.notices)
            for event in quoted.answer(found.evidence, quotations, answer.passages):
                yield event
            return
        async for event in self._written(answer, answer.model, found):
            yield event

    async def _search(self, request: GenerateRequest) -> SearchResult:
        scope, filter = request.scope, request.filter
        if request.author is not None:
            scope = Scope(authors=(request.author,))
        wanted = SearchRequest(
            query=request.messages[-1].content,
            scope=scope,
            k=self._budget.passages if request.k is None else request.k,
            filter=filter,
            history=_history(request.messages),
            rewrite=request.rewrite,
            rerank=request.rerank,
            threshold=True,
        )
        try:
            return await self._retriever.search(wanted)
        except (InvalidInput, TooLarge) as error:
            # Here the question is the last of the messages.
            raise type(error)(error.message, param="messages" if error.param == "query" else error.param) from error

    async def _written(
        self, answer: _Answer, model: LanguageModel, found: SearchResult
    ) -> AsyncGenerator[AnswerEvent, None]:
        request = answer.request
        sampling = self._sampling(answer)
        began, offered = time.perf_counter(), len(answer.passages)
        messages, answer.passages = await prompt.fit(
            request.messages[-1].content,
            answer.passages,
            request.messages[:-1],
            request.author,
            count=model.count,
            tokens=model.window - sampling.max_tokens,
            history_tokens=self._budget.history_tokens,
        )
        answer.prompt = _text(messages)
        fitting = len(answer.passages)
        answer.did("prompt", f"{fitting} of {offered} passages fit the model's window", began, fitting)
        yield self._started(answer, found.notices)
        if found.evidence is Evidence.CLOSEST:
            note = "Nothing here answers this outright; this is from the closest passages.\n\n"
            for event in quoted.said(note):
                yield event
        else:
            note = ""
        pieces = model.stream(messages, sampling)
        passages = answer.passages

        def checker() -> Checker:
            return Checker(found.question, passages, self._vectors)

        async for event in _shifted(written.events(pieces, passages, checker, request.support), len(note)):
            yield event

    async def _plain(self, answer: _Answer, model: LanguageModel) -> AsyncGenerator[AnswerEvent, None]:
        """The engine on the conversation alone: a program's housekeeping, or an answer without passages."""
        messages, _ = await prompt.fit(
            answer.request.messages[-1].content,
            (),
            answer.request.messages[:-1],
            answer.request.author,
            count=model.count,
            tokens=model.window - self._sampling(answer).max_tokens,
            history_tokens=self._budget.history_tokens,
        )
        wishes = [message for message in answer.request.messages[:-1] if message.role == "system"]
        messages = prompt.without_passages(answer.request.messages[-1].content, [*wishes, *messages[1:-1]])
        answer.prompt, answer.evidence = _text(messages), Evidence.ANSWER
        yield self._started(answer)
        pieces = model.stream(messages, self._sampling(answer))
        async for event in written.plain(pieces):
            yield event

    def _started(self, answer: _Answer, notices: Iterable[str] = ()) -> Started:
        return Started(
            generation_id=answer.id,
            model=answer.model_name,
            created_at=answer.created_at,
            evidence=answer.evidence,
            passages=answer.passages,
            question=answer.question,
            notices=tuple(notices),
        )

    def _tokens(self, answer: _Answer) -> int:
        return 0 if answer.model is None else self._sampling(answer).max_tokens

    def _sampling(self, answer: _Answer) -> Sampling:
        request = answer.request
        asked = request.max_tokens or self._budget.answer_tokens
        window = answer.model.window if answer.model is not None else asked
        return Sampling(
            # Half of the window at most: the passages need the rest.
            max_tokens=max(1, min(asked, window // 2)),
            temperature=request.temperature,
            top_p=request.top_p,
            stop=request.stop,
            seed=request.seed,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
        )

    def _count(self, answer: _Answer) -> None:
        telemetry.ANSWERS.labels(answer.evidence).inc()
        name = answer.model_name
        for kind, tokens in (("prompt", answer.usage.prompt_tokens), ("completion", answer.usage.completion_tokens)):
            telemetry.TOKENS.labels(kind, name).inc(tokens)
            telemetry.KEY_TOKENS.labels(kind, answer.request.key_id).inc(tokens)
        for each in answer.support:
            telemetry.SUPPORT.labels(each.verdict).inc()

    def _entry(self, answer: _Answer) -> Generation:
        found = answer.found
        return Generation(
            id=answer.id,
            key_id=answer.request.key_id,
            author=answer.request.author,
            messages=answer.request.messages,
            question=answer.question,
            prompt=answer.prompt,
            model=answer.model_name,
            passages=answer.passages,
            answer="".join(answer.text),
            citations=tuple(answer.citations),
            support=tuple(answer.support),
            evidence=answer.evidence,
            usage=answer.usage,
            timings=answer.timings,
            reason=answer.reason,
            created_at=answer.created_at,
            authors=tuple(sorted({passage.author for passage in answer.passages} or _asked(answer.request))),
            trace=answer.trace,
            queries=found.queries if found is not None else (),
            filter=found.filter if found is not None else answer.request.filter,
            confidence=found.confidence if found is not None else None,
            steps=(*(found.steps if found is not None else ()), *answer.made),
        )


def _joined(events: Iterable[AnswerEvent]) -> list[AnswerEvent]:
    """Text that follows text becomes one piece with it, as far as a message holds it."""
    joined: list[AnswerEvent] = []
    texts: list[str] = []
    length = 0

    def give() -> None:
        nonlocal length
        if texts:
            joined.append(Delta("".join(texts)))
            texts.clear()
            length = 0

    for event in events:
        if isinstance(event, Delta):
            texts.append(event.text)
            length += len(event.text)
            if length >= PIECE:
                give()
        else:
            give()
            joined.append(event)
    give()
    return joined


def _asked(request: GenerateRequest) -> set[str]:
    """The authors it may be answered from; none: all."""
    return {request.author} if request.author is not None else set(request.scope.authors)


def _valid(request: GenerateRequest) -> None:
    if not request.messages or request.messages[-1].role != "user" or not request.messages[-1].content.strip():
        raise InvalidInput("The last message must be the user's, and say something.", param="messages")
    if any(message.role not in ("system", "user", "assistant") for message in request.messages):
        raise InvalidInput("A message's role is system, user or assistant.", param="messages")
    if request.support not in (written.MARK, written.REPLACE):
        raise InvalidInput("support is mark or replace.", param="twin.support")
    if request.k is not None and not 0 <= request.k <= MOST_PASSAGES:
        raise InvalidInput(f"k is from 0 to {MOST_PASSAGES}.", param="twin.k")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise InvalidInput("max_tokens is 1 or more.", param="max_tokens")
    if request.author is not None and not request.scope.allows(request.author):
        raise Forbidden("This key may not see that author.")


def _allowed(passages: Iterable[Passage], request: GenerateRequest) -> tuple[Passage, ...]:
    """No other author's text reaches a prompt, whatever the search said."""
    return tuple(
        passage
        for passage in passages
        if request.scope.allows(passage.author) and request.author in (None, passage.author)
    )


def _history(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(message for message in messages[:-1] if message.role in ("user", "assistant"))


def _text(messages: Sequence[Message]) -> str:
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


async def _shifted(events: AsyncGenerator[AnswerEvent, None], by: int) -> AsyncGenerator[AnswerEvent, None]:
    """Spans of the answer, moved by what was said before it."""
    async with aclosing(events):
        async for event in events:
            yield written.moved(event, by)
