"""The record of administrative acts in MongoDB.

Comes in: `mongodb://…`. Goes out: the port Audit. Does not know: how an entry would be changed or taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pymongo import DESCENDING, IndexModel

from services.adapters.mongodb import Adapter, Database, Record, Step, moment, translating
from services.domain import AuditEntry
from services.ports import Audit

_NEWEST = [("at", DESCENDING), ("number", DESCENDING)]
"""`number`: the order in which entries of one time were made."""

STEPS: Sequence[Step] = ({"audit": (IndexModel(_NEWEST),)},)


async def open(url: str, data_dir: Path) -> Audit:
    return MongodbAudit(await Database.open(url, "audit", STEPS))


class MongodbAudit(Adapter):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._audit = database.collection("audit")

    @translating
    async def append(self, entry: AuditEntry) -> None:
        await self._audit.insert_one(
            {
                "_id": entry.id,
                "at": entry.at,
                "key_id": entry.key_id,
                "action": entry.action,
                "target": entry.target,
                "detail": entry.detail,
                "number": moment(),
            }
        )

    @translating
    async def find(self, limit: int = 100, before: float | None = None) -> list[AuditEntry]:
        query: Record = {} if before is None else {"at": {"$lt": before}}
        return [
            AuditEntry(
                record["_id"], record["at"], record["key_id"], record["action"], record["target"], record["detail"]
            )
            async for record in self._audit.find(query).sort(_NEWEST).limit(limit)
        ]
