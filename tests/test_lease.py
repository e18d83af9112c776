"""The worker: claims, keeps, ends and gives back jobs, whatever its handler does."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services import lease as leasing
from services.adapters import open_adapter
from services.domain import EVERYONE, Job, JobKind, JobState, Progress
from services.errors import Cancelled, InvalidInput, LeaseLost, Unavailable
from services.lease import MAX_ATTEMPTS, SUSPECT, Handler, Lease, Worker
from services.ports import Jobs, Queue

KIND = JobKind.FEATURIZE


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Jobs]:
    opened: Jobs = await open_adapter("jobs", "sqlite:///twin.db", tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    opened: Queue = await open_adapter("queue", "memory://", tmp_path)
    yield opened
    await opened.close()


Start = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def start(jobs: Jobs, queue: Queue) -> AsyncIterator[Start]:
    workers = []

    async def started(handle: Handler, **options: float) -> Worker:
        # Long enough for a machine that stands still for a while: nothing is lost by that.
        settings = {"poll": 0.05, "lease": 60.0, **options}
        worker = Worker(jobs, KIND, handle, queue, **settings)  # type: ignore[arg-type]
        workers.append(worker)
        await worker.start()
        return worker

    yield started
    for worker in workers:
        await worker.stop(0)


def job(id: str, **changes: object) -> Job:
    plain = Job(id, KIND, "alpha", id, created_at=time.time())
    return replace(plain, **changes)  # type: ignore[arg-type]


async def until(jobs: Jobs, id: str, condition: Callable[[Job], bool], seconds: float = 60.0) -> Job:
    end = time.monotonic() + seconds
    while True:
        found = await jobs.get(id)
        assert found is not None
        if condition(found):
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.01)


async def ended(jobs: Jobs, id: str) -> Job:
    return await until(jobs, id, lambda found: found.state.ended)


@pytest.mark.promise(1)
async def test_what_the_handler_leaves_is_done(jobs: Jobs, start: Start) -> None:
    """A handler that returns has done its jobs, each handled once, batched as asked."""
    await jobs.put([job(str(n)) for n in range(25)])
    batches: list[list[str]] = []

    async def handle(leases: list[Lease]) -> None:
        batches.append([lease.job.id for lease in leases])

    await start(handle, batch=10)
    for n in range(25):
        assert (await ended(jobs, str(n))).state == JobState.DONE
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert sorted(id for batch in batches for id in batch) == sorted(str(n) for n in range(25))


@pytest.mark.promise(1)
async def test_a_ring_wakes(jobs: Jobs, queue: Queue, start: Start) -> None:
    """A ring has a job claimed at once, not only by the next look at the store."""

    async def handle(leases: list[Lease]) -> None:
        pass

    await start(handle, poll=3600)
    await asyncio.sleep(0.1)
    await jobs.put([job("a")])
    await queue.ring(KIND.value)
    assert (await ended(jobs, "a")).state == JobState.DONE


async def test_who_has_claimed_all_that_waits_looks_again_when_rung(
    jobs: Jobs, queue: Queue, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the store for each job that was found is spared, and none that comes meanwhile is missed."""
    looks: list[int] = []
    claim = type(jobs).claim

    async def counted(self: Jobs, *given: Any) -> list[Job]:
        found = await claim(self, *given)
        looks.append(len(found))
        return found

    monkeypatch.setattr(type(jobs), "claim", counted)
    going = asyncio.Event()

    async def handle(leases: list[Lease]) -> None:
        await going.wait()

    await jobs.put([job("a"), job("b")])
    await start(handle, poll=3600, batch=10, concurrency=2)
    await until(jobs, "b", lambda found: found.state is JobState.RUNNING)
    await asyncio.sleep(0.2)
    assert looks == [2]
    await jobs.put([job("c")])
    await queue.ring(KIND.value)
    await until(jobs, "c", lambda found: found.state is JobState.RUNNING)
    going.set()
    for id in ("a", "b", "c"):
        assert (await ended(jobs, id)).state == JobState.DONE
    assert looks == [2, 1]


