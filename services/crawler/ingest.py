"""Ingests: what a person asked for, as jobs; and how far they are.

Comes in: authors, addresses, uploaded bytes. Goes out: source records, INGEST jobs with a CRAWL job for each source,
and their state as people see it. Does not know: how a source is crawled.

An INGEST job is never claimed: its state is that of its children, which are the crawls, and the work that the feature
service puts under the same parent for each document.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from services.clients import SourceSpec
from services.crawler import sources as kinds
from services.crawler.address import normalise, parse_url, upload_address, without_credentials
from services.crawler.author import check_author
from services.crawler.crawl import Checkpoint
from services.crawler.discover import check_kind
from services.crawler.files import globs
from services.crawler.folders import Folders, is_local
from services.crawler.spool import MOST_FILES, Spool
from services.domain import (
    EVERYONE,
    Crawl,
    Failure,
    Job,
    JobKind,
    JobState,
    Progress,
    Scope,
    Source,
    SourceKind,
    SourceProgress,
    digest,
    document_id,
    source_id,
)
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.ports import Blobs, Documents, Jobs, Queue, Sources

MOST_SOURCES = MOST_FILES
"""Of one ingest."""
SOONEST = 60.0
"""Seconds; nothing is crawled more often by schedule."""
AT_ONCE = 8
"""Ingests looked at at once, for a list of them."""
WATCH_EVERY = 0.25
"""Seconds between looks at a watched ingest: what the eye takes for at once."""
_CHILDREN = 10_000
_SHOWN_FAILURES = 100
_ACTIVE = (JobState.QUEUED, JobState.RUNNING)


class Ingests:
    def __init__(
        self, documents: Documents, sources: Sources, jobs: Jobs, blobs: Blobs, queue: Queue, folders: Folders
    ) -> None:
        self._documents = documents
        self._sources = sources
        self._jobs = jobs
        self._blobs = blobs
        self._queue = queue
        self._folders = folders

    # ── Beginning ───────────────────────────────────────────────────────────────────────────────────

    async def start(self, author: str, specs: Sequence[SourceSpec], scope: Scope, idempotency_key: str = "") -> Crawl:
        """An explicit ingest: it brings back what was deleted before. The same key gives the same ingest.

        InvalidInput, Forbidden, NotFound (a path that is not there), Conflict (the key was used for something else).
        """
        author = self._author(author, scope)
        if not 1 <= len(specs) <= MOST_SOURCES:
            raise InvalidInput(f"Name 1 to {MOST_SOURCES} sources.", param="sources")
        now = time.time()
        found = {}
        for source in await self._described(author, specs):
            found[source.id] = replace(source, due_at=None if source.every is None else now + source.every)
        return await self._begin(author, list(found.values()), idempotency_key, explicit=True)

    async def refresh(self, id: str, scope: Scope) -> Crawl:
        """Crawl a source again, now. Where that is being done already, it is that crawl."""
        source = await self._sources.get(id)
        if source is None or not scope.allows(source.author):
            raise NotFound("There is no such source.")
        for job in await self._jobs.find(EVERYONE, kind=JobKind.CRAWL, target=id, states=_ACTIVE, limit=1):
            if job.parent is not None:
                return await self.get(job.parent, scope)
        return await self._begin(source.author, [source], "", explicit=False)

    async def refresh_after(self, id: str) -> None:
        """Crawl a source again, because it has changed: a crawl that runs may have passed the place already."""
        while True:
            if not await self._jobs.find(EVERYONE, kind=JobKind.CRAWL, target=id, states=_ACTIVE, limit=1):
                await self.refresh(id, EVERYONE)
                return
            await asyncio.sleep(WATCH_EVERY)

    async def due(self, source: Source) -> None:
        """Crawl a source whose time has come. Several processes may call this for the same time: it is crawled once."""
        next_time = replace(source, due_at=time.time() + (source.every or SOONEST))
        active = await self._jobs.find(EVERYONE, kind=JobKind.CRAWL, target=source.id, states=_ACTIVE, limit=1)
        # One of them moves the time on, and begins. For the others the source is not as they saw it any more; nor is it
        # where a person has deleted or changed it meanwhile.
        if await self._sources.change(source, next_time) and not active:
            await self._begin(source.author, [next_time], "", explicit=False)

    async def upload(self, author: str, spool: Spool, scope: Scope, idempotency_key: str) -> Crawl:
        """Files whose bytes came with the request, all of them there. The same name and author: a new version."""
        author = self._author(author, scope)
        repeated = idempotency_key and await self._jobs.get(_ingest_id(author, idempotency_key)) is not None
        addresses = [upload_address(file.name) for file in spool.files]
        known = await self._sources.named({source_id(author, address) for address in addresses})
        found: dict[str, Source] = {}
        for file, address in zip(spool.files, addresses, strict=True):
            id = source_id(author, address)
            options = {"hash": file.hash.hexdigest()[:32], "media_type": file.media_type[:200]}
            source = known.get(id) or Source(id=id, author=author, kind=None, address=address, created_at=time.time())
            found[id] = replace(source, kind=SourceKind.UPLOAD, options=options)
        if not found:
            raise InvalidInput("No file was sent.", param="file")
        if not repeated:
            for file in spool.files:
                await self._blobs.copy(document_id(author, upload_address(file.name)), *spool.opened(file))
        return await self._begin(author, list(found.values()), idempotency_key, explicit=True)

    def _author(self, name: str, scope: Scope) -> str:
        author = check_author(name)
        if not scope.allows(author):
            raise Forbidden("This key may not bring in documents for this author.", param="author")
        return author

    async def _begin(self, author: str, sources: Sequence[Source], key: str, *, explicit: bool) -> Crawl:
        """`explicit`: the sources are as a person asks for them, and are saved so; otherwise they are stored."""
        now = time.time()
        parent = _ingest_id(author, key) if key else uuid.uuid4().hex
        if key and await self._jobs.get(parent) is not None:
            return await self._again(parent, sources)
        if explicit:
            await asyncio.gather(*(self._sources.save(source) for source in sources))
        jobs = [_job(parent, JobKind.INGEST, author, parent, None, now)]
        for source in sources:
            jobs.append(_crawl_job(parent, source, 0, explicit=explicit, now=now))
        if await self._jobs.put(jobs) < len(jobs):
            return await self._again(parent, sources)
        await self._queue.ring(JobKind.CRAWL.value)
        return await self.get(parent, EVERYONE)

    async def _again(self, parent: str, sources: Sequence[Source]) -> Crawl:
        children = await self._jobs.find(EVERYONE, kind=JobKind.CRAWL, parent=parent, limit=_CHILDREN)
        if {child.target for child in children} != {source.id for source in sources}:
            raise Conflict("This idempotency key was used for other sources: take a new one for a new request.")
        return await self.get(parent, EVERYONE)

    # ── Sources ─────────────────────────────────────────────────────────────────────────────────────

    async def _described(self, author: str, specs: Sequence[SourceSpec]) -> list[Source]:
        """The records of sources as they are asked for, with what is known of them; not saved yet."""
        addresses = [await self._address(spec.address, check_kind(spec.kind)) for spec in specs]
        ids = [source_id(author, address if is_local(address) else normalise(address)) for address in addresses]
        known = await self._sources.named(set(ids))
        now = time.time()
        new = [Source(id, author, None, address, created_at=now) for id, address in zip(ids, addresses, strict=True)]
        return [_as_asked(known.get(each.id, each), spec) for each, spec in zip(new, specs, strict=True)]

    async def put_source(self, author: str, spec: SourceSpec, scope: Scope) -> Source:
        """Add a source, or change what is known of it. It is crawled when it is due."""
        (source,) = await self._described(self._author(author, scope), [spec])
        await self._sources.save(source)
        return source

    async def delete_source(self, id: str, scope: Scope) -> None:
        """Forget a source and end its crawls. Its documents stay."""
        source = await self._sources.get(id)
        if source is None or not scope.allows(source.author):
            raise NotFound("There is no such source.")
        await self._sources.delete(id)
        now = time.time()
        for job in await self._jobs.find(EVERYONE, kind=JobKind.CRAWL, target=id, states=_ACTIVE):
            await self._jobs.cancel(job.id, now)

    async def _address(self, text: str, kind: SourceKind | None) -> str:
        """An address as it is stored: without credentials and fragment, paths whole and without links."""
        text = text.strip()
        if not text:
            raise InvalidInput("An address is missing.", param="sources")
        lower = text.lower()
        if lower.startswith("upload:"):
            raise InvalidInput("A file is uploaded, not named as a source.", param="sources")
        if lower.startswith(("http://", "https://")):
            if kind is not None and not kinds.kind_of(kind).on_web:
                raise InvalidInput(f"A {kind.value} is named by its path.", param="kind")
            parts = parse_url(text)
            return without_credentials(parts._replace(fragment="").geturl())
        if ("://" in lower and not lower.startswith("file://")) or (lower.startswith("git@") and ":" in lower):
            raise InvalidInput(
                "Only http:// and https:// addresses are fetched; a Git repository has one too.", param="sources"
            )
        if kind is not None and not kinds.kind_of(kind).on_machine:
            raise InvalidInput(f"A {kind.value} has an address that begins with http:// or https://.", param="sources")
        return str(await asyncio.to_thread(self._folders.resolve, text))

    # ── How far it is ───────────────────────────────────────────────────────────────────────────────

    async def get(self, id: str, scope: Scope) -> Crawl:
        """NotFound."""
        return await self._crawl(await self._ingest(id, scope))

    async def find(self, scope: Scope, limit: int) -> list[Crawl]:
        """Newest first."""
        jobs = await self._jobs.find(scope, kind=JobKind.INGEST, limit=max(1, min(limit or 20, 200)))
        found: list[Crawl] = []
        for start in range(0, len(jobs), AT_ONCE):
            found += await asyncio.gather(*(self._crawl(job) for job in jobs[start : start + AT_ONCE]))
        return found

    async def watch(self, id: str, scope: Scope) -> AsyncGenerator[Crawl, None]:
        """The ingest now, after each change, and at its end."""
        shown: Crawl | None = None
        while True:
            began = time.monotonic()
            now = await self.get(id, scope)
            took = time.monotonic() - began
            if now != shown:
                yield now
                shown = now
            if now.state.ended:
                return
            # An ingest of a thousand sources takes a while to look at: less often, then.
            await asyncio.sleep(max(WATCH_EVERY, 4 * took))

    async def cancel(self, id: str, scope: Scope) -> Crawl:
        """What is queued ends at once, what is running is asked to; what came in stays."""
        job = await self._ingest(id, scope)
        # The store doesn't know that it has ended: its state is its children's.
        if not (await self._crawl(job)).state.ended:
            await self._jobs.cancel(job.id, time.time())
        return await self._crawl(await self._ingest(id, scope))

    async def retry(self, id: str, scope: Scope) -> Crawl:
        """Failed and cancelled work is taken up where it stopped; a crawl that went through but for some of its
        documents is done again: what is unchanged costs a look."""
        job = await self._ingest(id, scope)
        now = time.time()
        children = await self._children(job)
        await self._jobs.requeue(job.id, now)
        again = []
        for child in children:
            if child.state is JobState.DONE and child.progress is not None and child.progress.failed:
                source = await self._sources.get(child.target)
                if source is not None:
                    explicit = Checkpoint.read(child.progress.checkpoint).explicit
                    attempt = Checkpoint.read(child.progress.checkpoint).attempt + 1
                    again.append(_crawl_job(job.id, source, attempt, explicit=explicit, now=now))
        await self._jobs.put(again)
        for topic in (JobKind.CRAWL, JobKind.FEATURIZE):
            await self._queue.ring(topic.value)
        return await self.get(id, scope)

    async def _ingest(self, id: str, scope: Scope) -> Job:
        job = await self._jobs.get(id)
        if job is None or job.kind is not JobKind.INGEST or not scope.allows(job.author):
            raise NotFound("There is no such ingest job.")
        return job

    async def _children(self, job: Job) -> list[Job]:
        """The newest crawl of each source, in the order of the request."""
        found = await self._jobs.find(EVERYONE, kind=JobKind.CRAWL, parent=job.id, limit=_CHILDREN)
        newest: dict[str, Job] = {}
        for each in found:
            newest.setdefault(each.target, each)
        return list(reversed(newest.values()))

    async def _crawl(self, job: Job) -> Crawl:
        children = await self._children(job)
        counts = await self._jobs.counts(job.id)
        waiting = sum(counts.get((JobKind.FEATURIZE, state), 0) for state in _ACTIVE)
        indexed = counts.get((JobKind.FEATURIZE, JobState.DONE), 0)
        broken = counts.get((JobKind.FEATURIZE, JobState.FAILED), 0)
        sources = await self._sources.named({child.target for child in children})
        failures: list[Failure] = []
        shown = []
        for child in children:
            source = sources.get(child.target)
            address = source.address if source is not None else "a source that was deleted"
            progress = child.progress or Progress()
            shown.append(
                SourceProgress(
                    source_id=child.target,
                    address=address,
                    kind=source.kind if source is not None else None,
                    state=child.state,
                    progress=progress,
                    seconds_left=_seconds_left(child, progress),
                    failure=child.failure,
                )
            )
            failures.extend(progress.failures)
            if child.state is JobState.FAILED and not progress.failures:
                failures.append(Failure(address, "failed", child.failure or "It failed."))
        if broken:
            failures.extend(await self._broken(job))
        state = _state(job, children, waiting, indexed, broken)
        left = [each.seconds_left for each in shown if each.state is JobState.RUNNING]
        return Crawl(
            id=job.id,
            author=job.author,
            state=state,
            sources=tuple(shown),
            documents_queued=waiting,
            documents_indexed=indexed,
            documents_failed=broken,
            failures=tuple(failures[-_SHOWN_FAILURES:]),
            seconds_left=_together(job, left, waiting, indexed + broken) if not state.ended else None,
            created_at=job.created_at,
            updated_at=max([job.updated_at, *(child.updated_at for child in children)]),
        )

    async def _broken(self, job: Job) -> list[Failure]:
        """Documents that came in and could not be made searchable."""
        jobs = await self._jobs.find(
            EVERYONE, kind=JobKind.FEATURIZE, parent=job.id, states=(JobState.FAILED,), limit=_SHOWN_FAILURES
        )
        documents = await self._documents.get({each.target for each in jobs})
        return [
            Failure(documents[each.target].url, "not_indexed", each.failure or "It could not be indexed.")
            for each in jobs
            if each.target in documents
        ]


def _as_asked(known: Source, spec: SourceSpec) -> Source:
    """What is known of a source, as it is to be from now on. InvalidInput."""
    kind, options = check_kind(spec.kind), _options(spec.options)
    if spec.every is not None and not (math.isfinite(spec.every) and spec.every >= SOONEST):
        raise InvalidInput(f"every is a number of seconds, {SOONEST:.0f} at least.", param="every")
    if spec.watch and not (is_local(known.address) and kind is not SourceKind.GIT):
        raise InvalidInput("Only a folder or file of the machine's own is watched: use every.", param="watch")
    notes = {name: value for name, value in known.options.items() if name in kinds.notes()}
    said = {name: value for name, value in known.options.items() if name not in kinds.notes()}
    if said != options or (kind is not None and kind is not known.kind):
        notes = {}
        known = replace(known, kind=kind)
    due = None
    if spec.every is not None:
        due = time.time() if known.crawled_at is None else known.crawled_at + spec.every
    return replace(known, options={**options, **notes}, every=spec.every, watch=spec.watch, due_at=due)


def _ingest_id(author: str, key: str) -> str:
    return digest("ingest", author, key)


def _job(id: str, kind: JobKind, author: str, target: str, parent: str | None, now: float) -> Job:
    return Job(id=id, kind=kind, author=author, target=target, parent=parent, created_at=now, updated_at=now)


def _crawl_job(parent: str, source: Source, attempt: int, *, explicit: bool, now: float) -> Job:
    id = digest("crawl", parent, source.id, str(attempt))
    checkpoint = Checkpoint(explicit=explicit, attempt=attempt).write()
    return replace(
        _job(id, JobKind.CRAWL, source.author, source.id, parent, now), progress=Progress(checkpoint=checkpoint)
    )


def _options(given: Mapping[str, str]) -> dict[str, str]:
    """A source's options as callers may give them. InvalidInput."""
    for name, value in given.items():
        if name not in kinds.options():
            raise InvalidInput(
                f"There is no option {name[:40]!r}: there are {', '.join(sorted(kinds.options()))}.", param="options"
            )
        if len(value) > 4000:
            raise InvalidInput(f"The option {name} is too long.", param=f"options.{name}")
        if name in ("include", "exclude"):
            globs(value)
        if name in ("depth", "max_pages") and not (value.strip().isdigit() and len(value) < 10):
            raise InvalidInput(f"The option {name} is a whole number.", param=f"options.{name}")
    return dict(given)


