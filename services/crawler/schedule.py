"""What happens by itself: sources that are due, folders that are watched, deletes to be ended, old jobs to be dropped.

Comes in: the clock, the file system's events. Goes out: ingests. Does not know: how a source is crawled.

Any number of processes may run this on the same stores.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import structlog
from watchfiles import awatch

from services.crawler.folders import Folders, is_local
from services.crawler.ingest import Ingests
from services.crawler.remove import Remover
from services.domain import EVERYONE, Source
from services.errors import TwinError
from services.ports import Jobs, Sources

_log = structlog.get_logger(__name__)

PRUNE_EVERY = 3600.0
"""Seconds between looks for jobs that have been kept long enough."""
FINISH_EVERY = 300.0
"""Seconds between looks for deletes that were interrupted: each reads every tombstone."""
_AT_ONCE = 50
"""Due sources begun in one look: the rest are due in the next."""
_AGAIN = 60.0
"""Seconds until a folder that could not be watched is tried again."""


class Schedule:
    def __init__(
        self,
        sources: Sources,
        jobs: Jobs,
        ingests: Ingests,
        remover: Remover,
        folders: Folders,
        *,
        every: float,
        keep_jobs: float,
        settle: float,
    ) -> None:
        """`every`: seconds between looks; `keep_jobs`: seconds that ended jobs are kept; `settle`: seconds without a
        further change after which a watched folder is crawled."""
        self._sources = sources
        self._jobs = jobs
        self._ingests = ingests
        self._remover = remover
        self._folders = folders
        self._every = every
        self._keep_jobs = keep_jobs
        self._settle = settle
        self._pruned = 0.0
        self._finished = 0.0
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        tasks = [each for each in (self._loop, *self._watching.values()) if each is not None]
        self._loop, self._watching = None, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look(time.time())
            except TwinError as error:
                _log.warning("schedule.failed", reason=error.message)
            except Exception:  # noqa: BLE001  logged; a schedule that ended would crawl nothing again, ever
                _log.exception("schedule.failed")
            await asyncio.sleep(self._every)

    async def look(self, now: float) -> None:
        """One pass."""
        for source in await self._sources.due(now, _AT_ONCE):
            if source.every is not None:
                await self._ingests.due(source)
        await self._watch()
        if now - self._pruned >= PRUNE_EVERY:
            self._pruned = now
            dropped = await self._jobs.prune(now - self._keep_jobs)
            if dropped:
                _log.info("jobs.pruned", jobs=dropped)
        if now - self._finished >= FINISH_EVERY:
            ended = await self._remover.finish()
            # Where a part is away, the next look tries again.
            self._finished = now
            if ended:
                _log.info("deletes.ended", documents=ended)

    async def _watch(self) -> None:
        wanted = {each.id: each for each in await self._sources.find(EVERYONE) if each.watch and is_local(each.address)}
        for id in [id for id, task in self._watching.items() if id not in wanted or task.done()]:
            self._watching.pop(id).cancel()
        for id, source in wanted.items():
            if id not in self._watching:
                self._watching[id] = asyncio.create_task(self._follow(source))

    async def _follow(self, source: Source) -> None:
        """Crawl a folder when something in it changes, and now: it may have changed while nobody looked."""
        while True:
            try:
                path = await asyncio.to_thread(self._folders.resolve, source.address)
                await self._changes(source, path)
            except TwinError as error:
                _log.warning("watch.failed", source=source.id, reason=error.message)
            except (OSError, RuntimeError) as error:
                # Such as too many watches: the folder is crawled now and then instead.
                _log.warning("watch.failed", source=source.id, reason=str(error))
            await asyncio.sleep(_AGAIN)

    async def _changes(self, source: Source, path: Path) -> None:
        milliseconds = max(50, int(self._settle * 1000))
        async with aclosing(awatch(path, step=milliseconds, debounce=milliseconds * 5)) as changes:
            coming = asyncio.ensure_future(anext(changes))
            try:
                # Its first step begins to watch: what changes after the crawl has passed the place is not missed.
                # Nor is what changed before: a crawl that runs already may have passed it, and is waited for.
                await asyncio.sleep(0)
                await self._ingests.refresh_after(source.id)
                await coming
            finally:
                coming.cancel()
                await asyncio.wait([coming])
            await self._ingests.refresh_after(source.id)
            async for _ in changes:
                await self._ingests.refresh_after(source.id)
