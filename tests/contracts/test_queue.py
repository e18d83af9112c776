"""What every queue promises: a ring is answered soon, once at a time, by those who listen to its topic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.adapters import open_adapter
from services.ports import Queue


async def eventually(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def test_a_ring_is_answered(queue: Queue) -> None:
    """In the loop that listens, for its own topic only, again and again."""
    answered: list[asyncio.AbstractEventLoop] = []

    async def answer() -> None:
        answered.append(asyncio.get_running_loop())

    await queue.listen("crawl", answer)
    await queue.ring("featurize")
    for count in range(1, 4):
        await queue.ring("crawl")
        await eventually(lambda count=count: len(answered) >= count)  # type: ignore[misc]
    assert set(answered) == {asyncio.get_running_loop()}


@pytest.mark.promise(1)
async def test_rings_that_come_meanwhile_are_answered_once_more(queue: Queue) -> None:
    """An answer never runs twice at once; a thousand rings during one make one or a few more, not a thousand."""
    running = 0
    answers = 0
    go_on = asyncio.Event()

    async def answer() -> None:
        nonlocal running, answers
        running += 1
        answers += 1
        assert running == 1
        await go_on.wait()
        running -= 1

    await queue.listen("crawl", answer)
    await queue.ring("crawl")
    await eventually(lambda: answers == 1)
    for _ in range(1000):
        await queue.ring("crawl")
    await asyncio.sleep(0.1)
    assert answers == 1
    go_on.set()
    await eventually(lambda: answers >= 2)
    await asyncio.sleep(0.1)
    assert answers < 20


async def test_an_answer_that_fails_is_not_the_last(queue: Queue) -> None:
    """After an answer that raised, the next ring is answered."""
    answers = 0

    async def answer() -> None:
        nonlocal answers
        answers += 1
        if answers == 1:
            raise ValueError("a fault")

    await queue.listen("crawl", answer)
    await queue.ring("crawl")
    await eventually(lambda: answers == 1)
    await queue.ring("crawl")
    await eventually(lambda: answers >= 2)


async def test_two_openers_hear_each_other(queue: Queue, doorbell_url: str, tmp_path: Path) -> None:
    """What one opener rings, another one's listener answers; after it has closed, the first goes on."""
    other: Queue = await open_adapter("queue", doorbell_url, tmp_path)
    heard: list[str] = []

    async def answer() -> None:
        heard.append("other")

    async def mine() -> None:
        heard.append("mine")

    await other.listen("crawl", answer)
    await queue.ring("crawl")
    await eventually(lambda: "other" in heard)
    await other.close()
    await queue.listen("crawl", mine)
    heard.clear()
    await queue.ring("crawl")
    await eventually(lambda: "mine" in heard)
    assert "other" not in heard
