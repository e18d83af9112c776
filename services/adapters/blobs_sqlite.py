"""Raw bytes in the data directory's one file.

Comes in: `sqlite:///…`. Goes out: the port Blobs. Does not know: what the bytes are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO

import apsw

from services.adapters.sqlite import Database, Step
from services.errors import NotFound, TooLarge
from services.ports import Blobs

LARGEST = 512 << 20
"""Bytes; SQLite's own limit of 10⁹ leaves no room beside it, and a blob is held in memory whole when it is read."""
_PIECE = 1 << 20
"""Bytes copied at once."""

STEPS: Sequence[Step] = ("CREATE TABLE blobs (key TEXT NOT NULL UNIQUE, data BLOB NOT NULL)",)


async def open(url: str, data_dir: Path) -> Blobs:
    return SqliteBlobs(await Database.open(url, data_dir, "blobs", STEPS))


class SqliteBlobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, key: str, data: bytes) -> None:
        if len(data) > LARGEST:
            raise TooLarge(f"{len(data) >> 20} MB is more than the {LARGEST >> 20} MB that one file may have.")
        await self._database.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO blobs (key, data) VALUES (?, ?)", (key, data))
        )

    async def copy(self, key: str, file: BinaryIO, size: int) -> None:
        if size > LARGEST:
            raise TooLarge(f"{size >> 20} MB is more than the {LARGEST >> 20} MB that one file may have.")

        start = file.tell()

        def write(connection: apsw.Connection) -> None:
            # A transaction that could not be committed is done again.
            file.seek(start)
            row = connection.execute(
                "INSERT OR REPLACE INTO blobs (key, data) VALUES (?, zeroblob(?)) RETURNING rowid", (key, size)
            ).get
            with connection.blob_open("main", "blobs", "data", row, True) as blob:
                left = size
                while left:
                    piece = file.read(min(left, _PIECE))
                    if not piece:
                        raise ValueError("The file has fewer bytes than were to be copied.")
                    blob.write(piece)
                    left -= len(piece)

        await self._database.write(write)

    async def get(self, key: str) -> bytes:
        data = await self._database.read(
            lambda connection: connection.execute("SELECT data FROM blobs WHERE key = ?", (key,)).get
        )
        if data is None:
            raise NotFound("The original bytes of this are not kept.")
        return bytes(data)

    async def delete(self, keys: Collection[str]) -> None:
        gone = json.dumps(list(keys))
        await self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM blobs WHERE key IN (SELECT value FROM json_each(?))", (gone,)
            )
        )

    async def close(self) -> None:
        await self._database.close()
