"""What has come in: documents and their texts, authors, and taking either away.

Comes in: ids and names, with the scope of who asks. Goes out: records and texts; what is out of scope is not there.
Does not know: how documents come in.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace

from services.crawler.remove import Remover
from services.domain import Author, Document, JobKind, JobState, Scope, SourceKind, document_id
from services.errors import InvalidInput, NotFound
from services.ports import DocumentPage, DocumentQuery, Documents, Jobs, Sources

MOST = 200
"""Documents on one page of a list."""
WINDOW = 500_000
"""Code points of a text in one message: 4 bytes each at most, and a message holds 4 MiB."""
STATES = ("deleted", "failed", "duplicate", "indexed", "updating", "queued")
_ENDING = 20.0
"""Seconds that running crawls of an author who goes have to notice it: a lease looks every 10."""


@dataclass(frozen=True, slots=True)
class Text:
    """A window of a version's text."""

    document: Document
    version: int
    text: str
    start: int
    end: int
    characters: int
    source_address: str


class Library:
    def __init__(self, documents: Documents, sources: Sources, jobs: Jobs, remover: Remover) -> None:
        self._documents = documents
        self._sources = sources
        self._jobs = jobs
        self._remover = remover

    async def find(self, query: DocumentQuery) -> DocumentPage:
        if query.state is not None and query.state not in STATES:
            raise InvalidInput(f"A document's state is one of {', '.join(STATES)}.", param="state")
        return await self._documents.find(query)

    async def text(self, id: str, scope: Scope, *, version: int | None, start: int, end: int) -> Text:
        """A window of the text, `end` 0: as far as one message may hold. NotFound: deleted, or no longer kept."""
        document = await self._get(id, scope)
        if document.deleted_at is not None:
            raise NotFound("The document was deleted.")
        wanted = document.version if version is None else version
        text, _ = await self._documents.text(id, wanted)
        if start < 0 or end < 0 or (end and end < start):
            raise InvalidInput("start and end are a range within the text.", param="start")
        until = min(end or len(text), start + WINDOW, len(text))
        source = await self._sources.get(document.source_id)
        return Text(
            document=document,
            version=wanted,
            text=text[start:until],
            start=min(start, len(text)),
            end=max(until, min(start, len(text))),
            characters=len(text),
            source_address=source.address if source is not None else "",
        )

    async def delete(self, id: str, scope: Scope) -> Document:
        """The tombstone. Again: the same one."""
        document = await self._get(id, scope)
        return await self._remover.delete(document)

    async def authors(self, scope: Scope) -> list[Author]:
        """By name, those included who have sources and no document yet."""
        known = {each.name: each for each in await self._documents.authors(scope)}
        sources = Counter(each.author for each in await self._sources.find(scope))
        return [
            replace(known.get(name, Author(name)), sources=sources[name])
            for name in sorted(known.keys() | sources.keys())
        ]

    async def delete_author(self, name: str, scope: Scope) -> Author:
        """An author with everything of theirs: sources, work that is under way, documents. Again after a failure half
        way: the rest."""
        own = Scope(authors=(name,))
        if not scope.allows(name):
            raise NotFound("There is no such author.")
        known = next(iter(await self._documents.authors(own)), None)
        sources = await self._sources.find(own)
        if known is None and not sources:
            ended = await self._remover.finish(name)
            if not ended:
                raise NotFound("There is no such author.")
            return Author(name=name, documents=ended)
        uploads = [source for source in sources if source.kind is SourceKind.UPLOAD]
        for source in sources:
            if source not in uploads:
                await self._sources.delete(source.id)
        await self._end_work(own)
        # Of an upload that no crawl has taken there are bytes and no document yet.
        await self._remover.forget_originals([document_id(name, source.address) for source in uploads])
        for source in uploads:
            await self._sources.delete(source.id)
        count = await self._remover.delete_all(name)
        return Author(name=name, documents=count, sources=len(sources))

    async def _end_work(self, own: Scope) -> None:
        """Cancel the author's ingests, and wait until no crawl of theirs brings in more."""
        until = time.monotonic() + _ENDING
        while active := await self._jobs.find(
            own, kind=JobKind.CRAWL, states=(JobState.QUEUED, JobState.RUNNING), limit=1000
        ):
            now = time.time()
            for id in {job.parent or job.id for job in active}:
                await self._jobs.cancel(id, now)
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.2)

    async def _get(self, id: str, scope: Scope) -> Document:
        document = (await self._documents.get([id])).get(id)
        if document is None or not scope.allows(document.author):
            raise NotFound("There is no such document.")
        return document
