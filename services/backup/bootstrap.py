"""The stores of a backup, opened from the settings.

Comes in: Settings. Goes out: Stores. The only file here that opens adapters.
"""

from __future__ import annotations

from typing import Any

from services import settings
from services.adapters import open_adapter
from services.backup.stores import Stores


class Settings(settings.Settings):
    documents_url: str = "sqlite:///"
    index_url: str = "sqlite:///"


async def build(given: Settings) -> Stores:
    """Misconfigured, Unavailable."""

    async def opened(port: str) -> Any:
        return await open_adapter(port, given.documents_url, given.directory, setting="TWIN_DOCUMENTS_URL")

    return Stores(
        documents=await opened("documents"),
        jobs=await opened("jobs"),
        sources=await opened("sources"),
        blobs=await opened("blobs"),
        journal=await opened("journal"),
        keys=await opened("keys"),
        audit=await opened("audit"),
        indexes=await open_adapter("index", given.index_url, given.directory),
    )
