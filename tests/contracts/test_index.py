"""What every index promises; an adapter joins by one more entry in TECHNOLOGIES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.adapters import open_adapter
from services.domain import (
    EVERYONE,
    Chunk,
    EncoderIdentity,
    Filter,
    Hit,
    Manifest,
    Scope,
    Thresholds,
    chunk_id,
)
from services.errors import Conflict, InvalidInput, NotFound
from services.ports import Index, IndexedDocument, Indexes, Vectors

TECHNOLOGIES = ("sqlite", "weaviate")

DIMENSIONS = 8
MANIFEST = Manifest(
    name="first",
    encoder=EncoderIdentity("test://8", "1", "float32", "none", DIMENSIONS, 256),
    cleaner="clean/1",
    chunker="chunk/1",
    created_at=1.0,
)
NONE = Filter()


@pytest.fixture(params=TECHNOLOGIES)
def url(request: pytest.FixtureRequest) -> str:
    """Of an empty index."""
    if request.param == "sqlite":
        return "sqlite:///index.db"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
async def indexes(url: str, tmp_path: Path) -> AsyncIterator[Indexes]:
    opened: Indexes = await open_adapter("index", url, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def index(indexes: Indexes) -> Index:
    await indexes.create(MANIFEST)
    return await indexes.open(MANIFEST.name)


def vector(*values: float) -> Vectors:
    full = np.zeros(DIMENSIONS, dtype=np.float32)
    full[: len(values)] = values
    unit: Vectors = full / np.linalg.norm(full)
    return unit


def document(id: str = "d1", version: int = 1, author: str = "alpha", **changes: str) -> IndexedDocument:
    plain = IndexedDocument(
        id=id, version=version, author=author, url=f"https://example.org/{id}", title=f"About {id}", source_id="s1"
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def chunks(document_id: str, texts: Sequence[str], heading: str = "") -> list[Chunk]:
    made, at = [], 0
    for ordinal, text in enumerate(texts):
        embedded = f"{heading}\n{text}" if heading else text
        occurrence = texts[:ordinal].count(text)
        made.append(
            Chunk(chunk_id(document_id, embedded, occurrence), document_id, ordinal, at, at + len(text), text, heading)
        )
        at += len(text) + 1
    return made


async def put(index: Index, doc: IndexedDocument, texts: Sequence[str], vectors: Sequence[Vectors] = ()) -> list[Chunk]:
    made = chunks(doc.id, texts)
    known = await index.known(doc.id)
    given = list(vectors) or [vector(1, number) for number in range(len(made))]
    new = {chunk.id: each for chunk, each in zip(made, given, strict=True) if chunk.id not in known}
    await index.stage(doc, made, new)
    await index.publish(doc, len(made))
    return made


def found(hits: Sequence[Hit]) -> list[str]:
    return [hit.chunk.text for hit in hits]


async def test_publish_makes_a_version_searchable_and_carries_its_attributes(index: Index) -> None:
    """A published chunk is found by vector and by word, with its span and its document's attributes."""
    doc = document(language="en", published="2024-03-01", byline="Alpha")
    (chunk,) = await put(index, doc, ["The lighthouse keeper wrote letters"], [vector(0, 1)])
    (dense,) = await index.dense(vector(0, 1), 5, EVERYONE, NONE)
    (text,) = await index.text("lighthouse", 5, EVERYONE, NONE)
    assert dense.chunk == text.chunk == chunk
    assert dense.score == pytest.approx(1.0, abs=1e-5)
    assert text.score > 0
    assert (dense.author, dense.url, dense.title, dense.source_id, dense.version, dense.language, dense.published) == (
        "alpha", "https://example.org/d1", "About d1", "s1", 1, "en", "2024-03-01",
    )  # fmt: skip


@pytest.mark.promise(2)
async def test_staged_is_not_searchable(index: Index) -> None:
    """What is staged and not published is found by nothing, but known."""
    made = chunks("d1", ["harbour"])
    await index.stage(document(), made, {made[0].id: vector(1)})
    assert await index.dense(vector(1), 5, EVERYONE, NONE) == []
    assert await index.text("harbour", 5, EVERYONE, NONE) == []
    assert await index.neighbours({"d1": [0]}) == []
    assert await index.versions(["d1"]) == {}
    assert (await index.facets(EVERYONE)).documents == 0
    assert await index.known("d1") == {made[0].id}
    assert np.allclose((await index.vectors([made[0].id]))[made[0].id], vector(1), atol=1e-6)


