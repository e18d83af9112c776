"""The generations of the index that are written to: the live one, and one being built beside it.

Comes in: the index's manifests, and a way to open an encoder by its URL. Goes out: each generation with its index and
its encoder. Does not know: documents, jobs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from services.domain import EncoderIdentity, Manifest
from services.errors import Conflict, Misconfigured, TwinError
from services.feature.chunk import CHUNKER
from services.feature.clean import CLEANER
from services.ports import Encoder, Index, Indexes

AWAY = 10.0
"""Seconds for which an encoder that could not be opened is not tried again."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    manifest: Manifest
    index: Index
    encoder: Encoder


class Generations:
    """What is live and what is being built, as the manifests say now; indexes and encoders are kept open."""

    def __init__(self, indexes: Indexes, target: Encoder, open_encoder: Callable[[str], Awaitable[Encoder]]) -> None:
        self.indexes = indexes
        self.target = target
        """The encoder that the settings name."""
        self._open_encoder = open_encoder
        self._encoders: dict[EncoderIdentity, Encoder] = {target.identity: target}
        self._opened: dict[str, Generation] = {}
        self._away: dict[str, float] = {}
        """Generation → until when it is left out."""
        self._opening = asyncio.Lock()

    async def start(self) -> Manifest:
        """Make the first generation where there is none; the live one's manifest."""
        manifests = await self.indexes.manifests()
        if not any(each.state == "live" for each in manifests):
            await self.indexes.create(self.proposal("g1", state="live"))
        live = (await self.current())[0].manifest
        if live.fingerprint != self.proposal("").fingerprint:
            _log.warning(
                "index.differs_from_settings",
                index=live.name,
                encoder=live.encoder.url,
                setting=self.target.identity.url,
                say="The index stays as it was made; `twin reindex` makes it anew by the settings and this version.",
            )
        return live

    def proposal(self, name: str, state: str = "building") -> Manifest:
        """The manifest of an index made by the settings and by this version of Twin."""
        return Manifest(
            name=name,
            encoder=self.target.identity,
            cleaner=CLEANER,
            chunker=CHUNKER,
            state=state,
            created_at=time.time(),
        )

    async def current(self) -> list[Generation]:
        """The live generation first, then those being built, but for one whose encoder is away: the live one must not
        wait for it, and whoever builds it finds what came meanwhile. Conflict where none is live yet."""
        live, *building = await self._written()
        async with self._opening:
            found = [await self._open(live)]
            for manifest in building:
                if self._away.get(manifest.name, 0.0) > time.monotonic():
                    continue
                try:
                    found.append(await self._open(manifest))
                except TwinError as error:
                    self._away[manifest.name] = time.monotonic() + AWAY
                    _log.warning("index.left_out", index=manifest.name, error=error.message)
            self._opened = {each.manifest.name: each for each in found}
        return found

    async def building(self, name: str) -> Generation | None:
        """The generation of this name, where it is being built. What its encoder raises."""
        manifests = {each.name: each for each in await self._written()}
        if name not in manifests or manifests[name].state == "live":
            return None
        async with self._opening:
            self._opened[name] = found = await self._open(manifests[name])
            self._away.pop(name, None)
        return found

    async def all_indexes(self) -> list[Index]:
        """Of every generation that is written to. To take something out of one no encoder is needed."""
        names = [each.name for each in await self._written()]
        return [self._opened[name].index if name in self._opened else await self.indexes.open(name) for name in names]

    async def _written(self) -> list[Manifest]:
        """The live one first."""
        manifests = [each for each in await self.indexes.manifests() if each.state in ("live", "building")]
        if not manifests or manifests[0].state != "live":
            raise Conflict("There is no live index yet: the feature service makes one when it starts.")
        return manifests

    async def _open(self, manifest: Manifest) -> Generation:
        known = self._opened.get(manifest.name)
        if known is not None and known.manifest.fingerprint == manifest.fingerprint:
            return known if known.manifest == manifest else Generation(manifest, known.index, known.encoder)
        encoder = self._encoders.get(manifest.encoder)
        if encoder is None:
            encoder = await self._open_encoder(manifest.encoder.url)
            if encoder.identity != manifest.encoder:
                await encoder.close()
                raise Misconfigured(
                    f"The index was made with {manifest.encoder.url} of revision {manifest.encoder.revision}, which is "
                    f"not the one installed: install that one, or run `twin reindex`."
                )
            self._encoders[manifest.encoder] = encoder
        return Generation(manifest, await self.indexes.open(manifest.name), encoder)

    async def close(self) -> None:
        """The encoders and the indexes."""
        for encoder in self._encoders.values():
            await encoder.close()
        await self.indexes.close()
