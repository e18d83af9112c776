"""The index in Weaviate: what is its own beside the contract of every index."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from services.adapters import index_weaviate, open_adapter
from services.adapters.weaviate_reads import Filters, Reads
from services.domain import EVERYONE, Filter, Manifest, Scope
from services.errors import Conflict, Misconfigured, NotFound, Unavailable
from services.ports import Indexes
from tests.contracts.test_index import MANIFEST, chunks, document, found, put, vector


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Indexes]:
    indexes: Indexes = await open_adapter("index", url, Path())
    yield indexes
    await indexes.close()


class Wire:
    """What lies between the adapter and both of Weaviate's ports, and may be cut."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._ports = (parts.port, int(parse_qs(parts.query)["grpc_port"][0]))
        self._path = parts.path
        self._listening: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()
        self.ports: list[int] = []

    async def __aenter__(self) -> Wire:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    @property
    def url(self) -> str:
        return f"weaviate://127.0.0.1:{self.ports[0]}{self._path}?grpc_port={self.ports[1]}"

    async def cut(self) -> None:
        for server in self._listening:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()
        self._listening.clear()

    async def mend(self) -> None:
        for port, chosen in zip(self._ports, self.ports or [0, 0], strict=True):

            async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int | None = port) -> None:
                there, back = await asyncio.open_connection(self._host, port)
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

            self._listening.append(await asyncio.start_server(join, "127.0.0.1", chosen))
        self.ports = [server.sockets[0].getsockname()[1] for server in self._listening]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def test_away_and_back(weaviate_url: str) -> None:
    """While Weaviate is away every call is Unavailable in a few seconds; when it is back the same adapter goes on, also
    one that was opened meanwhile."""
    async with Wire(weaviate_url) as wire, opened(wire.url) as indexes:
        await indexes.create(MANIFEST)
        index = await indexes.open(MANIFEST.name)
        await put(index, document(), ["lasting"])
        await wire.cut()
        async with opened(wire.url) as meanwhile:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await meanwhile.manifests()
            calls = (
                index.text("lasting", 1, EVERYONE, Filter()),
                index.known("d1"),
                index.publish(document(version=2), 0),
            )
            failed = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in failed] == [Unavailable] * 3
            assert time.monotonic() - began < 6 * index_weaviate.PATIENCE
            await wire.mend()
            assert [each.name for each in await meanwhile.manifests()] == ["first"]
        assert found(await index.text("lasting", 1, EVERYONE, Filter())) == ["lasting"]


async def test_refused_objects_are_an_error(weaviate_url: str) -> None:
    """A batch that Weaviate answers with errors for some of its objects raises, and is not published."""
    async with opened(weaviate_url) as indexes:
        await indexes.create(MANIFEST)
        await put(await indexes.open(MANIFEST.name), document(), ["one"])
        # The same collection, opened by who believes in another number of dimensions than its vectors have.
        shorter: Manifest = replace(MANIFEST, encoder=replace(MANIFEST.encoder, dimensions=3))
        await indexes.update(shorter)
        index = await indexes.open(MANIFEST.name)
        made = chunks("d2", ["two"])
        with pytest.raises(Unavailable):
            await index.stage(document("d2"), made, {made[0].id: np.ones(3, np.float32)})
        assert found(await index.text("one two", 5, EVERYONE, Filter())) == ["one"]


async def test_what_is_not_read_yet_is_not_gone(weaviate_url: str) -> None:
    """While the manifests list an index whose collections are not there (a server that is starting has not read them
    yet), it is unavailable, in searches and in writes; not found only when it has been dropped."""
    async with opened(weaviate_url) as indexes:
        await indexes.create(replace(MANIFEST, state="live"))
        beside = replace(MANIFEST, name="beside", chunker="other", state="building")
        await indexes.create(beside)
        index = await indexes.open("beside")
        await put(index, document(), ["one"])
        assert isinstance(indexes, index_weaviate.WeaviateIndexes)
        server = indexes._server
        names = index_weaviate._collections(server.address.prefix, beside)
        await server.call(lambda client: client.collections.delete(list(names)))
        for _ in range(2):
            with pytest.raises(Unavailable):
                await index.text("one", 1, EVERYONE, Filter())
            with pytest.raises(Unavailable):
                await put(index, document("d2"), ["two"])
            assert "beside" in [each.name for each in await indexes.manifests()]
        await indexes.drop("beside")
        with pytest.raises(NotFound):
            await index.text("one", 1, EVERYONE, Filter())
        with pytest.raises(NotFound):
            await put(index, document("d2"), ["two"])


