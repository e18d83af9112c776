"""Raw bytes in MongoDB, in pieces that fit a record.

Comes in: `mongodb://…`. Goes out: the port Blobs. Does not know: what the bytes are.

A key names a value that is written whole before; a reader finds the one before or the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from pymongo import ASCENDING, IndexModel

from services.adapters.mongodb import ATTEMPTS, PIECE, Adapter, Database, Step, busy, translating
from services.errors import NotFound, TooLarge
from services.ports import Blobs

LARGEST = 512 << 20
"""Bytes, as in the embedded store; a blob is held in memory whole when it is read."""

STEPS: Sequence[Step] = ({"blob_pieces": (IndexModel([("owner", ASCENDING), ("made_at", ASCENDING)]),)},)


async def open(url: str, data_dir: Path) -> Blobs:
    return MongodbBlobs(await Database.open(url, "blobs", STEPS))


class MongodbBlobs(Adapter):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._blobs = database.collection("blobs")
        self._pieces = database.pieces("blob_pieces")

    @translating
    async def put(self, key: str, data: bytes) -> None:
        if len(data) > LARGEST:
            raise TooLarge(f"{len(data) >> 20} MB is more than the {LARGEST >> 20} MB that one file may have.")
        await self._name(key, await self._pieces.write(key, data))

    @translating
    async def copy(self, key: str, file: BinaryIO, size: int) -> None:
        if size > LARGEST:
            raise TooLarge(f"{size >> 20} MB is more than the {LARGEST >> 20} MB that one file may have.")

        async def pieces() -> AsyncIterator[bytes]:
            left = size
            while left:
                piece = await asyncio.to_thread(file.read, min(left, PIECE))
                if not piece:
                    raise ValueError("The file has fewer bytes than were to be copied.")
                yield piece
                left -= len(piece)

        await self._name(key, await self._pieces.write_each(key, pieces(), max(1, -(-size // PIECE))))

    async def _name(self, key: str, name: str) -> None:
        earlier = await self._blobs.find_one_and_update({"_id": key}, {"$set": {"value": name}}, upsert=True)
        if earlier is not None:
            await self._pieces.delete([earlier["value"]])

    @translating
    async def get(self, key: str) -> bytes:
        for _ in range(ATTEMPTS):
            found = await self._blobs.find_one({"_id": key})
            if found is None:
                raise NotFound("The original bytes of this are not kept.")
            data = await self._pieces.read(found["value"])
            if data is not None:
                return data
        raise busy()

    @translating
    async def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            gone = await self._blobs.find_one_and_delete({"_id": key})
            if gone is not None:
                await self._pieces.delete([gone["value"]])
        if keys:
            await self._pieces.sweep(keys)
