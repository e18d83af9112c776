"""How much work waits, told to telemetry from the store: where no worker runs, no worker could say it.

Comes in: the jobs. Goes out: gauges. Does not know: who works.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from services import telemetry
from services.domain import JobState
from services.errors import TwinError
from services.ports import Jobs

EVERY = 5.0
"""Seconds between two looks: an autoscaler looks about as often."""

log = structlog.get_logger()


async def tell(jobs: Jobs) -> None:
    """For ever."""
    while True:
        try:
            for kind, backlog in (await jobs.backlog(time.time())).items():
                telemetry.JOBS_WAITING.labels(kind, JobState.QUEUED).set(backlog.waiting)
                telemetry.JOBS_WAITING.labels(kind, JobState.RUNNING).set(backlog.running)
                telemetry.QUEUE_AGE_SECONDS.labels(kind).set(backlog.age)
        except TwinError as error:
            log.warning("backlog not read", error=error.message)
        await asyncio.sleep(EVERY)
