"""What every store of sources, blobs, keys and audit entries promises."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest

from services.domain import EVERYONE, AuditEntry, Key, Role, Scope, Source, SourceKind
from services.errors import NotFound
from services.ports import Audit, Blobs, Keys, Sources


async def test_sources(sources: Sources) -> None:
    """Sources come back as saved, by author within the scope, and those due in the order they are."""
    full = Source("a", "alpha", SourceKind.GIT, "https://a", {"ref": "main"}, 60.0, True, 1.0, 2.0, 30.0)
    plain = Source("b", "alpha", None, "https://b")
    due = Source("c", "beta", SourceKind.PAGE, "https://c", due_at=20.0)
    for source in (full, plain, due):
        await sources.save(source)
    assert await sources.get("a") == full
    assert await sources.get("b") == plain
    assert await sources.get("missing") is None
    assert await sources.named(["b", "missing", "a"]) == {"a": full, "b": plain}
    assert await sources.named([]) == {}
    assert [each.id for each in await sources.find(EVERYONE)] == ["a", "b", "c"]
    assert [each.id for each in await sources.find(EVERYONE, "beta")] == ["c"]
    assert await sources.find(Scope(authors=("beta",)), "alpha") == []
    assert await sources.find(Scope()) == []
    assert [each.id for each in await sources.due(30.0, 5)] == ["c", "a"]
    assert [each.id for each in await sources.due(30.0, 1)] == ["c"]
    assert await sources.due(19.0, 5) == []
    await sources.save(replace(due, due_at=None))
    assert [each.id for each in await sources.due(99.0, 5)] == ["a"]
    await sources.delete("a")
    await sources.delete("a")
    assert await sources.get("a") is None


async def test_a_source_is_changed_as_it_was_read(sources: Sources) -> None:
    """Where the stored record is still the one that was read, whatever it holds: else nothing is written, and a source
    that was deleted does not come back."""
    full = Source("a", "alpha", SourceKind.GIT, "https://a", {"ref": "main", "a.b": "é"}, 60.0, True, 1.5, 2.5, 30.1)
    plain = Source("b", "alpha", None, "https://b")
    for source in (full, plain):
        await sources.save(source)
        later = replace(source, kind=SourceKind.PAGE, options={"listing": "x"}, crawled_at=3.0, due_at=40.0)
        assert await sources.change(source, later)
        assert await sources.get(source.id) == later
        assert await sources.change(later, later)
        assert not await sources.change(source, source)
        assert await sources.get(source.id) == later
        for other in (
            replace(later, every=90.0),
            replace(later, due_at=None),
            replace(later, options={}),
            replace(later, kind=None),
            replace(later, watch=not later.watch),
        ):
            await sources.save(other)
            assert not await sources.change(later, source)
            assert await sources.get(source.id) == other
        await sources.delete(source.id)
        assert not await sources.change(other, later)
        assert await sources.get(source.id) is None


async def test_of_many_who_change_a_source_one_does(sources: Sources) -> None:
    """All saw the same record."""
    source = Source("a", "alpha", None, "https://a", every=60.0, due_at=1.0)
    await sources.save(source)
    changed = await asyncio.gather(*(sources.change(source, replace(source, due_at=2.0 + n)) for n in range(8)))
    assert sum(changed) == 1
    assert await sources.get("a") == replace(source, due_at=2.0 + changed.index(True))


async def test_blobs(blobs: Blobs) -> None:
    """Bytes come back as put, a second put replaces them, what is deleted or never was is NotFound."""
    data = bytes(range(256)) * 5000
    await blobs.put("k", b"")
    await blobs.put("k", data)
    await blobs.put("other", b"x")
    assert await blobs.get("k") == data
    await blobs.delete(["k", "missing"])
    with pytest.raises(NotFound):
        await blobs.get("k")
    assert await blobs.get("other") == b"x"
    await blobs.delete([])


async def test_blobs_from_a_file(blobs: Blobs) -> None:
    """The next bytes of a file, as many as were said, are the blob; with fewer in the file, the one before stays."""
    data = bytes(range(256)) * 12_000
    file = io.BytesIO(b"before" + data + b"after")
    file.seek(6)
    await blobs.put("k", b"old")
    await blobs.copy("k", file, len(data))
    assert await blobs.get("k") == data
    await blobs.copy("empty", file, 0)
    assert await blobs.get("empty") == b""
    with pytest.raises(ValueError, match="fewer bytes"):
        await blobs.copy("k", file, 100)
    assert await blobs.get("k") == data


async def test_keys(keys: Keys) -> None:
    """Keys are found by hash, keep their limits (no author at all is not every author), and are changed by saving."""
    full = Key("a", "h1", "Full", Role.WRITER, ("alpha", "beta"), 1.0, 2.0, 3.0, 4.0, 5)
    none = Key("b", "h2", "None", Role.READER, (), 2.0)
    everyone = Key("c", "h3", "Everyone", Role.ADMIN, None, 3.0)
    for key in (full, none, everyone):
        await keys.save(key)
    assert await keys.find() == [full, none, everyone]
    assert await keys.by_hash("h2") == none
    assert await keys.by_hash("missing") is None
    await keys.used("c", 100.0)
    await keys.used("c", 100.5)
    found = await keys.by_hash("h3")
    assert found is not None
    assert found.used_at in (100.0, 100.5)
    await keys.save(replace(none, revoked_at=9.0))
    assert await keys.by_hash("h2") == replace(none, revoked_at=9.0)


async def test_audit(audit: Audit) -> None:
    """Entries come newest first, page by time, and those of one moment in the order they were made."""
    entries = [AuditEntry(str(n), float(n // 2), "k", "key.create", "t", "d") for n in range(6)]
    for entry in entries:
        await audit.append(entry)
    assert await audit.find() == entries[::-1]
    assert await audit.find(limit=2) == [entries[5], entries[4]]
    assert await audit.find(before=1.0) == [entries[1], entries[0]]
