"""A featurize job makes one version of one document searchable, exactly once, whatever happens during the work."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from services.domain import JobKind, JobState
from services.feature import clean as cleaning
from services.feature.chunk import chunk
from services.feature.embed import Work
from services.feature.withdraw import take_away
from tests.feature.world import Fuse, Killed, World, open_world

TEXT = "# Title\n\n" + "\n\n".join(
    f"## Part {number}\n\n" + " ".join(f"Sentence {number} {each} says something of its own." for each in range(40))
    for number in range(4)
)


async def test_a_document_becomes_searchable(world: World) -> None:
    """Cleaned, chunked, embedded, indexed, and the record says so."""
    document = await world.bring("one", TEXT.replace("\n", "\r\n") + "\x00   ")
    assert len(world.encoder.encoded) == document.chunks
    await world.check_indexed(document)
    text, cleaner = await world.documents.text(document.id, document.version)
    assert cleaner == cleaning.CLEANER
    assert text == TEXT
    assert document.characters == len(TEXT)


@pytest.mark.promise(3)
async def test_the_same_again_does_nothing(world: World) -> None:
    """Promise 3: asked again for what is indexed, nothing is embedded and nothing is written."""
    document = await world.bring("one", TEXT)
    world.encoder.encoded.clear()
    first = await world.ask(document)
    assert first == await world.ask(document)
    assert await world.work() == []
    assert world.encoder.encoded == []
    assert (await world.get(document.id)).revision == document.revision


@pytest.mark.promise(3)
async def test_a_changed_paragraph_embeds_its_own_chunks(world: World) -> None:
    """Promise 3: of a new version only the chunks with changed text are embedded; the others' spans are shifted."""
    document = await world.bring("one", TEXT)
    world.encoder.encoded.clear()
    changed = await world.bring(
        "one", TEXT.replace("Sentence 1 5 says", "Sentence 1 5 now says, and at greater length,")
    )
    assert 1 <= len(world.encoder.encoded) <= 3
    assert all("Part 1" in each for each in world.encoder.encoded)
    assert changed.version == document.version + 1
    await world.check_indexed(changed)


async def test_asked_often_is_done_once(world: World) -> None:
    """The job's id is derived: asking ten times makes one job."""
    document = await world.add("one", TEXT)
    ids = {tuple(await world.ask(document)) for _ in range(10)}
    assert len(ids) == 1
    assert len(await world.work()) == 1


async def test_an_empty_document_is_indexed_without_chunks(world: World) -> None:
    """Nothing to embed is no failure."""
    document = await world.bring("empty", " \n\n ")
    assert (document.state, document.chunks) == ("indexed", 0)


async def test_many_documents_share_the_work(world: World) -> None:
    """Short and long documents of one batch each come out whole."""
    documents = [await world.add(f"d{number}", TEXT[: 40 + 150 * number]) for number in range(30)]
    documents.append(await world.add("long", "\n\n".join(f"{number} {TEXT}" for number in range(40))))
    await world.ask(*documents)
    assert {each.state for each in await world.work()} == {JobState.DONE}
    await world.check_indexed(*documents)


@pytest.mark.promise(2)
async def test_deleted_before_the_work(world: World) -> None:
    """A tombstone found at the start: nothing is indexed, the job is done."""
    document = await world.add("one", TEXT)
    await world.ask(document)
    await world.documents.save(replace(document, deleted_at=1.0))
    assert [each.state for each in await world.work()] == [JobState.DONE]
    assert await world.everything() == []


@pytest.mark.promise(2)
async def test_deleted_during_the_work(world: World) -> None:
    """Promise 2: a tombstone that comes while chunks are written takes them away again."""
    document = await world.add("one", TEXT)
    await world.ask(document)
    index = type((await world.generations.current())[0].index)
    original = index.publish

    async def publish_then_delete(self, record, chunks):  # type: ignore[no-untyped-def]
        await original(self, record, chunks)
        now = await world.get(document.id)
        await world.documents.save(replace(now, deleted_at=1.0))

    index.publish = publish_then_delete  # type: ignore[method-assign]
    try:
        await world.work()
    finally:
        index.publish = original  # type: ignore[method-assign]
    assert await world.everything() == []
    now = await world.get(document.id)
    assert (now.state, now.indexed_version, now.chunks) == ("deleted", None, 0)
    assert await (await world.live()).known(document.id) == frozenset()


@pytest.mark.promise(2)
async def test_superseded_during_the_work(world: World) -> None:
    """Promise 2: a newer version that comes meanwhile is the one that stays, and no chunk of the older one does."""
    document = await world.add("one", TEXT)
    await world.ask(document)
    leases = await world.claim()
    newer = await world.add("one", TEXT.replace("something", "another thing"))
    await world.ask(newer)
    await world.featurizer.handle(leases)
    await leases[0].done()
    await world.work()
    await world.check_indexed(newer)


@pytest.mark.promise(2)
async def test_an_older_version_stays_searchable_until_the_newer_is(world: World) -> None:
    """Promise 2: once searchable, a document is never dark."""
    await world.bring("one", TEXT)
    before = len(await world.everything())
    newer = await world.add("one", TEXT.upper())
    await world.ask(newer)
    assert len(await world.everything()) == before
    await world.work()
    await world.check_indexed(newer)