@pytest.mark.promise(2)
async def test_a_new_version_takes_the_place_of_the_old(index: Index) -> None:
    """Old passages are gone, kept ones have their new spans and keep their vectors, new ones are there."""
    await put(index, document(), ["kept", "dropped"], [vector(1), vector(0, 1)])
    made = chunks("d1", ["added", "kept"])
    assert (await index.known("d1")) & {each.id for each in made} == {made[1].id}
    await index.stage(document(version=2), made[:1], {made[0].id: vector(0, 0, 1)})
    await index.stage(document(version=2), made[1:], {})
    assert set(found(await index.text("kept dropped added", 5, EVERYONE, NONE))) == {"kept", "dropped"}
    await index.publish(document(version=2), 2)
    hits = await index.dense(vector(1), 5, EVERYONE, NONE)
    assert {(hit.chunk.text, hit.chunk.start, hit.version) for hit in hits} == {("added", 0, 2), ("kept", 6, 2)}
    assert set(found(await index.text("kept dropped added", 5, EVERYONE, NONE))) == {"kept", "added"}
    assert await index.versions(["d1", "d2"]) == {"d1": 2}
    assert await index.known("d1") == {each.id for each in made}


async def test_publish_again_does_nothing_and_older_is_a_conflict(index: Index) -> None:
    """Publishing and staging are idempotent; a version older than the searchable one is refused."""
    made = await put(index, document(version=2), ["one"])
    await index.stage(document(version=2), made, {})
    await index.publish(document(version=2), 1)
    assert found(await index.text("one", 5, EVERYONE, NONE)) == ["one"]
    with pytest.raises(Conflict):
        await index.publish(document(version=1), 1)
    with pytest.raises(Conflict):
        await index.stage(document(version=1), made, {})


async def test_publish_refuses_a_version_that_is_not_whole(index: Index) -> None:
    """With fewer chunks staged than named, nothing changes."""
    await put(index, document(), ["before"])
    made = chunks("d1", ["after", "more"])
    await index.stage(document(version=2), made[:1], {made[0].id: vector(1)})
    with pytest.raises(Conflict):
        await index.publish(document(version=2), 2)
    assert found(await index.text("before after", 5, EVERYONE, NONE)) == ["before"]


async def test_an_abandoned_version_leaves_nothing(index: Index) -> None:
    """Chunks that only a version that was never published had go when a newer one is published."""
    made = chunks("d1", ["abandoned"])
    await index.stage(document(version=1), made, {made[0].id: vector(1)})
    newer = await put(index, document(version=2), ["newer"])
    assert await index.known("d1") == {newer[0].id}


async def test_a_newer_staged_version_survives_a_publish(index: Index) -> None:
    """Version 3, staged before 2 is published, needs no vector again, also of chunks that 2 does not have."""
    await put(index, document(), ["shared"], [vector(0, 1)])
    third = chunks("d1", ["shared", "third"])
    await index.stage(document(version=3), third, {third[1].id: vector(0, 0, 1)})
    await put(index, document(version=2), ["second"])
    assert {each.id for each in third} <= await index.known("d1")
    await index.publish(document(version=3), 2)
    assert found(await index.dense(vector(0, 1), 1, EVERYONE, NONE)) == ["shared"]


@pytest.mark.promise(2)
async def test_delete_takes_everything(index: Index) -> None:
    """A deleted document is found by nothing, staged chunks included, and may come again."""
    await put(index, document(), ["searchable"])
    made = chunks("d1", ["staged"])
    await index.stage(document(version=2), made, {made[0].id: vector(1)})
    await index.delete(["d1", "unknown"])
    assert await index.known("d1") == frozenset()
    assert await index.dense(vector(1), 5, EVERYONE, NONE) == []
    assert await index.text("searchable staged", 5, EVERYONE, NONE) == []
    await put(index, document(), ["again"])
    assert found(await index.text("again", 5, EVERYONE, NONE)) == ["again"]


async def test_an_empty_document_is_published(index: Index) -> None:
    """A version without chunks replaces the one before by nothing."""
    await put(index, document(), ["text"])
    await index.publish(document(version=2), 0)
    assert await index.versions(["d1"]) == {"d1": 2}
    assert await index.dense(vector(1), 5, EVERYONE, NONE) == []


