"""The retriever as its callers see it: over gRPC, through the client."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from services import clients, rpc
from services.adapters import open_adapter
from services.domain import EVERYONE, Manifest, Scope, SearchRequest
from services.errors import InvalidInput, NotFound, TooLarge
from services.ports import Encoder, Vectors
from services.retriever import bootstrap
from services.retriever.live import QUESTIONS, Asked
from tests.retriever.conftest import Library


@pytest.fixture
async def client(library: Library, tmp_path: Path) -> AsyncIterator[clients.Retriever]:
    """A retriever of its own on the library's file."""
    made = await bootstrap.build(bootstrap.Settings(data_dir=tmp_path))
    # A Unix socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory() as sockets:
        address = f"unix:{sockets}/retriever.sock"
        server = rpc.Server(address, made.services)
        await server.start()
        channel = rpc.connect(address)
        yield clients.Retriever(channel)
        await channel.close()
        await server.stop(0)
        await made.stop()


async def test_search(client: clients.Retriever, library: Library) -> None:
    """The result crosses whole, and is what the retriever gives in the process."""
    request = SearchRequest("How is a carvel hull caulked?", EVERYONE)
    over, within = await client.search(request), await library.retrieve(request)
    assert over.passages == within.passages
    assert replace(over, steps=()) == replace(within, steps=())


async def test_errors_cross_as_themselves(client: clients.Retriever) -> None:
    """What is wrong with a request is said to the caller, with the field at fault."""
    with pytest.raises(InvalidInput) as empty:
        await client.search(SearchRequest(" ", EVERYONE))
    assert empty.value.param == "query"
    with pytest.raises(TooLarge):
        await client.embed(["word " * 300])
    with pytest.raises(InvalidInput):
        await client.embed([])


async def test_embed(client: clients.Retriever, library: Library) -> None:
    """Vectors of the live index's encoder, in the order of the texts, with their tokens."""
    embedded = await client.embed(["one two", "three"])
    assert np.allclose(embedded.vectors, await library.encoder.encode(["one two", "three"]))
    assert (embedded.encoder, embedded.tokens) == ("hashing://384", (2, 1))


async def test_a_question_just_asked_is_not_encoded_again() -> None:
    """Of a question's text and others only the others are encoded; the rows stay in order, repeated texts too."""
    asked = Asked()
    encoded: list[str] = []

    class Counting:
        async def encode(self, texts: Sequence[str]) -> Vectors:
            encoded.extend(texts)
            return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    asked.remember("why?", np.array([0, 7], dtype=np.float32))
    rows = await asked.encode(cast("Encoder", Counting()), ["one", "why?", "three", "one"])
    assert (rows.tolist(), encoded) == ([[3, 1], [0, 7], [5, 1], [3, 1]], ["one", "three"])
    assert (await asked.encode(cast("Encoder", Counting()), ["why?"])).tolist() == [[0, 7]]
    for number in range(QUESTIONS):
        asked.remember(f"question {number}", np.zeros(2, dtype=np.float32))
    await asked.encode(cast("Encoder", Counting()), ["why?"])
    assert encoded == ["one", "three", "why?"], "the oldest questions are forgotten"


async def test_describe(client: clients.Retriever, library: Library) -> None:
    """What is live, and how much of it the caller may see."""
    described = await client.describe(EVERYONE)
    assert (described.manifest, described.documents, described.chunks) == (library.manifest, 3, 8)
    assert (await client.describe(Scope(authors=("beta",)))).authors == ("beta",)
    assert (await client.describe(Scope())).documents == 0


async def test_nothing_indexed_yet(tmp_path: Path) -> None:
    """Before the first ingest the error says what to do; once there is an index, it is found without a restart."""
    made = await bootstrap.build(bootstrap.Settings(data_dir=tmp_path))
    with pytest.raises(NotFound, match="twin ingest"):
        await made.retrieve(SearchRequest("anything", EVERYONE))
    indexes = await open_adapter("index", "sqlite:///", tmp_path)
    encoder = await open_adapter("encoder", "hashing://64", tmp_path)
    await indexes.create(Manifest("g1", encoder.identity, "c", "k", "live"))
    assert (await made.retrieve(SearchRequest("anything", EVERYONE))).passages == ()
    await indexes.close()
    await made.stop()
