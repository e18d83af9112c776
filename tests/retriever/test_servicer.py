"""The retriever as its callers see it: over gRPC, through the client."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services import clients, rpc
from services.adapters import open_adapter
from services.domain import EVERYONE, Manifest, Scope, SearchRequest
from services.errors import InvalidInput, NotFound, TooLarge
from services.retriever import bootstrap
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


async def test_a_question_longer_than_the_window(client: clients.Retriever, library: Library) -> None:
    """It is searched for in pieces, and its result brings a vector to compare sentences with, as every search's does."""
    found = await client.search(SearchRequest("carvel hull " * 300, EVERYONE))
    assert found.encoder == "hashing://384"
    vector = np.frombuffer(found.vector, dtype="<f4")
    assert np.allclose(vector, (await library.encoder.encode(["carvel hull"]))[0], atol=1e-3)


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
