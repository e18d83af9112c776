"""The record of administrative acts in the data directory's one file.

Comes in: `sqlite:///…`. Goes out: the port Audit. Does not know: how an entry would be changed or taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import apsw

from services.adapters.sqlite import Database, Step
from services.domain import AuditEntry
from services.ports import Audit

STEPS: Sequence[Step] = (
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, key_id TEXT NOT NULL,
        action TEXT NOT NULL, target TEXT NOT NULL, detail TEXT NOT NULL
    );
    CREATE INDEX audit_newest ON audit (at, number);
    """,
)


async def open(url: str, data_dir: Path) -> Audit:
    return SqliteAudit(await Database.open(url, data_dir, "audit", STEPS))


class SqliteAudit:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, entry: AuditEntry) -> None:
        row = (entry.id, entry.at, entry.key_id, entry.action, entry.target, entry.detail)
        await self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO audit (id, at, key_id, action, target, detail) VALUES (?, ?, ?, ?, ?, ?)", row
            )
        )

    async def find(self, limit: int = 100, before: float | None = None) -> list[AuditEntry]:
        def read(connection: apsw.Connection) -> list[AuditEntry]:
            rows = connection.execute(
                """SELECT id, at, key_id, action, target, detail FROM audit WHERE at < coalesce(?, 9e999)
                   ORDER BY at DESC, number DESC LIMIT ?""",
                (before, limit),
            )
            return [AuditEntry(*cast(tuple[str, float, str, str, str, str], row)) for row in rows]

        return await self._database.read(read)

    async def close(self) -> None:
        await self._database.close()
