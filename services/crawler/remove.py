"""Deleting: the tombstone first, then everything that was made of the document.

Comes in: documents, authors. Goes out: tombstones; no chunk, text, sketch or original of theirs. Does not know: the
journal, whose passages the gateway has redacted.

The tombstone says that it is not finished, until it is: so a part that is away, or a crash between two steps, only
delays the end. The same delete, asked for again, brings it, and `finish` does now and then. Chunks whose service is
away are taken by a DELETE job of that service's, and by its own sweep of tombstones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from services.domain import EVERYONE, Document, Job, JobKind, digest
from services.errors import Conflict, TwinError
from services.ports import Blobs, DocumentQuery, Documents, Jobs, Queue

_log = structlog.get_logger(__name__)

GONE = "gone"
"""raw_hash of a tombstone that a crawl wrote because its source has the document no longer: it comes back with it.
A person's tombstone stays until a person ingests it again."""
_UNFINISHED = "unfinished:"
"""Before the raw_hash of a tombstone whose texts and original are still there."""
_PAGE = 500


def is_gone(document: Document) -> bool:
    """Whether a tombstone is a crawl's, not a person's."""
    return document.deleted_at is not None and document.raw_hash.endswith(GONE)


class Index(Protocol):
    """The feature service, as far as this needs it."""

    async def delete_document(self, id: str) -> None: ...


class Remover:
    def __init__(self, documents: Documents, jobs: Jobs, blobs: Blobs, queue: Queue, index: Index) -> None:
        self._documents = documents
        self._jobs = jobs
        self._blobs = blobs
        self._queue = queue
        self._index = index
        self.on_removed: Callable[[str, set[str]], Awaitable[None]] | None = None
        """Told the author and the ids of what was taken: their duplicates may step in."""

    async def delete(self, document: Document, *, gone: bool = False, tell: bool = True) -> Document:
        """The document's tombstone. When this returns and the index was there, search does not find it any more.

        `gone`: its source has it no longer; otherwise a person wants it away. `tell`: call `on_removed`.
        """
        buried = await self._bury(document, gone=gone)
        try:
            await self._index.delete_document(buried.id)
        except TwinError as error:
            _log.warning("delete.later", document=buried.id, reason=error.message)
            await self._later([buried])
        finished = await self._take(buried)
        if tell:
            await self._removed(document.author, {document.id})
        return finished

    async def delete_all(self, author: str) -> int:
        """Every document of an author: tombstones when this returns, their chunks by jobs; how many, with those whose
        deletion was interrupted before."""
        count = await self.finish(author)
        while True:
            page = await self._documents.find(DocumentQuery(scope=EVERYONE, author=author, limit=_PAGE))
            if not page.documents:
                return count
            buried = await asyncio.gather(*(self._bury(each) for each in page.documents))
            await self._later(buried)
            await asyncio.gather(*(self._take(each) for each in buried))
            count += len(buried)

    async def finish(self, author: str | None = None) -> int:
        """End what a crash or a part that was away interrupted: tombstones that are not finished; how many."""
        count = 0
        cursor = ""
        while True:
            query = DocumentQuery(scope=EVERYONE, author=author, state="deleted", limit=_PAGE, cursor=cursor)
            page = await self._documents.find(query)
            unfinished = [each for each in page.documents if each.raw_hash.startswith(_UNFINISHED)]
            await self._later(unfinished)
            for each in unfinished:
                await self._take(each)
                await self._removed(each.author, {each.id})
            count += len(unfinished)
            cursor = page.next
            if not cursor:
                return count

    async def _later(self, documents: Sequence[Document]) -> None:
        """Have the feature service take the chunks when it can."""
        now = time.time()
        jobs = [
            Job(
                # A document can be deleted, brought back and deleted again: each revision is work of its own.
                id=digest("delete", each.id, str(each.revision)),
                kind=JobKind.DELETE,
                author=each.author,
                target=each.id,
                created_at=now,
                updated_at=now,
            )
            for each in documents
        ]
        if jobs:
            await self._jobs.put(jobs)
            await self._queue.ring(JobKind.DELETE.value)

    async def _bury(self, document: Document, *, gone: bool = False) -> Document:
        now = time.time()
        mark = GONE if gone else ""
        # A person's delete outweighs a crawl's.
        while document.deleted_at is None or (is_gone(document) and not gone):
            buried = replace(
                document,
                deleted_at=now,
                duplicate_of=None,
                failure=None,
                raw_hash=_UNFINISHED + mark,
                text_hash="",
                etag="",
                last_modified="",
                updated_at=now,
            )
            try:
                return await self._documents.save(buried)
            except Conflict:
                document = (await self._documents.get([document.id]))[document.id]
        return document

    async def forget_originals(self, ids: Collection[str]) -> None:
        """The original bytes that are kept for these documents, whether or not they have a record."""
        if ids:
            await self._blobs.delete(ids)

    async def _take(self, document: Document) -> Document:
        """Texts, sketch and original of a tombstone; the tombstone as it is then."""
        while True:
            now = (await self._documents.get([document.id]))[document.id]
            if now.deleted_at is None or not now.raw_hash.startswith(_UNFINISHED):
                return now
            await self._blobs.delete([now.id])
            await self._documents.purge(now.id)
            try:
                return await self._documents.save(replace(now, raw_hash=now.raw_hash.removeprefix(_UNFINISHED)))
            except Conflict:
                continue

    async def _removed(self, author: str, ids: set[str]) -> None:
        if self.on_removed is not None:
            await self.on_removed(author, ids)
