"""API keys in MongoDB.

Comes in: `mongodb://…`. Goes out: the port Keys. Does not know: the secrets, only their hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pymongo import ASCENDING, IndexModel

from services.adapters.mongodb import Adapter, Database, Record, Step, translating
from services.domain import Key, Role
from services.ports import Keys

USED_EVERY = 60.0
"""Seconds between writes of one key's last use by one process: it is shown to people, and every request would pay for
more."""

_FIELDS = [field.name for field in fields(Key)]
"""As they are, but for `id`, which is `_id`."""

STEPS: Sequence[Step] = ({"keys": (IndexModel([("hash", ASCENDING)], unique=True),)},)


async def open(url: str, data_dir: Path) -> Keys:
    return MongodbKeys(await Database.open(url, "keys", STEPS))


class MongodbKeys(Adapter):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._keys = database.collection("keys")
        self._used: dict[str, float] = {}

    @translating
    async def save(self, key: Key) -> None:
        record = {name: getattr(key, name) for name in _FIELDS if name != "id"}
        record["role"] = key.role.value
        record["authors"] = None if key.authors is None else list(key.authors)
        await self._keys.replace_one({"_id": key.id}, record, upsert=True)

    @translating
    async def by_hash(self, hash: str) -> Key | None:
        found = await self._keys.find_one({"hash": hash})
        return None if found is None else _key(found)

    @translating
    async def find(self) -> list[Key]:
        cursor = self._keys.find().sort([("created_at", ASCENDING), ("_id", ASCENDING)])
        return [_key(record) async for record in cursor]

    @translating
    async def used(self, id: str, at: float) -> None:
        if at - self._used.get(id, float("-inf")) < USED_EVERY:
            return
        self._used[id] = at
        # Other replicas tell it too, and their clocks may be ahead.
        await self._keys.update_one({"_id": id}, {"$max": {"used_at": at}})


def _key(record: Record) -> Key:
    values: dict[str, Any] = {name: record[name] for name in _FIELDS if name in record}
    authors = record["authors"]
    return Key(
        **{
            **values,
            "id": record["_id"],
            "role": Role(record["role"]),
            "authors": None if authors is None else tuple(authors),
        }
    )
