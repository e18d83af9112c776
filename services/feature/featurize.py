"""Making documents searchable: what a featurize job asks for.

Comes in: leases of jobs, each one version of one document. Goes out: that version searchable in every generation of
the index, and `indexed_version`, `fingerprint` and `chunks` in its record. Does not know: gRPC, how documents came.

Correct without a transaction over the stores (promise 2), by this order, each step of which may be done again:

1. The text is cleaned. A version that was never searchable is cleaned in place; one that was keeps its text, for
   answers cite spans of it, and a newer cleaner's text becomes a version of its own.
2. Its chunks are staged, those the index does not know with their vectors: first in a generation that is being built,
   then in the live one.
3. The record is read again: a tombstone takes the chunks away, a newer version has a job of its own.
4. The version is published, and the record written if nothing wrote it since step 3: else from step 3 again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from services.domain import Document, Job, JobKind, JobState, Progress, digest
from services.errors import Cancelled, Conflict, NotFound, TwinError
from services.feature.clean import CLEANER, clean
from services.feature.embed import AHEAD_CHARACTERS, Work, bring_in
from services.feature.generations import Generation, Generations
from services.feature.withdraw import take_away
from services.lease import Lease
from services.ports import Documents, Jobs, Queue, Sources

_log = structlog.get_logger(__name__)

ENGLISH = ("onnx://",)
"""Encoders that were trained on English only: text of another language is found worse, which is said at ingest."""
TOGETHER = 16
"""Documents read and chunked at once."""


def job_id(document_id: str, version: int, fingerprint: str, round: int = 0) -> str:
    """Derived: asking twice for the same work makes one job. A further round is for work that has to be done again
    after its job has ended."""
    return digest("featurize", document_id, str(version), fingerprint, str(round))


class Featurizer:
    def __init__(
        self, documents: Documents, sources: Sources, jobs: Jobs, queue: Queue, generations: Generations
    ) -> None:
        self._documents = documents
        self._sources = sources
        self._jobs = jobs
        self._queue = queue
        self._generations = generations

    async def request(self, wanted: Sequence[tuple[str, int, str]], parent: str | None = None) -> list[str]:
        """Jobs for these (document id, version, author)s: their ids. Written once however often one parent asks.

        Where the work has a job that another parent asked for and that has not ended, this parent gets one of its own:
        so it has ended when the document is searchable, whatever becomes of the other, whose worker may be gone with
        its lease. The work may be done twice at once; what is second finds it done.
        """
        fingerprint = (await self._generations.current())[0].manifest.fingerprint
        now = time.time()
        jobs = [
            Job(
                id=job_id(document, version, fingerprint),
                kind=JobKind.FEATURIZE,
                author=author,
                target=document,
                version=version,
                parent=parent,
                created_at=now,
                updated_at=now,
            )
            for document, version, author in wanted
        ]
        if await self._jobs.put(jobs) < len(jobs):
            jobs = [await self._round(job, fingerprint) for job in jobs]
        await self._queue.ring(JobKind.FEATURIZE.value)
        return [job.id for job in jobs]

    async def _round(self, job: Job, fingerprint: str) -> Job:
        """The job of this work that has not ended; one that ended stays the one if its work still holds."""
        document = (await self._documents.get([job.target])).get(job.target)
        for round in range(1_000_000):
            wanted = replace(job, id=job_id(job.target, job.version, fingerprint, round))
            if await self._jobs.put([wanted]):
                return wanted
            found = await self._jobs.get(wanted.id)
            anothers = found is not None and not found.state.ended and found.parent != job.parent
            if anothers and job.parent is not None:
                own = replace(job, id=digest("featurize too", wanted.id, job.parent))
                await self._jobs.put([own])
                return own
            if found is None or not found.state.ended or document is None or _holds(document, job.version, fingerprint):
                return wanted
        raise Conflict("This document was brought in too often: delete it, and bring it in again.")

    async def handle(self, leases: list[Lease]) -> None:
        """Do what these jobs ask for. Leases that are left when it returns are done."""
        handled: set[str] = set()
        try:
            current = await self._generations.current()
            handled = {each.manifest.name for each in current}
            works = _Works(await self._wanted(leases, current))
            await self._bring_in(current, works, handled)
            await self._see_to_others(leases, works, current[0])
        except NotFound as error:
            names = {each.manifest.name for each in await self._generations.current()}
            if handled <= names:
                await self._say(leases, error)
                raise
            raise Conflict("The index was replaced during the work: it goes into the new one.") from error
        except TwinError as error:
            await self._say(leases, error)
            raise

    async def _see_to_others(self, leases: Sequence[Lease], works: _Works, live: Generation) -> None:
        """Jobs of the same work as one of these, asked for by another parent: done where it is, and else, where that
        one was cancelled or lost, for the next call."""
        others = [each for each in leases if not each.ended and not each.lost and not works.has(each)]
        found = await self._documents.get({each.job.target for each in others}) if others else {}
        for lease in others:
            document = found.get(lease.job.target)
            if document is None or document.version != lease.job.version:
                continue
            if not _holds(document, lease.job.version, live.manifest.fingerprint):
                await lease.give_back()

    async def _say(self, leases: list[Lease], error: TwinError) -> None:
        """End a job that was worked on alone and failed for good, and write the reason into the document."""
        if len(leases) > 1 or leases[0].ended:
            return
        lease = leases[0]
        await lease.fail(error)
        if lease.job.state is JobState.FAILED:
            await give_up(self._documents, lease.job, error.message)

    async def _wanted(self, leases: Sequence[Lease], current: Sequence[Generation]) -> list[tuple[Lease, Document]]:
        """Jobs whose work has to be done, with their documents; the others are ended."""
        found = await self._documents.get({lease.job.target for lease in leases})
        wanted: dict[str, tuple[Lease, Document]] = {}
        gone: list[str] = []
        live = current[0].manifest.fingerprint
        for lease in leases:
            document = found.get(lease.job.target)
            if document is not None and (document.deleted_at is not None or document.duplicate_of is not None):
                gone.append(document.id)
            elif document is None or document.version > lease.job.version:
                await lease.done()
            elif document.version < lease.job.version:
                await lease.fail(Conflict("The document's record is older than its job: it is looked at again."))
            elif len(current) == 1 and _holds(document, lease.job.version, live):
                await lease.done()
            elif document.id not in wanted:
                wanted[document.id] = (lease, document)
        if gone:
            await take_away(self._documents, self._generations, gone)
        return list(wanted.values())

    async def _bring_in(self, current: Sequence[Generation], works: _Works, handled: set[str]) -> None:
        live, *building = current
        for generation in building:
            await self._into(generation, works.all(), self._publisher(generation))

        async def whole(done: list[Work]) -> None:
            await self._finish(live, done, works, handled)

        await self._into(live, works.all(), whole)

    async def _into(
        self,
        generation: Generation,
        wanted: Sequence[tuple[Lease, Document]],
        whole: Callable[[list[Work]], Awaitable[None]],
    ) -> None:
        there = await generation.index.versions([document.id for _, document in wanted])
        missing = []
        ready = []
        for lease, document in wanted:
            if there.get(document.id) == document.version:
                ready.append(Work(document, document.version, "", chunks=document.chunks))
            else:
                missing.append((lease, document))
        if ready:
            for work in ready:
                work.chunks = len(await generation.index.known(work.document.id))
            await whole(ready)
        if missing:
            await bring_in(generation, self._texts(missing, generation), whole)

    async def _texts(
        self, wanted: Sequence[tuple[Lease, Document]], generation: Generation
    ) -> AsyncIterator[list[Work]]:
        """The cleaned texts, as many at a time as AHEAD_CHARACTERS holds."""
        some: list[tuple[Lease, Document]] = []
        characters = 0
        for lease, document in wanted:
            some.append((lease, document))
            characters += document.characters
            if characters >= AHEAD_CHARACTERS or len(some) == TOGETHER:
                yield await self._cleaned(some, generation)
                some, characters = [], 0
        if some:
            yield await self._cleaned(some, generation)

    async def _cleaned(self, some: Sequence[tuple[Lease, Document]], generation: Generation) -> list[Work]:
        works = await asyncio.gather(*(self._work(lease, document, generation) for lease, document in some))
        return [work for work in works if work is not None]

    async def _work(self, lease: Lease, document: Document, generation: Generation) -> Work | None:
        """A document's cleaned text; None where there is nothing to do for this job, which is ended then."""
        if lease.cancel_requested and not lease.ended:
            await lease.fail(Cancelled("The job was cancelled."))
        if lease.lost or lease.ended:
            return None
        try:
            found = await self.cleaned(document, lease.job.parent)
        except NotFound as error:
            await self._say([lease], error)
            return None
        if found is None:
            await lease.done()
            return None
        document, text = found
        if generation.encoder.identity.url in ENGLISH and document.language not in (None, "", "en"):
            lease.report(Progress(current=f"Written in {document.language}; the encoder knows English best."))
            _log.info("feature.language", document=document.id, language=document.language)
        return Work(document, document.version, text, await self.address(document.source_id))

    async def cleaned(self, document: Document, parent: str | None) -> tuple[Document, str] | None:
        """The cleaned text of the newest version, and the record as it is now.

        Written where it is another text than the one that came: in place, or as a new version where the old one may
        have been cited. None where this version is no longer the newest: the newer one has a job of its own. NotFound.
        """
        version = document.version
        now: Document | None = document
        while now is not None and now.version == version and now.deleted_at is None:
            try:
                text, cleaner = await self._documents.text(document.id, version)
                cleaned = text if cleaner == CLEANER else await asyncio.to_thread(clean, text)
                if cleaned == text:
                    return now, text
                if cleaner or now.indexed_version == version:
                    await self._anew(now, cleaned, parent)
                    return None
                now = await self._documents.save(replace(now, characters=len(cleaned)), text=cleaned, cleaner=CLEANER)
                return now, cleaned
            except (Conflict, NotFound) as error:
                now = (await self._documents.get([document.id])).get(document.id)
                if isinstance(error, NotFound) and now is not None and now.version == version:
                    raise
        return None

    async def _anew(self, document: Document, text: str, parent: str | None) -> None:
        """Make this text the document's next version, with a job."""
        newer = replace(document, version=document.version + 1, characters=len(text))
        await self._documents.save(newer, text=text, cleaner=CLEANER)
        await self.request([(document.id, newer.version, document.author)], parent)

    async def address(self, source: str) -> str:
        """Where a source is, for the index to filter by."""
        found = await self._sources.get(source)
        return found.address if found else ""

    def _publisher(self, generation: Generation) -> Callable[[list[Work]], Awaitable[None]]:
        """What makes versions searchable in a generation that is being built."""

        async def whole(done: list[Work]) -> None:
            await publish_beside(self._documents, generation, done)

        return whole

    async def _finish(self, live: Generation, done: list[Work], works: _Works, handled: set[str]) -> None:
        """Publish what is staged whole, write it into the records, and end the jobs."""
        # A generation that was begun since this work was: it is to have these documents before the record says so.
        for generation in await self._generations.current():
            if generation.manifest.name not in handled:
                mine = [works.of[work.document.id] for work in done]
                await self._into(generation, mine, self._publisher(generation))
        found = await self._documents.get([work.document.id for work in done])
        await asyncio.gather(*(self._conclude(live, work, found.get(work.document.id), works) for work in done))

    async def _conclude(self, live: Generation, work: Work, document: Document | None, works: _Works) -> None:
        lease, _ = works.of[work.document.id]
        published = False
        while True:
            if document is None or document.deleted_at is not None or document.duplicate_of is not None:
                await take_away(self._documents, self._generations, [work.document.id])
                break
            if document.version != work.version and not published:
                break  # the newer version's job drops what is staged
            if not published and not await publish(live, work):
                text, _ = await self._documents.text(document.id, document.version)
                try:
                    await self._anew(document, text, lease.job.parent)
                    break
                except Conflict:
                    document = (await self._documents.get([work.document.id])).get(work.document.id)
                    continue
            published = True
            if (document.indexed_version or 0) > work.version:
                break
            indexed = replace(
                document,
                indexed_version=work.version,
                fingerprint=live.manifest.fingerprint,
                chunks=work.chunks,
                failure=None if document.version == work.version else document.failure,
                updated_at=time.time(),
            )
            try:
                await self._documents.save(indexed)
                break
            except Conflict:
                # Written since it was read, by a deletion perhaps.
                document = (await self._documents.get([work.document.id])).get(work.document.id)
        await lease.done()


