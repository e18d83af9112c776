"""A file that was uploaded: its bytes wait among the blobs.

Comes in: `upload:` and the file's name, the options `media_type` and `hash` (of the bytes). Goes out: the file.
Does not know: who sent it.
"""

from __future__ import annotations

from services.crawler.sources import Fixed, Item, Kind, Listing, Payload, Tools
from services.domain import Source, document_id

KIND = Kind()


async def open(source: Source, tools: Tools) -> Listing:
    name = source.address.removeprefix("upload:")
    key = document_id(source.author, source.address)

    async def read() -> Payload:
        return Payload(await tools.blobs.get(key), source.options.get("media_type", ""), name)

    return Fixed([Item((source.address,), read=read, stamp=source.options.get("hash", ""))])
