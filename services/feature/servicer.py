"""FeatureService: messages to calls and back.

Comes in: protobuf. Goes out: protobuf, or errors of services.errors. Does not know: how the work is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

from twin.v1 import feature_pb2 as f
from twin.v1 import types_pb2 as t

from services import wire
from services.clients import ReindexJob
from services.domain import Job, JobKind, JobState, Manifest, Progress, digest
from services.errors import Conflict, InvalidInput, Overloaded, Unavailable
from services.feature.calibrate import calibrate
from services.feature.featurize import Featurizer
from services.feature.generations import Generations
from services.feature.reindex import Reindexer
from services.feature.withdraw import take_away
from services.lease import Lease
from services.ports import Documents, Jobs, Queue

DEEPEST = 2000
"""Versions that may wait for the workers before a crawler is asked to wait: some minutes of work on a laptop."""
RETRY_AFTER = 2.0
"""Seconds that it is asked to wait."""
DEPTH_EVERY = 0.5
"""Seconds between looks at how many wait."""
WATCH_EVERY = 0.5
"""Seconds between looks at a job that is watched."""
MOST = 1000
"""Documents in one request."""


class FeatureServicer:
    def __init__(
        self,
        documents: Documents,
        jobs: Jobs,
        queue: Queue,
        generations: Generations,
        featurizer: Featurizer,
        reindexer: Reindexer,
        deepest: int = DEEPEST,
    ) -> None:
        self._documents = documents
        self._jobs = jobs
        self._queue = queue
        self._generations = generations
        self._featurizer = featurizer
        self._reindexer = reindexer
        self._deepest = deepest
        self._depth = 0
        self._looked = 0.0

    async def featurize(self, request: f.FeaturizeRequest) -> f.FeaturizeReply:
        if len(request.documents) > MOST:
            raise InvalidInput(f"At most {MOST} documents in one request: split it.", param="documents")
        for each in request.documents:
            if not each.document_id or each.version < 1:
                raise InvalidInput("Each document needs its id and a version from 1 on.", param="documents")
        now = time.monotonic()
        if now - self._looked >= DEPTH_EVERY:
            self._depth = (await self._jobs.backlog(time.time()))[JobKind.FEATURIZE].waiting
            self._looked = now
        if self._depth >= self._deepest:
            raise Overloaded(
                f"{self._depth} documents wait to be indexed: send more in a moment.", retry_after=RETRY_AFTER
            )
        wanted = [(each.document_id, each.version, each.author) for each in request.documents]
        ids = await self._featurizer.request(wanted, request.parent or None)
        self._depth += len(ids)
        return f.FeaturizeReply(job_ids=ids)

    async def delete_document(self, request: f.FeatureDocumentId) -> t.Empty:
        if not request.document_id:
            raise InvalidInput("document_id is missing.", param="document_id")
        try:
            await take_away(self._documents, self._generations, [request.document_id])
        except Unavailable:
            # The index is away; the tombstone keeps the document from coming back, and its chunks go when it returns.
            now = time.time()
            job = Job(
                id=digest("delete", request.document_id, str(now)),
                kind=JobKind.DELETE,
                author="",
                target=request.document_id,
                created_at=now,
                updated_at=now,
            )
            await self._jobs.put([job])
            await self._queue.ring(JobKind.DELETE.value)
        return t.Empty()

    async def delete(self, leases: list[Lease]) -> None:
        """What delete jobs ask for, but for documents that were brought in again since."""
        ids = {lease.job.target for lease in leases}
        for document in (await self._documents.get(ids)).values():
            if document.deleted_at is None and document.duplicate_of is None:
                ids.discard(document.id)
        await take_away(self._documents, self._generations, ids)

    async def reindex(self, request: f.ReindexRequest) -> f.ReindexJob:
        job = await self._reindexer.request()
        return _reindex(*await self._reindexer.find(job.id))

    async def calibrate(self, request: f.CalibrateRequest) -> t.Manifest:
        live = (await self._generations.current())[0]
        thresholds = await calibrate(self._documents, live.index, live.encoder)
        if (await self._generations.current())[0].manifest.name != live.manifest.name:
            raise Conflict("Another index went live meanwhile: calibrate again.")
        manifest = replace(live.manifest, thresholds=thresholds)
        await self._generations.indexes.update(manifest)
        return wire.to_wire(manifest, t.Manifest)

    async def get_reindex(self, request: f.ReindexId) -> f.ReindexJob:
        return _reindex(*await self._reindexer.find(request.id))

    async def watch_reindex(self, request: f.ReindexId) -> AsyncGenerator[f.ReindexJob, None]:
        shown: f.ReindexJob | None = None
        while True:
            job, manifest = await self._reindexer.find(request.id)
            now = _reindex(job, manifest)
            if now != shown:
                yield now
                shown = now
            if job.state.ended:
                return
            await asyncio.sleep(WATCH_EVERY)


def _reindex(job: Job, manifest: Manifest) -> f.ReindexJob:
    progress = job.progress or Progress()
    left = None
    if job.state is JobState.RUNNING and progress.seen and progress.total:
        left = (job.updated_at - job.created_at) / progress.seen * max(0, progress.total - progress.seen)
    return wire.to_wire(
        ReindexJob(
            id=job.id,
            state=job.state.value,
            manifest=manifest,
            progress=progress,
            seconds_left=left,
            failure=job.failure,
        ),
        f.ReindexJob,
    )
