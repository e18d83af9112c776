"""A second generation of the index, made beside the live one and then put in its place (promise 5).

Comes in: the lease of a reindex job, whose target names the new generation. Goes out: that generation live, the one
before dropped, every record with the new fingerprint. Does not know: gRPC, who asked.

While it is made, every new version goes into both (featurize.py), so that only what was there before is left to do
here. Each step finds what an earlier attempt did: versions that are in the new generation are passed over, and the
chunks of one that was half written are not embedded again. The record's `updated_at` stays: nothing changed in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import structlog

from services.domain import EVERYONE, Document, Job, JobKind, JobState, Manifest, Progress, digest
from services.errors import Conflict, NotFound
from services.feature.embed import AHEAD_CHARACTERS, Work, bring_in
from services.feature.featurize import TOGETHER, Featurizer, publish_beside
from services.feature.generations import Generation, Generations
from services.lease import Lease
from services.ports import DocumentQuery, Documents, Jobs, Queue

_log = structlog.get_logger(__name__)

PAGE = 200
"""Documents looked at together."""
LINGER = 5.0
"""Seconds that the retired generation stays after the switch: searches that run on it end meanwhile."""
ROUNDS = 20
"""Passes over the documents before the switch, at most; each after the first finds only what came meanwhile."""


class Reindexer:
    def __init__(
        self,
        documents: Documents,
        jobs: Jobs,
        queue: Queue,
        generations: Generations,
        featurizer: Featurizer,
        linger: float = LINGER,
    ) -> None:
        self._documents = documents
        self._jobs = jobs
        self._queue = queue
        self._generations = generations
        self._featurizer = featurizer
        self._linger = linger

    async def request(self) -> Job:
        """The job that makes the index anew by the settings: the one under way, or a new one. Where the live index is
        as the settings say, a job that is done, and what an earlier one left half made is dropped."""
        under_way = await self._jobs.find(
            EVERYONE, kind=JobKind.REINDEX, states=(JobState.QUEUED, JobState.RUNNING), limit=1
        )
        if under_way:
            return under_way[0]
        manifests = await self._generations.indexes.manifests()
        proposal = self._generations.proposal("")
        now = time.time()
        job = Job(id="", kind=JobKind.REINDEX, author="", target="", created_at=now, updated_at=now)
        live = next((each for each in manifests if each.state == "live"), None)
        if live is not None and live.fingerprint == proposal.fingerprint:
            done = replace(
                job,
                id=digest("reindex", live.name, "nothing to do"),
                target=live.name,
                state=JobState.DONE,
                progress=Progress(current="The index is as the settings say."),
            )
            for each in manifests:
                if each.state == "building":
                    await self._generations.indexes.drop(each.name)
            await self._jobs.put([done])
            return done
        begun = next((each for each in manifests if each.state == "building"), None)
        name = begun.name if begun and begun.fingerprint == proposal.fingerprint else _next_name(manifests)
        for round in range(1_000_000):
            job = replace(job, id=digest("reindex", name, proposal.fingerprint, str(round)), target=name)
            if await self._jobs.put([job]):
                break
            found = await self._jobs.get(job.id)
            if found is not None and not found.state.ended:
                job = found
                break
        await self._queue.ring(JobKind.REINDEX.value)
        return job

    async def find(self, id: str) -> tuple[Job, Manifest]:
        """A job and the manifest of what it makes. NotFound."""
        job = await self._jobs.get(id)
        if job is None or job.kind is not JobKind.REINDEX:
            raise NotFound("There is no such reindex job: `twin reindex` begins one.")
        manifests = {each.name: each for each in await self._generations.indexes.manifests()}
        return job, manifests.get(job.target, self._generations.proposal(job.target))

    async def handle(self, leases: list[Lease]) -> None:
        for lease in leases:
            await self._make(lease)

    async def _make(self, lease: Lease) -> None:
        name = lease.job.target
        manifests = {each.name: each for each in await self._generations.indexes.manifests()}
        if name not in manifests:
            for each in manifests.values():
                if each.state == "building":
                    await self._generations.indexes.drop(each.name)  # by other settings, and no longer wanted
            await self._generations.indexes.create(self._generations.proposal(name))
        if name not in manifests or manifests[name].state == "building":
            await self._fill(lease, name)
        target = await self._generations.building(name)
        if target is not None:
            await self._generations.indexes.update(replace(target.manifest, state="live"))
            _log.info("reindex.switched", index=name)
        await self._record(lease)
        await asyncio.sleep(self._linger)
        for manifest in await self._generations.indexes.manifests():
            if manifest.state == "retired":
                await self._generations.indexes.drop(manifest.name)

    async def _fill(self, lease: Lease, name: str) -> None:
        """Pass over all documents until the new generation has every version that the live one has."""
        for _ in range(ROUNDS):
            generation = await self._generations.building(name)
            if generation is None:
                raise Conflict("The new index was dropped meanwhile: ask for a reindex again.")
            if await self._pass(lease, generation) == 0:
                return
        _log.warning("reindex.still_changing", index=name, say="Switched; what came last follows.")

    async def _pass(self, lease: Lease, generation: Generation) -> int:
        """How many documents were missing."""
        seen = total = missing = 0

        async def whole(done: list[Work]) -> None:
            nonlocal seen
            await publish_beside(self._documents, generation, done)
            seen += len(done)
            self._report(lease, seen, total, done[-1].document.title)
            lease.check()

        async for page in self._pages(generation):
            lease.check()
            wanted = await self._missing(generation, page)
            total += len(page)
            seen += len(page) - len(wanted)
            missing += len(wanted)
            if wanted:
                await bring_in(generation, self._texts(wanted), whole)
            self._report(lease, seen, total, "")
        return missing

    def _report(self, lease: Lease, seen: int, total: int, current: str) -> None:
        earlier = lease.job.progress or Progress()
        lease.report(
            replace(earlier, seen=max(earlier.seen, seen), total=max(total, earlier.total or 0), current=current)
        )

    async def _pages(self, generation: Generation) -> AsyncIterator[list[Document]]:
        """All documents that are searchable or are to be: those without a failure by id, then those whose newest
        version failed and whose older one is searchable."""
        after = ""
        while page := await self._documents.unindexed(generation.manifest.fingerprint, PAGE, after):
            after = page[-1].id
            yield [each for each in page if each.deleted_at is None]
        cursor = ""
        while True:
            failed = await self._documents.find(
                DocumentQuery(scope=EVERYONE, state="failed", limit=PAGE, cursor=cursor)
            )
            yield [each for each in failed.documents if each.indexed_version is not None]
            cursor = failed.next
            if not cursor:
                return

    async def _missing(self, generation: Generation, page: Sequence[Document]) -> list[tuple[Document, int]]:
        """(document, version) of those that the generation does not have."""
        there = await generation.index.versions([each.id for each in page])
        wanted = []
        for each in page:
            version = each.version if each.failure is None else each.indexed_version
            if version is not None and there.get(each.id, 0) < version:
                wanted.append((each, version))
        return wanted

    async def _texts(self, wanted: Sequence[tuple[Document, int]]) -> AsyncIterator[list[Work]]:
        some: list[tuple[Document, int]] = []
        characters = 0
        for document, version in wanted:
            some.append((document, version))
            characters += document.characters
            if characters >= AHEAD_CHARACTERS or len(some) == TOGETHER:
                yield await self._works(some)
                some, characters = [], 0
        if some:
            yield await self._works(some)

    async def _works(self, some: Sequence[tuple[Document, int]]) -> list[Work]:
        works = await asyncio.gather(*(self._work(document, version) for document, version in some))
        return [work for work in works if work is not None]

    async def _work(self, document: Document, version: int) -> Work | None:
        """None: overtaken by a newer version, which the next pass finds."""
        text: str
        try:
            if version == document.version:
                found = await self._featurizer.cleaned(document, None)
                if found is None:
                    return None
                document, text = found
            else:
                text, _ = await self._documents.text(document.id, version)
        except NotFound:
            return None
        return Work(document, version, text, await self._featurizer.address(document.source_id))

    async def _record(self, lease: Lease) -> None:
        """Write the new fingerprint into the records of what the live index has."""
        live, *_ = await self._generations.current()
        after = ""
        while page := await self._documents.unindexed(live.manifest.fingerprint, PAGE, after):
            after = page[-1].id
            lease.check()
            there = await live.index.versions([each.id for each in page])
            current = [
                each
                for each in page
                if each.deleted_at is None and each.version == there.get(each.id) == each.indexed_version
            ]
            await asyncio.gather(*(self._recorded(live, each) for each in current))

    async def _recorded(self, live: Generation, document: Document) -> None:
        chunks = len(await live.index.known(document.id))
        try:
            await self._documents.save(replace(document, fingerprint=live.manifest.fingerprint, chunks=chunks))
        except Conflict:
            pass  # what changed it is on its way to a fingerprint of its own; the reconciler sees to the rest


def _next_name(manifests: Sequence[Manifest]) -> str:
    numbers = [int(each.name[1:]) for each in manifests if each.name[1:].isdecimal()]
    return f"g{max(numbers, default=0) + 1}"
