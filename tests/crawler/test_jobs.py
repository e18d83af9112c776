"""Crawl jobs: cancelled, interrupted, killed, refused by the index; each document once, and deletes that end."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from twin.v1 import crawler_pb2, types_pb2

from services import rpc
from services.clients import Crawler, SourceSpec, UploadedFile
from services.crawler import schedule
from services.crawler.spool import Spool
from services.domain import EVERYONE, Document, JobKind, JobState, Scope, document_id
from services.errors import InvalidInput, NotFound, Overloaded, TooLarge, Unavailable
from services.ports import Blobs
from tests.crawler.conftest import Opener
from tests.crawler.site import Reply, Site, prose
from tests.crawler.test_folders import uploaded, words, write
from tests.crawler.world import World, counts

pytestmark = pytest.mark.asyncio(loop_scope="package")


def linked(site: Site, pages: int, *, held: int | None = None) -> tuple[SourceSpec, asyncio.Event]:
    """A front page that links to so many others, and what lets through those from number `held` on."""
    gate = asyncio.Event()
    site.page("/", "".join(f"<a href='/{n}'>{n}</a>" for n in range(pages)) + prose(999))
    for number in range(pages):
        site.page(f"/{number}", prose(number))
        if held is not None and number >= held:
            site.gates[f"/{number}"] = gate
    return SourceSpec(site.url("/"), options={"depth": "1"}), gate


async def seen(world: World, id: str, count: int) -> None:
    async with asyncio.timeout(60):
        while (await world.crawler.ingests.get(id, EVERYONE)).sources[0].progress.seen < count:
            await asyncio.sleep(0.02)


@pytest.mark.promise(1)
async def test_a_cancelled_crawl_ends_soon_and_goes_on_where_it_stopped(open_crawler: Opener, site: Site) -> None:
    """Cancel: though pages hang, what came in stays. Retry: no page that is done with is fetched again."""
    world = await open_crawler(crawler_host_delay=0.1, crawler_fetch_seconds=3600.0)
    pages, gate = linked(site, 40, held=30)
    crawl = await world.ingest(pages, wait=False)
    await seen(world, crawl.id, 8)
    await world.crawler.ingests.cancel(crawl.id, EVERYONE)
    # Nothing lets the last pages through: only the cancellation ends the job.
    async with asyncio.timeout(60):
        ended = await world.ended(crawl)
    assert ended.state is JobState.CANCELLED
    assert 8 <= counts(ended)[0] <= 31
    gate.set()
    again = await world.ended(await world.crawler.ingests.retry(crawl.id, EVERYONE))
    new, changed, unchanged, *others = counts(again)
    # What was saved in the moment of the cancellation and not in the checkpoint yet is met again, unchanged.
    assert (again.state, new + unchanged, changed, *others) == (JobState.DONE, 41, 0, 0, 0)
    # A page that was being fetched when it was cancelled is fetched anew: at most one a slot.
    assert sum(count - 1 for path, count in site.requests.items() if path != "/robots.txt") <= 8
    assert len(await world.documents()) == 41


async def test_a_retry_outweighs_a_cancel_before_it(open_crawler: Opener, site: Site) -> None:
    """Cancelled and retried before the crawl has noticed: what it writes of its progress does not end it any more."""
    world = await open_crawler()
    pages, gate = linked(site, 12, held=6)
    site.gates["/6"] = asyncio.Event()
    crawl = await world.ingest(pages, wait=False)
    await seen(world, crawl.id, 7)
    await world.crawler.ingests.cancel(crawl.id, EVERYONE)
    assert not (await world.crawler.ingests.retry(crawl.id, EVERYONE)).state.ended
    site.gates["/6"].set()
    await seen(world, crawl.id, 8)
    await asyncio.sleep(0.5)
    gate.set()
    assert (await world.ended(crawl)).state is JobState.DONE
    assert len(await world.documents()) == 13


async def test_a_stopped_crawler_hands_its_job_to_the_next(open_crawler: Opener, site: Site) -> None:
    """Graceful stop: the job is given back with its checkpoint, and another process ends it; all exactly once."""
    world = await open_crawler()
    pages, gate = linked(site, 30, held=10)
    crawl = await world.ingest(pages, wait=False)
    await seen(world, crawl.id, 5)
    await world.close()
    gate.set()
    other = await open_crawler()
    ended = await other.ended(crawl)
    new, changed, unchanged, *others = counts(ended)
    # What was saved in the last moment and not in the checkpoint yet is met again, unchanged.
    assert (ended.state, new + unchanged, changed, *others) == (JobState.DONE, 31, 0, 0, 0)
    documents = await other.documents()
    assert (len(documents), {each.version for each in documents.values()}) == (31, {1})
    assert {each.state for each in documents.values()} == {"indexed"}


@pytest.mark.promise(1)
@pytest.mark.promise(2)
async def test_a_crash_between_save_and_hand_on_loses_nothing(world: World, tmp_path: Path) -> None:
    """The index is away while a folder comes in: the attempt ends, the next one hands on what was saved before."""
    notes = write(tmp_path / "notes", a_md=words(1), b_md=words(2))
    world.index.refuse.append(Unavailable("away"))
    ended = await world.ingest(str(notes))
    assert ended.state is JobState.DONE
    documents = await world.documents()
    assert {each.state for each in documents.values()} == {"indexed"}
    assert Counter(world.index.handed_on) == {(each.id, 1): 1 for each in documents.values()}


async def test_an_index_that_is_far_behind_is_waited_for(world: World, tmp_path: Path) -> None:
    """Back-pressure: Overloaded is no failure, the crawl waits and goes on."""
    world.index.refuse.extend([Overloaded("far behind", retry_after=0.05)] * 3)
    crawl = await world.ingest(str(write(tmp_path / "notes", a_md=words(1))))
    assert (crawl.state, counts(crawl)) == (JobState.DONE, (1, 0, 0, 0, 0))


CHILD = """
import asyncio, sys
from pathlib import Path
from services.clients import SourceSpec
from tests.crawler.world import open_world
async def main():
    world = await open_world(Path(sys.argv[1]))
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.promise(1)
async def test_killed_processes_leave_each_document_once(open_crawler: Opener, tmp_path: Path) -> None:
    """SIGKILL while a folder of 400 files comes in, several times: afterwards every file is one document, version 1."""
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(400):
        write(notes, **{f"n{number}_md": words(number, 40)})
    first = await open_crawler()
    crawl = await first.crawler.ingests.start("alpha", [SourceSpec(str(notes))], EVERYONE)
    await first.close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    for wait in (1.5, 2.0, 2.5):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(tmp_path / "data"), env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        await asyncio.sleep(wait)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        # As if the lease's time had passed.
        with sqlite3.connect(tmp_path / "data" / "twin.db") as file:
            file.execute("UPDATE jobs SET lease_until = 0 WHERE state = 'running'")
    last = await open_crawler()
    ended = await last.ended(crawl)
    assert (ended.state, counts(ended)[4]) == (JobState.DONE, 0)
    documents = await last.documents()
    assert len(documents) == 400
    assert {(each.version, each.state) for each in documents.values()} == {(1, "indexed")}


