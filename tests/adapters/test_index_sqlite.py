"""What the embedded index holds in memory is what stands in its file, at every moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapters import index_sqlite, open_adapter
from services.domain import EVERYONE, Chunk, EncoderIdentity, Filter, Manifest, Scope, chunk_id
from services.ports import Index, IndexedDocument, Indexes, Vectors

DIMENSIONS = 8
IDENTITY = EncoderIdentity("hashing://8", "1", "float32", "sum", DIMENSIONS, 512)


async def opened(directory: Path) -> tuple[Indexes, Index]:
    indexes: Indexes = await open_adapter("index", "sqlite:///", directory)
    await indexes.create(Manifest("index", IDENTITY, "cleaner", "chunker", "live"))
    return indexes, await indexes.open("index")


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    indexes, index = await opened(tmp_path)
    yield index
    await indexes.close()


async def put(index: Index, name: str, author: str, version: int, vectors: Vectors, title: str = "title") -> None:
    document = IndexedDocument(name, version, author, f"https://example.org/{name}", title, "source")
    chunks = [
        Chunk(chunk_id(name, f"{version} {place}", 0), name, place, place, place + 1, f"word{version}", tokens=3)
        for place in range(len(vectors))
    ]
    await index.stage(document, chunks, {each.id: row for each, row in zip(chunks, vectors, strict=True)})
    await index.publish(document, len(chunks))


async def found(index: Index, query: Vectors, k: int, scope: Scope = EVERYONE) -> list[tuple[str, float]]:
    hits = await index.dense(query, k, scope, Filter())
    # Rounding makes equal scores of what the two sums part by a millionth.
    return sorted(((hit.chunk.id, round(hit.score, 4) + 0.0) for hit in hits), key=lambda each: (-each[1], each[0]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 60))
async def test_held_vectors_find_what_the_file_finds(
    tmp_path_factory: pytest.TempPathFactory, seed: int, k: int
) -> None:
    """For all authors, one, several and unknown ones, in any order of vectors, equal ones among them."""
    indexes, index = await opened(tmp_path_factory.mktemp("held"))
    random = np.random.default_rng(seed)
    for number in range(6):
        # Whole numbers make equal vectors and equal scores likely.
        vectors = random.integers(-2, 3, (random.integers(1, 12), DIMENSIONS)).astype(np.float32) + 0.25
        await put(index, f"document-{number}", ("alpha", "beta", "gamma")[number % 3], 1, vectors)
    query = random.integers(-2, 3, DIMENSIONS).astype(np.float32) + 0.25
    scopes = [EVERYONE, *(Scope(authors=each) for each in (("beta",), ("alpha", "gamma"), ("nobody",), ("beta", "no")))]
    in_the_file = [await found(index, query, k, scope) for scope in scopes]
    for _ in range(index_sqlite.HELD_AFTER):
        await found(index, query, k)
    for scope, before in zip(scopes, in_the_file, strict=True):
        after = await found(index, query, k, scope)
        assert [score for _, score in after] == [score for _, score in before]
        # Which of several equal ones is the last within k is nobody's promise.
        last = before[-1][1] if before else 0.0
        assert [each for each in after if each[1] > last] == [each for each in before if each[1] > last]
    await indexes.close()


async def test_a_change_is_seen_at_once(index: Index, tmp_path: Path) -> None:
    """A new version, a deletion and another opener's new document are found, or not, by the next search."""
    vectors = np.eye(DIMENSIONS, dtype=np.float32)
    await put(index, "one", "alpha", 1, vectors[:2])
    for _ in range(index_sqlite.HELD_AFTER + 2):
        first = await found(index, vectors[0], 1)
    await put(index, "one", "alpha", 2, vectors[:2])
    second = await found(index, vectors[0], 1)
    assert first[0][0] != second[0][0]
    assert second[0][1] == 1.0
    for _ in range(index_sqlite.HELD_AFTER + 2):
        await found(index, vectors[3], 1)
    other = await open_adapter("index", "sqlite:///", tmp_path)
    await put(await other.open("index"), "two", "beta", 1, vectors[3:4])
    assert (await found(index, vectors[3], 1))[0][1] == 1.0
    await index.delete(["two"])
    assert (await found(index, vectors[3], 1))[0][1] == 0.0
    await other.close()


async def test_remembered_frequencies_are_of_this_moment(index: Index) -> None:
    """Counts change with versions, titles and deletions."""
    vectors = np.eye(DIMENSIONS, dtype=np.float32)
    await put(index, "one", "alpha", 1, vectors[:2], "zebra")
    assert await index.document_frequencies(["word1", "zebra"]) == ({"word1": 2, "zebra": 2}, 2)
    document = IndexedDocument("one", 2, "alpha", "https://example.org/one", "lion", "source")
    chunks = [Chunk(chunk_id("one", f"1 {place}", 0), "one", place, place, place + 1, "word1") for place in range(2)]
    await index.stage(document, chunks, {})
    await index.publish(document, 2)
    assert await index.document_frequencies(["word1", "zebra", "lion"]) == ({"word1": 2, "zebra": 0, "lion": 2}, 2)
    await index.delete(["one"])
    assert await index.document_frequencies(["word1", "lion"]) == ({"word1": 0, "lion": 0}, 0)


async def test_a_generation_of_the_same_name_starts_anew(index: Index, tmp_path: Path) -> None:
    """What was held of a dropped generation is not found in the one that took its name and number."""
    indexes = await open_adapter("index", "sqlite:///", tmp_path)
    vectors = np.eye(DIMENSIONS, dtype=np.float32)
    building = Manifest("next", IDENTITY, "cleaner", "chunker", "building")
    await indexes.create(building)
    dropped = await indexes.open("next")
    await put(dropped, "one", "alpha", 1, vectors[:2])
    for _ in range(index_sqlite.HELD_AFTER + 2):
        assert len(await found(dropped, vectors[0], 2)) == 2
    await indexes.drop("next")
    await indexes.create(building)
    await put(await indexes.open("next"), "two", "alpha", 1, vectors[2:3])
    assert [score for _, score in await found(dropped, vectors[2], 2)] == [1.0]
    await indexes.close()