def _state(job: Job, children: Sequence[Job], waiting: int, indexed: int, broken: int) -> JobState:
    if waiting or any(not child.state.ended for child in children):
        begun = indexed or broken or waiting or any(child.state is not JobState.QUEUED for child in children)
        return JobState.RUNNING if begun else JobState.QUEUED
    if job.state is JobState.CANCELLED or any(child.state is JobState.CANCELLED for child in children):
        return JobState.CANCELLED
    if children and all(child.state is JobState.FAILED for child in children):
        return JobState.FAILED
    return JobState.FAILED if broken and not indexed else JobState.DONE


def _seconds_left(job: Job, progress: Progress) -> float | None:
    """By the pace so far."""
    if job.state is not JobState.RUNNING or progress.total is None or not progress.seen:
        return None
    return Checkpoint.read(progress.checkpoint).seconds / progress.seen * max(0, progress.total - progress.seen)


def _together(job: Job, crawls: Sequence[float | None], waiting: int, done: int) -> float | None:
    """Until the last document is searchable; None while that cannot be told."""
    if any(each is None for each in crawls):
        return None
    longest = max([0.0, *(each for each in crawls if each is not None)])
    if not waiting:
        return longest if crawls else None
    if not done:
        return None
    return max(longest, (time.time() - job.created_at) / done * waiting)