async def test_time_left_and_totals_are_told(open_crawler: Opener, site: Site) -> None:
    """While a sitemap of known length is crawled, total and time left are there."""
    world = await open_crawler()
    gate = asyncio.Event()
    for number in range(30):
        site.page(f"/{number}", prose(number))
        if number >= 10:
            site.gates[f"/{number}"] = gate
    site.answers["/s.xml"] = Reply(
        "<urlset>" + "".join(f"<url><loc>{site.url(f'/{n}')}</loc></url>" for n in range(30)) + "</urlset>"
    )
    crawl = await world.ingest(site.url("/s.xml"), wait=False)
    await seen(world, crawl.id, 5)
    now = (await world.crawler.ingests.get(crawl.id, EVERYONE)).sources[0]
    assert (now.progress.total, now.progress.seen < 30) == (30, True)
    assert now.seconds_left is not None
    assert now.seconds_left > 0
    gate.set()
    await world.ended(crawl)


async def test_one_slow_host_does_not_hold_up_another(world: World, site: Site) -> None:
    """Two sources: one's page hangs for as long as the test likes, the other is done meanwhile."""
    hanging = site.gates["/slow"] = asyncio.Event()
    site.page("/slow", prose(2))
    site.page("/quick", prose(1))
    crawl = await world.ingest(site.url("/slow"), site.url("/quick"), wait=False)
    await world.until(site.url("/quick"))
    hanging.set()
    assert counts(await world.ended(crawl)) == (2, 0, 0, 0, 0)


