"""The journal of answers in MongoDB.

Comes in: `mongodb://…`. Goes out: the port Journal. Does not know: how an answer is made, nor who asks to see it.

An entry is kept as compressed JSON, with fields beside it for what it is found by. Who changes an entry names the
revision that they read, and reads again where it is no longer the newest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.cursor import AsyncCursor

from services.adapters.mongodb import ATTEMPTS, Adapter, Database, Record, Step, busy, moment, translating, upsert
from services.adapters.records import (
    APART,
    STREAMS,
    cited_documents,
    packed_entry,
    quotations,
    redacted,
    unpacked_entry,
    unquoted,
)
from services.domain import Feedback, Generation, Scope
from services.errors import NotFound
from services.ports import Journal

READ_AT_ONCE = 100
"""Entries held in memory while they are redacted."""

_NEWEST = [("created_at", DESCENDING), ("number", DESCENDING)]
"""`number`: the order in which entries of one time were made."""

STEPS: Sequence[Step] = (
    {
        "generations": (
            IndexModel(_NEWEST),
            IndexModel([("key_id", ASCENDING), *_NEWEST]),
            # which entries hold text of a document, until it is redacted in them
            IndexModel([("documents", ASCENDING)]),
        )
    },
    {"generations": (IndexModel([("trace", ASCENDING), *_NEWEST]),)},
    # which documents were redacted lately: answers that were begun before may still come
    {"redactions": (IndexModel([("at", ASCENDING)]),)},
)


async def open(url: str, data_dir: Path) -> Journal:
    return MongodbJournal(await Database.open(url, "journal", STEPS))


class MongodbJournal(Adapter):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._generations = database.collection("generations")
        self._redactions = database.collection("redactions")

    @translating
    async def save(self, generations: Sequence[Generation]) -> None:
        # Of two with one id the second stays.
        records = await asyncio.to_thread(_records, list({each.id: each for each in generations}.values()))
        # Side by side, since each waits for the journal of a majority.
        writes = [
            upsert(
                self._generations,
                {"_id": id},
                {"$set": record, "$inc": {"revision": 1}, "$setOnInsert": {"number": moment()}},
            )
            for id, record in records
        ]
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        begun: dict[str, float] = {}
        for _, record in records:
            for document in record["documents"]:
                begun[document] = min(record["created_at"], begun.get(document, record["created_at"]))
        if not begun:
            return
        lately = {"_id": {"$in": sorted(begun)}, "at": {"$gte": min(begun.values()) - APART}}
        for redaction in await self._redactions.find(lately).to_list():
            if redaction["at"] >= begun[redaction["_id"]] - APART:
                await self._redact(redaction["_id"])

    @translating
    async def get(self, id: str) -> Generation | None:
        found = await self._generations.find_one({"_id": id}, {"entry": 1})
        return None if found is None else unpacked_entry(found["entry"])

    @translating
    async def find(
        self,
        scope: Scope,
        *,
        key_id: str | None = None,
        limit: int = 50,
        before: float | None = None,
        trace: str | None = None,
    ) -> list[Generation]:
        if (not scope.everyone and not scope.authors) or limit < 1 or trace == "":
            return []
        query: Record = {}
        if before is not None:
            query["created_at"] = {"$lt": before}
        if key_id is not None:
            query["key_id"] = key_id
        if trace is not None:
            query["trace"] = trace
        if not scope.everyone:
            query["authors"] = {"$in": list(scope.authors)}
        found: list[bytes] = []
        # Those of several authors, not all in scope, are left out here: servers differ in how they read an array whose
        # every element must be one of several.
        async for record in self._generations.find(query, {"entry": 1, "authors": 1}).sort(_NEWEST):
            if scope.everyone or set(record["authors"]) <= set(scope.authors):
                found.append(record["entry"])
                if len(found) == limit:
                    break
        return await asyncio.to_thread(_unpacked, found)

    @translating
    async def feedback(self, feedback: Feedback) -> None:
        for _ in range(ATTEMPTS):
            record = await self._generations.find_one({"_id": feedback.generation_id}, {"entry": 1, "revision": 1})
            if record is None:
                raise NotFound("There is no such answer in the journal: it may have been deleted.")
            if await self._changed(record, replace(unpacked_entry(record["entry"]), feedback=feedback), {}):
                return
        raise busy()

    async def _changed(self, record: Record, generation: Generation, also: Record) -> bool:
        """Whether the entry was still the one read, and is now this one."""
        entry = await asyncio.to_thread(packed_entry, generation)
        change = {"$set": {"entry": entry}, "$inc": {"revision": 1}, **also}
        result = await self._generations.update_one({"_id": record["_id"], "revision": record["revision"]}, change)
        return result.matched_count == 1

    async def _unquote(self, record: Record, without: Generation, texts: Collection[str]) -> bool:
        """Whether the entry, read with one of the texts in it, is now without; not where another took it or them."""
        for _ in range(ATTEMPTS):
            if await self._changed(record, without, {}):
                return True
            found = await self._generations.find_one({"_id": record["_id"]}, {"entry": 1, "revision": 1})
            (left,) = await asyncio.to_thread(_unquoted, [found], texts) if found is not None else (None,)
            if found is None or left is None:
                return False
            record, without = found, left
        raise busy()

    @translating
    async def delete(self, ids: Collection[str] = (), before: float | None = None) -> int:
        named: list[Record] = [{"_id": {"$in": list(ids)}}]
        if before is not None:
            named.append({"created_at": {"$lt": before}})
        if not ids and before is None:
            return 0
        return (await self._generations.delete_many({"$or": named})).deleted_count

    @translating
    async def redact(self, document_id: str) -> int:
        now = time.time()
        await self._redactions.delete_many({"at": {"$lt": now - STREAMS}})
        # First: an answer that is saved from now on finds it, one saved before is found below.
        await upsert(self._redactions, {"_id": document_id}, {"$set": {"at": now}})
        return await self._redact(document_id)

    async def _redact(self, document_id: str) -> int:
        texts: dict[str, set[str]] = {}
        async for records in _some(self._generations.find({"documents": document_id}, {"entry": 1})):
            for entry in await asyncio.to_thread(_unpacked, [record["entry"] for record in records]):
                texts.setdefault(entry.key_id, set()).update(quotations(entry, document_id))
        count = 0
        for key_id, quoted in texts.items():
            if not quoted:
                continue
            query = {"key_id": key_id, "documents": {"$ne": document_id}}
            async for records in _some(self._generations.find(query, {"entry": 1, "revision": 1})):
                without = await asyncio.to_thread(_unquoted, records, quoted)
                for record, left in zip(records, without, strict=True):
                    if left is not None:
                        count += await self._unquote(record, left, quoted)
        while True:
            cursor = self._generations.find({"documents": document_id}, {"entry": 1, "revision": 1})
            records = await cursor.limit(READ_AT_ONCE).to_list()
            if not records:
                return count
            for record in records:
                (read,) = await asyncio.to_thread(_unpacked, [record["entry"]])
                entry = redacted(read, document_id)
                # One that was changed meanwhile comes again.
                count += await self._changed(record, entry, {"$pull": {"documents": document_id}})


async def _some(cursor: AsyncCursor[Record]) -> AsyncIterator[list[Record]]:
    """What it finds, READ_AT_ONCE at a time."""
    while records := await cursor.to_list(READ_AT_ONCE):
        yield records


# Reading an entry takes a millisecond and more: these run in threads.


def _records(generations: Sequence[Generation]) -> list[tuple[str, Record]]:
    return [
        (
            each.id,
            {
                "key_id": each.key_id,
                "created_at": each.created_at,
                "authors": list(each.authors),
                "trace": each.trace,
                "documents": sorted(cited_documents(each)),
                "entry": packed_entry(each),
            },
        )
        for each in generations
    ]


def _unpacked(entries: Sequence[bytes]) -> list[Generation]:
    return [unpacked_entry(each) for each in entries]


def _unquoted(records: Sequence[Record], texts: Collection[str]) -> list[Generation | None]:
    return [unquoted(unpacked_entry(record["entry"]), texts) for record in records]
