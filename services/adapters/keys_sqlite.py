"""API keys in the data directory's one file.

Comes in: `sqlite:///…`. Goes out: the port Keys. Does not know: the secrets, only their hashes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import apsw

from services.adapters.sqlite import Database, Step
from services.domain import Key, Role
from services.ports import Keys

USED_EVERY = 60.0
"""Seconds between writes of one key's last use: it is shown to people, and every request would pay for more."""

_FIELDS = [field.name for field in fields(Key)]
"""Each is a column: a field added to Key needs a step that adds its column."""

_COLUMNS = ", ".join(_FIELDS)

STEPS: Sequence[Step] = (
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL, authors TEXT,
        created_at REAL NOT NULL, expires_at REAL, revoked_at REAL, used_at REAL, requests_per_minute INTEGER
    ) WITHOUT ROWID
    """,
)


async def open(url: str, data_dir: Path) -> Keys:
    return SqliteKeys(await Database.open(url, data_dir, "keys", STEPS))


class SqliteKeys:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[str, float] = {}

    async def save(self, key: Key) -> None:
        row = [getattr(key, name) for name in _FIELDS]
        row[_FIELDS.index("authors")] = None if key.authors is None else json.dumps(key.authors, ensure_ascii=False)
        marks = ", ".join("?" * len(row))
        await self._database.write(
            lambda connection: connection.execute(f"INSERT OR REPLACE INTO keys ({_COLUMNS}) VALUES ({marks})", row)
        )

    async def by_hash(self, hash: str) -> Key | None:
        return next(iter(await self._select("hash = ?", (hash,))), None)

    async def find(self) -> list[Key]:
        return await self._select("true ORDER BY created_at, id", ())

    async def used(self, id: str, at: float) -> None:
        if at - self._used.get(id, float("-inf")) < USED_EVERY:
            return
        self._used[id] = at
        await self._database.write(
            lambda connection: connection.execute("UPDATE keys SET used_at = ? WHERE id = ?", (at, id))
        )

    async def close(self) -> None:
        await self._database.close()

    async def _select(self, where: str, values: tuple[Any, ...]) -> list[Key]:
        def read(connection: apsw.Connection) -> list[Key]:
            found = []
            for row in connection.execute(f"SELECT {_COLUMNS} FROM keys WHERE {where}", values):
                fields = dict(zip(_FIELDS, row, strict=True))
                authors = fields["authors"]
                fields["authors"] = None if authors is None else tuple(json.loads(str(authors)))
                fields["role"] = Role(str(fields["role"]))
                found.append(Key(**fields))
            return found

        return await self._database.read(read)