@pytest.mark.promise(2)
async def test_a_document_deleted_during_its_ingest_stays_deleted(open_crawler: Opener, site: Site) -> None:
    """A delete that comes after the ingest began outweighs it, though the ingest was explicit."""
    world = await open_crawler()
    spec, gate = linked(site, 20, held=19)
    gate.set()
    await world.ingest(spec)
    victim = (await world.documents())[site.url("/19")]
    gate.clear()
    crawl = await world.ingest(spec, wait=False)
    await seen(world, crawl.id, 2)
    await world.crawler.library.delete(victim.id, EVERYONE)
    gate.set()
    assert (await world.ended(crawl)).state is JobState.DONE
    assert site.url("/19") not in await world.documents()


@pytest.mark.promise(2)
async def test_a_delete_ends_though_the_index_is_away(open_crawler: Opener, tmp_path: Path) -> None:
    """The tombstone stands at once, texts and original go, and a job takes the chunks when the index is back."""
    world = await open_crawler()
    await world.ingest(str(write(tmp_path / "notes", a_md=words(1))))
    document = (await world.documents())["file:a.md"]
    world.index.refuse.append(Unavailable("away"))
    buried = await world.crawler.library.delete(document.id, EVERYONE)
    assert buried.state == "deleted"
    jobs = await world.crawler.jobs.find(EVERYONE, kind=JobKind.DELETE)
    assert [(job.target, job.state) for job in jobs] == [(document.id, JobState.QUEUED)]
    with pytest.raises(NotFound):
        await world.crawler.blobs.get(document.id)


@pytest.mark.promise(2)
async def test_a_delete_that_was_interrupted_is_ended_at_the_next_start(open_crawler: Opener, tmp_path: Path) -> None:
    """A crash right after the tombstone: the next start takes texts and original, and rings for the chunks."""
    world = await open_crawler()
    await world.ingest(str(write(tmp_path / "notes", a_md=words(1))))
    document = (await world.documents())["file:a.md"]
    await world.crawler.crawler.remover._bury(document)
    assert await world.crawler.blobs.get(document.id)
    assert await world.crawler.crawler.remover.finish() == 1
    with pytest.raises(NotFound):
        await world.crawler.blobs.get(document.id)
    assert await world.crawler.crawler.remover.finish() == 0


class Away:
    """Blobs whose next deletions fail, one for each error."""

    def __init__(self, blobs: Blobs, errors: int) -> None:
        self._blobs = blobs
        self.errors = errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    async def delete(self, keys: Collection[str]) -> None:
        if self.errors:
            self.errors -= 1
            raise Unavailable("The document store does not answer: try again in a moment.")
        await self._blobs.delete(keys)


async def is_kept(world: World, document: Document) -> bool:
    """Whether anything but the tombstone is there of it."""
    try:
        await world.crawler.blobs.get(document.id)
    except NotFound:
        return False
    return True


