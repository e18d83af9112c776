"""Jobs under any order of claims, crashes, late writers, cancellations and retries (promise 1)."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from services.adapters import open_adapter
from services.domain import EVERYONE, Job, JobKind, JobState, Progress
from services.errors import LeaseLost
from services.ports import Jobs

KIND = JobKind.FEATURIZE
LEASE = 10.0
PARENTS = st.sampled_from(["p", "q"])


class JobsMachine(RuleBasedStateMachine):
    """A store and a plain model of it: who holds which job until when, and what has become of it."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.jobs: Jobs = self.loop.run_until_complete(
            open_adapter("jobs", "sqlite:///twin.db", Path(self.directory.name))
        )
        self.now = 0.0
        self.model: dict[str, Job] = {}

    @rule(parent=PARENTS, delay=st.sampled_from([0.0, 0.0, 15.0]))
    def put(self, parent: str, delay: float) -> None:
        job = Job(str(len(self.model)), KIND, "alpha", "t", parent=parent, not_before=self.now + delay)
        job = replace(job, created_at=float(len(self.model)), updated_at=self.now)
        assert self.loop.run_until_complete(self.jobs.put([job, *list(self.model.values())[:2]])) == 1
        self.model[job.id] = job

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=claims, worker=st.sampled_from(["v", "w"]), limit=st.integers(1, 3))
    def claim(self, worker: str, limit: int) -> object:
        """Exactly the oldest that are free: nobody is given a job whose lease another still holds."""
        free = [
            job
            for job in sorted(self.model.values(), key=lambda job: job.created_at)
            if (job.state == JobState.QUEUED and job.not_before <= self.now)
            or (job.state == JobState.RUNNING and job.lease_until <= self.now)
        ][:limit]
        claimed = self.loop.run_until_complete(self.jobs.claim(KIND, worker, self.now, LEASE, limit))
        expected = [
            replace(
                job,
                state=JobState.RUNNING,
                worker=worker,
                lease_until=self.now + LEASE,
                attempts=job.attempts + 1,
                token=job.token + 1,
                updated_at=self.now,
            )
            for job in free
        ]
        assert claimed == expected
        self.model.update({job.id: job for job in claimed})
        return multiple(*claimed)

    def _write(self, held: Job) -> None:
        """By whoever once held it: written if their token is the newest and the job runs, else refused."""
        mine = self.model[held.id]
        if mine.token == held.token and mine.state == JobState.RUNNING:
            asked = self.loop.run_until_complete(self.jobs.save([held], self.now))
            assert asked == {held.id: mine.cancel_requested}
            state = held.state
            if state == JobState.QUEUED and mine.cancel_requested:
                state = JobState.CANCELLED
            elif state == JobState.CANCELLED and not mine.cancel_requested:
                state, held = JobState.QUEUED, replace(held, attempts=0)
            self.model[held.id] = replace(
                held, state=state, cancel_requested=mine.cancel_requested, updated_at=self.now
            )
        else:
            try:
                self.loop.run_until_complete(self.jobs.save([held], self.now))
            except LeaseLost:
                return
            raise AssertionError("a write by a stale token went through")

    @rule(held=claims, seen=st.integers(0, 9))
    def renew(self, held: Job, seen: int) -> None:
        self._write(replace(held, lease_until=self.now + LEASE, progress=Progress(seen=seen)))

    @rule(held=consumes(claims), state=st.sampled_from([JobState.DONE, JobState.FAILED, JobState.CANCELLED]))
    def end(self, held: Job, state: JobState) -> None:
        self._write(replace(held, state=state, failure="why" if state == JobState.FAILED else None))

    @rule(held=claims, delay=st.sampled_from([0.0, 5.0]))
    def give_back(self, held: Job, delay: float) -> None:
        self._write(replace(held, state=JobState.QUEUED, not_before=self.now + delay))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(["p", "q", *self.model]))
        self.loop.run_until_complete(self.jobs.cancel(id, self.now))
        for job in self.model.values():
            if id in (job.id, job.parent):
                if job.state == JobState.QUEUED:
                    self.model[job.id] = replace(job, state=JobState.CANCELLED, updated_at=self.now)
                elif job.state == JobState.RUNNING:
                    self.model[job.id] = replace(job, cancel_requested=True)

    @rule(parent=PARENTS)
    def requeue(self, parent: str) -> None:
        again = [
            job
            for job in self.model.values()
            if job.parent == parent and job.state in (JobState.FAILED, JobState.CANCELLED)
        ]
        assert self.loop.run_until_complete(self.jobs.requeue(parent, self.now)) == len(again)
        for job in self.model.values():
            if job.parent == parent and job.state == JobState.RUNNING:
                self.model[job.id] = replace(job, cancel_requested=False)
        for job in again:
            self.model[job.id] = replace(
                job,
                state=JobState.QUEUED,
                attempts=0,
                not_before=0.0,
                lease_until=0.0,
                worker=None,
                failure=None,
                cancel_requested=False,
                updated_at=self.now,
            )

    @invariant()
    def nothing_is_lost_or_differs(self) -> None:
        found = self.loop.run_until_complete(self.jobs.find(EVERYONE, limit=1000))
        assert {job.id: job for job in found} == self.model
        assert not any(job.state == JobState.QUEUED and job.cancel_requested for job in found)

    @invariant()
    def counts_agree(self) -> None:
        counts = self.loop.run_until_complete(self.jobs.counts("p"))
        mine = [job for job in self.model.values() if job.parent == "p"]
        assert sum(counts.values()) == len(mine)
        assert all(counts.get((KIND, job.state), 0) > 0 for job in mine)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.jobs.close())
        self.loop.close()
        self.directory.cleanup()


TestJobs = pytest.mark.promise(1)(JobsMachine.TestCase)
TestJobs.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
