"""Working on jobs: claiming, keeping, finishing and giving back, the same for every service that has workers.

Comes in: a store of jobs, a queue that rings, a handler. Goes out: jobs that have ended, each once. Does not know: what
the work is.

The store is the truth (promise 1). A ring only wakes one worker, which looks at the store every POLL seconds anyway and
passes the ring on while there may be more than it could take.
A job is held under a lease that is renewed at a third of its time; a worker that dies loses it by that, and the next
one's claim carries a newer token, so that what the first one still writes is refused.

    async def handle(leases: list[Lease]) -> None: ...

    worker = Worker(jobs, JobKind.CRAWL, handle, queue, concurrency=4)              # one job a call, four at a time
    worker = Worker(jobs, JobKind.FEATURIZE, handle, queue, batch=64)               # up to 64 jobs a call
    await worker.start()
    await worker.stop(grace=10)

A handler may end each lease by itself (`done`, `fail`); those it leaves when it returns are done, those it leaves when
it raises end as the error says.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import structlog

from services import telemetry
from services.domain import Job, JobKind, JobState, Progress
from services.errors import Cancelled, Conflict, DeadlineExceeded, LeaseLost, Overloaded, TwinError, Unavailable
from services.ports import Jobs, Queue

LEASE = 30.0
"""Seconds after which the job of a worker that died is given to another: three renewals may go missing."""
POLL = 2.0
"""Seconds between looks at the store without a ring: the longest that a lost ring delays a job."""
SAVE_EVERY = 1.0
"""Seconds between writes of one job's progress: what people see is this old at most, and a crash repeats this much."""
MAX_ATTEMPTS = 6
"""Claims of one job without headway. With the backoff below, a part may be away for some eight minutes."""
SUSPECT = 3
"""From this attempt on a job is worked on alone: it may be what brings the process down, and others would share it."""
BACKOFF = 2.0
"""Seconds before the second attempt; four times as long before each further one."""
LONGEST_BACKOFF = 300.0

_PASSING = (Unavailable, Overloaded, DeadlineExceeded, Conflict, Cancelled)
"""Errors that another attempt may not meet."""

_log = structlog.get_logger(__name__)


class Lease:
    """A job while this worker holds it. `report` and `check` are cheap: call them at every step."""

    def __init__(self, job: Job, jobs: Jobs, wake: asyncio.Event) -> None:
        self.job = job
        """As last known; its progress is the newest reported."""
        self.cancel_requested = job.cancel_requested
        self.lost = False
        """Another worker holds the job, or may: what is done here is for nothing."""
        self.ended = False
        """Done, failed, cancelled or given back by this worker."""
        self._jobs = jobs
        self._wake = wake
        self._seen = job.progress.seen if job.progress else 0
        self._dirty = False
        self._written = 0.0

    def check(self) -> None:
        """Cancelled where a person asked for it, LeaseLost where another worker holds the job: let them through."""
        if self.lost:
            raise LeaseLost("Another worker holds this job now.")
        if self.cancel_requested:
            raise Cancelled("The job was cancelled.")

    def report(self, progress: Progress) -> None:
        """The job's progress and checkpoint from now on; written within SAVE_EVERY seconds. LeaseLost.

        A job that resumes from its checkpoint goes on counting `seen`: that it grows beyond the last attempt's is how
        a job that was killed often is told from one that kills.
        """
        if self.lost:
            raise LeaseLost("Another worker holds this job now.")
        if progress != self.job.progress:
            # Further than any attempt before: what ended those is behind it.
            attempts = 1 if progress.seen > self._seen else self.job.attempts
            self.job = replace(self.job, progress=progress, attempts=attempts)
            self._dirty = True
            self._wake.set()

    async def done(self) -> bool:
        """The work is done. Whether it was written: False where the lease was lost."""
        return await self._end(JobState.DONE)

    async def fail(self, error: TwinError) -> bool:
        """The work came to this end: another attempt later for what may pass, else failed with the message."""
        if isinstance(error, LeaseLost):
            self.lost = True
            return False
        if isinstance(error, Cancelled) and self.cancel_requested:
            return await self._end(JobState.CANCELLED)
        if isinstance(error, _PASSING) and self.job.attempts < MAX_ATTEMPTS:
            wait = min(LONGEST_BACKOFF, BACKOFF * 4.0 ** (self.job.attempts - 1)) * random.uniform(0.8, 1.2)
            wait = max(wait, error.retry_after or 0.0)
            _log.info("job.later", job=self.job.id, kind=self.job.kind, seconds=round(wait, 1), reason=error.message)
            return await self._end(JobState.QUEUED, not_before=time.time() + wait, failure=error.message)
        return await self._end(JobState.FAILED, failure=error.message)

    async def give_back(self) -> bool:
        """Queue the job again at once, as if it had not been claimed."""
        return await self._end(JobState.QUEUED, attempts=self.job.attempts - 1)

    async def _end(
        self,
        state: JobState,
        *,
        failure: str | None = None,
        not_before: float = 0.0,
        attempts: int | None = None,
    ) -> bool:
        if self.lost or self.ended:
            return False
        self.ended = True
        now = time.time()
        attempts = self.job.attempts if attempts is None else attempts
        self.job = replace(
            self.job, state=state, failure=failure, not_before=not_before, attempts=attempts, lease_until=0.0
        )
        try:
            # Shielded, so that a worker that stops just now does not leave the job to its lease.
            await asyncio.shield(self._jobs.save([self.job], now))
        except LeaseLost:
            self.lost = True
            _log.info("job.lost", job=self.job.id, kind=self.job.kind)
            return False
        telemetry.JOBS.labels(self.job.kind, state).inc()
        return True