@pytest.mark.promise(2)
async def test_a_delete_that_failed_half_way_is_ended_while_the_crawler_runs(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blobs are away after the tombstone was written, and at the first look for such: a later one takes the
    original, without a start and without the person who deleted it."""
    monkeypatch.setattr(schedule, "FINISH_EVERY", 0.1)
    await world.ingest(str(write(tmp_path / "notes", a_md=words(1))))
    document = (await world.documents())["file:a.md"]
    world.crawler.crawler.remover._blobs = Away(world.crawler.blobs, 2)
    with pytest.raises(Unavailable):
        await world.crawler.library.delete(document.id, EVERYONE)
    async with asyncio.timeout(60):
        while await is_kept(world, document):
            await asyncio.sleep(0.02)


@pytest.mark.promise(2)
async def test_a_delete_that_failed_half_way_is_ended_by_asking_again(world: World, tmp_path: Path) -> None:
    """A document's and an author's: the same call again does the rest. An author without any rest is not there."""
    library = world.crawler.library
    await world.ingest(str(write(tmp_path / "notes", a_md=words(1), b_md=words(2))))
    first, second = (await world.documents()).values()
    away = world.crawler.crawler.remover._blobs = Away(world.crawler.blobs, 1)
    with pytest.raises(Unavailable):
        await library.delete(first.id, EVERYONE)
    assert await is_kept(world, first)
    assert (await library.delete(first.id, EVERYONE)).state == "deleted"
    assert not await is_kept(world, first)
    away.errors = 1
    with pytest.raises(Unavailable):
        await library.delete_author("alpha", EVERYONE)
    assert await is_kept(world, second)
    with pytest.raises(NotFound):
        await library.delete_author("beta", EVERYONE)
    assert (await library.delete_author("alpha", EVERYONE)).documents == 1
    assert not await is_kept(world, second)
    with pytest.raises(NotFound):
        await library.delete_author("alpha", EVERYONE)


async def test_old_jobs_are_dropped(world: World, tmp_path: Path) -> None:
    """Ended ingests are kept for their time, then whole families go."""
    crawl = await world.ingest(str(write(tmp_path / "notes", a_md=words(1))))
    await world.crawler.jobs.prune(crawl.updated_at + 3600)
    with pytest.raises(NotFound):
        await world.crawler.ingests.get(crawl.id, EVERYONE)


async def test_texts_near_each_other_that_come_together_make_one_original(world: World, tmp_path: Path) -> None:
    """Ten copies with another date each, in one folder: one is indexed, nine are its duplicates."""
    notes = write(tmp_path / "notes", **{f"c{n}_md": f"Edition {n}.\n\n{words(5, 400)}" for n in range(10)})
    await world.ingest(str(notes))
    states = Counter(each.state for each in (await world.documents()).values())
    assert states == {"indexed": 1, "duplicate": 9}
    write(notes, **{"c3_md": words(77, 400)})
    await world.ingest(str(notes))
    states = Counter(each.state for each in (await world.documents()).values())
    assert states == {"indexed": 2, "duplicate": 8}


# ── Over gRPC ───────────────────────────────────────────────────────────────────────────────────────


async def test_the_service_over_its_socket(open_crawler: Opener, tmp_path: Path) -> None:
    """Every method once, through the client that the gateway uses."""
    world = await open_crawler(crawler_max_bytes=1_000_000)
    address = f"unix:{tmp_path}/s"
    server = rpc.Server(address, world.crawler.services)
    await server.start()
    channel = rpc.connect(address)
    client = Crawler(channel)
    notes = write(tmp_path / "notes", a_md=f"# A\n\n{words(1)}")

    crawl = await client.start_crawl("alpha", [SourceSpec(str(notes), every=3600.0)], EVERYONE)
    states = [each async for each in client.watch_crawl(crawl.id, EVERYONE)]
    assert states[-1].state is JobState.DONE
    assert (await client.get_crawl(crawl.id, EVERYONE)).sources[0].kind == "folder"
    assert [each.id for each in await client.list_crawls(EVERYONE)] == [crawl.id]
    assert (await client.cancel_crawl(crawl.id, EVERYONE)).state is JobState.DONE
    assert (await client.retry_crawl(crawl.id, EVERYONE)).state is JobState.DONE

    async def files() -> object:
        async def data() -> object:
            yield words(2).encode()

        yield UploadedFile("b.md", "text/markdown", data())  # type: ignore[arg-type]

    sent = await client.upload("alpha", files(), EVERYONE)  # type: ignore[arg-type]
    await world.ended(sent)

    async def large() -> object:
        async def data() -> object:
            for _ in range(3):
                yield b"a" * 500_000

        yield UploadedFile("c.md", None, data())  # type: ignore[arg-type]

    with pytest.raises(TooLarge):
        await client.upload("alpha", large(), EVERYONE)  # type: ignore[arg-type]

    documents, following = await client.list_documents(EVERYONE, author="alpha", limit=1)
    assert (len(documents), bool(following)) == (1, True)
    with pytest.raises(InvalidInput):
        await client.list_documents(EVERYONE, state="lost")
    id = document_id("alpha", "file:a.md")
    found = await client.get_document(id, EVERYONE)
    assert (found.version, found.text.startswith("# A"), found.source_address) == (1, True, str(notes))
    with pytest.raises(NotFound):
        await client.get_document(id, Scope(authors=("beta",)))
    with pytest.raises(NotFound):
        await client.get_document(id, EVERYONE, version=9)

    source = next(each for each in await client.list_sources(EVERYONE) if each.kind == "folder")
    assert source.every == 3600.0
    assert (await client.put_source("alpha", SourceSpec(str(notes)), EVERYONE)).every is None
    await world.ended(await client.refresh_source(source.id, EVERYONE))
    assert (await client.delete_document(id, EVERYONE)).state == "deleted"
    assert (await client.delete_document(id, EVERYONE)).state == "deleted"
    await client.delete_source(source.id, EVERYONE)
    assert [each.name for each in await client.list_authors(EVERYONE)] == ["alpha"]
    assert (await client.delete_author("alpha", EVERYONE)).documents == 1
    assert await client.list_authors(EVERYONE) == []
    await channel.close()
    await server.stop(0)


async def test_an_upload_without_header_or_name_is_refused(world: World) -> None:
    """The stream's order is checked."""

    async def pieces(*given: crawler_pb2.UploadPiece) -> object:
        for each in given:
            yield each

    servicer = world.crawler.services[0][1]
    with pytest.raises(InvalidInput):
        await servicer.upload(pieces())  # type: ignore[attr-defined]
    header = crawler_pb2.UploadPiece(header=crawler_pb2.UploadHeader(author="alpha", scope={"everyone": True}))
    with pytest.raises(InvalidInput):
        await servicer.upload(pieces(header, crawler_pb2.UploadPiece(data=b"x")))  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput):
        await servicer.upload(pieces(header))  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput):
        await world.crawler.ingests.upload("alpha", await uploaded(("../..", b"x")), EVERYONE, "")


