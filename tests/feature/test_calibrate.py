"""Thresholds fitted to the corpus itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.adapters import open_adapter
from services.confidence import Features
from services.domain import Chunk, Document, Manifest, SourceKind, chunk_id
from services.errors import Unprocessable
from services.feature.calibrate import calibrate, fit
from services.ports import DocumentPage, DocumentQuery, Documents, Encoder, Index, IndexedDocument

TOPICS = ["anchors", "ballast", "cleats", "davits", "fenders", "gaffs", "halyards", "jibs", "keels", "masts"]
ACTIONS = ["corrode", "loosen", "splinter", "freeze", "tangle", "warp", "overheat", "vibrate", "leak", "crack"]
CAUSES = ["sunlight", "moisture", "friction", "neglect", "overload", "barnacles", "lightning", "collisions", "rust"]
REMEDIES = ["varnish", "grease", "replacement", "splicing", "sanding", "rewiring", "welding", "caulking", "rinsing"]


def sentence(chance: random.Random) -> str:
    topic, action, cause, remedy = (chance.choice(each) for each in (TOPICS, ACTIONS, CAUSES, REMEDIES))
    return (
        f"Old {topic} {action} through {cause} every season, so skippers plan {remedy} number {chance.randrange(99)}."
    )


class Listed:
    """Of the document store only the listing."""

    def __init__(self, documents: list[Document]) -> None:
        self._documents = documents

    async def find(self, query: DocumentQuery) -> DocumentPage:
        return DocumentPage(tuple(self._documents[: query.limit]))


async def corpus(directory: Path, documents: int) -> tuple[Documents, Index, Encoder]:
    indexes = await open_adapter("index", "sqlite:///", directory)
    encoder: Encoder = await open_adapter("encoder", "hashing://384", directory)
    await indexes.create(Manifest("g1", encoder.identity, "c", "k", "live"))
    index = await indexes.open("g1")
    chance = random.Random(3)
    listed = []
    for number in range(documents):
        id = f"d{number}"
        texts = [sentence(chance) for _ in range(5)]
        chunks = [
            Chunk(chunk_id(id, text, 0), id, place, 0, len(text), text, f"Part {place}")
            for place, text in enumerate(texts)
        ]
        vectors = await encoder.encode([each.embedded_text for each in chunks])
        made = IndexedDocument(id, 1, "alpha", f"file:{id}", f"Log {number}", "s")
        await index.stage(made, chunks, {each.id: row for each, row in zip(chunks, vectors, strict=True)})
        await index.publish(made, len(chunks))
        listed.append(
            Document(id, "alpha", made.url, "s", SourceKind.FILE, made.title, indexed_version=1, chunks=len(chunks))
        )
    return Listed(listed), index, encoder  # type: ignore[return-value]


@pytest.mark.promise(5)
async def test_thresholds_part_the_corpus_from_what_is_off_the_topic(tmp_path: Path) -> None:
    """They are in order and between 0 and 1, name their origin, and the same corpus gives the same ones."""
    documents, index, encoder = await corpus(tmp_path, 12)
    fitted = await calibrate(documents, index, encoder)
    assert 0 < fitted.decline < 1
    assert 0 < fitted.answer < 1
    assert fitted.origin == "calibrated on 12 documents"
    assert await calibrate(documents, index, encoder) == fitted


async def test_a_small_corpus_is_refused(tmp_path: Path) -> None:
    """With too little to make questions of, the error says what to do."""
    documents, index, encoder = await corpus(tmp_path, 2)
    with pytest.raises(Unprocessable, match="bring in more"):
        await calibrate(documents, index, encoder)


def test_fit() -> None:
    """Declining lies between what is off the topic and the own questions, and where they mix it keeps the own ones;
    answering lies between near questions and own ones."""

    def found(*values: float) -> list[Features]:
        return [Features(each, each, each) for each in values] * 20

    apart = fit(found(0.5, 0.6, 0.7), found(0.3, 0.35), found(0.1, 0.15), 5)
    assert 0.15 < apart.decline < 0.5
    assert 0.3 < apart.answer < 0.5
    mixed = fit(found(0.2, 0.6, 0.7), found(0.3), found(0.5), 5)
    assert mixed.decline <= 0.2
    assert mixed.answer <= 0.6
