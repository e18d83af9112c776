"""The feature service, put together from its settings.

Comes in: Settings. Goes out: a Feature that serves and works. The only file here that opens adapters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from google.protobuf.descriptor import ServiceDescriptor
from pydantic import Field
from twin.v1 import feature_pb2

from services import process, settings, telemetry
from services.adapters import open_adapter
from services.domain import JobKind
from services.errors import TwinError
from services.feature import reconcile
from services.feature.featurize import Featurizer
from services.feature.generations import Generations
from services.feature.reindex import LINGER, Reindexer
from services.feature.servicer import DEEPEST, FeatureServicer
from services.lease import Worker
from services.ports import Documents, Encoder, Indexes, Jobs, Queue, Sources

log = structlog.get_logger()


class Settings(settings.Settings):
    feature_address: str = "localhost:50052"
    """Where it listens: `unix:/path` or `host:port`."""
    feature_metrics: str = "localhost:9052"
    """Where a process of its own serves /metrics; empty: nowhere."""
    documents_url: str = "sqlite:///"
    index_url: str = "sqlite:///"
    queue_url: str = "memory://"
    encoder_url: str = "onnx://"
    """The target: an index that was made with another encoder keeps it until `twin reindex`."""
    feature_queue: int = Field(DEEPEST, ge=1)
    """Versions that may wait before a crawler is asked to wait."""
    feature_batch: int = Field(64, ge=1, le=1000)
    """Documents whose chunks share the encoder's batches."""
    feature_reconcile_seconds: float = Field(60.0, gt=0)
    """Between sweeps for what a crash left undone."""
    feature_linger_seconds: float = Field(LINGER, ge=0)
    """A retired index stays for the searches that still run on it."""


@dataclass(slots=True)
class Feature:
    """`services` go to an rpc.Server; `start` begins to work on jobs."""

    services: Sequence[tuple[ServiceDescriptor, object]]
    generations: Generations
    documents: Documents
    sources: Sources
    jobs: Jobs
    queue: Queue
    featurizer: Featurizer
    settings: Settings
    workers: Sequence[Worker]
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Work on jobs from now on, and sweep."""
        for worker in self.workers:
            await worker.start()
        self._tasks = [asyncio.create_task(self._sweep())]

    async def _sweep(self) -> None:
        while True:
            try:
                await reconcile.sweep(self.documents, self.jobs, self.generations, self.featurizer)
            except TwinError as error:
                log.warning("reconcile.failed", error=error.message)
            await asyncio.sleep(self.settings.feature_reconcile_seconds)

    async def ask(self) -> None:
        """Unavailable where a store is away."""
        await asyncio.gather(self.documents.get(["-"]), self.jobs.get("-"), self.generations.indexes.manifests())

    async def rest(self, grace: float) -> None:
        """Take no new job, end the running ones within `grace` seconds or give them back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await asyncio.gather(*(worker.stop(grace) for worker in self.workers))

    async def stop(self, grace: float = 10.0) -> None:
        """Rest, and close the adapters."""
        await self.rest(grace)
        await self.generations.close()
        for each in (self.queue, self.jobs, self.sources, self.documents):
            await each.close()


async def build(given: Settings, open_encoder: Callable[[str], Awaitable[Encoder]] | None = None) -> Feature:
    """Open the adapters and make the first index where there is none. `open_encoder`: for a process that shares
    encoders between services; they are closed here all the same."""
    data = given.directory

    async def encoder_of(url: str) -> Encoder:
        opened: Encoder = await open_adapter("encoder", url, data)
        return opened

    open_encoder = open_encoder or encoder_of
    name = "TWIN_DOCUMENTS_URL"
    documents: Documents = await open_adapter("documents", given.documents_url, data)
    sources: Sources = await open_adapter("sources", given.documents_url, data, setting=name)
    jobs: Jobs = await open_adapter("jobs", given.documents_url, data, setting=name)
    queue: Queue = await open_adapter("queue", given.queue_url, data)
    indexes: Indexes = await open_adapter("index", given.index_url, data)
    generations = Generations(indexes, await open_encoder(given.encoder_url), open_encoder)
    if not any(each.state == "live" for each in await indexes.manifests()):
        await reconcile.forget(documents)
    await generations.start()
    featurizer = Featurizer(documents, sources, jobs, queue, generations)
    reindexer = Reindexer(documents, jobs, queue, generations, featurizer, given.feature_linger_seconds)
    servicer = FeatureServicer(documents, jobs, queue, generations, featurizer, reindexer, given.feature_queue)
    return Feature(
        services=[(feature_pb2.DESCRIPTOR.services_by_name["FeatureService"], servicer)],
        generations=generations,
        documents=documents,
        sources=sources,
        jobs=jobs,
        queue=queue,
        featurizer=featurizer,
        settings=given,
        workers=[]
        if not given.work
        else [
            # Two calls at a time: while one writes its last documents the other's are being computed.
            Worker(jobs, JobKind.FEATURIZE, featurizer.handle, queue, batch=given.feature_batch, concurrency=2),
            Worker(jobs, JobKind.DELETE, servicer.delete, queue, batch=64),
            Worker(jobs, JobKind.REINDEX, reindexer.handle, queue),
        ],
    )


async def serve(given: Settings) -> None:
    """Serve and work until SIGTERM or SIGINT."""
    made = await process.patiently(lambda: build(given))
    await process.serve("feature", given.feature_address, given.feature_metrics, made, given)


def main() -> None:
    telemetry.configure_logs()
    telemetry.configure_traces("twin-feature")
    process.run(serve(settings.read(Settings)))
