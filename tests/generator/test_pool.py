"""Several engines as one: real ones on loopback, which die, drain, come back and serve the wrong model."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.adapters import open_adapter
from services.domain import Message, Usage
from services.errors import Misconfigured, Unavailable
from services.generator import pool
from services.generator.pool import Pool
from services.ports import LanguageModel, Sampling
from tests.generator import engine

FEW = Sampling(max_tokens=5)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def pooled(stack: AsyncExitStack, engines: Sequence[engine.Engine], data: Path) -> Pool:
    async def open(url: str) -> LanguageModel:
        opened: LanguageModel = await open_adapter("language_model", url, data)
        return opened

    made = Pool([each.url for each in engines], open)
    stack.push_async_callback(made.close)
    await made.start()
    return made


async def answer(pool: Pool, text: str) -> str:
    pieces = [each async for each in pool.stream((Message("user", text),), FEW)]
    assert isinstance(pieces[-1], Usage)
    return "".join(each for each in pieces if isinstance(each, str))


class Clock:
    """In the place of the module `time`: moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


def named(name: str) -> engine.Script:
    return lambda messages: [name]


async def test_a_beginning_stays_where_it_was(stack: AsyncExitStack, tmp_path: Path) -> None:
    """The same prompt goes to the same replica, different ones are spread over all."""
    engines = [await stack.enter_async_context(engine.running(named(f"e{number}"))) for number in range(3)]
    made = await pooled(stack, engines, tmp_path)
    homes = [await answer(made, f"question {number}") for number in range(60)]
    assert [await answer(made, f"question {number}") for number in range(60)] == homes
    # Their ports are others each time, and with them what the prompts hash to: less than one in a million has fewer.
    assert min(Counter(homes)[f"e{number}"] for number in range(3)) >= 4


async def test_the_least_busy_takes_over(stack: AsyncExitStack, tmp_path: Path) -> None:
    """Many requests of one beginning don't queue at one replica while others are idle."""
    engines = [
        await stack.enter_async_context(engine.running(lambda messages: ["a"] * 20, pause=0.01)) for _ in range(2)
    ]
    made = await pooled(stack, engines, tmp_path)
    await asyncio.gather(*(answer(made, "the same") for _ in range(24)))
    assert min(len(each.requests) for each in engines) >= 8