class _Works:
    """Jobs that are worked on together, with their documents."""

    def __init__(self, wanted: Sequence[tuple[Lease, Document]]) -> None:
        self.of = {document.id: (lease, document) for lease, document in wanted}

    def has(self, lease: Lease) -> bool:
        return any(each is lease for each, _ in self.of.values())

    def all(self) -> list[tuple[Lease, Document]]:
        return [each for each in self.of.values() if not each[0].ended and not each[0].lost]


async def publish(generation: Generation, work: Work) -> bool:
    """Make a version searchable that is staged whole; one that a newer version overtook stays as it is.

    False where an earlier attempt, of another title or another version of Twin, staged it cut otherwise: what it left
    goes when a newer version is published.
    """
    try:
        await generation.index.publish(work.record, work.chunks)
    except Conflict:
        there = await generation.index.versions([work.document.id])
        return there.get(work.document.id, 0) > work.version
    return True


async def publish_beside(documents: Documents, generation: Generation, works: Sequence[Work]) -> None:
    """Make versions searchable in a generation that is being built. The records are read after that: who deletes a
    document writes the tombstone first, so either it is seen here, or the deletion finds the chunks."""
    for work in works:
        await publish(generation, work)
    found = await documents.get([work.document.id for work in works])
    gone = [
        work.document.id
        for work in works
        if (now := found.get(work.document.id)) is None or now.deleted_at is not None or now.duplicate_of is not None
    ]
    if gone:
        await generation.index.delete(gone)


async def give_up(documents: Documents, job: Job, reason: str) -> None:
    """Write into a document why its newest version is not indexed, if that is still the version of the job."""
    while True:
        document = (await documents.get([job.target])).get(job.target)
        if document is None or document.version != job.version or document.deleted_at is not None:
            return
        if document.indexed_version == document.version or document.failure == reason:
            return
        try:
            await documents.save(replace(document, failure=reason, updated_at=time.time()))
        except Conflict:
            continue
        return


def _holds(document: Document, version: int, fingerprint: str) -> bool:
    """Whether the index has of this version what it is to have."""
    if document.deleted_at is not None or document.duplicate_of is not None:
        return document.indexed_version is None
    return document.version == version == document.indexed_version and document.fingerprint == fingerprint