async def test_documents_beyond_one_answer_of_weaviate(weaviate_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Weaviate gives and deletes only in parts is known and deleted whole."""
    monkeypatch.setattr(index_weaviate, "MOST", 40)
    monkeypatch.setattr(index_weaviate, "PAGE", 16)
    async with opened(weaviate_url) as indexes:
        await indexes.create(MANIFEST)
        index = await indexes.open(MANIFEST.name)
        made = await put(index, document(), [f"text {number}" for number in range(70)])
        assert await index.known("d1") == {each.id for each in made}
        await put(index, document(version=2), ["one"])
        assert len(await index.known("d1")) == 1
        await index.delete(["d1"])
        assert await index.known("d1") == frozenset()


async def test_a_blank_makes_another_author(weaviate_url: str) -> None:
    """Weaviate trims text that it filters by; a scope does not reach the author of nearly the same name."""
    async with opened(weaviate_url) as indexes:
        await indexes.create(MANIFEST)
        index = await indexes.open(MANIFEST.name)
        await put(index, document("d1", author="alpha"), ["word"], [vector(1)])
        await put(index, document("d2", author="alpha "), ["word"], [vector(1)])
        for author, id in (("alpha", "d1"), ("alpha ", "d2")):
            scope = Scope(authors=(author,))
            for hits in (
                await index.text("word", 5, scope, Filter()),
                await index.dense(vector(1), 5, scope, Filter()),
            ):
                assert [hit.chunk.document_id for hit in hits] == [id]
            assert (await index.facets(scope)).documents == 1


async def test_frequencies_of_a_large_index_are_estimated(weaviate_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare words are counted exactly, common ones from a sample of the chunks."""
    monkeypatch.setattr(index_weaviate, "COUNTED", 10)
    monkeypatch.setattr(index_weaviate, "ENOUGH", 2)
    monkeypatch.setattr(index_weaviate, "SAMPLED", 1)
    async with opened(weaviate_url) as indexes:
        await indexes.create(MANIFEST)
        index = await indexes.open(MANIFEST.name)
        for number in range(8):
            rare = " rare" if number == 3 else ""
            await put(
                index, document(f"d{number}"), [f"common {place}{rare if not place else ''}" for place in range(120)]
            )
        counts, total = await index.document_frequencies(["common", "rare", "absent"])
        assert total == 960
        assert counts["rare"] == 1
        assert counts["absent"] == 0
        assert 200 < counts["common"] < 2500


async def test_counts_are_kept_until_the_index_grows(weaviate_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word is counted once while there are as many chunks, whoever asks for it; what another process brings in is
    counted as soon as it is seen that there are more."""
    async with opened(weaviate_url) as indexes, opened(weaviate_url) as others:
        await indexes.create(MANIFEST)
        index, other = await indexes.open(MANIFEST.name), await others.open(MANIFEST.name)
        await put(index, document(), ["one word", "another"])
        counted: list[object] = []
        count = Reads.count

        async def counting(self: Reads, collection: str, filters: Filters | None = None) -> int:
            counted.append(filters)
            return await count(self, collection, filters)

        monkeypatch.setattr(Reads, "count", counting)
        assert await index.document_frequencies(["word", "another"]) == ({"word": 1, "another": 1}, 2)
        assert len(counted) == 3, "two words, and all"
        assert await index.document_frequencies(["another", "word"]) == ({"word": 1, "another": 1}, 2)
        assert counted[3:] == [None], "all, and no word"
        await put(other, document("d2"), ["word and another"])
        assert await index.document_frequencies(["word", "another"]) == ({"word": 2, "another": 2}, 3)


async def test_the_switch_is_one_object(weaviate_url: str) -> None:
    """With it written, and nothing more, the new generation is live and the old one retired; the next update ends what
    a crash left."""
    second = replace(MANIFEST, name="second", chunker="chunk/2")
    async with opened(weaviate_url) as indexes:
        await indexes.create(replace(MANIFEST, state="live"))
        await indexes.create(second)
        assert isinstance(indexes, index_weaviate.WeaviateIndexes)
        await indexes._put(index_weaviate._LIVE, {"name": "second", "state": "pointer"})
        expected = [("second", "live"), ("first", "retired")]
        assert [(each.name, each.state) for each in await indexes.manifests()] == expected
        await indexes.update(replace(second, state="live"))
        assert [(each.name, each.state) for each in await indexes.manifests()] == expected
        with pytest.raises(Conflict):
            await indexes.drop("second")
        await indexes.drop("first")


@pytest.mark.parametrize(
    "url",
    [
        "weaviate://:secret@localhost/lower",
        "weaviate://:secret@localhost:8080?colour=red",
        "weaviate://:secret@localhost:8080?consistency=SOME",
        "weaviate://:secret@localhost:http",
        "weaviate://:secret@:8080",
    ],
)
async def test_a_wrong_url_is_refused(url: str) -> None:
    """With what is wrong, and without the key."""
    with pytest.raises(Misconfigured) as raised:
        await open_adapter("index", url, Path())
    assert "TWIN_INDEX_URL" in raised.value.message
    assert "secret" not in raised.value.message


@pytest.mark.promise(2)
@pytest.mark.parametrize("how", ["publish", "delete"])
async def test_what_another_process_drops_is_forgotten(
    weaviate_url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search asks once for the versions that it remembers. Stopped at each step of dropping one, another process
    finds it whole or not at all, also where the one that drops it dies there and another does it again."""
    texts = [f"lasting {number}" for number in range(4)]
    async with opened(weaviate_url) as writing, opened(weaviate_url) as reading:
        await writing.create(MANIFEST)
        writer, reader = await writing.open(MANIFEST.name), await reading.open(MANIFEST.name)
        assert isinstance(writer, index_weaviate.WeaviateIndex)
        await put(writer, document(), texts)
        seen: list[list[str]] = []

        async def look() -> None:
            seen.append(sorted(found(await reader.text("lasting newer", 9, EVERYONE, Filter()))))

        await look()
        await look()
        writes = dies = 0
        real_delete, real_insert = writer._delete, writer._insert

        async def unless_dead(write: Callable[..., Awaitable[None]], *given: Any) -> None:
            nonlocal writes
            writes += 1
            await look()
            if writes == dies:
                raise Unavailable("The process is gone.")
            await write(*given)

        if how == "publish":
            made = chunks("d1", ["newer"])
            await writer.stage(document(version=2), made, {made[0].id: vector(1)})
        monkeypatch.setattr(writer, "_delete", partial(unless_dead, real_delete))
        monkeypatch.setattr(writer, "_insert", partial(unless_dead, real_insert))
        done = 0
        for death in (1, 3, 2, 3, 9):
            writes, dies = 0, death
            with contextlib.suppress(Unavailable):
                await (writer.delete(["d1"]) if how == "delete" else writer.publish(document(version=2), 1))
                done = writes
            await look()
        assert done == 3, "the versions, that they are dropped, their chunks"
        last = ["newer"] if how == "publish" else []
        assert seen[:2] == [texts, texts]
        assert seen[-1] == last
        assert {tuple(each) for each in seen} <= {tuple(texts), tuple(last)}


async def test_what_is_remembered_is_not_read_again(weaviate_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second search reads one object of the versions' collection, however many documents it finds; after a while it
    asks for all of them again."""
    async with opened(weaviate_url) as indexes:
        await indexes.create(MANIFEST)
        index = await indexes.open(MANIFEST.name)
        for number in range(5):
            await put(index, document(f"d{number}"), ["lasting"])
        read: list[int] = []
        real = Reads.find

        async def find(reads: Reads, collection: str, limit: int, *given: Any, **asked: Any) -> Any:
            if "Versions_" in collection:
                read.append(limit)
            return await real(reads, collection, limit, *given, **asked)

        monkeypatch.setattr(Reads, "find", find)

        async def asked() -> list[int]:
            read.clear()
            assert len(await index.text("lasting", 9, EVERYONE, Filter())) == 5
            return list(read)

        assert 5 in await asked()
        assert await asked() == [1]
        monkeypatch.setattr(index_weaviate, "UNSEEN", 0.0)
        assert await asked() == [1, 5]