async def test_a_dead_one_is_left_out_and_comes_back(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of a replica that fails before its first token are answered by another; once it is well it has its own
    prompts again."""
    monkeypatch.setattr(pool, "LOOK", 0.05)
    monkeypatch.setattr(pool, "PAUSE", 1.0)
    monkeypatch.setattr(pool, "time", clock := Clock())
    ill = await stack.enter_async_context(engine.running(named("ill")))
    well = await stack.enter_async_context(engine.running(named("well")))
    made = await pooled(stack, [ill, well], tmp_path)
    homes = {text: await answer(made, text) for text in map(str, range(20))}
    mine = next(text for text, home in homes.items() if home == "ill")
    ill.script = lambda messages: Response(status_code=503)
    assert await answer(made, mine) == "well"
    asked = len(ill.requests)
    for _ in range(20):
        assert await answer(made, mine) == "well"
    assert len(ill.requests) == asked
    for pause in (1.1, 2.1, 4.1):  # its pauses grow
        clock.now += pause
        assert await answer(made, mine) == "well"
        clock.now += pause - 0.2
        assert await answer(made, mine) == "well"
    assert len(ill.requests) == asked + 3
    ill.script = named("ill")
    clock.now += 100
    async with asyncio.timeout(60):
        while await answer(made, mine) != "ill":
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("status", [429, 503, 504])
async def test_one_that_cannot_be_proven_fails_nothing(stack: AsyncExitStack, tmp_path: Path, status: int) -> None:
    """Whatever a replica says when it is asked for its model, at the start or later, the other one answers."""
    ill = await stack.enter_async_context(engine.running(named("ill"), listed=status))
    well = await stack.enter_async_context(engine.running(named("well")))
    made = await pooled(stack, [ill, well], tmp_path)
    for replica in made._replicas.values():
        replica.out_until = 0.0  # its pause is over: who asks next proves it
    assert {await answer(made, text) for text in map(str, range(10))} == {"well"}


async def test_an_answer_that_broke_off_is_not_told_twice(stack: AsyncExitStack, tmp_path: Path) -> None:
    """Once a token was given the failure is the caller's to see: another replica would say it otherwise."""

    async def broken() -> AsyncIterator[str]:
        yield 'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
        yield 'data: {"error": {"message": "secret"}}\n\n'

    engines = [
        await stack.enter_async_context(
            engine.running(lambda messages: StreamingResponse(broken(), media_type="text/event-stream"))
        )
        for _ in range(2)
    ]
    made = await pooled(stack, engines, tmp_path)
    pieces = made.stream((Message("user", "x"),), FEW)
    assert await anext(pieces) == "Half"
    with pytest.raises(Unavailable):
        await anext(pieces)
    assert sum(len(each.requests) for each in engines) == 1


async def test_all_away(stack: AsyncExitStack, tmp_path: Path) -> None:
    """With every replica dead the caller is told so; nothing hangs."""
    engines = [await stack.enter_async_context(engine.running(named("x"))) for _ in range(2)]
    made = await pooled(stack, engines, tmp_path)
    for each in engines:
        each.script = lambda messages: Response(status_code=503)
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await answer(made, "x")


async def test_a_full_one_passes_requests_on(stack: AsyncExitStack, tmp_path: Path) -> None:
    """A replica that answers 429 is no dead one: another answers, and it keeps its other prompts."""
    full = await stack.enter_async_context(
        engine.running(lambda messages: JSONResponse({"error": {"message": "full"}}, 429))
    )
    free = await stack.enter_async_context(engine.running(named("free")))
    made = await pooled(stack, [full, free], tmp_path)
    assert {await answer(made, str(number)) for number in range(40)} == {"free"}
    assert len(full.requests) >= 2


async def test_another_model_is_refused_at_start(stack: AsyncExitStack, tmp_path: Path) -> None:
    """One replica that serves another model: Twin does not start, and says which is served."""
    right = await stack.enter_async_context(engine.running(named("a")))
    wrong = await stack.enter_async_context(engine.running(named("a"), models=("other",)))
    with pytest.raises(Misconfigured, match="other"):
        await pooled(stack, [right, wrong], tmp_path)


async def test_names_are_looked_up_again(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name stands for all its addresses, those that come later and without those that go; what a departed replica
    has begun it finishes."""
    monkeypatch.setattr(pool, "LOOK", 0.05)
    go_on = asyncio.Event()

    async def held() -> AsyncIterator[str]:
        yield 'data: {"choices": [{"delta": {"content": "be"}}]}\n\n'
        await go_on.wait()
        yield 'data: {"choices": [{"delta": {"content": "gun"}}]}\n\n'
        yield "data: [DONE]\n\n"

    slow = await stack.enter_async_context(
        engine.running(lambda messages: StreamingResponse(held(), media_type="text/event-stream"))
    )
    port = int(slow.base.rpartition(":")[2])
    known = ["127.0.0.1"]

    async def resolve(host: str) -> Sequence[str]:
        return known

    opened: list[str] = []

    async def open(url: str) -> LanguageModel:
        opened.append(url)
        found: LanguageModel = await open_adapter("language_model", url, tmp_path)
        return found

    made = Pool([f"openai+http://engines.test:{port}/v1?model=stub"], open, resolve)
    stack.push_async_callback(made.close)
    await made.start()
    going = asyncio.create_task(answer(made, "x"))
    await eventually(lambda: slow.requests)
    known[:] = ["127.0.0.2"]
    await eventually(lambda: len(opened) == 2)
    # Some looks more, which open nothing.
    await asyncio.sleep(0.2)
    assert [each.partition("//")[2].partition(":")[0] for each in opened] == ["127.0.0.1", "127.0.0.2"]
    go_on.set()
    assert await going == "begun"


async def test_closing_stops_the_engine(stack: AsyncExitStack, tmp_path: Path) -> None:
    """Who stops reading stops the replica's work."""
    made_engine = await stack.enter_async_context(engine.running(lambda messages: ["a"] * 50_000, pause=0.01))
    made = await pooled(stack, [made_engine], tmp_path)
    pieces = made.stream((Message("user", "x"),), FEW)
    assert set(str(await anext(pieces))) == {"a"}
    await pieces.aclose()
    await eventually(lambda: made_engine.cancelled)
