"""A small library, indexed by the embedded adapters with the encoder that needs no model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.adapters import open_adapter
from services.domain import Chunk, Manifest, Thresholds, chunk_id
from services.ports import Encoder, Index, IndexedDocument, Indexes
from services.retriever.live import Live
from services.retriever.retrieve import Retrieve

LIBRARY: list[tuple[IndexedDocument, list[tuple[str, str]]]] = [
    (
        IndexedDocument("boats", 1, "alpha", "https://alpha.example.org/boats", "Boats", "s1", "https://alpha.example.org/feed",
                        language="en", published="2022-05-01"),
        [
            ("Boats › Hulls", "A carvel hull is planked edge to edge and caulked with cotton and pitch."),
            ("Boats › Hulls", "and then the seams are painted, which keeps the pitch from cracking in the sun."),
            ("Boats › Sails", "A gaff sail hangs from a spar that is hoisted with two halyards, throat and peak."),
            ("Boats › Sails", "Reefing a gaff sail early keeps the boat upright when the wind freshens."),
        ],
    ),
    (
        IndexedDocument("api", 1, "alpha", "https://docs.example.com/api", "API notes", "s2", "https://docs.example.com/",
                        language="en", published="2023-03-10"),
        [
            ("API notes › Streaming", "Set stream to true and the server sends events; maxTokens limits the answer."),
            ("API notes › Errors", "The server answers 429 when the rate limit is reached; wait as retry_after says."),
            ("API notes › Errors", "The server answers 429 when the rate limit is reached; wait as retry_after says so."),
        ],
    ),
    (
        IndexedDocument("brot", 1, "beta", "https://beta.example.net/brot", "Brot", "s3", "https://beta.example.net/",
                        language="de", published="2024-11-20"),
        [("Brot", "Der Sauerteig ruht eine Nacht im Keller, bevor das Brot gebacken wird.")],
    ),
]  # fmt: skip


@dataclass
class Library:
    indexes: Indexes
    index: Index
    encoder: Encoder
    live: Live
    retrieve: Retrieve
    manifest: Manifest
    observed: list[str]


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    indexes: Indexes = await open_adapter("index", "sqlite:///", tmp_path)
    encoder: Encoder = await open_adapter("encoder", "hashing://384", tmp_path)
    thresholds = Thresholds(decline=0.15, answer=0.4, origin="calibrated for the test")
    manifest = Manifest("g1", encoder.identity, "clean/1", "chunk/1", "live", thresholds)
    await indexes.create(manifest)
    index = await indexes.open("g1")
    for document, parts in LIBRARY:
        chunks, at = [], 0
        for ordinal, (heading, text) in enumerate(parts):
            id = chunk_id(document.id, f"{heading}\n{text}", 0)
            chunks.append(Chunk(id, document.id, ordinal, at, at + len(text), text, heading, tokens=100))
            at += len(text) + 2
        vectors = await encoder.encode([each.embedded_text for each in chunks])
        await index.stage(document, chunks, {each.id: row for each, row in zip(chunks, vectors, strict=True)})
        await index.publish(document, len(chunks))

    async def open_encoder(url: str) -> Encoder:
        opened: Encoder = await open_adapter("encoder", url, tmp_path)
        return opened

    observed: list[str] = []
    live = Live(indexes, open_encoder)
    retrieve = Retrieve(live, None, lambda step, seconds: observed.append(step))
    yield Library(indexes, index, encoder, live, retrieve, manifest, observed)
    await live.close()
