"""Chat completions: a question to a twin, its answer whole or as it is made.

Comes in: an OpenAI chat request. Goes out: chat.completion, or chat.completion.chunk events.
Does not know: how answers are made.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from pydantic_core import to_json
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from services.domain import (
    AnswerEvent,
    Citation,
    Delta,
    Failed,
    Finished,
    GenerateRequest,
    Started,
    Support,
    Usage,
)
from services.errors import Internal, ModelNotFound, TwinError, by_code
from services.gateway import openai, shapes
from services.gateway.call import Call, TheCall, answer, first, while_connected
from services.gateway.openai import ChatBody, TwinOptions

_PING = 15
"""Seconds of silence after which a comment keeps proxies from closing a stream."""


async def complete(call: TheCall, body: ChatBody) -> Response:
    """Answer a question from the corpus, with citations."""
    request = await _request(call, body)
    seconds = call.parts.settings.gateway_answer_seconds
    if not body.stream:
        return answer(
            _whole(await while_connected(call.request, call.parts.generator.answer(request, seconds)), body.model)
        )
    batches = call.parts.generator.generate(request, seconds)
    # An error before the first event still gets a status of its own.
    begun = await while_connected(call.request, first(batches))
    started = _started(begun)
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    events = _stream(started, begun[1:], batches, body.model, include_usage)
    return EventSourceResponse(events, ping=_PING, sep="\n")


async def _request(call: Call, body: ChatBody) -> GenerateRequest:
    messages = body.conversation()
    author = await known_author(call, body.model)
    options = body.twin or TwinOptions()
    if options.filter.author is not None:
        call.may_touch(options.filter.author, "twin.filter.author")
    return GenerateRequest(
        messages=messages,
        scope=call.scope,
        key_id=call.key.id,
        author=author,
        filter=options.filter.filter(),
        k=options.k,
        support=options.support,
        rewrite=options.rewrite,
        rerank=options.rerank,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=body.stops(),
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        together=True,
    )


async def known_author(call: Call, model: str) -> str | None:
    """The author that a model's name means; None for all of them. ModelNotFound as OpenAI has it."""
    if model == openai.EVERYONE_MODEL:
        return None
    if call.scope.allows(model) and await call.parts.names.has(model):
        return model
    raise ModelNotFound(
        f"The model {model!r} does not exist or this key may not use it: GET /v1/models lists those it may.",
        param="model",
    )


def _started(events: Sequence[AnswerEvent]) -> Started:
    event = events[0] if events else None
    if isinstance(event, Failed):
        raise _error(event)
    if not isinstance(event, Started):
        raise Internal("An answer did not begin with its start.")
    return event


def _error(failed: Failed) -> TwinError:
    return by_code().get(failed.code, Internal)(failed.message)


def _whole(events: Sequence[AnswerEvent], model: str) -> dict[str, Any]:
    texts: list[str] = []
    citations: list[Citation] = []
    verdicts: list[Support] = []
    used, finished = Usage(0, 0), Finished("stop", {})
    started = _started(events)
    for event in events[1:]:
        match event:
            case Delta():
                texts.append(event.text)
            case Citation():
                citations.append(event)
            case Support():
                verdicts.append(event)
            case Usage():
                used = event
            case Finished():
                finished = event
            case Failed():
                raise _error(event)
    message = {
        "role": "assistant",
        "content": "".join(texts),
        "refusal": None,
        "annotations": [openai.annotation(each) for each in citations],
    }
    return {
        "id": f"chatcmpl-{started.generation_id}",
        "object": "chat.completion",
        "created": int(started.created_at),
        "model": model,
        "choices": [
            {"index": 0, "message": message, "finish_reason": _reason(finished), "logprobs": None},
        ],
        "usage": openai.usage(used.prompt_tokens, used.completion_tokens),
        "twin": {
            "generation_id": started.generation_id,
            "evidence": started.evidence,
            "question": started.question,
            "notices": list(started.notices),
            "citations": [shapes.citation(each) for each in citations],
            "support": [shapes.support(each) for each in verdicts],
            "passages": [shapes.passage(each) for each in started.passages],
            "timings": dict(finished.timings),
        },
    }


def _reason(finished: Finished) -> str:
    return "length" if finished.reason == "length" else "stop"


async def _stream(
    started: Started,
    following: Sequence[AnswerEvent],
    batches: AsyncGenerator[list[AnswerEvent], None],
    model: str,
    include_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """`following`: what came together with the start. What comes together is one piece of the answer."""
    head: dict[str, Any] = {
        "id": f"chatcmpl-{started.generation_id}",
        "object": "chat.completion.chunk",
        "created": int(started.created_at),
        "model": model,
    }
    used = Usage(0, 0)
    failed = False
    numbers = itertools.count()

    def chunk(delta: dict[str, Any], twin: dict[str, Any] | None = None, finish: str | None = None) -> bytes:
        # Each chunk has its choice, even one that brings only what is Twin's: clients read choices[0] unasked.
        event = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}
        if include_usage:
            event["usage"] = None
        if twin is not None:
            event["twin"] = twin
        return _data(event)

    def shown(event: AnswerEvent) -> bytes:
        nonlocal used, failed
        match event:
            case Delta():
                return chunk({"content": event.text})
            case Citation():
                # By its index a client puts the items of a list together that come one by one.
                annotation = {"index": next(numbers), **openai.annotation(event)}
                return chunk({"annotations": [annotation]}, {"citation": shapes.citation(event)})
            case Support():
                return chunk({}, {"support": shapes.support(event)})
            case Usage():
                used = event
            case Finished():
                twin = {"finished": {"reason": event.reason, "timings": dict(event.timings)}}
                return chunk({}, twin, _reason(event))
            case Failed():
                # The status is long sent: the error comes as an event, and no [DONE] after it.
                failed = True
                return _failure(_error(event))
        return b""

    async with aclosing(batches):
        begun = {
            "generation_id": started.generation_id,
            "model": started.model,
            "evidence": started.evidence,
            "question": started.question,
            "notices": list(started.notices),
            "passages": [shapes.passage(each) for each in started.passages],
        }
        first = chunk({"role": "assistant", "content": ""}, {"started": begun})
        yield first + b"".join(map(shown, following))
        try:
            async for events in batches:
                if failed:
                    return
                if text := b"".join(map(shown, events)):
                    yield text
        except TwinError as error:
            yield _failure(error)
            return
        if failed:
            return
        if include_usage:
            usage = openai.usage(used.prompt_tokens, used.completion_tokens)
            yield _data({**head, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def _failure(error: TwinError) -> bytes:
    return _data({"error": {"message": error.message, "type": error.type, "code": error.code, "param": error.param}})


def _data(event: dict[str, Any]) -> bytes:
    return b"data: " + to_json(event) + b"\n\n"
