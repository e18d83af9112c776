"""gRPC as callers meet it: errors, deadlines, cancellation, malformed bytes, health, drain."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twin.v1 import crawler_pb2 as c
from twin.v1 import generator_pb2, retriever_pb2

from services import clients, rpc, wire
from services.domain import EVERYONE, Delta, Evidence, Filter, GenerateRequest, SearchRequest, SearchResult
from services.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    Overloaded,
    TwinError,
    Unavailable,
    by_code,
)
from tests.gateway.scripted import SERVICES, Services

RETRIEVER = retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"]
GENERATOR = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"]


class Behaving:
    """Answers by what the query says."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.go_on = asyncio.Event()
        """What a search for "held" waits for."""

    async def search(self, request: Any) -> Any:
        if request.query == "slow":
            await asyncio.sleep(30)
        if request.query == "held":
            await self.go_on.wait()
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
            for number in itertools.count():
                yield wire.event_to_wire(Delta(str(number)))
                await asyncio.sleep(0.01)
        finally:
            self.closed.set()

    async def _unused(self, request: Any) -> Any:
        raise AssertionError

    answer = give_feedback = list_generations = get_generation = delete_generation = redact_document = _unused


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
        await call(b"\xff\xff\xff", timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "SearchRequest" not in caught.value.details()


@pytest.mark.promise(9)
async def test_cancelling_reaches_the_work(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """Closing a stream ends the generator that makes it."""
    behaving, channel, _ = served
    events = clients.Generator(channel).generate(GenerateRequest((), EVERYONE))
    assert await anext(events) == [Delta("0")]
    await events.aclose()
    await asyncio.wait_for(behaving.closed.wait(), 60)


async def test_health_and_reflection(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """Health says SERVING for the service by name."""
    stub = health_pb2_grpc.HealthStub(served[1])
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=RETRIEVER.full_name), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def _taken(caller: rpc.Caller) -> bool:
    try:
        await caller.unary("Search", retriever_pb2.SearchRequest(), retriever_pb2.SearchResult, timeout=30)
    except (Cancelled, Unavailable):  # the former where it was asked in the very moment of the stop
        return False
    return True


async def test_drain_lets_streams_finish(served: tuple[Behaving, Any, rpc.Server]) -> None:
    """A stop with grace waits for what is running, and takes nothing new."""
    behaving, channel, server = served
    caller = rpc.Caller(channel, RETRIEVER)
    await clients.Retriever(channel).embed(["a"])
    held = asyncio.create_task(
        caller.unary("Search", retriever_pb2.SearchRequest(query="held"), retriever_pb2.SearchResult, timeout=600)
    )
    events = clients.Generator(channel).generate(GenerateRequest((), EVERYONE))
    await anext(events)
    stopping = asyncio.create_task(server.stop(600))
    async with asyncio.timeout(60):
        while await _taken(caller):
            pass
        assert (await anext(events)) == [Delta("1")]
        await events.aclose()
        assert not stopping.done()
        behaving.go_on.set()
        assert (await held).question == "held"
        await stopping
        assert not await _taken(caller)


async def test_a_taken_address_is_said(tmp_path: Path) -> None:
    """An address that cannot be listened on is refused at start with what to do."""
    server = rpc.Server(f"unix:{tmp_path}/missing/rpc.sock", [(RETRIEVER, Behaving())])
    with pytest.raises((Unavailable, InvalidInput), match="Choose another"):
        await server.start()


async def test_a_repeatable_call_waits_for_a_server_that_is_starting(tmp_path: Path) -> None:
    """It is answered once the server is there."""
    address = f"unix:{tmp_path}/late.sock"
    server = rpc.Server(address, [(RETRIEVER, Behaving())])
    channel = rpc.connect(address)
    asking = asyncio.create_task(clients.Retriever(channel).search(SearchRequest("a", EVERYONE)))
    await asyncio.sleep(0.3)
    await server.start()
    assert (await asking).question == "a"
    await channel.close()
    await server.stop(0)


async def test_a_server_that_never_comes_is_waited_for_once(tmp_path: Path) -> None:
    """All attempts of a call share its patience."""
    channel = rpc.connect(f"unix:{tmp_path}/none.sock")
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await clients.Retriever(channel).search(SearchRequest("a", EVERYONE))
    # An attempt of its own each would be ATTEMPTS times as long.
    assert asyncio.get_running_loop().time() - began < rpc.PATIENCE * (rpc.ATTEMPTS - 1)
    await channel.close()


@pytest.mark.parametrize("resume", [True, False])
async def test_a_stream_goes_on_where_asking_again_is_as_good(tmp_path: Path, resume: bool) -> None:
    """With `resume` a stream outlives its server's restart; without, it ends with an error once it has begun."""
    address = f"unix:{tmp_path}/again.sock"
    server = rpc.Server(address, [(GENERATOR, Behaving())])
    await server.start()
    channel = rpc.connect(address)
    request = wire.to_wire(GenerateRequest((), EVERYONE), generator_pb2.GenerateRequest)
    events = rpc.Caller(channel, GENERATOR).stream(
        "Generate", request, generator_pb2.AnswerEvent, timeout=100, resume=resume
    )
    for _ in range(3):
        await anext(events)
    await server.stop(0)
    server = rpc.Server(address, [(GENERATOR, Behaving())])
    await server.start()
    texts: list[str] = []
    try:
        async for event in events:
            texts.append(event.delta.text)
            if texts[-1] == "0":
                break
        ended: TwinError | None = None
    except TwinError as error:
        ended = error
    assert (texts[-1:] == ["0"], isinstance(ended, TwinError)) == (resume, not resume)
    await events.aclose()
    await channel.close()
    await server.stop(0)


def test_retries_are_within_a_budget() -> None:
    """Where every call fails, retries end; where they succeed they come back slowly."""
    budget = rpc.RetryBudget()
    assert [budget.take() for _ in range(20)].count(True) == 5
    for _ in range(1000):
        budget.give()
    assert budget.take()


async def test_no_more_calls_at_once_than_allowed(tmp_path: Path) -> None:
    """Those beyond are told to come again, at once."""
    behaving = Behaving()
    server = rpc.Server(f"unix:{tmp_path}/few.sock", [(RETRIEVER, behaving)], concurrent=2)
    await server.start()
    channel = rpc.connect(server.address)
    caller = rpc.Caller(channel, RETRIEVER)
    held = retriever_pb2.SearchRequest(query="held")
    asked = {
        asyncio.create_task(caller.unary("Search", held, retriever_pb2.SearchResult, timeout=100)) for _ in range(5)
    }
    refused: set[asyncio.Task[Any]] = set()
    async with asyncio.timeout(60):
        while len(refused) < 3:
            refused = {each for each in asked if each.done()}
            await asyncio.sleep(0.01)
    behaving.go_on.set()
    kinds = sorted(type(each).__name__ for each in await asyncio.gather(*asked, return_exceptions=True))
    assert kinds == ["Overloaded"] * 3 + ["SearchResult"] * 2
    assert {type(each.exception()) for each in refused} == {Overloaded}
    await channel.close()
    await server.stop(0)


class Watched(Services):
    """A job that goes on for ever, and says who tells of it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def watch_crawl(self, request: Any) -> AsyncIterator[Any]:
        while True:
            yield c.Crawl(id=self.name, state="running")
            await asyncio.sleep(0.01)


async def test_a_watch_holds_up_no_stop(tmp_path: Path) -> None:
    """A server that is told to stop ends at once what lasts as long as somebody looks, and the caller goes on with
    another server without noticing."""
    descriptor = SERVICES["crawler"]
    servers = {name: rpc.Server("127.0.0.1:0", [(descriptor, Watched(name))]) for name in ("first", "second")}
    ports = [await server.start() for server in servers.values()]
    channel = rpc.connect("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports))
    crawls = clients.Crawler(channel).watch_crawl("job", EVERYONE)
    told = (await anext(crawls)).id
    async with asyncio.timeout(60):
        await servers.pop(told).stop(3600)
        while (await anext(crawls)).id == told:
            pass
    await crawls.aclose()
    await channel.close()
    for server in servers.values():
        await server.stop(0)


def test_a_part_s_own_kind_of_an_error_crosses_as_its_parent() -> None:
    """What comes back from the wire is a class of errors.py, whatever subclasses the parts made for themselves."""

    class Own(Unavailable):
        def __init__(self) -> None:
            super().__init__("Gone for a moment.")

    assert Own.code == Unavailable.code
    assert by_code()[Own().code] is Unavailable
