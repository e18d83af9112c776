"""A folder of the machine's own: notes, articles, a project's documentation and code.

Comes in: a path, and the options `include` and `exclude`. Goes out: its files, by path. Does not know: formats.

A document's address is `file:` and the path below the folder, so a folder can be moved. Where another source's file has
that address already, and is still there, the folder's own name comes before the path.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from services.crawler.address import clean_path, file_address
from services.crawler.files import FoundFile, check_readable, read_below, selection, walk
from services.crawler.sources import Fixed, Item, Kind, Listing, Payload, Tools
from services.domain import Source
from services.errors import InvalidInput, Unprocessable

_log = structlog.get_logger(__name__)

KIND = Kind(on_machine=True, options=frozenset({"include", "exclude"}))


async def open(source: Source, tools: Tools) -> Listing:
    folder = await asyncio.to_thread(tools.folders.resolve, source.address)
    if not folder.is_dir():
        raise InvalidInput("The path is no folder.")
    chosen = selection(source.options)
    most = tools.bounds.files

    unread: list[str] = []

    def listed() -> list[FoundFile]:
        return list(walk(folder, chosen, unread, most=most, now=time.time()))

    found = await asyncio.to_thread(listed)
    if not found and source.crawled_at is not None:
        # A disk that is not mounted looks the same: nothing is taken for deleted.
        raise Unprocessable(
            "The folder holds no files any more; its documents are kept. Delete the source to drop them."
        )
    if unread:
        _log.warning("folder.unread", source=source.id, count=len(unread), first=clean_path(unread[0]))
    return Fixed([_item(source, folder, file, tools.bounds.file_bytes) for file in found], complete=not unread)


def _item(source: Source, folder: Path, file: FoundFile, limit: int) -> Item:
    name = clean_path(folder.name)
    return Item(
        addresses=(
            file_address(file.path),
            f"{file_address(name)}/{clean_path(file.path)}",
            f"{file_address(source.id[:8])}/{clean_path(file.path)}",
        ),
        read=reader(folder, file.path, limit),
        stamp=file.stamp,
        place=str(folder / file.path),
    )


def reader(folder: Path, path: str, limit: int) -> Callable[[], Awaitable[Payload]]:
    def bytes_of() -> bytes:
        data = read_below(folder, path, limit)
        check_readable(path, data)
        return data

    async def read() -> Payload:
        return Payload(await asyncio.to_thread(bytes_of), name=clean_path(path.rpartition("/")[2]))

    return read
