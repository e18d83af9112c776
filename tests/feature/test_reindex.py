"""Promise 5: a second index is made beside the first while writes go on, and then takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.domain import EVERYONE, Job, JobKind, JobState
from services.errors import Cancelled
from services.feature import featurize, generations
from services.feature.embed import Work, bring_in
from services.feature.withdraw import take_away
from services.ports import DocumentQuery, Encoder
from tests.feature.test_featurize import TEXT
from tests.feature.world import Counting, Fuse, Killed, World, open_world

ALL = DocumentQuery(scope=EVERYONE, limit=100)


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose index was made with hashing://32 and whose setting is hashing://64."""
    first = await open_world(tmp_path)
    for number in range(6):
        await first.bring(f"d{number}", f"{TEXT}\n\nDocument {number}.")
    await first.close()
    made = await open_world(tmp_path, Counting(64))
    yield made
    await made.close()


async def run(world: World, later: float = 0.0) -> Job:
    job = await world.reindexer.request()
    for lease in await world.claim(JobKind.REINDEX, later):
        await world.reindexer.handle([lease])
        await lease.done()
    found = await world.jobs.get(job.id)
    assert found is not None
    return found


async def documents(world: World) -> list[str]:
    return sorted({each.chunk.document_id for each in await world.everything()})


@pytest.mark.promise(5)
async def test_the_manifest_decides_until_a_reindex(other: World) -> None:
    """The setting is only the target: search and new documents go on with the encoder that the index names."""
    live, *rest = await other.generations.current()
    assert (live.encoder.identity.url, rest) == ("hashing://32", [])
    await other.bring("new", TEXT)
    assert other.encoder.encoded == []


@pytest.mark.promise(5)
async def test_one_whose_encoder_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """A reindex was given up because its encoder's server is gone: documents come in and go, out of the half-made index
    too, the service starts, and asking for a reindex by the settings of before drops what is left of it."""
    world = await open_world(tmp_path)
    gone = await world.bring("gone", TEXT)
    live = (await world.generations.current())[0].manifest
    away = replace(live.encoder, url="tei+http://127.0.0.1:9", revision="of another")
    manifest = replace(live, name="g2", encoder=away, state="building")
    await world.indexes.create(manifest)
    half_made = generations.Generation(manifest, await world.indexes.open("g2"), world.encoder)

    async def texts() -> AsyncIterator[list[Work]]:
        yield [Work(gone, gone.version, TEXT, "")]

    await bring_in(half_made, texts(), lambda done: featurize.publish_beside(world.documents, half_made, done))
    assert await half_made.index.known(gone.id)
    new = await world.bring("new", f"{TEXT} Of another kind.")
    await world.check_indexed(gone, new)
    await world.documents.save(replace(await world.get(gone.id), deleted_at=1.0))
    await take_away(world.documents, world.generations, [gone.id])
    assert not await half_made.index.known(gone.id)
    await world.close()
    world = await open_world(tmp_path)
    await world.check_indexed(new)
    assert (await world.reindexer.request()).state is JobState.DONE
    assert [each.name for each in await world.indexes.manifests()] == [live.name]
    await world.close()


@pytest.mark.promise(5)
async def test_it_switches_and_drops(other: World) -> None:
    """Afterwards one index is left, of the new encoder, with every document; the records name it."""
    job = await run(other)
    assert job.state is JobState.DONE
    (manifest,) = await other.indexes.manifests()
    assert (manifest.encoder.url, manifest.state, manifest.name) == ("hashing://64", "live", "g2")
    found = list((await other.documents.find(ALL)).documents)
    await other.check_indexed(*found)
    assert {each.fingerprint for each in found} == {manifest.fingerprint}
    assert await other.documents.unindexed(manifest.fingerprint, 10) == []
    again = await run(other)
    assert again.state is JobState.DONE
    assert len(await other.indexes.manifests()) == 1


@pytest.mark.promise(5)
async def test_writes_go_on(other: World) -> None:
    """What comes, changes and goes while the second index is made is right in it."""
    found = (await other.documents.find(ALL)).documents
    kept = next(each for each in found if each.title == "D3")
    gone = next(each for each in found if each.title == "D1")
    original = other.featurizer.address
    wrote = False

    async def meanwhile(source: str) -> str:
        nonlocal wrote
        if not wrote:
            wrote = True
            changed = await other.add("d3", TEXT.replace("Part 1", "Part one"))
            new = await other.add("new", TEXT[:500])
            await other.ask(changed, new)
            await other.work()
            await other.documents.save(replace(await other.get(gone.id), deleted_at=1.0))
            await take_away(other.documents, other.generations, [gone.id])
        return await original(source)

    other.featurizer.address = meanwhile  # type: ignore[method-assign]
    await run(other)
    await other.work()
    now = list((await other.documents.find(ALL)).documents)
    assert kept.id in {each.id for each in now}
    assert gone.id not in {each.id for each in now}
    await other.check_indexed(*now)


