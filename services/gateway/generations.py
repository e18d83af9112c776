"""Answers kept in the journal, and what people thought of them.

Comes in: ids, ratings. Goes out: entries of the caller's own key; of every key for an admin's.
Does not know: how the journal is stored.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.domain import Feedback, Generation
from services.errors import InvalidInput, NotFound
from services.gateway import openai, shapes
from services.gateway.call import Call, TheCall, answer
from services.gateway.openai import UsageShape
from services.gateway.shapes import (
    Asked,
    CitationShape,
    Evidence,
    FilterShape,
    Given,
    Limit,
    Moment,
    PassageShape,
    StepShape,
    SupportShape,
    Time,
    Whole,
)


class FeedbackShape(Given):
    generation_id: str
    rating: Literal[1, -1]
    correction: str
    reasons: list[str]
    at: Time


class GenerationShape(Given):
    id: str
    created_at: Time
    key_id: str
    author: str | None
    """The twin that was asked; null: every author in scope."""
    authors: list[str]
    """Of the passages."""
    model: str
    question: str
    answer: str
    evidence: Evidence
    citations: list[CitationShape]
    support: list[SupportShape]
    usage: UsageShape
    timings: dict[str, float]
    finish_reason: str
    feedback: FeedbackShape | None
    redacted: bool
    """A document it was made from is gone, and its text with it."""
    trace: str
    """Of the request that it answered: the header x-trace-id. Empty in answers of before it was kept."""


class GenerationList(Given):
    data: list[GenerationShape]


class MessageShape(Given):
    role: str
    content: str


class GenerationWhole(GenerationShape):
    messages: list[MessageShape]
    queries: list[str]
    """That were searched for."""
    filter: FilterShape
    """As asked and as recognised in the question."""
    steps: list[StepShape]
    """Of the search, and what was then made of its passages."""
    confidence: float | None
    """The score that `evidence` was decided by; null: nothing was searched."""
    passages: list[PassageShape]
    prompt: str
    """As the model read it; empty where none did."""


class FeedbackBody(Asked):
    generation_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    rating: Annotated[Literal[1, -1], Whole]
    correction: Annotated[str, StringConstraints(max_length=50_000, pattern=r"^[^\x00]*$")] = ""
    """The answer as it should have been: it becomes preference data."""
    reasons: Annotated[
        list[Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]], Field(max_length=20)
    ] = Field(default_factory=list)


TraceId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


async def find(
    call: TheCall, limit: Limit = 50, before: Moment | None = None, trace: TraceId | None = None
) -> Response:
    """List the answers given to this key, the newest first; an admin sees every key's. `before`: a time; `trace`: the
    x-trace-id of the request that was answered."""
    found = await call.parts.generator.list_generations(
        call.scope, key_id=None if call.admin else call.key.id, limit=limit, before=moment(before), trace=trace
    )
    return answer({"data": [_short(each) for each in found]})


async def get(call: TheCall, id: str) -> Response:
    """One answer with everything it was made of: question, search, candidates, prompt."""
    found = await _own(call, id)
    return answer(
        {
            **_short(found),
            "messages": [{"role": each.role, "content": each.content} for each in found.messages],
            "queries": list(found.queries),
            "filter": shapes.filter(found.filter),
            "steps": [shapes.step(each) for each in found.steps],
            "confidence": found.confidence,
            "passages": [shapes.passage(each) for each in found.passages],
            "prompt": found.prompt,
        }
    )


async def delete(call: TheCall, id: str) -> Response:
    """Take an answer from the journal."""
    await _own(call, id)
    await call.parts.generator.delete_generation(id, call.scope)
    return answer({"id": id, "deleted": True})


async def rate(call: TheCall, body: FeedbackBody) -> Response:
    """Say whether an answer was good, and how it should have been."""
    await _own(call, body.generation_id)
    feedback = Feedback(body.generation_id, body.rating, body.correction, tuple(body.reasons), time.time())
    await call.parts.generator.give_feedback(feedback, call.scope)
    return answer(_feedback(feedback), 201)


async def _own(call: Call, id: str) -> Generation:
    found = await call.parts.generator.get_generation(id, call.scope)
    if not call.admin and found.key_id != call.key.id:
        raise NotFound("There is no such answer, or not for this key.")
    return found


def moment(text: str | None) -> float | None:
    """Seconds of an ISO 8601 time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidInput("before is a time such as 2026-01-31T12:00:00Z.", param="before") from None


def _short(each: Generation) -> dict[str, Any]:
    return {
        "id": each.id,
        "created_at": shapes.time(each.created_at),
        "key_id": each.key_id,
        "author": each.author,
        "authors": list(each.authors),
        "model": each.model,
        "question": each.question,
        "answer": each.answer,
        "evidence": each.evidence,
        "citations": [shapes.citation(one) for one in each.citations],
        "support": [shapes.support(one) for one in each.support],
        "usage": openai.usage(each.usage.prompt_tokens, each.usage.completion_tokens),
        "timings": dict(each.timings),
        "finish_reason": each.reason,
        "feedback": None if each.feedback is None else _feedback(each.feedback),
        "redacted": each.redacted,
        "trace": each.trace,
    }


def _feedback(each: Feedback) -> dict[str, Any]:
    return {
        "generation_id": each.generation_id,
        "rating": each.rating,
        "correction": each.correction,
        "reasons": list(each.reasons),
        "at": shapes.time(each.at),
    }