@pytest.mark.promise(10)
async def test_scope_is_applied_inside_the_search(index: Index) -> None:
    """A caller finds only its authors' passages, however many nearer ones others have; an empty scope nothing."""
    for number in range(30):
        await put(index, document(f"b{number}", author="beta"), ["word"], [vector(1)])
    await put(index, document("a", author="alpha"), ["word"], [vector(0, 1)])
    for search in (
        index.dense(vector(1), 3, Scope(authors=("alpha",)), NONE),
        index.text("word", 3, Scope(authors=("alpha",)), NONE),
        index.dense(vector(1), 3, EVERYONE, Filter(authors=("alpha",))),
        index.text("word", 3, Scope(authors=("alpha", "gamma")), Filter(authors=("alpha", "beta"))),
    ):
        assert [hit.author for hit in await search] == ["alpha"]
    for search in (
        index.dense(vector(1), 3, Scope(), NONE),
        index.text("word", 3, Scope(), NONE),
        index.text("word", 3, Scope(authors=("alpha",)), Filter(authors=("beta",))),
    ):
        assert await search == []
    assert (await index.facets(Scope())).documents == 0
    assert (await index.facets(Scope(authors=("alpha",)))).authors == ("alpha",)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (Filter(sources=("s2",)), {"two"}),
        (Filter(sources=("https://www.example.com/feed",)), {"two"}),
        (Filter(sources=("example.com",)), {"two"}),
        (Filter(sources=("www.example.com", "s1")), {"one", "two", "three"}),
        (Filter(languages=("de",)), {"two"}),
        (Filter(since="2023-01-01"), {"two"}),
        (Filter(until="2022-05-04"), {"one"}),
        (Filter(since="2022-05-04", until="2024-02-29"), {"one", "two"}),
        (Filter(documents=("one", "three")), {"one", "three"}),
        (Filter(languages=("en",), documents=("two",)), set()),
    ],
)
async def test_filters(index: Index, filter: Filter, expected: set[str]) -> None:
    """Each filter narrows both searches; a document without a date is in no range of dates."""
    await put(index, document("one", language="en", published="2022-05-04"), ["word"])
    two = document("two", source_id="s2", source_address="https://www.example.com/feed", language="de")
    await put(index, replace(two, url="https://www.example.com/two", published="2024-02-29"), ["word"])
    await put(index, document("three"), ["word"])
    for hits in (
        await index.dense(vector(1), 10, EVERYONE, filter),
        await index.text("word", 10, EVERYONE, filter),
    ):
        assert {hit.chunk.document_id for hit in hits} == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("max tokens", "Set maxTokens to limit it"),
        ("maxTokens", "Set maxTokens to limit it"),
        ("retry_policy", "the field retry_policy is read"),
        ("policy", "the field retry_policy is read"),
        ("readFileSync", "call fs.readFileSync here"),
        ("file sync", "call fs.readFileSync here"),
        ("HTTP server", "an HTTPServer listens"),
        ("running", "He runs every morning"),
        ("Uber", "über alles"),
        ("首都", "東京は日本の首都です"),
        ("мир", "Миру мир"),
    ],
)
async def test_text_search_splits_identifiers_and_folds_words(index: Index, query: str, expected: str) -> None:
    """camelCase, snake_case and dots are split; case, accents and English endings don't matter; nor does the script."""
    texts = [
        "Set maxTokens to limit it", "the field retry_policy is read", "call fs.readFileSync here",
        "an HTTPServer listens", "He runs every morning", "über alles", "東京は日本の首都です", "Миру мир",
    ]  # fmt: skip
    await put(index, document(), texts)
    assert found(await index.text(query, 1, EVERYONE, NONE)) == [expected]


@pytest.mark.parametrize(
    "query",
    ["", "   ", '"', "a AND (b OR", "NEAR(x y)", "col:on *", "^-+", "\ud800", "\0", "🙂", "the of and", "x" * 5000],
)
async def test_any_text_is_a_query(index: Index, query: str) -> None:
    """No text breaks the text search, whatever the search engine's own syntax makes of it."""
    await put(index, document(), ["the plain text"])
    assert isinstance(await index.text(query, 5, EVERYONE, NONE), list)


