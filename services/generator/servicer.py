"""GeneratorService: messages to calls and back.

Comes in: protobuf. Goes out: protobuf, or errors of services.errors. Does not know: how the work is done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from twin.v1 import generator_pb2 as g
from twin.v1 import types_pb2 as t

from services import wire
from services.clients import GeneratorDescription
from services.domain import AnswerEvent, Feedback, GenerateRequest, Scope
from services.errors import TooLarge
from services.generator.generate import QUOTES, Generate
from services.generator.journal import Record
from services.ports import LanguageModel
from services.rpc import MAX_MESSAGE_BYTES

MESSAGE_BYTES = 1 << 20
"""Of the events that are sent together after a first one; a message holds 4 MiB."""


class GeneratorServicer:
    def __init__(self, generate: Generate, record: Record, model: LanguageModel | None) -> None:
        self._generate = generate
        self._record = record
        self._model = model

    async def generate(self, request: g.GenerateRequest) -> AsyncGenerator[g.AnswerEvent, None]:
        given = wire.from_wire(request, GenerateRequest)
        async with aclosing(self._generate.together(given)) as batches:
            async for events in batches:
                for message in _messages(events) if given.together else map(wire.event_to_wire, events):
                    yield message

    async def answer(self, request: g.GenerateRequest) -> g.AnswerEvents:
        events = await self._generate.whole(wire.from_wire(request, GenerateRequest))
        reply = g.AnswerEvents(events=map(wire.event_to_wire, events))
        if reply.ByteSize() > MAX_MESSAGE_BYTES:
            raise TooLarge("The answer is longer than one message holds. Ask for it as a stream, or for less of it.")
        return reply

    async def give_feedback(self, request: g.FeedbackRequest) -> t.Empty:
        await self._record.feedback(wire.from_wire(request.feedback, Feedback), _scope(request.scope))
        return t.Empty()

    async def list_generations(self, request: g.ListGenerationsRequest) -> g.GenerationList:
        found = await self._record.find(
            _scope(request.scope),
            request.key_id if request.HasField("key_id") else None,
            request.limit or 50,
            request.before if request.HasField("before") else None,
            request.trace if request.HasField("trace") else None,
        )
        return g.GenerationList(generations=[wire.to_wire(each, g.Generation) for each in found])

    async def get_generation(self, request: g.GenerationId) -> g.Generation:
        return wire.to_wire(await self._record.get(request.id, _scope(request.scope)), g.Generation)

    async def delete_generation(self, request: g.GenerationId) -> t.Empty:
        await self._record.delete(request.id, _scope(request.scope))
        return t.Empty()

    async def redact_document(self, request: g.RedactRequest) -> g.RedactReply:
        return g.RedactReply(entries=await self._record.redact(request.document_id))

    async def describe(self, request: t.Empty) -> g.GeneratorDescription:
        # An engine that was away at the start has a name by now.
        return wire.to_wire(_description(self._model), g.GeneratorDescription)


def _messages(events: Sequence[AnswerEvent]) -> Iterator[g.AnswerEvent]:
    """The events in as few messages as hold them."""
    first, size = wire.event_to_wire(events[0]), 0
    for event in events[1:]:
        message = wire.event_to_wire(event)
        size += message.ByteSize()
        if size > MESSAGE_BYTES:
            yield first
            first, size = message, 0
        else:
            first.more.append(message)
    yield first


def _scope(scope: t.Scope) -> Scope:
    return wire.from_wire(scope, Scope)


def _description(model: LanguageModel | None) -> GeneratorDescription:
    if model is None:
        return GeneratorDescription(
            QUOTES,
            "Answers are quotations. For written ones set TWIN_LLM_URL to an engine, such as "
            "openai+http://localhost:11434/v1 for Ollama; `twin doctor` looks for one.",
        )
    return GeneratorDescription(
        model.name, "Answers are written by a model. For quotations set TWIN_LLM_URL=quotes://."
    )
