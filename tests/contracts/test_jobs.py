"""What every store of jobs promises."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.domain import CLAIMED, EVERYONE, Failure, Job, JobKind, JobState, Progress, Scope
from services.errors import LeaseLost
from services.ports import Backlog, Jobs

CRAWL = JobKind.CRAWL
PROGRESS = Progress(
    total=9, seen=3, new=1, current="é", failures=(Failure("https://a.example", "not_found", "Gone."),), checkpoint="3"
)


def job(id: str, at: float = 0.0, **changes: object) -> Job:
    plain = Job(id, CRAWL, "alpha", f"target {id}", created_at=at, updated_at=at)
    return replace(plain, **changes)  # type: ignore[arg-type]


async def state(jobs: Jobs, id: str) -> JobState:
    found = await jobs.get(id)
    assert found is not None
    return found.state


async def test_put_adds_what_is_not_there(jobs: Jobs) -> None:
    """Jobs are kept as they are put; an id that is there is left alone and not counted."""
    full = job("a", 1.5, parent="p", version=2, not_before=3.0, progress=PROGRESS, failure="once")
    assert await jobs.put([full, job("b")]) == 2
    assert await jobs.put([replace(full, target="other"), job("c")]) == 1
    assert await jobs.put([]) == 0
    assert await jobs.get("a") == full
    assert await jobs.get("missing") is None


async def test_claim_takes_the_oldest_that_are_due(jobs: Jobs) -> None:
    """Of the kind, oldest first, not before their time; under a lease, with attempts and token grown."""
    await jobs.put([job("b", 2), job("a", 1), job("later", 0, not_before=50), job("c", 3)])
    await jobs.put([job("other", 0, kind=JobKind.FEATURIZE)])
    claimed = await jobs.claim(CRAWL, "w", 10, 30, 2)
    assert [each.id for each in claimed] == ["a", "b"]
    first = claimed[0]
    assert (first.state, first.worker, first.lease_until, first.attempts, first.token) == (
        JobState.RUNNING,
        "w",
        40,
        1,
        1,
    )
    assert await jobs.get("a") == first
    assert [each.id for each in await jobs.claim(CRAWL, "w", 39, 100, 5)] == ["c"]
    again = await jobs.claim(CRAWL, "v", 50, 30, 5)
    assert [(each.id, each.attempts, each.token) for each in again] == [("later", 1, 1), ("a", 2, 2), ("b", 2, 2)]
    assert await jobs.claim(CRAWL, "v", 50, 30, 5) == []


@pytest.mark.promise(1)
async def test_no_job_goes_to_two_workers(jobs: Jobs) -> None:
    """Concurrent claims share the jobs out, each once."""
    await jobs.put([job(str(n), n) for n in range(50)])
    shares = await asyncio.gather(*(jobs.claim(CRAWL, f"w{n}", 100, 30, 7) for n in range(10)))
    assert sorted(each.id for share in shares for each in share) == sorted(str(n) for n in range(50))


@pytest.mark.promise(1)
async def test_only_the_newest_token_writes(jobs: Jobs) -> None:
    """A save with an older token is LeaseLost and writes nothing of that job; others of the call are written."""
    await jobs.put([job("a", 1), job("b", 2)])
    a, b = await jobs.claim(CRAWL, "w", 0, 10, 2)
    assert await jobs.save([replace(b, lease_until=100.0)], 5) == {"b": False}
    (newer,) = await jobs.claim(CRAWL, "v", 20, 10, 2)
    assert newer.id == "a"
    with pytest.raises(LeaseLost):
        await jobs.save([replace(a, state=JobState.DONE), replace(b, state=JobState.DONE)], 21)
    assert await jobs.get("a") == newer
    assert await state(jobs, "b") == JobState.DONE
    await jobs.save([replace(newer, progress=PROGRESS, failure="f", not_before=7.0, attempts=1)], 22)
    saved = await jobs.get("a")
    assert saved == replace(newer, progress=PROGRESS, failure="f", not_before=7.0, attempts=1, updated_at=22)


@pytest.mark.promise(1)
async def test_what_has_ended_is_not_woken(jobs: Jobs) -> None:
    """A renewal that comes after the end, or after the job went back to the queue, is LeaseLost."""
    await jobs.put([job("a", 1), job("b", 2)])
    a, b = await jobs.claim(CRAWL, "w", 0, 10, 2)
    await jobs.save([replace(a, state=JobState.DONE), replace(b, state=JobState.QUEUED)], 1)
    for late in (a, b):
        with pytest.raises(LeaseLost):
            await jobs.save([late], 2)
    assert (await state(jobs, "a"), await state(jobs, "b")) == (JobState.DONE, JobState.QUEUED)
    assert [each.id for each in await jobs.claim(CRAWL, "v", 1000, 10, 5)] == ["b"]


async def test_cancel(jobs: Jobs) -> None:
    """Queued jobs and children end at once, running ones are asked and told by their next save; one that goes back
    to the queue meanwhile ends instead. Ended ones stay as they are."""
    await jobs.put([job("p", kind=JobKind.INGEST), *(job(each, parent="p") for each in "abcd"), job("z", 1)])
    claimed = {each.id: each for each in await jobs.claim(CRAWL, "w", 0, 10, 3)}
    assert set(claimed) == {"a", "b", "c"}
    await jobs.save([replace(claimed["c"], state=JobState.DONE)], 1)
    await jobs.cancel("p", 2)
    assert await state(jobs, "p") == await state(jobs, "d") == JobState.CANCELLED
    assert (await state(jobs, "c"), await state(jobs, "z")) == (JobState.DONE, JobState.QUEUED)
    asked = await jobs.save([replace(claimed["a"], lease_until=99), replace(claimed["b"], state=JobState.QUEUED)], 3)
    assert asked == {"a": True, "b": True}
    assert await state(jobs, "b") == JobState.CANCELLED
    (again,) = await jobs.claim(CRAWL, "v", 100, 10, 1)
    assert (again.id, again.cancel_requested) == ("a", True)
    await jobs.cancel("missing", 2)


async def test_requeue_takes_up_what_failed_or_was_cancelled(jobs: Jobs) -> None:
    """Such children start afresh, with their progress; nothing else changes."""
    await jobs.put([job("p", kind=JobKind.INGEST), *(job(each, n, parent="p") for n, each in enumerate("abcd"))])
    a, b, _ = await jobs.claim(CRAWL, "w", 5, 10, 3)
    await jobs.save([replace(a, state=JobState.FAILED, failure="why", progress=PROGRESS)], 6)
    await jobs.save([replace(b, state=JobState.DONE)], 6)
    await jobs.cancel("d", 6)
    assert await jobs.requeue("p", 7) == 2
    retried = await jobs.get("a")
    assert retried is not None
    assert (retried.state, retried.attempts, retried.failure, retried.progress) == (JobState.QUEUED, 0, None, PROGRESS)
    assert [each.id for each in await jobs.claim(CRAWL, "v", 8, 10, 5)] == ["a", "d"]
    assert await state(jobs, "b") == JobState.DONE


async def test_requeue_outweighs_a_cancel_that_was_not_obeyed(jobs: Jobs) -> None:
    """Of running children: one whose worker has not noticed goes on, unasked; one whose worker obeys afterwards is
    queued to start afresh; a cancel after that holds again. Those of other parents are asked still."""
    await jobs.put([job("p", kind=JobKind.INGEST), *(job(each, n, parent="p") for n, each in enumerate("abc"))])
    await jobs.put([job("z", 9, parent="q")])
    a, b, c, z = await jobs.claim(CRAWL, "w", 10, 10, 4)
    await jobs.cancel("p", 11)
    await jobs.cancel("q", 11)
    assert await jobs.save([b, c], 12) == {"b": True, "c": True}
    assert await jobs.requeue("p", 13) == 0
    assert await jobs.save([replace(a, lease_until=99), z], 14) == {"a": False, "z": True}
    obeyed = replace(b, state=JobState.CANCELLED, progress=PROGRESS, lease_until=0.0)
    assert await jobs.save([obeyed], 14) == {"b": False}
    retried = await jobs.get("b")
    assert retried is not None
    assert (retried.state, retried.attempts, retried.progress) == (JobState.QUEUED, 0, PROGRESS)
    await jobs.save([replace(z, state=JobState.CANCELLED)], 14)
    assert await state(jobs, "z") == JobState.CANCELLED
    await jobs.cancel("p", 15)
    assert await jobs.save([replace(c, state=JobState.CANCELLED)], 16) == {"c": True}
    assert [await state(jobs, each) for each in "abc"] == [JobState.RUNNING, JobState.CANCELLED, JobState.CANCELLED]


async def test_cancel_and_requeue_at_once_lose_no_job(jobs: Jobs) -> None:
    """Workers give jobs back, or obey, while people cancel and retry: no save is refused, and each job is queued or
    cancelled afterwards."""
    ids = [str(n) for n in range(12)]
    await jobs.put([job("p", kind=JobKind.INGEST), *(job(each, int(each), parent="p") for each in ids)])
    for _ in range(4):
        claimed = await jobs.claim(CRAWL, "w", 10, 10, 12)
        ends = [replace(each, state=(JobState.QUEUED, JobState.CANCELLED)[n % 2]) for n, each in enumerate(claimed)]
        people = (jobs.cancel("p", 11), jobs.requeue("p", 11), jobs.cancel("p", 11), jobs.requeue("p", 11))
        await asyncio.gather(*(jobs.save([each], 11) for each in ends), *people)
        left = await jobs.find(EVERYONE, parent="p")
        assert {each.state for each in left} <= {JobState.QUEUED, JobState.CANCELLED}
        assert len(left) == len(claimed) == 12
        await jobs.requeue("p", 12)


async def test_find_and_counts(jobs: Jobs) -> None:
    """Newest first, by every filter, within the scope; counts by kind and state of one parent or of all."""
    await jobs.put([job("p", 0, kind=JobKind.INGEST), job("a", 1, parent="p"), job("b", 2, parent="p")])
    await jobs.put([job("x", 3, author="beta"), job("f", 4, kind=JobKind.FEATURIZE, parent="p", target="t")])
    await jobs.claim(CRAWL, "w", 5, 10, 1)

    async def ids(scope: Scope = EVERYONE, **filters: object) -> list[str]:
        return [each.id for each in await jobs.find(scope, **filters)]  # type: ignore[arg-type]

    assert await ids() == ["f", "x", "b", "a", "p"]
    assert await ids(limit=2) == ["f", "x"]
    assert await ids(kind=CRAWL) == ["x", "b", "a"]
    assert await ids(parent="p") == ["f", "b", "a"]
    assert await ids(target="t") == ["f"]
    assert await ids(states=[JobState.RUNNING, JobState.DONE]) == ["a"]
    assert await ids(Scope(authors=("beta",))) == ["x"]
    assert await ids(Scope()) == []
    children = {(CRAWL, JobState.RUNNING): 1, (CRAWL, JobState.QUEUED): 1, (JobKind.FEATURIZE, JobState.QUEUED): 1}
    assert await jobs.counts("p") == children
    everything = {**children, (CRAWL, JobState.QUEUED): 2, (JobKind.INGEST, JobState.QUEUED): 1}
    assert await jobs.counts() == everything
    assert await jobs.counts("missing") == {}


async def test_prune_takes_whole_families(jobs: Jobs) -> None:
    """Ended families last written before the time go; one child at work or written since keeps them all."""
    for parent in ("done", "busy", "fresh"):
        await jobs.put([job(parent, kind=JobKind.INGEST), job(f"{parent} 1", parent=parent)])
    await jobs.put([job("busy 2", 5, parent="busy"), job("fresh 2", parent="fresh")])
    claimed = await jobs.claim(CRAWL, "w", 1, 10, 4)
    await jobs.save([replace(each, state=JobState.DONE) for each in claimed if each.id != "fresh 2"], 2)
    await jobs.save([replace(each, state=JobState.DONE) for each in claimed if each.id == "fresh 2"], 50)
    assert await jobs.prune(10) == 2
    assert [each.id for each in await jobs.find(EVERYONE, parent="done")] == []
    assert await jobs.get("done") is None
    assert len(await jobs.find(EVERYONE)) == 6


async def test_backlog(jobs: Jobs) -> None:
    """What waits and runs of each kind, and for how long the oldest that is due has; ended and later ones don't age."""
    await jobs.put(
        [
            Job("a", JobKind.CRAWL, "author", "s", created_at=100.0),
            Job("b", JobKind.CRAWL, "author", "s", created_at=50.0, not_before=500.0),
            Job("c", JobKind.FEATURIZE, "author", "d", created_at=20.0),
        ]
    )
    found = await jobs.backlog(110.0)
    assert set(found) == set(CLAIMED)
    assert found[JobKind.CRAWL] == Backlog(2, 0, 10.0)
    assert found[JobKind.FEATURIZE] == Backlog(1, 0, 90.0)
    assert found[JobKind.DELETE] == Backlog(0, 0, 0.0)
    [held] = await jobs.claim(JobKind.FEATURIZE, "worker", 120.0, 30.0)
    assert (await jobs.backlog(130.0))[JobKind.FEATURIZE] == Backlog(0, 1, 0.0)
    assert (await jobs.backlog(155.0))[JobKind.FEATURIZE] == Backlog(0, 1, 5.0)
    await jobs.save([replace(held, state=JobState.DONE)], 156.0)
    assert (await jobs.backlog(200.0))[JobKind.FEATURIZE] == Backlog(0, 0, 0.0)
    assert held.trace == ""


async def test_the_trace_stays_with_the_job(jobs: Jobs) -> None:
    """Who claims a job learns the trace that asked for it."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await jobs.put([Job("a", JobKind.CRAWL, "author", "s", trace=trace)])
    [held] = await jobs.claim(JobKind.CRAWL, "worker", 1.0, 30.0)
    assert held.trace == trace
