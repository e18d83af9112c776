"""What every store of documents promises."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.domain import EVERYONE, Author, Document, Scope, SourceKind, document_id
from services.errors import Conflict, InvalidInput, NotFound
from services.ports import DocumentQuery, Documents

FULL = Document(
    id=document_id("alpha", "https://example.org/full"),
    author="alpha",
    url="https://example.org/full",
    source_id="s1",
    kind=SourceKind.FEED,
    title="All fields, ünïcode",
    byline="Alpha",
    language="en",
    published="2024-01-02",
    modified="2024-02-03",
    media_type="text/html",
    version=3,
    indexed_version=2,
    fingerprint="f",
    raw_hash="r",
    text_hash="t",
    etag='"e"',
    last_modified="Mon",
    duplicate_of="other",
    characters=10,
    chunks=2,
    failure="why",
    deleted_at=5.5,
    created_at=1.25,
    updated_at=2.5,
)


def document(name: str, author: str = "alpha", **changes: Any) -> Document:
    url = f"https://example.org/{name}"
    plain = Document(document_id(author, url), author, url, "s1", SourceKind.PAGE, name)
    return replace(plain, **changes)


async def test_every_field_comes_back(documents: Documents) -> None:
    """A record is read as it was written, with the next revision."""
    saved = await documents.save(FULL)
    assert saved == replace(FULL, revision=1)
    assert await documents.get([FULL.id, "missing"]) == {FULL.id: saved}
    plain = await documents.save(document("plain"))
    assert (await documents.get([plain.id]))[plain.id] == plain
    assert await documents.get([]) == {}


async def test_write_names_the_revision_it_read(documents: Documents) -> None:
    """A stale revision, a second creation and a change of what is not there are Conflict, and write nothing."""
    first = await documents.save(document("a"))
    second = await documents.save(replace(first, title="second"))
    with pytest.raises(Conflict):
        await documents.save(replace(first, title="stale"), text="stale", aliases=["https://stale.example"])
    with pytest.raises(Conflict):
        await documents.save(document("a"))
    with pytest.raises(Conflict):
        await documents.save(replace(document("b"), revision=4))
    assert await documents.get([first.id]) == {first.id: second}
    assert await documents.resolve("alpha", ["https://stale.example"]) == {}
    with pytest.raises(NotFound):
        await documents.text(first.id, 1)


async def test_one_of_many_writers_wins(documents: Documents) -> None:
    """Of concurrent writes from one revision exactly one is written."""
    first = await documents.save(document("a"))
    results = await asyncio.gather(
        *(documents.save(replace(first, title=str(n))) for n in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, Document) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7


@pytest.mark.promise(4)
async def test_texts_of_versions(documents: Documents) -> None:
    """Promise 4: every version's text is kept as it was, whatever came after; unknown ones are NotFound."""
    texts = {version: f"Text {version}\x00 \U0001f600 \udcff" * 100 for version in range(1, 8)}
    now = await documents.save(document("a"), text=texts[1], cleaner="c1")
    for version in range(2, 8):
        indexed = 4 if version >= 4 else None
        now = await documents.save(
            replace(now, version=version, indexed_version=indexed), text=texts[version], cleaner=f"c{version}"
        )
    for version in texts:
        assert await documents.text(now.id, version) == (texts[version], f"c{version}")
    with pytest.raises(NotFound):
        await documents.text(now.id, 8)
    with pytest.raises(NotFound):
        await documents.text("missing", 1)


@pytest.mark.promise(3)
async def test_addresses_lead_to_documents(documents: Documents) -> None:
    """Canonical addresses and aliases are found for their own author only; the newest claim on an alias holds."""
    a = await documents.save(document("a"), aliases=["https://example.org/old", "https://example.org/older"])
    b = await documents.save(document("b"))
    found = await documents.resolve("alpha", [a.url, "https://example.org/old", b.url, "https://example.org/none"])
    assert found == {a.url: a.id, "https://example.org/old": a.id, b.url: b.id}
    await documents.save(b, aliases=["https://example.org/old"])
    assert await documents.resolve("alpha", ["https://example.org/old"]) == {"https://example.org/old": b.id}
    assert await documents.resolve("beta", [a.url]) == {}
    assert await documents.resolve("alpha", []) == {}