@pytest.mark.promise(1)
async def test_an_upload_that_breaks_off_changes_nothing(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    """Broken off in its second file: the first one's bytes are those of before, there is no job more, and no
    temporary file is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    await world.ended(
        await world.crawler.ingests.upload("alpha", await uploaded(("a.md", b"# A\n\nThe old text.")), EVERYONE, "")
    )
    jobs = await world.crawler.jobs.find(EVERYONE)
    piece = crawler_pb2.UploadPiece

    async def pieces() -> AsyncIterator[crawler_pb2.UploadPiece]:
        yield piece(header=crawler_pb2.UploadHeader(author="alpha", scope={"everyone": True}))
        yield piece(file=crawler_pb2.UploadFile(name="a.md"))
        yield piece(data=b"# A\n\nThe new text.")
        yield piece(file=crawler_pb2.UploadFile(name="b.md"))
        yield piece(data=b"half")

    servicer: Any = world.crawler.services[0][1]
    with pytest.raises(InvalidInput, match="broke off"):
        await servicer.upload(pieces())
    assert await world.crawler.crawler.blobs.get(document_id("alpha", "upload:a.md")) == b"# A\n\nThe old text."
    assert await world.crawler.jobs.find(EVERYONE) == jobs
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("tmp")] == []


async def test_a_large_upload_is_never_in_memory(open_crawler: Opener) -> None:
    """90 MB come in, and what Python and SQLite hold of them at once is a few MB."""
    piece = crawler_pb2.UploadPiece

    async def pieces() -> AsyncIterator[crawler_pb2.UploadPiece]:
        yield piece(header=crawler_pb2.UploadHeader(author="alpha", scope={"everyone": True}))
        yield piece(file=crawler_pb2.UploadFile(name="large.bin"))
        for _ in range(90):
            yield piece(data=b"\x00" * (1 << 20))
        yield piece(end=types_pb2.Empty())

    world = await open_crawler(crawler_max_bytes=100 << 20)
    process = psutil.Process()
    rss = [process.memory_info().rss]

    async def looking() -> None:
        while True:
            rss.append(process.memory_info().rss)
            await asyncio.sleep(0.005)

    look = asyncio.create_task(looking())
    servicer: Any = world.crawler.services[0][1]
    await servicer.upload(pieces())
    look.cancel()
    grown = (max(rss) - rss[0]) >> 20
    print(f"{grown} MB more at most")
    assert grown < 30


async def test_an_author_with_sources_only_is_listed(world: World, tmp_path: Path) -> None:
    """An author whose sources have brought in nothing yet is one already, to those who may see them."""
    notes = write(tmp_path / "notes", a_md=words(1))
    await world.crawler.ingests.put_source("beta", SourceSpec(str(notes), every=3600.0), EVERYONE)
    library = world.crawler.library
    assert [(each.name, each.documents, each.sources) for each in await library.authors(EVERYONE)] == [("beta", 0, 1)]
    assert await library.authors(Scope(authors=("alpha",))) == []


async def test_what_came_in_while_the_feature_service_was_away_is_handed_on(open_crawler: Opener, site: Site) -> None:
    """Its page is done with and not fetched again; the next attempt hands it on, and the ingest ends after that."""
    world = await open_crawler()
    site.page("/", prose(1))
    world.index.refuse.append(Unavailable("away"))
    crawl = await world.ingest(site.url("/"))
    assert (crawl.state, counts(crawl)) == (JobState.DONE, (1, 0, 0, 0, 0))
    document = (await world.documents())[site.url("/")]
    assert world.index.handed_on == [(document.id, document.version)]


@pytest.mark.promise(2)
async def test_what_is_deleted_while_it_is_read_leaves_no_bytes(world: World, tmp_path: Path) -> None:
    """A crawl has a file's new bytes in hand when a person deletes its document: they are not kept."""
    file = tmp_path / "notes" / "a.md"
    file.parent.mkdir()
    file.write_text(f"# One\n\n{words(1)}")
    crawl = await world.ingest(str(file.parent))
    (document,) = (await world.documents()).values()
    file.write_text(f"# One\n\n{words(2)}")
    extraction: Any = world.crawler.crawler.extraction
    read = extraction.read

    async def deleting(*args: Any, **named: Any) -> Any:
        found = await read(*args, **named)
        await world.crawler.library.delete(document.id, EVERYONE)
        return found

    extraction.read = deleting
    try:
        await world.refresh(crawl)
    finally:
        extraction.read = read
    assert (await world.crawler.documents.get([document.id]))[document.id].deleted_at is not None
    with pytest.raises(NotFound):
        await world.crawler.blobs.get(document.id)


@pytest.mark.promise(2)
async def test_an_upload_that_waits_goes_with_its_author(world: World) -> None:
    """Bytes that came in and that no crawl has taken yet are not left behind."""
    for worker in world.crawler.workers:
        await worker.stop(0)
    with Spool() as spool:
        spool.begin("diary.txt", "text/plain")
        await spool.write(b"A diary.")
        await world.crawler.ingests.upload("beta", spool, EVERYONE, "")
    id = document_id("beta", "upload:diary.txt")
    assert await world.crawler.blobs.get(id) == b"A diary."
    await world.crawler.library.delete_author("beta", EVERYONE)
    with pytest.raises(NotFound):
        await world.crawler.blobs.get(id)
    assert await world.crawler.sources.find(EVERYONE) == []


@pytest.mark.promise(2)
async def test_a_duplicate_that_is_written_meanwhile_steps_in(world: World, tmp_path: Path) -> None:
    """The original went; while its duplicate is looked at, a crawl writes when it saw it: it is looked at again."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a.md", "b.md"):
        (folder / name).write_text(f"# One\n\n{words(3)}")
    await world.ingest(str(folder))
    (original,), (copy,) = (await world.documents("indexed")).values(), (await world.documents("duplicate")).values()
    documents: Any = world.crawler.documents
    text, written = documents.text, False

    async def meanwhile(id: str, version: int) -> Any:
        nonlocal written
        if id == copy.id and not written:
            written = True
            await documents.save(replace((await documents.get([id]))[id], etag='"2"'))
        return await text(id, version)

    documents.text = meanwhile
    try:
        await world.crawler.library.delete(original.id, EVERYONE)
    finally:
        documents.text = text
    assert written
    assert (await documents.get([copy.id]))[copy.id].duplicate_of is None
