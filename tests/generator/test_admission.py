"""Who is answered now, who waits, who is refused."""

from __future__ import annotations

import asyncio

import pytest

from services.errors import Overloaded
from services.generator import admission as admitting
from services.generator.admission import Admission


class Clock:
    """In the place of the module `time`: moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(admitting, "time", made)
    return made


async def test_as_many_at_once_as_there_are_places() -> None:
    """Never more, and everyone who waits has a turn."""
    admission = Admission(places=3, patience=60)
    running = most = 0

    async def work(number: int) -> None:
        nonlocal running, most
        async with admission.place(f"key-{number % 4}"):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

    await asyncio.gather(*(work(number) for number in range(40)))
    assert most == 3
    assert admission.wait("any") == 0


async def test_what_would_wait_too_long_is_refused_at_once() -> None:
    """With the seconds after which there is room."""
    admission = Admission(places=1, patience=3)
    async with admission.place("a"):
        waiting = asyncio.create_task(_hold(admission, "a"))
        await asyncio.sleep(0)
        # In the first step of the coroutine: it does not wait for anything.
        with pytest.raises(Overloaded) as refused:
            admission.place("a").__aenter__().send(None)
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
    await waiting


async def test_answers_that_run_long_are_counted_before_they_end(clock: Clock) -> None:
    """Where answers suddenly take longer, who comes then is refused at once, and not after a wait in vain."""
    admission = Admission(places=1, patience=0.5)
    for _ in range(100):
        async with admission.place("a"):
            pass
    async with admission.place("a"):
        assert admission.wait("a") < 0.5
        clock.now += 0.6
        with pytest.raises(Overloaded):
            async with admission.place("a"):
                pass


async def test_keys_take_turns() -> None:
    """One key's hundred requests delay another's first by one answer, not by a hundred."""
    admission = Admission(places=1, patience=1000)
    order: list[str] = []

    async def work(key: str) -> None:
        async with admission.place(key):
            order.append(key)
            await asyncio.sleep(0)

    greedy = [asyncio.create_task(work("greedy")) for _ in range(100)]
    await asyncio.sleep(0)
    modest = [asyncio.create_task(work("modest")) for _ in range(3)]
    await asyncio.gather(*greedy, *modest)
    places = [number for number, key in enumerate(order) if key == "modest"]
    assert places[-1] < 12


async def test_who_goes_away_leaves_no_hole() -> None:
    """Waiting requests that are cancelled, also in the moment of their turn, keep no place."""
    admission = Admission(places=1, patience=1000)
    for _ in range(20):
        async with admission.place("a"):
            tasks = [asyncio.create_task(_hold(admission, f"key-{number}")) for number in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert admission.wait("any") == 0
    async with asyncio.timeout(30), admission.place("b"):
        pass


async def _hold(admission: Admission, key: str) -> None:
    async with admission.place(key):
        await asyncio.sleep(0)
