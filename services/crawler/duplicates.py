"""Which documents say nearly the same as another, and stay out of the index for it.

Comes in: a document's text and sketch. Goes out: the document that it repeats. Does not know: why it is asked.

The one that came first is the original. When it goes, or says something else, its duplicates are looked at again and
the first of them steps in.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

from services.crawler import sketch
from services.domain import EVERYONE, Document
from services.errors import Conflict, NotFound
from services.ports import DocumentQuery, Documents

_CANDIDATES = 5
"""Compared exactly: those with the most bands in common."""

Featurize = Callable[[Document], Awaitable[None]]


class _Pending:
    """A text whose document is being written."""

    def __init__(self, id: str, text: str, bands: Collection[str]) -> None:
        self.id = id
        self.text = text
        self.bands = frozenset(bands)
        self.written = asyncio.get_running_loop().create_future()


class Duplicates:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._pending: dict[str, list[_Pending]] = {}

    @asynccontextmanager
    async def deciding(self, author: str, id: str, text: str, bands: Collection[str]) -> AsyncIterator[str | None]:
        """The id of the document that this text repeats, or None; within, the decision is written.

        Of two near texts that come together the second waits until the first is written: so they are not both
        originals, nor each the other's duplicate.
        """
        mine = _Pending(id, text, bands)
        pending = self._pending.setdefault(author, [])
        earlier = [each for each in pending if each.bands & mine.bands]
        pending.append(mine)
        try:
            for each in earlier:
                await asyncio.wait([each.written])
            yield await self.original(author, id, text, bands)
        finally:
            pending.remove(mine)
            mine.written.set_result(None)
            if not pending and self._pending.get(author) is pending:
                del self._pending[author]

    async def original(self, author: str, id: str, text: str, bands: Collection[str]) -> str | None:
        """The id of the document that this text repeats; None: it says something of its own."""
        shared = Counter(other for other, _ in await self._documents.near(author, bands) if other != id)
        found = await self._documents.get([other for other, _ in shared.most_common(_CANDIDATES)])
        roots = await self._documents.get({each.duplicate_of for each in found.values() if each.duplicate_of})
        for each in {root.id: root for root in (*found.values(), *roots.values())}.values():
            if each.id == id or each.deleted_at is not None or each.duplicate_of is not None:
                continue
            if await self._repeats(text, each):
                return each.id
        return None

    async def release(self, author: str, changed: Collection[str], featurize: Featurize) -> None:
        """Look again at the duplicates of documents that went or changed."""
        if not changed:
            return
        cursor = ""
        while True:
            page = await self._documents.find(
                DocumentQuery(scope=EVERYONE, author=author, state="duplicate", limit=200, cursor=cursor)
            )
            for each in page.documents:
                if each.duplicate_of in changed:
                    await self._look_again(each, featurize)
            cursor = page.next
            if not cursor:
                return

    async def _look_again(self, document: Document, featurize: Featurize) -> None:
        now: Document | None = document
        while now is not None and now.deleted_at is None and now.duplicate_of == document.duplicate_of:
            try:
                text, _ = await self._documents.text(now.id, now.version)
            except NotFound:
                return
            bands = await asyncio.to_thread(sketch.bands, text)
            async with self.deciding(now.author, now.id, text, bands) as original:
                if original == now.duplicate_of:
                    return
                try:
                    saved = await self._documents.save(replace(now, duplicate_of=original, updated_at=time.time()))
                except Conflict:
                    # Who wrote it may have written something else of it, such as when it was looked at.
                    now = (await self._documents.get([now.id])).get(now.id)
                    continue
                await self._documents.sketch(now.id, now.author, () if original else bands)
            if original is None:
                await featurize(saved)
            return

    async def _repeats(self, text: str, other: Document) -> bool:
        try:
            theirs, _ = await self._documents.text(other.id, other.version)
        except NotFound:
            return False
        return await asyncio.to_thread(sketch.near, text, theirs)
