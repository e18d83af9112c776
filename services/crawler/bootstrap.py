"""The crawler, put together from its settings.

Comes in: Settings. Goes out: a Crawler service that serves and works. The only file here that opens adapters.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import stamina
from google.protobuf.descriptor import ServiceDescriptor
from pydantic import Field, field_validator
from twin.v1 import crawler_pb2

from services import clients, process, rpc, settings, telemetry
from services.adapters import open_adapter
from services.cores import cores
from services.crawler import backlog
from services.crawler.crawl import Crawler
from services.crawler.extraction import Extraction
from services.crawler.fetch import Fetcher, FetchLimits
from services.crawler.folders import Folders
from services.crawler.guard import Guard, Resolver, parse_networks
from services.crawler.ingest import Ingests
from services.crawler.library import Library
from services.crawler.politeness import Politeness
from services.crawler.remove import Remover
from services.crawler.sandbox import Sandbox
from services.crawler.schedule import Schedule
from services.crawler.servicer import CrawlerServicer
from services.crawler.sources import Bounds, Tools
from services.crawler.web import Web
from services.domain import JobKind
from services.errors import Misconfigured
from services.lease import Worker
from services.ports import Blobs, Documents, Jobs, Queue, Sources

MIB = 1024 * 1024
ROBOT = "twin"
"""The product token that a robots.txt names this crawler by."""


class Settings(settings.Settings):
    crawler_address: str = "localhost:50051"
    """Where it listens: `unix:/path` or `host:port`."""
    crawler_metrics: str = "localhost:9051"
    """Where a process of its own serves /metrics; empty: nowhere."""
    feature_address: str = "localhost:50052"
    documents_url: str = "sqlite:///"
    queue_url: str = "memory://"
    crawler_allowed_networks: str = ""
    """Private networks that may be fetched from, in CIDR notation: an intranet, or a test's loopback."""
    crawler_folders: str = ""
    """Folders that may be read, separated by `:` (`;` on Windows); `*`: all that the process may read."""
    crawler_user_agent: str = Field("Twin/0.1 (twin; keeps to robots.txt)", min_length=1, max_length=300)
    crawler_jobs: int = Field(4, ge=1, le=64)
    """Sources crawled at once: one slow site does not hold up the others."""
    crawler_concurrency: int = Field(8, ge=1, le=256)
    """Pages of one source fetched at once, over all its hosts."""
    crawler_host_concurrency: int = Field(2, ge=1, le=32)
    """Requests to one host at once: as many as a person's browser would have open for reading."""
    crawler_host_delay: float = Field(0.25, ge=0, le=60)
    """Seconds between the beginnings of two requests to one host; robots.txt may ask for more."""
    crawler_max_bytes: int = Field(64 * MIB, ge=1024)
    """Of one document, as it came and decompressed. Large PDFs fit."""
    crawler_fetch_seconds: float = Field(60.0, gt=0)
    """For one request to its last byte."""
    crawler_fetch_attempts: int = Field(3, ge=1, le=10)
    """Tries of one request, with a growing pause between them."""
    crawler_max_pages: int = Field(5_000, ge=1)
    """Of one source; its own `max_pages` may only ask for fewer."""
    crawler_max_depth: int = Field(10, ge=0)
    """Clicks from a site crawl's first page."""
    crawler_max_files: int = Field(100_000, ge=1)
    """Of one folder or repository."""
    crawler_repository_bytes: int = Field(1024 * MIB, ge=1024)
    """Sent by a Git server for one commit."""
    crawler_repository_seconds: float = Field(600.0, gt=0)
    """For a Git server to send one commit."""
    crawler_readers: int = Field(default_factory=lambda: min(64, max(1, cores() // 2)), ge=1, le=64)
    """Processes that extract text: half the cores, the encoder has the others."""
    crawler_reader_memory: int = Field(2048 * MIB, ge=256 * MIB)
    """Bytes of address space for one of them: a 55 MB PDF needs a quarter of it."""
    crawler_extract_seconds: float = Field(120.0, gt=0)
    """For one document: a PDF of some thousand pages fits."""
    crawler_keep_jobs_days: float = Field(30.0, gt=0)
    """That ended jobs can still be looked at."""
    crawler_look_seconds: float = Field(5.0, gt=0)
    """Between looks for sources that are due."""
    crawler_settle_seconds: float = Field(1.0, gt=0)
    """Without a further change after which a watched folder is crawled: editors write a file several times."""

    @field_validator("crawler_allowed_networks")
    @classmethod
    def _networks(cls, text: str) -> str:
        try:
            parse_networks(text)
        except Misconfigured as error:
            raise ValueError("networks such as 10.1.0.0/16, fd00::/8") from error
        return text

    @property
    def folders(self) -> Sequence[Path] | None:
        if self.crawler_folders.strip() == "*":
            return None
        return [Path(each) for each in self.crawler_folders.split(os.pathsep) if each.strip()]


class EmbeddedSettings(Settings):
    """Of a crawler in its owner's own process, which reads with its owner's own rights."""

    crawler_folders: str = "*"


class FeatureClient(Protocol):
    """What the crawler asks of the feature service: clients.Feature."""

    async def featurize(self, documents: Sequence[tuple[str, int, str]], parent: str = "") -> list[str]: ...

    async def delete_document(self, id: str) -> None: ...


@dataclass(slots=True)
class CrawlerService:
    """`services` go to an rpc.Server; `start` begins to work on jobs and to keep schedules."""

    services: Sequence[tuple[ServiceDescriptor, object]]
    documents: Documents
    sources: Sources
    jobs: Jobs
    blobs: Blobs
    queue: Queue
    crawler: Crawler
    ingests: Ingests
    library: Library
    schedule: Schedule
    workers: Sequence[Worker]
    web: Web
    readers: Sandbox
    sandboxes: Sequence[Sandbox]
    """That it closes."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        if self.workers:
            self.readers.load("load")
        for worker in self.workers:
            await worker.start()
        await self.schedule.start()
        self._tasks = [asyncio.create_task(backlog.tell(self.jobs))]

    async def ask(self) -> None:
        """Unavailable where a store is away."""
        await asyncio.gather(self.documents.get(["-"]), self.jobs.get("-"), self.sources.get("-"))

    async def rest(self, grace: float) -> None:
        """Take no new job, end the running ones within `grace` seconds or give them back."""
        for task in self._tasks:
            task.cancel()
        await self.schedule.stop()
        await asyncio.gather(*(worker.stop(grace) for worker in self.workers))

    async def stop(self, grace: float = 10.0) -> None:
        """Rest, and close the adapters."""
        await self.rest(grace)
        for sandbox in self.sandboxes:
            await sandbox.close()
        await self.web.close()
        for each in (self.queue, self.jobs, self.sources, self.blobs, self.documents):
            await each.close()


async def build(
    given: Settings, feature: FeatureClient, *, resolver: Resolver | None = None, readers: Sandbox | None = None
) -> CrawlerService:
    """Open the adapters. `resolver`: how names become addresses, where it is not the system's to say. `readers`: the
    processes that extract text, where several crawlers share them; who made them closes them."""
    # What is tried again and fails is a failure of its job, with its reason: no line in the log for each try.
    stamina.instrumentation.set_on_retry_hooks([])
    data = given.directory
    name = "TWIN_DOCUMENTS_URL"
    documents: Documents = await open_adapter("documents", given.documents_url, data)
    sources: Sources = await open_adapter("sources", given.documents_url, data, setting=name)
    jobs: Jobs = await open_adapter("jobs", given.documents_url, data, setting=name)
    blobs: Blobs = await open_adapter("blobs", given.documents_url, data, setting=name)
    queue: Queue = await open_adapter("queue", given.queue_url, data)

    guard = Guard(parse_networks(given.crawler_allowed_networks), resolver)
    limits = FetchLimits(
        bytes=given.crawler_max_bytes, seconds=given.crawler_fetch_seconds, attempts=given.crawler_fetch_attempts
    )
    fetcher = Fetcher(guard, user_agent=given.crawler_user_agent, limits=limits)
    politeness = Politeness(delay=given.crawler_host_delay, concurrency=given.crawler_host_concurrency)
    web = Web(fetcher, politeness, agent=ROBOT)
    sandbox = readers or Sandbox(size=given.crawler_readers, memory=given.crawler_reader_memory)
    # Repositories have children of their own: one that takes minutes must not keep documents waiting.
    repositories = Sandbox(size=given.crawler_jobs, memory=given.crawler_reader_memory, requests=1)
    folders = Folders(given.folders)
    tools = Tools(
        web=web,
        sandbox=sandbox,
        repositories=repositories,
        blobs=blobs,
        folders=folders,
        bounds=Bounds(
            pages=given.crawler_max_pages,
            depth=given.crawler_max_depth,
            files=given.crawler_max_files,
            file_bytes=given.crawler_max_bytes,
            repository_bytes=given.crawler_repository_bytes,
            parse_seconds=given.crawler_extract_seconds,
            repository_seconds=given.crawler_repository_seconds,
        ),
        networks=given.crawler_allowed_networks,
        user_agent=given.crawler_user_agent,
    )
    remover = Remover(documents, jobs, blobs, queue, feature)
    crawler = Crawler(
        documents,
        sources,
        blobs,
        feature,
        remover,
        Extraction(sandbox, seconds=given.crawler_extract_seconds),
        tools,
        concurrency=given.crawler_concurrency,
        readers=given.crawler_readers * 16,
    )
    ingests = Ingests(documents, sources, jobs, blobs, queue, folders)
    library = Library(documents, sources, jobs, remover)
    servicer = CrawlerServicer(ingests, library, sources, upload_bytes=given.crawler_max_bytes)
    return CrawlerService(
        services=[(crawler_pb2.DESCRIPTOR.services_by_name["CrawlerService"], servicer)],
        documents=documents,
        sources=sources,
        jobs=jobs,
        blobs=blobs,
        queue=queue,
        crawler=crawler,
        ingests=ingests,
        library=library,
        schedule=Schedule(
            sources,
            jobs,
            ingests,
            remover,
            folders,
            every=given.crawler_look_seconds,
            keep_jobs=given.crawler_keep_jobs_days * 86400,
            settle=given.crawler_settle_seconds,
        ),
        workers=[Worker(jobs, JobKind.CRAWL, crawler.handle, queue, concurrency=given.crawler_jobs)]
        if given.work
        else [],
        web=web,
        readers=sandbox,
        sandboxes=[repositories] if readers else [sandbox, repositories],
    )


async def serve(given: Settings) -> None:
    """Serve and work until SIGTERM or SIGINT."""
    channel = rpc.connect(given.feature_address, given.identity)
    made = await process.patiently(lambda: build(given, clients.Feature(channel)))
    try:
        await process.serve("crawler", given.crawler_address, given.crawler_metrics, made, given)
    finally:
        await channel.close()


def main() -> None:
    telemetry.configure_logs()
    telemetry.configure_traces("twin-crawler")
    process.run(serve(settings.read(Settings)))