@pytest.mark.promise(2)
async def test_brought_back_after_a_deletion(world: World) -> None:
    """An explicit ingest of a deleted document makes it searchable again, though its job ended once."""
    document = await world.bring("one", TEXT)
    deleted = await world.documents.save(replace(document, deleted_at=1.0))
    await take_away(world.documents, world.generations, [document.id])
    assert await world.everything() == []
    back = await world.documents.save(replace(await world.get(deleted.id), deleted_at=None), text=TEXT)
    await world.ask(back)
    await world.work()
    await world.check_indexed(back)


async def test_a_duplicate_loses_its_chunks(world: World) -> None:
    """A document found to be another's copy is asked for again, and taken out."""
    one, two = await world.bring("one", TEXT), await world.bring("two", TEXT)
    await world.documents.save(replace(two, duplicate_of=one.id))
    await world.ask(two)
    await world.work()
    await world.check_indexed(one)


async def test_staged_otherwise_by_an_earlier_attempt(world: World) -> None:
    """Chunks that an attempt under another title left staged do not keep the document out of the index."""
    document = await world.add("one", TEXT)
    live = (await world.generations.current())[0]
    short = Work(document, document.version, "")
    chunks = chunk(TEXT + "\n\nMore. " * 200, document.id, "Another title", world.encoder)
    vectors = dict(
        zip([each.id for each in chunks], await world.encoder.encode([each.text for each in chunks]), strict=True)
    )
    await live.index.stage(short.record, chunks, vectors)
    await world.ask(document)
    await world.work()
    await world.check_indexed(document)


async def test_a_failure_is_the_documents_reason(world: World) -> None:
    """What cannot be indexed says so in its record, and the others of the batch are not held up."""
    document = await world.add("one", TEXT)
    await world.ask(document)
    other = await world.add("two", TEXT)
    await world.documents.save(replace(document, version=2))  # its text is not there
    await world.ask(await world.get(document.id), other)
    for lease in await world.claim():
        await world.featurizer.handle([lease])
        await lease.done()
    now = await world.get(document.id)
    assert now.state == "failed"
    assert "no such version" in (now.failure or "")
    await world.check_indexed(other)


async def test_a_cancelled_job_ends(world: World) -> None:
    """A job that a person cancelled does nothing."""
    document = await world.add("one", TEXT)
    (id,) = await world.ask(document)
    leases = await world.claim()
    await world.jobs.cancel(id, time.time())
    leases[0].cancel_requested = True
    await world.featurizer.handle(leases)
    job = await world.jobs.get(id)
    assert job is not None
    assert job.state is JobState.CANCELLED
    assert await world.everything() == []


@pytest.mark.promise(1)
@pytest.mark.promise(2)
async def test_killed_anywhere(tmp_path: Path) -> None:
    """Promise 1: killed before or after any call to any store, the next attempt ends with every document in the index
    exactly once, and embeds nothing that was stored."""
    at = 0
    while True:
        fuse = Fuse()
        data = tmp_path / str(at)
        world = await open_world(data, fuse=fuse)
        documents = [
            await world.bring("one", TEXT),
            await world.add("two", TEXT + "\r\n\x00"),
            await world.add("three", TEXT[:100]),
        ]
        documents[0] = await world.add("one", TEXT.replace("Part 2", "Part two"))
        await world.ask(*documents)
        fuse.calls, fuse.at = 0, at
        try:
            await world.work()
        except (Killed, ExceptionGroup):
            assert fuse.blown
        blown = fuse.blown
        fuse.at, fuse.blown = -1, False
        await world.close()
        world = await open_world(data)
        await world.work(later=100.0)
        await world.check_indexed(*documents)
        counts = await world.jobs.counts()
        assert set(counts) == {(JobKind.FEATURIZE, JobState.DONE)}
        await world.close()
        if not blown:
            break
        at += 1
    assert at > 30


@pytest.mark.promise(1)
async def test_work_that_a_dead_worker_holds_is_done_for_who_asks_again(world: World) -> None:
    """A worker was killed holding the lease: another ingest that asks for the same document has a job of its own
    that waits for it, does not wait for the lease, and has ended only when the document is searchable."""
    document = await world.add("one", TEXT)
    held = await world.ask(document, parent="first")
    await world.claim()
    assert await world.ask(document, parent="first") == held
    own = await world.ask(document, parent="second")
    assert own == await world.ask(document, parent="second") != held
    assert await world.jobs.counts("second") == {(JobKind.FEATURIZE, JobState.QUEUED): 1}
    await world.work()
    assert await world.jobs.counts("second") == {(JobKind.FEATURIZE, JobState.DONE): 1}
    assert [each.state for each in await world.work(later=60.0)] == [JobState.DONE]
    assert len(world.encoder.encoded) == (await world.get(document.id)).chunks
    await world.check_indexed(await world.get(document.id))
    assert await world.ask(document, parent="third") == held


@pytest.mark.promise(1)
async def test_two_ingests_of_one_document_in_one_batch(world: World) -> None:
    """One of them is cancelled while both are worked on together: the other's job is not done before the document is
    searchable."""
    document = await world.add("one", TEXT)
    await world.ask(document, parent="first")
    await world.ask(document, parent="second")
    first, second = sorted(await world.claim(), key=lambda lease: lease.job.parent or "")
    first.cancel_requested = True
    await world.featurizer.handle([first, second])
    await second.done()
    assert await world.jobs.counts("second") == {(JobKind.FEATURIZE, JobState.QUEUED): 1}
    await world.work()
    assert await world.jobs.counts("second") == {(JobKind.FEATURIZE, JobState.DONE): 1}
    await world.check_indexed(await world.get(document.id))
