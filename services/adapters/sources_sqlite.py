"""Sources in the data directory's one file.

Comes in: `sqlite:///…`. Goes out: the port Sources. Does not know: how a source is crawled.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import apsw

from services.adapters.sqlite import Database, Step
from services.domain import Scope, Source, SourceKind
from services.ports import Sources

_FIELDS = [field.name for field in fields(Source)]
"""Each is a column: a field added to Source needs a step that adds its column."""

_COLUMNS = ", ".join(_FIELDS)

STEPS: Sequence[Step] = (
    """
    CREATE TABLE sources (
        id TEXT PRIMARY KEY, author TEXT NOT NULL, kind TEXT, address TEXT NOT NULL, options TEXT NOT NULL,
        every REAL, watch INTEGER NOT NULL, created_at REAL NOT NULL, crawled_at REAL, due_at REAL
    ) WITHOUT ROWID;
    CREATE INDEX sources_due ON sources (due_at) WHERE due_at IS NOT NULL;
    """,
)


async def open(url: str, data_dir: Path) -> Sources:
    return SqliteSources(await Database.open(url, data_dir, "sources", STEPS))


class SqliteSources:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, source: Source) -> None:
        row = _row(source)
        await self._database.write(lambda connection: connection.execute(_SAVE, row))

    async def change(self, known: Source, new: Source) -> bool:
        row = _row(new)

        def write(connection: apsw.Connection) -> bool:
            stored = _sources(connection.execute(f"SELECT {_COLUMNS} FROM sources WHERE id = ?", (known.id,)))
            if stored != [known]:
                return False
            connection.execute(_SAVE, row)
            return True

        return await self._database.write(write)

    async def get(self, id: str) -> Source | None:
        return next(iter(await self._select("id = ?", (id,))), None)

    async def named(self, ids: Collection[str]) -> dict[str, Source]:
        found = await self._select("id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))
        return {source.id: source for source in found}

    async def find(self, scope: Scope, author: str | None = None) -> list[Source]:
        return [
            source
            for source in await self._select("author = coalesce(?, author) ORDER BY author, address", (author,))
            if scope.allows(source.author)
        ]

    async def due(self, now: float, limit: int) -> list[Source]:
        return await self._select("due_at <= ? ORDER BY due_at LIMIT ?", (now, limit))

    async def delete(self, id: str) -> None:
        await self._database.write(lambda connection: connection.execute("DELETE FROM sources WHERE id = ?", (id,)))

    async def close(self) -> None:
        await self._database.close()

    async def _select(self, where: str, values: tuple[Any, ...]) -> list[Source]:
        def read(connection: apsw.Connection) -> list[Source]:
            return _sources(connection.execute(f"SELECT {_COLUMNS} FROM sources WHERE {where}", values))

        return await self._database.read(read)


_SAVE = f"INSERT OR REPLACE INTO sources ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})"


def _row(source: Source) -> list[Any]:
    row = [getattr(source, name) for name in _FIELDS]
    row[_FIELDS.index("options")] = json.dumps(dict(source.options), ensure_ascii=False)
    return row


def _sources(rows: Iterable[tuple[Any, ...]]) -> list[Source]:
    found = []
    for row in rows:
        values = dict(zip(_FIELDS, row, strict=True))
        values["kind"] = None if values["kind"] is None else SourceKind(values["kind"])
        values["options"] = json.loads(values["options"])
        values["watch"] = bool(values["watch"])
        found.append(Source(**values))
    return found
