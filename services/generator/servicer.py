"""GeneratorService: messages to calls and back.

Comes in: protobuf. Goes out: protobuf, or errors of services.errors. Does not know: how the work is done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from twin.v1 import generator_pb2 as g
from twin.v1 import types_pb2 as t

from services import wire
from services.clients import GeneratorDescription
from services.domain import Feedback, GenerateRequest, Scope
from services.generator.generate import QUOTES, Generate
from services.generator.journal import Record
from services.ports import LanguageModel


class GeneratorServicer:
    def __init__(self, generate: Generate, record: Record, model: LanguageModel | None) -> None:
        self._generate = generate
        self._record = record
        self._model = model

    async def generate(self, request: g.GenerateRequest) -> AsyncGenerator[g.AnswerEvent, None]:
        async with aclosing(self._generate(wire.from_wire(request, GenerateRequest))) as events:
            async for event in events:
                yield wire.event_to_wire(event)

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
