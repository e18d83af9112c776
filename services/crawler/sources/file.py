"""One file of the machine's own.

Comes in: a path. Goes out: the file. Does not know: its format.
"""

from __future__ import annotations

import asyncio
import os
import stat as status
import time

from services.crawler.address import clean_path, file_address
from services.crawler.files import stamp
from services.crawler.sources import Fixed, Item, Kind, Listing, Tools
from services.crawler.sources.folder import reader
from services.domain import Source
from services.errors import InvalidInput

KIND = Kind(on_machine=True)


async def open(source: Source, tools: Tools) -> Listing:
    path = await asyncio.to_thread(tools.folders.resolve, source.address)
    found = await asyncio.to_thread(os.stat, path)
    if not status.S_ISREG(found.st_mode):
        raise InvalidInput("The path is no regular file.")
    parent = clean_path(path.parent.name)
    item = Item(
        addresses=(
            file_address(path.name),
            f"{file_address(parent)}/{clean_path(path.name)}",
            f"{file_address(source.id[:8])}/{clean_path(path.name)}",
        ),
        read=reader(path.parent, path.name, tools.bounds.file_bytes),
        stamp=stamp(found, time.time()),
        place=str(path),
    )
    return Fixed([item])
