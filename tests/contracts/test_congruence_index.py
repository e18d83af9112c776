"""The index in SQLite and the index in Weaviate answer alike: the same documents and the same queries to both.

Equal are the hits of a search by vector, with scores within TOLERANCE and in any order among equal scores; the whole
set of hits of a search by words, with the exceptions named there; and all that is counted. Scores of words differ:
Weaviate's statistics are of each word in one field, SQLite's of phrases and four fields. So of two hits that are
clearly apart for the one, the other is to agree on the better one nearly always.
"""

from __future__ import annotations

import asyncio
import re
import string
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.adapters import open_adapter, words
from services.domain import EVERYONE, Chunk, EncoderIdentity, Filter, Hit, Manifest, Scope, chunk_id
from services.ports import Index, IndexedDocument, Indexes, Vectors
from tests.servers.fixtures import drop_collections, weaviate_of_its_own

DIMENSIONS = 24
DOCUMENTS = 60
QUERIES = 120
"""By vector, and as many by words: five examples make 1,200."""
TOLERANCE = 1e-4
"""Of a cosine: float32 in both, summed in another order."""
APART = 0.2
"""Share of the better score by which the worse one of two hits is clearly worse."""
AGREEMENT = 0.97
"""Of the pairs that SQLite has clearly apart, those that Weaviate has in the same order."""

AUTHORS = ("alpha", "beta", "gamma", " alpha")
"""The last one is another author than the first."""
SOURCES = ("https://www.example.com/feed", "https://example.net/sitemap.xml", "")
PLAIN = [
    first + middle + last
    for first in ("lo", "ka", "ti", "mu", "ren", "sol")
    for middle in ("va", "de", "ri", "nu", "pol")
    for last in ("ber", "dan", "fis", "gor", "mel")
]
ODD = ["Über", "naïve", "don't", "read_only", "e.g.", "a/b-test", "v2.1", "東京は首都です", "京都", "Миру", "C++", "🙂"]
STOPS = ["the", "of", "and", "is"]
CAMEL = ["maxTokens", "HTTPServer", "readFileSync"]


