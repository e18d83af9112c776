"""A crawler on the embedded adapters, with an index that takes what it is given at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from services import settings
from services.clients import SourceSpec
from services.crawler.bootstrap import CrawlerService, Settings, build
from services.crawler.guard import Resolver
from services.crawler.sandbox import Sandbox
from services.domain import EVERYONE, Crawl, Document
from services.errors import Conflict, TwinError
from services.ports import DocumentQuery, Documents


class Indexing:
    """The feature service as the crawler sees it: what is handed on is searchable."""

    def __init__(self) -> None:
        self.documents: Documents | None = None
        self.handed_on: list[tuple[str, int]] = []
        self.taken: list[str] = []
        self.refuse: list[TwinError] = []
        """Raised by the next calls, one each."""

    async def featurize(self, documents: Sequence[tuple[str, int, str]], parent: str = "") -> list[str]:
        if self.refuse:
            raise self.refuse.pop(0)
        self.handed_on.extend((id, version) for id, version, _ in documents)
        for id, version, _ in documents:
            await self._set(id, version)
        return [id for id, _, _ in documents]

    async def delete_document(self, id: str) -> None:
        if self.refuse:
            raise self.refuse.pop(0)
        self.taken.append(id)
        await self._set(id, None)

    async def _set(self, id: str, version: int | None) -> None:
        assert self.documents is not None
        while True:
            found = (await self.documents.get([id]))[id]
            searchable = None if found.deleted_at is not None or found.duplicate_of is not None else version
            try:
                await self.documents.save(replace(found, indexed_version=searchable))
            except Conflict:
                continue
            return


@dataclass(slots=True)
class World:
    crawler: CrawlerService
    index: Indexing

    async def ingest(self, *addresses: str | SourceSpec, author: str = "alpha", wait: bool = True) -> Crawl:
        specs = [each if isinstance(each, SourceSpec) else SourceSpec(each) for each in addresses]
        crawl = await self.crawler.ingests.start(author, specs, EVERYONE)
        return await self.ended(crawl) if wait else crawl

    async def refresh(self, crawl: Crawl) -> Crawl:
        return await self.ended(await self.crawler.ingests.refresh(crawl.sources[0].source_id, EVERYONE))

    async def ended(self, crawl: Crawl) -> Crawl:
        """The ingest at its end; looked at more often than people's eyes ask for."""
        while not crawl.state.ended:
            await asyncio.sleep(0.01)
            crawl = await self.crawler.ingests.get(crawl.id, EVERYONE)
        return crawl

    async def documents(self, state: str | None = None) -> dict[str, Document]:
        """By address."""
        page = await self.crawler.documents.find(DocumentQuery(scope=EVERYONE, state=state, limit=1000))
        return {each.url: each for each in page.documents}

    async def until(self, address: str, seconds: float = 60.0) -> Document:
        """The document of this address, once it is there."""
        async with asyncio.timeout(seconds):
            while (found := (await self.documents()).get(address)) is None:
                await asyncio.sleep(0.02)
        return found

    async def text(self, address: str) -> str:
        document = (await self.documents())[address]
        return (await self.crawler.documents.text(document.id, document.version))[0]

    async def close(self) -> None:
        await self.crawler.stop(0)


async def open_world(
    data_dir: Path, *, readers: Sandbox | None = None, resolver: Resolver | None = None, **given: object
) -> World:
    """`given`: settings in the place of the ones that make tests quick and let them reach loopback."""
    quick = {
        "crawler_allowed_networks": "127.0.0.0/8",
        "crawler_folders": "*",
        "crawler_host_delay": 0.0,
        "crawler_host_concurrency": 8,
        "crawler_readers": 1,
        "crawler_look_seconds": 0.2,
        "crawler_settle_seconds": 0.1,
        "crawler_fetch_seconds": 60.0,
    }
    index = Indexing()
    made = settings.read(Settings, **{"data_dir": data_dir, **quick, **given})
    crawler = await build(made, index, resolver=resolver, readers=readers)
    index.documents = crawler.documents
    await crawler.start()
    return World(crawler, index)


def counts(crawl: Crawl) -> tuple[int, int, int, int, int]:
    """new, changed, unchanged, skipped, failed over all sources."""
    seen = [each.progress for each in crawl.sources]
    return (
        sum(each.new for each in seen),
        sum(each.changed for each in seen),
        sum(each.unchanged for each in seen),
        sum(each.skipped for each in seen),
        sum(each.failed for each in seen),
    )
