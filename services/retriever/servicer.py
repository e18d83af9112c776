"""RetrieverService: messages to calls and back.

Comes in: protobuf. Goes out: protobuf, or errors of services.errors. Does not know: how the work is done.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from twin.v1 import retriever_pb2 as r

from services import telemetry, wire
from services.clients import IndexDescription
from services.domain import Scope, SearchRequest
from services.errors import InvalidInput
from services.retriever.live import Live, Opened
from services.retriever.retrieve import Retrieve
from services.retriever.threshold import thresholds_for

MOST_TEXTS = 256
"""Texts in one Embed."""


class RetrieverServicer:
    def __init__(self, retrieve: Retrieve, live: Live) -> None:
        self._retrieve = retrieve
        self._live = live

    async def search(self, request: r.SearchRequest) -> r.SearchResult:
        found = await self._retrieve(wire.from_wire(request, SearchRequest))
        telemetry.CONFIDENCE.observe(found.confidence)
        return wire.to_wire(found, r.SearchResult)

    async def embed(self, request: r.EmbedRequest) -> r.EmbedReply:
        texts = list(request.texts)
        if not texts or len(texts) > MOST_TEXTS:
            raise InvalidInput(f"From 1 to {MOST_TEXTS} texts at once, not {len(texts)}.", param="input")
        encoder = (await self._live.current()).encoder
        vectors, tokens = await asyncio.gather(encoder.encode(texts), asyncio.to_thread(encoder.count, texts))
        return r.EmbedReply(
            vectors=wire.vectors_to_bytes(vectors),
            dimensions=encoder.identity.dimensions,
            encoder=encoder.identity.url,
            tokens=tokens,
        )

    async def describe(self, request: r.DescribeRequest) -> r.IndexDescription:
        scope = wire.from_wire(request.scope, Scope)

        async def described(live: Opened) -> IndexDescription:
            facets = await live.index.facets(scope)
            thresholds = thresholds_for(live.manifest.encoder, live.manifest.thresholds)
            manifest = replace(live.manifest, thresholds=thresholds)
            return IndexDescription(manifest, facets.authors, facets.documents, facets.chunks)

        return wire.to_wire(await self._live.on(described), r.IndexDescription)
