"""Sources in MongoDB.

Comes in: `mongodb://…`. Goes out: the port Sources. Does not know: how a source is crawled.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pymongo import ASCENDING, IndexModel

from services.adapters.mongodb import Adapter, Database, Record, Step, translating
from services.domain import Scope, Source, SourceKind
from services.ports import Sources

_FIELDS = [field.name for field in fields(Source)]
"""As they are, but for `id`, which is `_id`, and `options`, which is JSON: a name in it may hold a dot."""

STEPS: Sequence[Step] = (
    {
        "sources": (
            IndexModel([("author", ASCENDING), ("address", ASCENDING)]),
            IndexModel([("due_at", ASCENDING), ("_id", ASCENDING)]),
        )
    },
)


async def open(url: str, data_dir: Path) -> Sources:
    return MongodbSources(await Database.open(url, "sources", STEPS))


class MongodbSources(Adapter):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._sources = database.collection("sources")

    @translating
    async def save(self, source: Source) -> None:
        await self._sources.replace_one({"_id": source.id}, _record(source), upsert=True)

    @translating
    async def change(self, known: Source, new: Source) -> bool:
        stored = await self._sources.find_one({"_id": known.id})
        if stored is None or _source(stored) != known:
            return False
        # Field by field as it was read just now: whatever was written since makes it another.
        result = await self._sources.replace_one(stored, _record(new))
        return result.matched_count == 1

    @translating
    async def get(self, id: str) -> Source | None:
        found = await self._sources.find_one({"_id": id})
        return None if found is None else _source(found)

    @translating
    async def named(self, ids: Collection[str]) -> dict[str, Source]:
        cursor = self._sources.find({"_id": {"$in": list(ids)}})
        return {record["_id"]: _source(record) async for record in cursor}

    @translating
    async def find(self, scope: Scope, author: str | None = None) -> list[Source]:
        conditions: list[Record] = [{}]
        if not scope.everyone:
            conditions.append({"author": {"$in": list(scope.authors)}})
        if author is not None:
            conditions.append({"author": author})
        cursor = self._sources.find({"$and": conditions}).sort([("author", ASCENDING), ("address", ASCENDING)])
        return [_source(record) async for record in cursor]

    @translating
    async def due(self, now: float, limit: int) -> list[Source]:
        cursor = self._sources.find({"due_at": {"$lte": now}}).sort([("due_at", ASCENDING), ("_id", ASCENDING)])
        return [_source(record) async for record in cursor.limit(limit)]

    @translating
    async def delete(self, id: str) -> None:
        await self._sources.delete_one({"_id": id})


def _record(source: Source) -> Record:
    record = {name: getattr(source, name) for name in _FIELDS if name != "id"}
    record["kind"] = None if source.kind is None else source.kind.value
    record["options"] = json.dumps(dict(source.options), ensure_ascii=False)
    return record


def _source(record: Record) -> Source:
    values: dict[str, Any] = {name: record[name] for name in _FIELDS if name in record}
    return Source(
        **{
            **values,
            "id": record["_id"],
            "kind": None if record["kind"] is None else SourceKind(record["kind"]),
            "options": json.loads(record["options"]),
        }
    )