class Corpus:
    """Documents drawn at random, in versions, and queries for them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.vectors: dict[str, Vectors] = {}

    def words(self, count: int) -> str:
        of = self.random.choices((PLAIN, ODD, STOPS, CAMEL), (70, 12, 15, 3), k=count)
        return " ".join(self.random.choice(each) for each in of)

    def vector(self) -> Vectors:
        row = np.array([self.random.gauss(0, 1) for _ in range(DIMENSIONS)], dtype=np.float32)
        unit: Vectors = row / np.linalg.norm(row)
        return unit

    def document(self, number: int, version: int) -> IndexedDocument:
        draw = self.random.choice
        host = draw(("example.org", "www.example.com", "example.net"))
        return IndexedDocument(
            id=f"d{number}",
            version=version,
            author=AUTHORS[number % len(AUTHORS)],
            url=draw((f"https://{host}/{number}", f"file:{number}.md")),
            title=self.words(2),
            source_id=draw(("s1", "s2")),
            source_address=draw(SOURCES),
            byline=draw(("", "By Line", "Line By")),
            language=draw((None, "en", "de")),
            published=draw((None, "2021-02-03", "2022-11-30", "2023-05-01", "2024-02")),
        )

    def chunks(self, id: str) -> list[Chunk]:
        made: list[Chunk] = []
        texts: list[str] = []
        for ordinal in range(self.random.randrange(1, 8)):
            heading = self.random.choice(("", self.words(2)))
            text = self.words(self.random.randrange(3, 40))
            texts.append(f"{heading}\n{text}")
            name = chunk_id(id, texts[-1], texts.count(texts[-1]) - 1)
            made.append(Chunk(name, id, ordinal, 100 * ordinal, 100 * ordinal + len(text), text, heading, tokens=9))
            self.vectors.setdefault(name, self.vector())
        return made

    def narrowed(self) -> tuple[Scope, Filter]:
        draw = self.random.choice
        scope = draw((EVERYONE, EVERYONE, Scope(authors=tuple(self.random.sample(AUTHORS, 2))), Scope()))
        filter = Filter()
        if self.random.random() < 0.3:
            filter = replace(filter, authors=tuple(self.random.sample(AUTHORS, self.random.randrange(1, 3))))
        if self.random.random() < 0.2:
            filter = replace(filter, sources=(draw(("s1", "example.com", "www.example.com", *SOURCES[:2], "nowhere")),))
        if self.random.random() < 0.2:
            filter = replace(filter, languages=draw((("en",), ("de", "en"), ("fr",))))
        if self.random.random() < 0.2:
            filter = replace(filter, since=draw(("2021-02-03", "2022-01-01", "2024-02", "2030-01-01")))
        if self.random.random() < 0.2:
            filter = replace(filter, until=draw(("2021-02-03", "2022-12-31", "2024-02", "2001-01-01")))
        if self.random.random() < 0.1:
            filter = replace(filter, documents=tuple(f"d{self.random.randrange(DOCUMENTS)}" for _ in range(8)))
        return scope, filter


async def fill(
    index: Index, work: Sequence[tuple[str, IndexedDocument, list[Chunk]]], vectors: dict[str, Vectors]
) -> None:
    for what, document, chunks in work:
        if what == "delete":
            await index.delete([document.id])
            continue
        known = await index.known(document.id)
        new = {each.id: vectors[each.id] for each in chunks if each.id not in known}
        await index.stage(document, chunks, new)
        if what == "publish":
            await index.publish(document, len(chunks))


def history(corpus: Corpus) -> list[tuple[str, IndexedDocument, list[Chunk]]]:
    """Documents published, changed (with some chunks kept), staged only, and deleted."""
    work = []
    for number in range(DOCUMENTS):
        document, chunks = corpus.document(number, 1), corpus.chunks(f"d{number}")
        work.append(("publish", document, chunks))
        fate = corpus.random.random()
        if fate < 0.3:
            kept = corpus.random.sample(chunks, len(chunks) // 2)
            changed = {each.id: each for each in [*kept, *corpus.chunks(document.id)]}
            moved = [replace(each, ordinal=place, start=each.start + 7) for place, each in enumerate(changed.values())]
            work.append((corpus.random.choice(("publish", "stage")), corpus.document(number, 2), moved))
        elif fate < 0.4:
            work.append(("delete", document, []))
    return work


@asynccontextmanager
async def both(server: str, data_dir: Path) -> AsyncIterator[tuple[Index, Index]]:
    url, prefix = weaviate_of_its_own(server)
    identity = EncoderIdentity("test://24", "1", "float32", "none", DIMENSIONS, 256)
    opened: list[Indexes] = []
    try:
        for each in (f"sqlite:///{data_dir / prefix}.db", url):
            opened.append(await open_adapter("index", each, data_dir))
            await opened[-1].create(Manifest("one", identity, "clean/1", "chunk/1", "live"))
        yield await opened[0].open("one"), await opened[1].open("one")
    finally:
        for indexes in opened:
            await indexes.close()
        drop_collections(server, prefix)


def plain(hit: Hit) -> Hit:
    return replace(hit, score=0.0)


def same_by_vector(one: Sequence[Hit], other: Sequence[Hit]) -> None:
    assert len(one) == len(other)
    assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=TOLERANCE)
    if one:
        # At the end of the list either of two equal ones may stand.
        clear = one[-1].score + 2 * TOLERANCE
        by_id = {hit.chunk.id: plain(hit) for hit in other}
        assert all(by_id[hit.chunk.id] == plain(hit) for hit in one if hit.score > clear)


def agreeing(one: Sequence[Hit], other: Sequence[Hit]) -> tuple[int, int]:
    """(pairs that the first has clearly apart, those of them that the other has in the same order)."""
    place = {hit.chunk.id: hit.score for hit in other}
    pairs = [
        place[better.chunk.id] > place[worse.chunk.id]
        for at, better in enumerate(one[:40])
        for worse in one[at + 1 : 40]
        if worse.score < better.score * (1 - APART)
    ]
    return len(pairs), sum(pairs)


async def compare(server: str, data_dir: Path, seed: int) -> None:
    corpus = Corpus(Random(seed))
    work = history(corpus)
    apart = agreed = 0
    async with both(server, data_dir) as (sqlite, other):
        for index in (sqlite, other):
            await fill(index, work, corpus.vectors)
        for _ in range(QUERIES):
            scope, filter = corpus.narrowed()
            k = corpus.random.choice((1, 5, 20, 1000))
            vector = corpus.vector()
            same_by_vector(*[await index.dense(vector, k, scope, filter) for index in (sqlite, other)])
        for _ in range(QUERIES):
            scope, filter = corpus.narrowed()
            query = corpus.words(corpus.random.randrange(1, 8))
            query = corpus.random.choice((query, query, query.upper(), query.translate(str.maketrans("", "", " "))[:9]))
            one, two = [await index.text(query, 4000, scope, filter) for index in (sqlite, other)]
            found, others = ({hit.chunk.id: plain(hit) for hit in hits} for hits in (one, two))
            few = corpus.random.choice((1, 3, 8))
            for index, all_of_them in ((sqlite, one), (other, two)):
                # The best ones are the same, however few are asked for.
                best = await index.text(query, few, scope, filter)
                assert [hit.score for hit in best] == pytest.approx([hit.score for hit in all_of_them[:few]], rel=1e-5)
            if words.parts(query):
                # Of an identifier's humps SQLite finds all where they stand in a row, also as words of prose; Weaviate
                # finds each two neighbours, but in identifiers alone. The identifier itself both find.
                named = set(words.identifiers(query))
                for id in found.keys() ^ others.keys():
                    hit = found.get(id) or others[id]
                    assert not named & set(re.findall(r"\w+", f"{hit.title} {hit.chunk.embedded_text}"))
            else:
                assert found == others, query
                counted = agreeing(one, two)
                apart, agreed = apart + counted[0], agreed + counted[1]
        assert agreed >= AGREEMENT * apart > 0, f"{agreed} of {apart}"

        terms = [*PLAIN, *ODD, *STOPS, *string.ascii_lowercase]
        ids = [f"d{number}" for number in range(DOCUMENTS)]
        for scope in (EVERYONE, Scope(authors=("alpha",)), Scope(authors=(" alpha", "beta")), Scope()):
            assert await sqlite.facets(scope) == await other.facets(scope)
        assert await sqlite.document_frequencies(terms) == await other.document_frequencies(terms)
        assert await sqlite.versions(ids) == await other.versions(ids)
        for id in ids:
            assert await sqlite.known(id) == await other.known(id)
            assert await sqlite.neighbours({id: range(-1, 9)}) == await other.neighbours({id: range(-1, 9)})
        first, second = [await index.vectors(list(corpus.vectors)) for index in (sqlite, other)]
        assert first.keys() == second.keys()
        assert all(np.allclose(first[id], second[id], atol=1e-6) for id in first)


@pytest.mark.timeout(300)
# A seed has nothing to shrink.
@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_the_same_queries_find_the_same(
    weaviate_server: str, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """1,200 random queries over random histories of documents, scopes and filters: equal, as said above."""
    asyncio.run(compare(weaviate_server, tmp_path_factory.mktemp("index"), seed))