Handler = Callable[[list[Lease]], Awaitable[None]]


class Worker:
    """Claims jobs of one kind and has `handle` work on them, up to `batch` a call and `concurrency` calls at a time."""

    def __init__(
        self,
        jobs: Jobs,
        kind: JobKind,
        handle: Handler,
        queue: Queue,
        *,
        batch: int = 1,
        concurrency: int = 1,
        lease: float = LEASE,
        poll: float = POLL,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._jobs = jobs
        self._kind = kind
        self._handle = handle
        self._queue = queue
        self._batch = batch
        self._lease = lease
        self._poll = poll
        self._slots = asyncio.Semaphore(concurrency)
        self._rung = asyncio.Event()
        self._reported = asyncio.Event()
        self._held: dict[asyncio.Task[None], list[Lease]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Listen to the queue (topic: the kind's name) and begin to claim."""
        await self._queue.listen(self._kind.value, self._ring)
        self._loops = [asyncio.create_task(self._claim_loop()), asyncio.create_task(self._keep_loop())]

    async def stop(self, grace: float) -> None:
        """Claim no more, let the handlers work for `grace` seconds, then stop them and give their jobs back."""
        if not self._loops:
            return
        claiming, keeping = self._loops
        self._loops = []
        self._stopping = True
        self._rung.set()
        if self._held:
            await asyncio.wait(list(self._held), timeout=grace)
        for task in self._held:
            task.cancel()
        await asyncio.wait([claiming, *self._held])
        keeping.cancel()
        await asyncio.wait([keeping])

    async def _ring(self) -> None:
        self._rung.set()

    async def _claim_loop(self) -> None:
        while True:
            await self._slots.acquire()
            if self._stopping:
                return
            self._rung.clear()
            leases = [Lease(job, self._jobs, self._reported) for job in await self._claim()]
            if self._stopping:
                await asyncio.gather(*(lease.give_back() for lease in leases))
                return
            if leases:
                task = asyncio.create_task(self._work(leases))
                self._held[task] = leases
                task.add_done_callback(self._free)
            else:
                self._slots.release()
            if len(leases) == self._batch:
                # More may wait, and a ring that told of many jobs has woken one worker.
                await self._pass_on()
            else:
                # Nothing else waits, or the store is away. Not all workers of all processes look again at once.
                await _either(self._rung, self._poll * random.uniform(0.75, 1.25))

    async def _pass_on(self) -> None:
        try:
            await self._queue.ring(self._kind.value)
        except TwinError as error:
            # The others look by themselves before long.
            _log.warning("worker.no_ring", kind=self._kind, error=error.message)

    async def _claim(self) -> list[Job]:
        try:
            return await self._jobs.claim(self._kind, self.name, time.time(), self._lease, self._batch)
        except TwinError as error:
            _log.warning("worker.no_claim", kind=self._kind, error=error.message)
        except Exception:  # noqa: BLE001  logged; the next look may go well, and a worker that ended would do nothing
            _log.exception("worker.no_claim", kind=self._kind)
        return []

    def _free(self, task: asyncio.Task[None]) -> None:
        del self._held[task]
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Such as a store that is away: the leases run out, and the jobs are claimed again.
            _log.error("worker.not_saved", kind=self._kind, exc_info=error)

    async def _work(self, leases: list[Lease]) -> None:
        try:
            healthy = []
            suspects = []
            for lease in leases:
                if lease.cancel_requested:
                    await lease.fail(Cancelled("The job was cancelled."))
                elif lease.job.attempts > MAX_ATTEMPTS:
                    await lease.fail(_Poison())
                elif lease.job.attempts >= SUSPECT:
                    suspects.append(lease)
                else:
                    healthy.append(lease)
            if healthy:
                await self._call(healthy)
            for lease in suspects:
                if lease.cancel_requested:
                    await lease.fail(Cancelled("The job was cancelled."))
                elif not lease.lost:
                    await self._call([lease])
        except asyncio.CancelledError:
            # By stop, or because every lease was lost: then there is nothing to give back.
            await asyncio.gather(*(lease.give_back() for lease in leases))
            raise

    async def _call(self, leases: list[Lease]) -> None:
        """One call of the handler, and an end for every lease that it leaves."""
        try:
            with self._span(leases):
                await self._handle(leases)
        except TwinError as error:
            failure: TwinError = error
        except Exception:  # noqa: BLE001  logged; the job ends with an error that tells nothing internal
            _log.exception("worker.fault", kind=self._kind, jobs=[lease.job.id for lease in leases])
            failure = _Fault()
        else:
            await asyncio.gather(*(lease.done() for lease in leases))
            return
        left = [lease for lease in leases if not lease.ended and not lease.lost]
        if len(leases) > 1 and (isinstance(failure, LeaseLost | Cancelled) or not isinstance(failure, _PASSING)):
            # One of them is at fault, lost or cancelled: alone, each comes to an end of its own.
            for lease in left:
                if lease.cancel_requested:
                    await lease.fail(Cancelled("The job was cancelled."))
                else:
                    await self._call([lease])
        else:
            await asyncio.gather(*(lease.fail(failure) for lease in left))

    def _span(self, leases: Sequence[Lease]) -> AbstractContextManager[telemetry.Span]:
        """Goes on with the trace that asked for the first of the jobs; other traces among them are linked."""
        traces = list(dict.fromkeys(lease.job.trace for lease in leases if lease.job.trace))
        return telemetry.span(
            f"{self._kind.value} process",
            telemetry.SpanKind.CONSUMER,
            {
                "messaging.operation.type": "process",
                "messaging.destination.name": self._kind.value,
                "messaging.batch.message_count": len(leases),
                "twin.job.id": leases[0].job.id,
            },
            parent={"traceparent": traces[0] if traces else ""},
            links=traces[1:],
        )

    async def _keep_loop(self) -> None:
        """Renew leases, and write the progress that was reported."""
        while True:
            await _either(self._reported, min(SAVE_EVERY, self._lease / 10))
            self._reported.clear()
            now = time.time()
            due = [
                lease
                for leases in self._held.values()
                for lease in leases
                if not lease.ended
                and not lease.lost
                and (
                    (lease._dirty and now - lease._written >= SAVE_EVERY)
                    or lease.job.lease_until - now < self._lease * 2 / 3
                )
            ]
            if due:
                await self._keep(due, now)
                for task, leases in self._held.items():
                    held = any(not lease.lost and not lease.ended for lease in leases)
                    if not held and any(lease.lost for lease in leases) and not task.cancelling():
                        task.cancel()
            # Handlers may report a thousand times a second.
            await asyncio.sleep(SAVE_EVERY / 10)

    async def _keep(self, due: Sequence[Lease], now: float) -> None:
        until = now + self._lease
        renewed = [replace(lease.job, lease_until=until) for lease in due]
        try:
            asked = await self._jobs.save(renewed, now)
        except LeaseLost:
            if len(due) > 1:
                for lease in due:
                    await self._keep([lease], now)
            else:
                due[0].lost = not due[0].ended
            return
        except TwinError as error:
            _log.warning("worker.not_renewed", kind=self._kind, error=error.message)
            for lease in due:
                lease.lost = not lease.ended and time.time() > lease.job.lease_until
            return
        for lease, job in zip(due, renewed, strict=True):
            lease.cancel_requested = lease.cancel_requested or asked[job.id]
            if not lease.ended:
                lease._written = now
                lease._dirty = lease.job.progress is not job.progress
                lease.job = replace(lease.job, lease_until=until)


class _Fault(TwinError):
    def __init__(self) -> None:
        super().__init__(
            "A fault of Twin's stopped this; its cause is in the log. Try again, and report it if it stays."
        )


class _Poison(TwinError):
    def __init__(self) -> None:
        super().__init__(
            f"Given up after {MAX_ATTEMPTS} attempts that came to no end, because Twin stopped or crashed while it "
            f"worked on this: it may be too large for this machine, or malformed."
        )


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
