"""The live index, as its manifest says now, with the encoder that the manifest names.

Comes in: the generations of the index, and a way to open an encoder. Goes out: what a search runs on. Does not know:
what is searched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from services.domain import EncoderIdentity, Facets, Manifest, Scope
from services.errors import Misconfigured, NotFound
from services.ports import Encoder, Index, Indexes

T = TypeVar("T")

LOOK = 1.0
"""Seconds between looks at which index is live: after a switch, searches run on the old one so long."""
FACETS = 5.0
"""Seconds that what exists is remembered: for recognising filters, nothing is decided by it."""
SCOPES = 100
"""Callers' scopes whose facets are remembered."""


@dataclass(frozen=True, slots=True)
class Opened:
    manifest: Manifest
    index: Index
    encoder: Encoder


class Live:
    def __init__(self, indexes: Indexes, open_encoder: Callable[[str], Awaitable[Encoder]]) -> None:
        self._indexes = indexes
        self._open_encoder = open_encoder
        self._encoders: dict[EncoderIdentity, Encoder] = {}
        self._opened: Opened | None = None
        self._looked = -LOOK
        self._looking = asyncio.Lock()
        self._facets: dict[tuple[str, Scope], tuple[float, Facets]] = {}

    async def current(self) -> Opened:
        """NotFound where no index is live; Misconfigured where the encoder it names is not the one installed."""
        if self._opened is not None and time.monotonic() - self._looked < LOOK:
            return self._opened
        async with self._looking:
            if self._opened is None or time.monotonic() - self._looked >= LOOK:
                self._opened = await self._look()
                self._looked = time.monotonic()
            return self._opened

    async def on(self, work: Callable[[Opened], Awaitable[T]]) -> T:
        """What `work` makes of the live index: done again where that was replaced and dropped between two looks."""
        try:
            return await work(await self.current())
        except NotFound:
            self._looked = -LOOK
            return await work(await self.current())

    async def facets(self, opened: Opened, scope: Scope) -> Facets:
        key = (opened.manifest.name, scope)
        at, known = self._facets.get(key, (-FACETS, Facets()))
        if time.monotonic() - at >= FACETS:
            known = await opened.index.facets(scope)
            if len(self._facets) >= SCOPES:
                self._facets.clear()
            self._facets[key] = (time.monotonic(), known)
        return known

    async def _look(self) -> Opened:
        manifest = next((each for each in await self._indexes.manifests() if each.state == "live"), None)
        if manifest is None:
            raise NotFound("Nothing is indexed yet: `twin ingest` brings something in.")
        if self._opened is not None and self._opened.manifest.name == manifest.name:
            return replace(self._opened, manifest=manifest)
        return Opened(manifest, await self._indexes.open(manifest.name), await self._encoder(manifest.encoder))

    async def _encoder(self, identity: EncoderIdentity) -> Encoder:
        encoder = self._encoders.get(identity)
        if encoder is None:
            encoder = await self._open_encoder(identity.url)
            if encoder.identity != identity:
                await encoder.close()
                raise Misconfigured(
                    f"The index was made with {identity.url} of revision {identity.revision}, which is not the one "
                    f"installed: install that one, or run `twin reindex`."
                )
            self._encoders[identity] = encoder
        return encoder

    async def close(self) -> None:
        for encoder in self._encoders.values():
            await encoder.close()
        await self._indexes.close()