@pytest.mark.promise(2)
@pytest.mark.promise(5)
async def test_search_is_never_dark(other: World) -> None:
    """Every document can be found at every moment of a reindex."""
    everything = await documents(other)
    stop = asyncio.Event()

    async def look() -> int:
        looks = 0
        while not stop.is_set():
            live = (await other.generations.current())[0]
            assert set(await live.index.versions(everything)) == set(everything)
            looks += 1
        return looks

    looking = asyncio.create_task(look())
    await run(other)
    stop.set()
    assert await looking > 3


async def test_a_failed_newer_version_keeps_the_older_one(other: World) -> None:
    """A document whose newest version failed goes into the second index with the version that is searchable."""
    document = (await other.documents.find(ALL)).documents[0]
    newer = await other.add(document.url.removeprefix("file:"), "Broken.")
    await other.documents.save(replace(newer, failure="It is broken."))
    before = await documents(other)
    await run(other)
    assert await documents(other) == before
    live = await other.live()
    assert (await live.versions([document.id]))[document.id] == document.version


@pytest.mark.promise(4)
async def test_a_newer_cleaner_makes_a_new_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 4: a version that may be cited keeps its text; what a newer cleaner makes of it is the next version."""
    document = await world.bring("one", TEXT)
    for module in (featurize, generations):
        monkeypatch.setattr(module, "CLEANER", "clean/2")
    monkeypatch.setattr(featurize, "clean", lambda text: text.replace("says", "SAYS"))
    await run(world)
    await world.work()
    now = await world.get(document.id)
    assert now.version == now.indexed_version == document.version + 1
    assert now.text_hash == document.text_hash
    assert await world.documents.text(document.id, now.version) == (TEXT.replace("says", "SAYS"), "clean/2")
    assert await world.documents.text(document.id, document.version) == (TEXT, "")
    assert {each.version for each in await world.everything()} == {now.version}


@pytest.mark.promise(5)
async def test_cancelled_it_leaves_the_live_index(other: World) -> None:
    """A cancelled reindex has changed nothing that is searched; asked again, it goes on."""
    before = await documents(other)
    await other.reindexer.request()
    (lease,) = await other.claim(JobKind.REINDEX)
    lease.cancel_requested = True
    with pytest.raises(Cancelled):
        await other.reindexer.handle([lease])
    await lease.fail(Cancelled("The job was cancelled."))
    assert await documents(other) == before
    assert (await other.generations.current())[0].encoder.identity.url == "hashing://32"
    assert (await run(other)).state is JobState.DONE
    assert (await other.generations.current())[0].encoder.identity.url == "hashing://64"


async def test_a_begun_one_of_other_settings_is_dropped(other: World) -> None:
    """A second index that was begun for an encoder that is no longer wanted goes."""
    await other.indexes.create(generations.Generations(other.indexes, Counting(16), _none).proposal("g7"))
    await run(other)
    (manifest,) = await other.indexes.manifests()
    assert manifest.encoder.url == "hashing://64"


@pytest.mark.promise(5)
async def test_killed_anywhere(tmp_path: Path) -> None:
    """Killed before or after any of its calls to any store, a reindex goes on and ends the same."""
    at = 0
    while True:
        data = tmp_path / str(at)
        first = await open_world(data)
        kept = [await first.bring(f"d{number}", f"{TEXT[:900]} {number}.") for number in range(3)]
        await first.close()
        fuse = Fuse()
        world = await open_world(data, Counting(64), fuse)
        fuse.calls, fuse.at = 0, at
        try:
            await run(world)
        except (Killed, ExceptionGroup):
            assert fuse.blown
        blown = fuse.blown
        fuse.at, fuse.blown = -1, False
        await world.close()
        world = await open_world(data, Counting(64))
        assert (await run(world, later=100.0)).state is JobState.DONE
        await world.work()
        (manifest,) = await world.indexes.manifests()
        assert manifest.encoder.url == "hashing://64"
        await world.check_indexed(*kept)
        await world.close()
        if not blown:
            break
        at += 1 if at < 10 else 3
    assert at > 30


async def _none(url: str) -> Encoder:
    raise AssertionError(url)
