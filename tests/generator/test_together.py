"""Events of an answer in few messages, for callers that take them so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from twin.v1 import generator_pb2

from services import clients, rpc
from services.adapters import open_adapter
from services.domain import EVERYONE, AnswerEvent, Delta, Finished, GenerateRequest, Message, Started, Support, Usage
from services.errors import InvalidInput, TooLarge
from services.generator.generate import Budget, Generate
from services.generator.journal import Record
from services.generator.servicer import GeneratorServicer
from tests.generator import engine
from tests.generator.test_slow_reader import Unasked

SERVICE = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"]
QUESTION = GenerateRequest((Message("user", "Write about the sea."),), EVERYONE, k=0)


@asynccontextmanager
async def generator(script: engine.Script, tmp_path: Path, service: Any = SERVICE) -> AsyncIterator[grpc.aio.Channel]:
    """A generator with this engine, over a real socket."""
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(engine.running(script))
        model = await open_adapter("language_model", stub.url, tmp_path)
        stack.push_async_callback(model.close)
        record = Record(await open_adapter("journal", "sqlite:///", tmp_path), 3600)
        stack.push_async_callback(record.close)
        generate = Generate(
            Unasked(), model, record, Budget(passages=1, answer_tokens=100, history_tokens=100, concurrent=4)
        )
        server = rpc.Server(f"unix:{tmp_path}/generator", [(service, GeneratorServicer(generate, record, model))])
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(rpc.connect(server.address))
        yield channel


async def streamed(channel: grpc.aio.Channel, request: GenerateRequest) -> list[list[AnswerEvent]]:
    return [events async for events in clients.Generator(channel).generate(request)]


def _said(batches: list[list[AnswerEvent]]) -> str:
    return "".join(event.text for events in batches for event in events if isinstance(event, Delta))


async def test_a_whole_answer_is_one_message(tmp_path: Path) -> None:
    """Who wants an answer at its end gets all of its events then, the text in one piece."""
    async with generator(engine.saying("The sea is wide. " * 20), tmp_path) as channel:
        events = await clients.Generator(channel).answer(QUESTION)
    assert [type(event) for event in events] == [Started, Delta, Support, Usage, Finished]
    assert _said([events]).split() == ["The", "sea", "is", "wide."] * 20


async def test_an_older_generator_is_asked_for_a_stream(tmp_path: Path) -> None:
    """While a new Twin is rolled out, a generator that knows no whole answers gives one all the same."""
    methods = [method for method in SERVICE.methods if method.name != "Answer"]
    older = SimpleNamespace(full_name=SERVICE.full_name, methods=methods)
    async with generator(engine.saying("The sea is wide."), tmp_path, older) as channel:
        assert _said([await clients.Generator(channel).answer(QUESTION)]) == "The sea is wide."


async def test_who_asks_for_nothing_gets_each_event_alone(tmp_path: Path) -> None:
    """A caller that knows of no events together is sent none that way: none is lost on it."""
    async with generator(engine.saying("The sea is wide."), tmp_path) as channel:
        alone = await streamed(channel, QUESTION)
        together = await streamed(channel, replace(QUESTION, together=True))
    assert all(len(events) == 1 for events in alone)
    assert _said(alone) == _said(together) == "The sea is wide."
    assert [type(event) for events in alone for event in events][-3:] == [Support, Usage, Finished]
    # What follows the last text comes about in the same moment.
    assert [type(event) for event in together[-1]][-3:] == [Support, Usage, Finished]


def long(messages: object) -> list[str]:
    return ["sea " * 10_000] * 150


async def test_a_long_answer_goes_in_several_messages(tmp_path: Path) -> None:
    """A stream whose events together are more than a message holds comes in several, and whole."""
    async with generator(long, tmp_path) as channel:
        batches = await streamed(channel, replace(QUESTION, together=True))
    assert len(batches) > 5
    assert _said(batches).split() == ["sea"] * 1_500_000


async def test_a_whole_answer_that_no_message_holds(tmp_path: Path) -> None:
    """It is refused, saying what to do."""
    async with generator(long, tmp_path) as channel:
        with pytest.raises(TooLarge, match="stream"):
            await clients.Generator(channel).answer(QUESTION)


async def test_what_goes_wrong_before_the_answer_has_its_own_status(tmp_path: Path) -> None:
    """A request that is wrong is refused as that, however its answer was to come."""
    wrong = replace(QUESTION, messages=(), together=True)
    async with generator(engine.saying("x"), tmp_path) as channel:
        with pytest.raises(InvalidInput):
            await streamed(channel, wrong)
        with pytest.raises(InvalidInput):
            await clients.Generator(channel).answer(wrong)