async def test_several_at_a_time(jobs: Jobs, start: Start) -> None:
    """With concurrency 3, three calls run side by side and never four."""
    await jobs.put([job(str(n)) for n in range(9)])
    running = 0
    most = 0
    three = asyncio.Event()

    async def handle(leases: list[Lease]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            three.set()
        await three.wait()
        # Time for a fourth, which must not come.
        await asyncio.sleep(0.05)
        running -= 1

    await start(handle, concurrency=3)
    for n in range(9):
        await ended(jobs, str(n))
    assert most == 3


async def test_each_of_a_batch_ends_by_itself(jobs: Jobs, start: Start) -> None:
    """What a handler ends itself stays so, and an error of the call ends only the rest, each called alone."""
    await jobs.put([job("done"), job("failed"), job("good"), job("bad")])
    calls: list[list[str]] = []

    async def handle(leases: list[Lease]) -> None:
        calls.append([lease.job.id for lease in leases])
        for lease in leases:
            if lease.job.id == "done":
                assert await lease.done()
            if lease.job.id == "failed":
                assert await lease.fail(InvalidInput("It is wrong."))
        if any(lease.job.id == "bad" for lease in leases):
            raise RuntimeError("secret detail")

    await start(handle, batch=4)
    states = {id: await ended(jobs, id) for id in ("done", "failed", "good", "bad")}
    assert [states[id].state.value for id in states] == ["done", "failed", "done", "failed"]
    assert states["failed"].failure == "It is wrong."
    assert states["bad"].failure is not None
    assert "secret" not in states["bad"].failure
    assert calls == [["done", "failed", "good", "bad"], ["good"], ["bad"]]


async def test_what_may_pass_is_tried_again_later(jobs: Jobs, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unavailable puts a job back, not before a while, with the reason; the last attempt's error ends it."""
    monkeypatch.setattr(leasing, "BACKOFF", 100.0)
    began = time.time()
    await jobs.put([job("a"), job("last", attempts=MAX_ATTEMPTS - 1)])

    async def handle(leases: list[Lease]) -> None:
        raise Unavailable("The index is away.")

    await start(handle)
    back = await until(jobs, "a", lambda found: found.state == JobState.QUEUED and found.attempts == 1)
    assert back.failure == "The index is away."
    assert began + 80 <= back.not_before <= time.time() + 120
    last = await ended(jobs, "last")
    assert (last.state, last.failure) == (JobState.FAILED, "The index is away.")


class Clock:
    """In the place of the module `time`: moves when the test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


async def test_leases_are_renewed(jobs: Jobs, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler may take many times the lease: nobody else is given the job meanwhile."""
    clock = Clock()
    monkeypatch.setattr(leasing, "time", clock)
    monkeypatch.setattr(leasing, "SAVE_EVERY", 0.05)
    await jobs.put([job("a", created_at=clock.now)])
    calls = 0

    async def handle(leases: list[Lease]) -> None:
        nonlocal calls
        calls += 1
        for _ in range(5):
            clock.now += 40
            await until(jobs, "a", lambda found: found.lease_until == clock.now + 60)
            # Time for the other worker to look.
            await asyncio.sleep(0.1)

    await start(handle, lease=60)
    await start(handle, lease=60)
    assert (await ended(jobs, "a")).token == 1
    assert calls == 1


@pytest.mark.promise(1)
async def test_a_lost_lease_stops_the_handler_and_writes_nothing(jobs: Jobs, start: Start) -> None:
    """When another worker holds the job, the handler is stopped and its result refused."""
    await jobs.put([job("a")])
    stopped = asyncio.Event()
    held: list[Lease] = []

    async def handle(leases: list[Lease]) -> None:
        held.extend(leases)
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    worker = await start(handle, lease=0.6)
    await until(jobs, "a", lambda found: found.state == JobState.RUNNING)
    (taken,) = await jobs.claim(KIND, "another", time.time() + 100, 30)
    await asyncio.wait_for(stopped.wait(), 60)
    with pytest.raises(LeaseLost):
        held[0].report(Progress(seen=1))
    with pytest.raises(LeaseLost):
        held[0].check()
    assert not await held[0].done()
    await worker.stop(1)
    assert await jobs.get("a") == taken


@pytest.mark.promise(1)
async def test_progress_is_written_and_a_person_may_cancel(jobs: Jobs, start: Start) -> None:
    """Reported progress is in the store soon; a cancellation reaches the handler, and the job ends as cancelled."""
    await jobs.put([job("a")])

    async def handle(leases: list[Lease]) -> None:
        for seen in itertools.count(1):
            leases[0].check()
            leases[0].report(Progress(total=10_000, seen=seen, checkpoint=str(seen)))
            await asyncio.sleep(0.005)

    await start(handle)
    await until(jobs, "a", lambda found: found.progress is not None and found.progress.seen > 0)
    await jobs.cancel("a", time.time())
    end = await ended(jobs, "a")
    assert end.state == JobState.CANCELLED
    assert end.progress is not None
    assert end.progress.checkpoint == str(end.progress.seen)


async def test_a_job_cancelled_while_nobody_held_it_is_not_begun(jobs: Jobs, start: Start) -> None:
    """One whose worker died, and that was cancelled then, ends as cancelled without its handler."""
    await jobs.put([job("a")])
    await jobs.claim(KIND, "dead", time.time() - 100, 1)
    await jobs.cancel("a", time.time())
    calls = 0

    async def handle(leases: list[Lease]) -> None:
        nonlocal calls
        calls += 1

    await start(handle)
    assert (await ended(jobs, "a")).state == JobState.CANCELLED
    assert calls == 0


async def test_one_cancelled_job_of_a_batch_leaves_the_others(jobs: Jobs, start: Start) -> None:
    """Where the handler lets one lease's Cancelled through, only that job ends so."""
    await jobs.put([job("a"), job("b")])
    await jobs.claim(KIND, "dead", time.time() - 100, 1, 2)

    async def handle(leases: list[Lease]) -> None:
        for lease in leases:
            if lease.job.id == "a" and not lease.cancel_requested:
                await jobs.cancel("a", time.time())
                lease.report(Progress(seen=1))
                async with asyncio.timeout(60):
                    while not lease.cancel_requested:
                        await asyncio.sleep(0.01)
            lease.check()

    await start(handle, batch=2)
    assert (await ended(jobs, "a")).state == JobState.CANCELLED
    assert (await ended(jobs, "b")).state == JobState.DONE


async def test_stopping_gives_jobs_back_at_once(jobs: Jobs, start: Start) -> None:
    """After stop, running and waiting jobs are queued, not held by a lease, with their progress, and as if they had
    not been claimed; a handler that ends within the grace ends its job."""
    await jobs.put([job("quick")])
    go_on, reported = asyncio.Event(), asyncio.Event()

    async def handle(leases: list[Lease]) -> None:
        if leases[0].job.id != "quick":
            leases[0].report(Progress(seen=7, checkpoint="7"))
            reported.set()
            await asyncio.sleep(3600)
        await go_on.wait()

    worker = await start(handle, batch=2, concurrency=2)
    await until(jobs, "quick", lambda found: found.state == JobState.RUNNING)
    stopping = asyncio.create_task(worker.stop(3600))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(60):
        await stopping
    assert (await ended(jobs, "quick")).state == JobState.DONE
    await jobs.put([job("slow"), job("waits", attempts=SUSPECT)])
    worker = await start(handle, batch=2, concurrency=2)
    await until(jobs, "waits", lambda found: found.state == JobState.RUNNING)
    async with asyncio.timeout(60):
        await reported.wait()
        await worker.stop(0.2)
    slow, waits = await jobs.get("slow"), await jobs.get("waits")
    assert slow is not None
    assert waits is not None
    assert (slow.state, slow.not_before, slow.attempts) == (JobState.QUEUED, 0, 0)
    assert slow.progress == Progress(seen=7, checkpoint="7")
    assert (waits.state, waits.attempts) == (JobState.QUEUED, SUSPECT)
    assert {each.id for each in await jobs.claim(KIND, "next", time.time(), 30, 5)} == {"slow", "waits"}


@pytest.mark.promise(1)
async def test_what_kills_its_process_is_given_up(jobs: Jobs, start: Start) -> None:
    """A job whose attempts all came to no end is failed with that reason; suspects are worked on alone."""
    await jobs.put([job("poison", attempts=MAX_ATTEMPTS), job("suspect", attempts=SUSPECT), job("a"), job("b")])
    calls: list[list[str]] = []

    async def handle(leases: list[Lease]) -> None:
        calls.append([lease.job.id for lease in leases])

    await start(handle, batch=4)
    poison = await ended(jobs, "poison")
    assert poison.state == JobState.FAILED
    assert "attempts" in (poison.failure or "")
    for id in ("suspect", "a", "b"):
        assert (await ended(jobs, id)).state == JobState.DONE
    assert calls == [["a", "b"], ["suspect"]]


async def test_headway_clears_a_job(jobs: Jobs, start: Start) -> None:
    """A job that gets further than any attempt before it is not what kills; one that does not, may be."""
    await jobs.put([job("moves", attempts=4, progress=Progress(seen=5)), job("stuck", attempts=4)])

    async def handle(leases: list[Lease]) -> None:
        leases[0].report(Progress(seen=6 if leases[0].job.id == "moves" else 0, current="x"))
        await asyncio.sleep(3600)

    await start(handle, concurrency=2)
    await until(jobs, "moves", lambda found: found.attempts == 1)
    stuck = await until(jobs, "stuck", lambda found: found.progress is not None)
    assert stuck.attempts == 5


async def test_a_cancelled_call_of_another_part_is_tried_again(
    jobs: Jobs, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled without anyone having asked for it passes: the job is put back for later."""
    monkeypatch.setattr(leasing, "BACKOFF", 100.0)
    await jobs.put([job("a")])

    async def handle(leases: list[Lease]) -> None:
        raise Cancelled("The other side is stopping.")

    await start(handle)
    back = await until(jobs, "a", lambda found: found.attempts == 1 and found.state == JobState.QUEUED)
    assert back.not_before > time.time()


async def test_the_worker_outlives_a_store_that_is_away(jobs: Jobs, queue: Queue) -> None:
    """Claims that fail, by an error of Twin's or a fault, are tried again."""
    failures: list[Exception] = [Unavailable("away"), RuntimeError("a fault")]

    class Shaky:
        def __getattr__(self, name: str) -> object:
            return getattr(jobs, name)

        async def claim(self, kind: JobKind, worker: str, now: float, lease: float, limit: int = 1) -> list[Job]:
            if failures:
                raise failures.pop()
            return await jobs.claim(kind, worker, now, lease, limit)

    async def handle(leases: list[Lease]) -> None:
        pass

    await jobs.put([job("a")])
    worker = Worker(Shaky(), KIND, handle, queue, poll=0.05)  # type: ignore[arg-type]
    await worker.start()
    assert (await ended(jobs, "a")).state == JobState.DONE
    await worker.stop(1)
    await worker.stop(1)
    assert len(await jobs.find(EVERYONE)) == 1


class OneHears:
    """A queue whose rings are each heard by one listener, in turn, as between processes."""

    def __init__(self) -> None:
        self._answers: list[Callable[[], Awaitable[None]]] = []
        self._rings = 0

    async def ring(self, topic: str) -> None:
        self._rings += 1
        await self._answers[self._rings % len(self._answers)]()

    async def listen(self, topic: str, answer: Callable[[], Awaitable[None]]) -> None:
        self._answers.append(answer)

    async def close(self) -> None: ...


async def test_one_ring_for_many_jobs_wakes_all_workers(jobs: Jobs) -> None:
    """A worker that took all that it can take at once passes the ring on."""
    begun: list[str] = []
    queue, go = OneHears(), asyncio.Event()

    async def handle(leases: list[Lease]) -> None:
        begun.extend(lease.job.id for lease in leases)
        await go.wait()

    workers = [Worker(jobs, KIND, handle, queue, poll=600.0, lease=60.0) for _ in range(3)]
    try:
        for worker in workers:
            await worker.start()
        await asyncio.sleep(0.2)  # each has found nothing
        await jobs.put([job("a"), job("b"), job("c")])
        await queue.ring(KIND.value)
        async with asyncio.timeout(60):
            while len(begun) < 3:
                await asyncio.sleep(0.01)
        assert sorted(begun) == ["a", "b", "c"]
    finally:
        go.set()
        for worker in workers:
            await worker.stop(10)