async def test_find_filters_and_pages(documents: Documents) -> None:
    """Newest change first, by author, source, state and text, within the scope; pages neither miss nor repeat."""
    states: dict[str, dict[str, Any]] = {
        "queued": {},
        "indexed": {"indexed_version": 1},
        "updating": {"version": 2, "indexed_version": 1},
        "failed": {"failure": "why"},
        "duplicate": {"duplicate_of": "x"},
        "deleted": {"deleted_at": 3.0, "indexed_version": 1},
    }
    for number, (name, changes) in enumerate(states.items()):
        await documents.save(document(name, updated_at=float(number), **changes))
    await documents.save(document("100%_sure", "beta", updated_at=9.0, source_id="s2"))

    async def names(**query: object) -> list[str]:
        page = await documents.find(DocumentQuery(**{"scope": EVERYONE, **query}))  # type: ignore[arg-type]
        return [found.title for found in page.documents]

    assert await names() == ["100%_sure", "duplicate", "failed", "updating", "indexed", "queued"]
    for state in states:
        found = (await documents.find(DocumentQuery(scope=EVERYONE, author="alpha", state=state))).documents
        assert [each.title for each in found] == [state]
        assert found[0].state == state
    assert await names(author="beta") == await names(source_id="s2") == await names(text="100%_S") == ["100%_sure"]
    assert await names(text="0%s") == []
    assert await names(scope=Scope()) == []
    assert await names(scope=Scope(authors=("beta",))) == ["100%_sure"]
    assert await names(scope=Scope(authors=("beta",)), author="alpha") == []

    for number in range(7):
        await documents.save(document(f"same time {number}", "gamma", updated_at=1.0))
    seen: list[str] = []
    cursor = ""
    while True:
        page = await documents.find(DocumentQuery(scope=EVERYONE, author="gamma", limit=3, cursor=cursor))
        seen.extend(each.title for each in page.documents)
        cursor = page.next
        if not cursor:
            break
    assert sorted(seen) == [f"same time {number}" for number in range(7)]
    with pytest.raises(InvalidInput):
        await documents.find(DocumentQuery(scope=EVERYONE, cursor="nonsense"))


async def test_unindexed_is_what_there_is_to_do(documents: Documents) -> None:
    """Not indexed, indexed in another version or under another fingerprint, or deleted and still indexed; by id."""
    wanted = [
        await documents.save(document("new")),
        await documents.save(document("newer", version=2, indexed_version=1, fingerprint="now")),
        await documents.save(document("encoder before", indexed_version=1, fingerprint="before")),
        await documents.save(document("encoder after", indexed_version=1, fingerprint="z")),
        await documents.save(document("deleted", indexed_version=1, fingerprint="now", deleted_at=1.0)),
    ]
    await documents.save(document("indexed", indexed_version=1, fingerprint="now"))
    await documents.save(document("failed", failure="why"))
    await documents.save(document("duplicate", duplicate_of="x"))
    await documents.save(document("gone", deleted_at=1.0))
    expected = sorted(wanted, key=lambda each: each.id)
    assert await documents.unindexed("now", 10) == expected
    assert await documents.unindexed("now", 2) == expected[:2]
    assert await documents.unindexed("now", 10, after=expected[1].id) == expected[2:]


async def test_sketches_find_near_duplicates(documents: Documents) -> None:
    """Bands are the author's own, are replaced whole, and a deleted document's are not found."""
    a = await documents.save(document("a"))
    b = await documents.save(document("b", "beta"))
    await documents.sketch(a.id, "alpha", ["0:x", "1:y"])
    await documents.sketch(b.id, "beta", ["0:x"])
    assert sorted(await documents.near("alpha", ["0:x", "1:y", "2:z"])) == [(a.id, "0:x"), (a.id, "1:y")]
    await documents.sketch(a.id, "alpha", ["1:w"])
    assert await documents.near("alpha", ["0:x", "1:y"]) == []
    assert await documents.near("alpha", ["1:w"]) == [(a.id, "1:w")]
    await documents.save(replace(a, deleted_at=1.0))
    assert await documents.near("alpha", ["1:w"]) == []
    await documents.sketch(b.id, "beta", [])
    assert await documents.near("beta", ["0:x"]) == []
    assert await documents.near("beta", []) == []


async def test_authors_count_what_is_theirs(documents: Documents) -> None:
    """Tombstones count for nothing; only authors in scope are shown."""
    await documents.save(document("a", indexed_version=1))
    await documents.save(document("b", source_id="s2"))
    await documents.save(document("c", deleted_at=1.0))
    await documents.save(document("d", "beta", deleted_at=1.0))
    await documents.save(document("e", "gamma"))
    assert await documents.authors(EVERYONE) == [Author("alpha", 2, 1), Author("gamma", 1, 0)]
    assert await documents.authors(Scope(authors=("gamma",))) == [Author("gamma", 1, 0)]
    assert await documents.authors(Scope()) == []


async def test_purge_takes_texts_and_leaves_the_tombstone(documents: Documents) -> None:
    """Texts and sketch go; the record and its addresses stay. A living document is not touched."""
    a = await documents.save(document("a"), text="secret", aliases=["https://example.org/old"])
    await documents.sketch(a.id, "alpha", ["0:x"])
    await documents.purge(a.id)
    assert await documents.text(a.id, 1) == ("secret", "")
    a = await documents.save(replace(a, deleted_at=1.0))
    await documents.purge(a.id)
    with pytest.raises(NotFound):
        await documents.text(a.id, 1)
    assert await documents.get([a.id]) == {a.id: a}
    assert await documents.resolve("alpha", ["https://example.org/old"]) == {"https://example.org/old": a.id}
    await documents.save(replace(a, deleted_at=None))
    assert await documents.near("alpha", ["0:x"]) == []
