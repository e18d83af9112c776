"""After any history of staging, publishing and deleting, an index equals a plain Python model of it (promise 2)."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.adapters import open_adapter
from services.domain import EVERYONE, Chunk, EncoderIdentity, Filter, Manifest, Scope, chunk_id
from services.errors import Conflict
from services.ports import IndexedDocument, Vectors
from tests.servers.fixtures import drop_collections, weaviate_of_its_own

T = TypeVar("T")
DIMENSIONS = 8
WORDS = ["amber", "basalt", "cedar", "dune", "ember", "fjord"]
AUTHORS = {"d1": "alpha", "d2": "alpha", "d3": "beta", "d4": "gamma"}

ids = st.sampled_from(sorted(AUTHORS))
texts = st.lists(st.sampled_from(WORDS), max_size=12)


def vector(word: str) -> Vectors:
    row = np.full(DIMENSIONS, 0.1, dtype=np.float32)
    row[WORDS.index(word)] = 1
    unit: Vectors = row / np.linalg.norm(row)
    return unit


def chunks(id: str, words: list[str]) -> list[Chunk]:
    return [
        Chunk(chunk_id(id, word, words[:place].count(word)), id, place, 10 * place, 10 * place + len(word), word)
        for place, word in enumerate(words)
    ]


@dataclass
class Modelled:
    """One document: the searchable version, and what is staged, by version."""

    version: int | None = None
    words: list[str] = field(default_factory=list)
    staged: dict[int, list[str]] = field(default_factory=dict)


class IndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, Modelled] = {}
        self.newest = 0
        self.address = self.url()
        self.open()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def url(self) -> str:
        return "sqlite:///index.db"

    def open(self) -> None:
        self.indexes = self.run(open_adapter("index", self.address, self.directory))
        identity = EncoderIdentity("test://8", "1", "float32", "none", DIMENSIONS, 256)
        self.run(self.indexes.create(Manifest("one", identity, "clean/1", "chunk/1", "live")))
        self.index = self.run(self.indexes.open("one"))

    def document(self, id: str, version: int) -> IndexedDocument:
        return IndexedDocument(id, version, AUTHORS[id], f"https://{id}.example.org/", f"Title {id}", f"s-{id}")

    @rule(id=ids, words=texts, parts=st.integers(1, 3))
    def stage(self, id: str, words: list[str], parts: int) -> None:
        """A new version, in several calls, with vectors only for what is not known."""
        self.newest += 1
        made = chunks(id, words)
        for part in range(parts):
            some = made[part::parts]
            known = self.run(self.index.known(id))
            new = {each.id: vector(each.text) for each in some if each.id not in known}
            self.run(self.index.stage(self.document(id, self.newest), some, new))
        self.model.setdefault(id, Modelled()).staged[self.newest] = words

    @precondition(lambda self: any(each.staged for each in self.model.values()))
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        """Any staged version; an older one than the searchable is refused."""
        id = data.draw(st.sampled_from(sorted(id for id, each in self.model.items() if each.staged)))
        mine = self.model[id]
        version = data.draw(st.sampled_from(sorted(mine.staged)))
        words = mine.staged[version]
        self.run(self.index.publish(self.document(id, version), len(words)))
        mine.version, mine.words = version, words
        mine.staged = {each: staged for each, staged in mine.staged.items() if each > version}

    @precondition(lambda self: any(each.version for each in self.model.values()))
    @rule(data=st.data())
    def publish_again_or_late(self, data: st.DataObject) -> None:
        """The same version again does nothing; an older one is a Conflict and changes nothing."""
        id = data.draw(st.sampled_from(sorted(id for id, each in self.model.items() if each.version)))
        version = self.model[id].version
        assert version is not None
        self.run(self.index.publish(self.document(id, version), len(self.model[id].words)))
        try:
            self.run(self.index.publish(self.document(id, version - 1), 0))
        except Conflict:
            return
        raise AssertionError("an older version was published")

    @precondition(lambda self: any(words for each in self.model.values() for words in each.staged.values()))
    @rule(data=st.data())
    def publish_too_soon(self, data: st.DataObject) -> None:
        """With a chunk fewer staged than named nothing changes."""
        some = [(id, v) for id, each in self.model.items() for v, words in each.staged.items() if words]
        id, version = data.draw(st.sampled_from(sorted(some)))
        try:
            self.run(self.index.publish(self.document(id, version), len(self.model[id].staged[version]) + 1))
        except Conflict:
            return
        raise AssertionError("a part of a version was published")

    @rule(some=st.lists(ids, max_size=2))
    def delete(self, some: list[str]) -> None:
        self.run(self.index.delete(some))
        for id in some:
            self.model.pop(id, None)

    @rule()
    def reopen(self) -> None:
        """As after a restart."""
        self.run(self.indexes.close())
        self.open()

    def expected(self, scope: Scope) -> list[tuple[str, int, int, str]]:
        return sorted(
            (id, each.version, place, word)
            for id, each in self.model.items()
            if each.version is not None and scope.allows(AUTHORS[id])
            for place, word in enumerate(each.words)
        )

    @invariant()
    def searches_see_exactly_the_searchable_versions(self) -> None:
        """Never dark, never two versions, nothing staged, nothing deleted, nothing of another author; once each."""
        for scope in (EVERYONE, Scope(authors=("alpha",)), Scope(authors=("beta", "gamma")), Scope()):
            expected = self.expected(scope)
            near = self.run(self.index.dense(vector("amber"), 1000, scope, Filter()))
            worded = self.run(self.index.text(" ".join(WORDS), 1000, scope, Filter()))
            for hits in (near, worded):
                found = [(hit.chunk.document_id, hit.version, hit.chunk.ordinal, hit.chunk.text) for hit in hits]
                assert sorted(found) == expected
            for hit in near:
                assert abs(hit.score - float(vector("amber") @ vector(hit.chunk.text))) < 1e-4
                assert hit.chunk.start == 10 * hit.chunk.ordinal

    @invariant()
    def the_rest_of_the_port_agrees(self) -> None:
        live = {id: each for id, each in self.model.items() if each.version is not None}
        assert self.run(self.index.versions(sorted(AUTHORS))) == {id: each.version for id, each in live.items()}
        facets = self.run(self.index.facets(EVERYONE))
        assert facets.documents == len(live)
        assert facets.chunks == sum(len(each.words) for each in live.values())
        counts, total = self.run(self.index.document_frequencies(WORDS))
        assert total == facets.chunks
        assert counts == {word: sum(each.words.count(word) for each in live.values()) for word in WORDS}
        for id in AUTHORS:
            each = self.model.get(id, Modelled())
            held = {chunk.id for words in (each.words, *each.staged.values()) for chunk in chunks(id, words)}
            assert self.run(self.index.known(id)) == held
            assert set(self.run(self.index.vectors(sorted(held)))) == held

    def teardown(self) -> None:
        self.run(self.indexes.close())
        self.loop.close()
        shutil.rmtree(self.directory)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


class WeaviateMachine(IndexMachine):
    server = ""

    def url(self) -> str:
        found, self.prefix = weaviate_of_its_own(self.server)
        return found

    def teardown(self) -> None:
        super().teardown()
        drop_collections(self.server, self.prefix)


@pytest.fixture(scope="class")
def on_weaviate(weaviate_server: str) -> None:
    WeaviateMachine.server = weaviate_server


TestWeaviate = pytest.mark.usefixtures("on_weaviate")(WeaviateMachine.TestCase)
# Each step is some hundred calls.
TestWeaviate.settings = settings(
    max_examples=3, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