async def test_any_text_is_stored(index: Index) -> None:
    """Texts come back as they were, control characters and rare scripts included."""
    texts = ["tab\tand\r\nlines", "nul\0inside", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🙂", "' \" ; DROP TABLE documents; --"]
    made = await put(index, document(title="'\"; --"), texts)
    assert [hit.chunk for hit in await index.neighbours({"d1": range(4)})] == made


async def test_best_first_and_no_more_than_k(index: Index) -> None:
    """Hits are ordered by score and limited to k."""
    await put(index, document(), ["a", "b", "c"], [vector(1, 2), vector(1), vector(1, 1)])
    hits = await index.dense(vector(1), 2, EVERYONE, NONE)
    assert found(hits) == ["b", "c"]
    assert [hit.score for hit in hits] == pytest.approx([1, 0.5**0.5], abs=1e-5)
    await put(index, document("d2"), ["rare rare rare", "rare and other words beside it"])
    assert found(await index.text("rare", 1, EVERYONE, NONE)) == ["rare rare rare"]
    await put(index, document("d3", author="beta"), ["d"], [vector(1, 3)])
    assert found(await index.dense(vector(1), 2, Scope(authors=("alpha", "beta")), NONE)) == ["b", "rare rare rare"]


async def test_the_best_of_many_is_found(index: Index) -> None:
    """However many worse ones there are, and the best one came last."""
    for number in range(3):
        await put(index, document(f"d{number}"), [f"some word among others {place}" for place in range(60)])
    await put(index, document("best"), ["word word word"])
    assert found(await index.text("word", 1, EVERYONE, NONE)) == ["word word word"]


async def test_neighbours_are_of_the_searchable_version(index: Index) -> None:
    """Neighbours come by their place in the searchable version; places that don't exist are left out."""
    await put(index, document(), ["a", "b", "c"])
    made = chunks("d1", ["x"])
    await index.stage(document(version=2), made, {made[0].id: vector(1)})
    assert found(await index.neighbours({"d1": [-1, 1, 2, 9]})) == ["b", "c"]
    assert await index.neighbours({"unknown": [0]}) == []


async def test_document_frequencies(index: Index) -> None:
    """In how many chunks a term stands, folded as the search folds it, and how many chunks there are."""
    await put(index, document(), ["Running shoes", "he runs", "call retry_policy", "other"])
    await put(index, document("d2"), ["runs"])
    await index.delete(["d2"])
    counts, total = await index.document_frequencies(["run", "runs", "retry_policy", "absent", "!"])
    assert counts == {"run": 2, "runs": 2, "retry_policy": 1, "absent": 0, "!": 0}
    assert total == 4


async def test_facets_tell_what_exists(index: Index) -> None:
    """Authors, sources with their hosts, languages, bylines and counts, of searchable documents."""
    doc = document(language="en", byline="Al Pha", source_address="https://example.org/feed.xml")
    await put(index, doc, ["a", "b"])
    await put(index, document("d2", author="beta", url="file:notes.md"), ["c"])
    facets = await index.facets(EVERYONE)
    assert facets.authors == ("alpha", "beta")
    assert set(facets.sources) == {"example.org", "https://example.org/feed.xml"}
    assert (facets.languages, facets.bylines, facets.documents, facets.chunks) == (("en",), ("Al Pha",), 2, 3)


async def test_a_renamed_document_is_found_by_its_new_title(index: Index) -> None:
    """The title is searched too, and a new version's title counts for the chunks that stayed."""
    await put(index, document(title="Lanterns"), ["same text"])
    assert found(await index.text("lanterns", 5, EVERYONE, NONE)) == ["same text"]
    await put(index, document(version=2, title="Beacons"), ["same text"])
    assert found(await index.text("beacons", 5, EVERYONE, NONE)) == ["same text"]
    assert await index.text("lanterns", 5, EVERYONE, NONE) == []


async def test_wrong_vectors_are_refused(index: Index) -> None:
    """Wrong dimensions, numbers that are none and a missing vector are InvalidInput, and nothing is written."""
    made = chunks("d1", ["a"])
    for wrong in ({made[0].id: np.zeros(3, np.float32)}, {made[0].id: np.full(DIMENSIONS, np.nan, np.float32)}, {}):
        with pytest.raises(InvalidInput):
            await index.stage(document(), made, wrong)
    assert await index.known("d1") == frozenset()
    with pytest.raises(InvalidInput):
        await index.dense(np.zeros(3, np.float32), 5, EVERYONE, NONE)


async def test_a_search_sees_one_version_whole(index: Index, url: str, tmp_path: Path) -> None:
    """While another opener publishes version after version, staged in parts, each search finds all of one: never none,
    never two, never a part, and never an older one than a search before it."""
    others: Indexes = await open_adapter("index", url, tmp_path)
    writer = await others.open(MANIFEST.name)
    size = 6

    async def publish(version: int) -> None:
        doc = document(version=version)
        made = chunks(doc.id, [f"word version {version} chunk {number // 2}" for number in range(size)])
        for part in (made[::2], made[1::2]):
            await writer.stage(doc, part, {each.id: vector(1, each.ordinal) for each in part})
        await writer.publish(doc, size)

    await publish(1)
    writing = asyncio.create_task(_each(publish, range(2, 20)))
    newest, searches = 1, 0
    try:
        while not writing.done():
            for hits in (
                await index.dense(vector(1), 50, EVERYONE, NONE),
                await index.text("word", 50, EVERYONE, NONE),
                await index.neighbours({"d1": range(size)}),
            ):
                assert len(hits) == size
                assert len({hit.chunk.ordinal for hit in hits}) == size
                (version,) = {hit.version for hit in hits}
                assert all(f"version {version} " in hit.chunk.text for hit in hits)
                assert version >= newest
                newest, searches = version, searches + 1
    finally:
        await writing
        await others.close()
    assert searches > 10
    assert (await index.versions(["d1"])) == {"d1": 19}


async def _each(do: Callable[[int], Awaitable[None]], numbers: Sequence[int]) -> None:
    for number in numbers:
        await do(number)


async def test_generations_stand_beside_each_other(indexes: Indexes) -> None:
    """Two generations hold their own; making one live retires the other; a retired one is dropped with all it holds."""
    second = replace(MANIFEST, name="second", chunker="chunk/2")
    await indexes.create(replace(MANIFEST, state="live"))
    await indexes.create(second)
    one, two = await indexes.open("first"), await indexes.open("second")
    await put(one, document(), ["in the first"])
    await put(two, document(), ["in the second"])
    assert found(await one.text("first second", 5, EVERYONE, NONE)) == ["in the first"]
    assert [(each.name, each.state) for each in await indexes.manifests()] == [
        ("first", "live"),
        ("second", "building"),
    ]
    with pytest.raises(Conflict):
        await indexes.drop("first")
    live = replace(second, state="live", thresholds=Thresholds(0.4, 0.6, "test"))
    await indexes.update(live)
    assert await indexes.manifests() == [live, replace(MANIFEST, state="retired")]
    with pytest.raises(Conflict):
        await indexes.update(replace(MANIFEST, state="live"))
    assert await indexes.manifests() == [live, replace(MANIFEST, state="retired")]
    await indexes.drop("first")
    await indexes.drop("first")
    assert await indexes.manifests() == [live]
    with pytest.raises(NotFound):
        await indexes.open("first")
    with pytest.raises(NotFound):
        await one.dense(vector(1), 1, EVERYONE, NONE)
    assert found(await two.text("second", 5, EVERYONE, NONE)) == ["in the second"]


async def test_create_again(indexes: Indexes) -> None:
    """The same manifest again does nothing; the name with another fingerprint is a conflict."""
    await indexes.create(MANIFEST)
    await put(await indexes.open("first"), document(), ["kept"])
    await indexes.create(MANIFEST)
    assert found(await (await indexes.open("first")).text("kept", 5, EVERYONE, NONE)) == ["kept"]
    with pytest.raises(Conflict):
        await indexes.create(replace(MANIFEST, chunker="chunk/2"))
    with pytest.raises(NotFound):
        await indexes.update(replace(MANIFEST, name="unknown"))


async def test_it_is_still_there_after_closing(url: str, tmp_path: Path) -> None:
    """What was published is found after the adapter was closed and opened again."""
    indexes: Indexes = await open_adapter("index", url, tmp_path)
    await indexes.create(MANIFEST)
    await put(await indexes.open("first"), document(), ["lasting"])
    await indexes.close()
    await indexes.close()
    indexes = await open_adapter("index", url, tmp_path)
    assert found(await (await indexes.open("first")).text("lasting", 5, EVERYONE, NONE)) == ["lasting"]
    await indexes.close()
