"""The stores that a backup is of.

Comes in: open adapters. Goes out: the same under one name, and what both ways ask of them alike. Does not know: which
technology they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.domain import EVERYONE, AuditEntry, Document, Generation
from services.ports import Audit, Blobs, DocumentQuery, Documents, Indexes, Jobs, Journal, Keys, Sources

PAGE = 200
ALL = 1_000_000_000
"""Of what has no pages."""


@dataclass(frozen=True, slots=True)
class Stores:
    documents: Documents
    jobs: Jobs
    sources: Sources
    blobs: Blobs
    journal: Journal
    keys: Keys
    audit: Audit
    indexes: Indexes

    async def close(self) -> None:
        for each in (self.documents, self.jobs, self.sources, self.blobs, self.journal, self.keys, self.audit):
            await each.close()
        await self.indexes.close()

    async def all_documents(self) -> AsyncIterator[Document]:
        """Tombstones too; each as it was when its page was read."""
        for state in (None, "deleted"):
            cursor = ""
            while True:
                page = await self.documents.find(DocumentQuery(EVERYONE, state=state, limit=PAGE, cursor=cursor))
                for each in page.documents:
                    yield each
                cursor = page.next
                if not cursor:
                    break

    async def all_generations(self) -> AsyncIterator[Generation]:
        """The journal, newest first."""
        before: float | None = None
        seen: set[str] = set()
        while True:
            page = await self.journal.find(EVERYONE, limit=PAGE, before=before)
            new = [each for each in page if each.id not in seen]
            for each in new:
                seen.add(each.id)
                yield each
            if len(page) < PAGE or not new:
                return
            # Several may be of one moment: the next page begins with it, not after it.
            before = page[-1].created_at + 1e-6

    async def all_audit(self) -> AsyncIterator[AuditEntry]:
        before: float | None = None
        seen: set[str] = set()
        while True:
            page = await self.audit.find(limit=PAGE, before=before)
            new = [each for each in page if each.id not in seen]
            for each in new:
                seen.add(each.id)
                yield each
            if len(page) < PAGE or not new:
                return
            before = page[-1].at + 1e-6
