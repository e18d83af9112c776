"""gRPC as callers meet it: errors, deadlines, cancellation, malformed bytes, health, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twin.v1 import generator_pb2, retriever_pb2

from services import clients, rpc, wire
from services.domain import EVERYONE, Delta, Evidence, Filter, GenerateRequest, SearchRequest, SearchResult
from services.errors import DeadlineExceeded, Internal, InvalidInput, Overloaded, Unavailable

RETRIEVER = retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"]
GENERATOR = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"]


class Behaving:
    """Answers by what the query says."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def search(self, request: Any) -> Any:
        if request.query == "slow":
            await asyncio.sleep(30)
        if request.query == "overloaded":
            raise Overloaded("Too many at once.", param="query", retry_after=2.5)
        if request.query == "bug":
            raise RuntimeError("secret path /etc/inside")
        result = SearchResult((), Evidence.NONE, 0.0, request.query, (), Filter(), ())
        return wire.to_wire(result, retriever_pb2.SearchResult)

    async def embed(self, request: Any) -> Any:
        return retriever_pb2.EmbedReply(dimensions=1)

    async def describe(self, request: Any) -> Any:
        return retriever_pb2.IndexDescription()

    async def generate(self, request: Any) -> AsyncIterator[Any]:
        try:
            for number in range(1000):
                yield wire.event_to_wire(Delta(str(number)))
                await asyncio.sleep(0.01)
        finally:
            self.closed.set()

    async def _unused(self, request: Any) -> Any:
        raise AssertionError

    give_feedback = list_generations = get_generation = delete_generation = redact_document = _unused


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Behaving, Any, rpc.Server]]:
    behaving = Behaving()
    server = rpc.Server(f"unix:{tmp_path}/rpc.sock", [(RETRIEVER, behaving), (GENERATOR, behaving)])
    await server.start()
    channel = rpc.connect(server.address)
    yield behaving, channel, server
    await channel.close()
    await server.stop(0.1)


@pytest.mark.promise(9)
async def test_errors_cross_whole(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """An error arrives as the class it was raised as, with message, param and retry_after."""
    retriever = clients.Retriever(served[1])
    with pytest.raises(Overloaded) as caught:
        await retriever.search(SearchRequest("overloaded", EVERYONE))
    assert (caught.value.message, caught.value.param, caught.value.retry_after) == ("Too many at once.", "query", 2.5)


@pytest.mark.promise(9)
async def test_a_fault_leaks_nothing(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """What was not foreseen arrives as Internal, without its text."""
    with pytest.raises(Internal) as caught:
        await clients.Retriever(served[1]).search(SearchRequest("bug", EVERYONE))
    assert "secret" not in caught.value.message
    assert "RuntimeError" not in caught.value.message


@pytest.mark.promise(9)
async def test_deadline(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """A call that takes longer than its deadline ends with it."""
    caller = rpc.Caller(served[1], RETRIEVER)
    with pytest.raises(DeadlineExceeded):
        await caller.unary("Search", retriever_pb2.SearchRequest(query="slow"), retriever_pb2.SearchResult, timeout=0.2)


@pytest.mark.promise(9)
async def test_malformed_bytes(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """Bytes that are no message are INVALID_ARGUMENT and name no class."""
    call = served[1].unary_unary("/twin.v1.RetrieverService/Search")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff", timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "SearchRequest" not in caught.value.details()


@pytest.mark.promise(9)
async def test_cancelling_reaches_the_work(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """Closing a stream ends the generator that makes it."""
    behaving, channel, _ = served
    events = clients.Generator(channel).generate(GenerateRequest((), EVERYONE))
    assert await anext(events) == Delta("0")
    await events.aclose()
    await asyncio.wait_for(behaving.closed.wait(), 5)


async def test_health_and_reflection(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """Health says SERVING for the service by name."""
    stub = health_pb2_grpc.HealthStub(served[1])
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=RETRIEVER.full_name), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_drain_lets_streams_finish(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """A stop with grace waits for what is running, and takes nothing new."""
    _, channel, server = served
    slow = asyncio.create_task(clients.Retriever(channel).embed(["a"]))
    await slow
    events = clients.Generator(channel).generate(GenerateRequest((), EVERYONE))
    await anext(events)
    stopping = asyncio.create_task(server.stop(5))
    await asyncio.sleep(0.05)
    assert (await anext(events)) == Delta("1")
    await events.aclose()
    await asyncio.wait_for(stopping, 5)
    with pytest.raises(Unavailable):
        await rpc.Caller(channel, RETRIEVER).unary(
            "Search", retriever_pb2.SearchRequest(), retriever_pb2.SearchResult, timeout=2
        )


async def test_a_taken_address_is_said(tmp_path: Path) -> None:
    """An address that cannot be listened on is refused at start with what to do."""
    server = rpc.Server(f"unix:{tmp_path}/missing/rpc.sock", [(RETRIEVER, Behaving())])
    with pytest.raises((Unavailable, InvalidInput), match="Choose another"):
        await server.start()
