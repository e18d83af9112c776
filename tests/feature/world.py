"""A feature service on the embedded adapters, without its workers: a test claims and does the jobs itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.adapters import open_adapter
from services.adapters.encoder_hashing import HashingEncoder
from services.domain import EVERYONE, Document, Filter, Hit, Job, JobKind, SourceKind, document_id, text_hash
from services.feature.chunk import chunk
from services.feature.clean import clean
from services.feature.featurize import Featurizer
from services.feature.generations import Generations
from services.feature.reindex import Reindexer
from services.feature.servicer import FeatureServicer
from services.lease import Lease
from services.ports import Documents, Encoder, Index, Indexes, Jobs, Queue, Sources, Vectors


class Counting(HashingEncoder):
    """Keeps what it was given to encode."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self.encoded: list[str] = []

    async def encode(self, texts: Sequence[str]) -> Vectors:
        self.encoded += texts
        return await super().encode(texts)


class Silent:
    """A queue that nobody listens to: the store is the truth, so nothing may depend on a ring."""

    async def ring(self, topic: str) -> None: ...

    async def listen(self, topic: str, answer: Any) -> None: ...

    async def close(self) -> None: ...


class Killed(Exception):
    """The process ended here."""


class Fuse:
    """Ends the process at one of the calls to the ports: before it (even numbers) or after it took effect (odd)."""

    def __init__(self) -> None:
        self.at = -1
        self.calls = 0
        self.blown = False

    def around(self, port: Any) -> Any:
        return _Fused(port, self)


class _Fused:
    def __init__(self, port: Any, fuse: Fuse) -> None:
        self._port = port
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(method) or name == "close":
            return method

        async def call(*args: Any, **named: Any) -> Any:
            fuse = self._fuse
            if fuse.blown:
                raise Killed
            number, fuse.calls = fuse.calls, fuse.calls + 1
            if fuse.at == 2 * number:
                fuse.blown = True
                raise Killed
            result = await method(*args, **named)
            if fuse.at == 2 * number + 1:
                fuse.blown = True
                raise Killed
            if name == "open":
                return _Fused(result, fuse)
            return result

        return call


@dataclass
class World:
    documents: Documents
    sources: Sources
    jobs: Jobs
    queue: Queue
    indexes: Indexes
    generations: Generations
    featurizer: Featurizer
    reindexer: Reindexer
    servicer: FeatureServicer
    encoder: Counting
    data_dir: Path

    async def add(self, name: str, text: str, **fields: Any) -> Document:
        """A document as the crawler leaves it: a new one, or a version more."""
        id = document_id("author", name)
        found = (await self.documents.get([id])).get(id)
        if found is None:
            found = Document(
                id=id, author="author", url=f"file:{name}", source_id="s", kind=SourceKind.FILE, title="", version=0
            )
        document = replace(
            found,
            version=found.version + 1,
            title=name.title(),
            characters=len(text),
            text_hash=text_hash(text),
            updated_at=time.time(),
        )
        return await self.documents.save(replace(document, **fields), text=text)

    async def ask(self, *documents: Document, parent: str | None = None) -> list[str]:
        return await self.featurizer.request([(each.id, each.version, each.author) for each in documents], parent)

    async def claim(self, kind: JobKind = JobKind.FEATURIZE, later: float = 0.0) -> list[Lease]:
        claimed = await self.jobs.claim(kind, "worker", time.time() + later, 30.0, 100)
        return [Lease(job, self.jobs, asyncio.Event()) for job in claimed]

    async def work(self, later: float = 0.0) -> list[Job]:
        """Do all featurize jobs that are due; how they ended."""
        ended = []
        while leases := await self.claim(later=later):
            await self.featurizer.handle(leases)
            for lease in leases:
                await lease.done()
                job = await self.jobs.get(lease.job.id)
                assert job is not None
                ended.append(job)
        return ended

    async def bring(self, name: str, text: str, **fields: Any) -> Document:
        """Add a document and make it searchable."""
        document = await self.add(name, text, **fields)
        await self.ask(document)
        await self.work()
        return await self.get(document.id)

    async def get(self, id: str) -> Document:
        return (await self.documents.get([id]))[id]

    async def live(self) -> Index:
        return (await self.generations.current())[0].index

    async def everything(self) -> list[Hit]:
        """Every searchable chunk."""
        live = (await self.generations.current())[0]
        vector = (await live.encoder.encode(["anything"]))[0]
        return await live.index.dense(vector, 4000, EVERYONE, Filter())

    async def check_indexed(self, *documents: Document) -> None:
        """Exactly these are searchable, each whole, once, and as its record says."""
        hits = await self.everything()
        expected = []
        for document in documents:
            now = await self.get(document.id)
            text, _ = await self.documents.text(now.id, now.version)
            assert clean(text) == text
            chunks = chunk(text, now.id, now.title, self.encoder)
            assert (now.indexed_version, now.chunks, now.state) == (now.version, len(chunks), "indexed")
            expected += [(now.id, now.version, each.start, each.end, each.id) for each in chunks]
        found = [
            (each.chunk.document_id, each.version, each.chunk.start, each.chunk.end, each.chunk.id) for each in hits
        ]
        assert sorted(found) == sorted(expected)

    async def close(self) -> None:
        await self.generations.close()
        for each in (self.queue, self.jobs, self.sources, self.documents):
            await each.close()


async def open_world(data_dir: Path, encoder: Counting | None = None, fuse: Fuse | None = None) -> World:
    encoder = encoder or Counting(32)
    around = fuse.around if fuse else lambda port: port
    documents = around(await open_adapter("documents", "sqlite:///", data_dir))
    sources = around(await open_adapter("sources", "sqlite:///", data_dir))
    jobs = around(await open_adapter("jobs", "sqlite:///", data_dir))
    indexes = around(await open_adapter("index", "sqlite:///", data_dir))

    async def open_encoder(url: str) -> Encoder:
        opened: Encoder = await open_adapter("encoder", url, data_dir)
        return opened

    queue = Silent()
    generations = Generations(indexes, encoder, open_encoder)
    await generations.start()
    featurizer = Featurizer(documents, sources, jobs, queue, generations)
    reindexer = Reindexer(documents, jobs, queue, generations, featurizer, linger=0.0)
    servicer = FeatureServicer(documents, jobs, queue, generations, featurizer, reindexer, deepest=5)
    return World(
        documents, sources, jobs, queue, indexes, generations, featurizer, reindexer, servicer, encoder, data_dir
    )
