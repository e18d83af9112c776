"""What the adapters on MongoDB promise beyond their ports: what happens when others, crashes and outages get between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from services.adapters import documents_mongodb, mongodb, open_adapter
from services.adapters.mongodb import Database
from services.domain import (
    EVERYONE,
    Document,
    Evidence,
    Feedback,
    Generation,
    Job,
    JobKind,
    JobState,
    Message,
    Passage,
    SourceKind,
    Usage,
)
from services.errors import Conflict, LeaseLost, Misconfigured, NotFound, TwinError, Unavailable
from services.ports import Documents, Jobs
from tests.servers import obtain, run

CRAWL = JobKind.CRAWL


def document(name: str, **changes: Any) -> Document:
    plain = Document(f"id {name}", "alpha", f"https://example.org/{name}", "s1", SourceKind.PAGE, name)
    return replace(plain, **changes)


@pytest.fixture
async def raw(mongodb_url: str) -> AsyncIterator[Any]:
    """The test's database as the driver sees it."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_url) as client:
        yield client.get_default_database()


@pytest.fixture
async def opened(mongodb_url: str, tmp_path: Path) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    adapters = []

    async def make(port: str) -> Any:
        adapters.append(await open_adapter(port, mongodb_url, tmp_path))
        return adapters[-1]

    yield make
    for adapter in adapters:
        await adapter.close()


# ── Opening ─────────────────────────────────────────────────────────────────────────────────────────


async def test_the_url_names_the_database(mongodb_server: str, mongodb_url: str, tmp_path: Path, raw: Any) -> None:
    """Its path is the database's name; a name that cannot be one, a port that is none, no host and an unescaped password
    are refused, and the password is in no message."""
    adapter = await open_adapter("keys", mongodb_url, tmp_path)
    assert "keys" in await raw.list_collection_names()
    await adapter.close()
    base = mongodb_server.removeprefix("mongodb://")
    for wrong in (
        f"mongodb://{base}/no.dots",
        "mongodb://someone:s3cr3t@127.0.0.1:port/twin",
        "mongodb://someone:s3c@r3t@127.0.0.1/twin",
        "mongodb://",
    ):
        with pytest.raises(Misconfigured) as refused:
            await open_adapter("keys", wrong, tmp_path)
        assert "mongodb://USER:PASSWORD@HOST" in refused.value.message
        assert "s3c" not in refused.value.message
        assert refused.value.__cause__ is None
    assert not mongodb._clients


async def test_one_client_for_all_ports_of_a_process(opened: Any) -> None:
    """Adapters of one URL share a client, and the last to close closes it."""
    before = len(mongodb._clients)
    adapters = [await opened(port) for port in ("documents", "jobs", "keys")]
    assert len(mongodb._clients) == before + 1
    await adapters[0].close()
    await adapters[1].put([Job("a", CRAWL, "alpha", "t")])
    with pytest.raises(Unavailable):
        await adapters[0].get(["x"])
    for adapter in adapters:
        await adapter.close()
    assert len(mongodb._clients) == before


async def test_a_newer_database_is_refused(mongodb_url: str, tmp_path: Path, raw: Any) -> None:
    """One that a newer Twin wrote is not touched; an older or empty one is brought up, by several openers at once."""
    adapters = await asyncio.gather(*(open_adapter("jobs", mongodb_url, tmp_path) for _ in range(5)))
    for adapter in adapters:
        await adapter.close()
    assert await raw.schema_versions.find_one({"_id": "jobs"}) == {"_id": "jobs", "version": 1}
    assert len(await (await raw.jobs.list_indexes()).to_list()) > 5
    await raw.schema_versions.update_one({"_id": "jobs"}, {"$set": {"version": 99}})
    with pytest.raises(Misconfigured, match="newer Twin"):
        await open_adapter("jobs", mongodb_url, tmp_path)
    assert (await raw.schema_versions.find_one({"_id": "jobs"}))["version"] == 99
    for _ in range(2):
        database = await Database.open(mongodb_url, "documents", documents_mongodb.STEPS)
        await database.close()
    assert not mongodb._clients


# ── Outages ─────────────────────────────────────────────────────────────────────────────────────────


async def test_nobody_there(tmp_path: Path) -> None:
    """Where no server answers that is said within the time the URL allows, without its address."""
    (port,) = run.free_ports(1)
    began = time.monotonic()
    url = f"mongodb://someone:s3cr3t@127.0.0.1:{port}/twin?serverSelectionTimeoutMS=300"
    with pytest.raises(Unavailable) as away:
        await open_adapter("keys", url, tmp_path)
    # The driver alone would wait for thirty seconds.
    assert time.monotonic() - began < 20
    assert str(port) not in away.value.message
    assert "s3cr3t" not in away.value.message


async def test_a_server_that_hangs_or_dies(tmp_path: Path) -> None:
    """A stopped server makes calls Unavailable within their time, and the same adapter works on once it runs again; a
    killed one makes them Unavailable, and what was written is there when it is back."""

    async def answered(call: Callable[[], Awaitable[Any]]) -> Any:
        """With so little time a busy machine is away too now and then."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await call()
                except Unavailable:
                    await asyncio.sleep(0.05)

    if not obtain.cached("ferretdb"):
        pytest.skip("needs ferretdb: `make servers-up SERVERS=ferretdb` builds it")
    servers = run.Servers(tmp_path)
    server = servers.start("ferretdb")
    try:
        url = server.variables["TWIN_TEST_MONGODB_URL"] + "/twin?socketTimeoutMS=700&serverSelectionTimeoutMS=500"
        jobs: Jobs = await answered(lambda: open_adapter("jobs", url, tmp_path))
        await answered(lambda: jobs.put([Job("a", CRAWL, "alpha", "t")]))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                # A thread on another core may still answer in the moment after the signal.
                tasks = Path(f"/proc/{server.pid}/task")
                while any(
                    each.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "T" for each in tasks.iterdir()
                ):
                    await asyncio.sleep(0.01)
                with pytest.raises(Unavailable) as away:
                    await jobs.get("a")
            assert "127.0.0.1" not in away.value.message
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert await answered(lambda: jobs.get("a")) is not None
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(Unavailable):
            await jobs.put([Job("b", CRAWL, "alpha", "t")])
        await asyncio.to_thread(servers.restart, "ferretdb")
        assert await answered(lambda: jobs.get("a")) is not None
        await answered(lambda: jobs.put([Job("b", CRAWL, "alpha", "t")]))
        assert await answered(lambda: jobs.get("b")) is not None
        await jobs.close()
    finally:
        servers.stop()


# ── Others at the same time ─────────────────────────────────────────────────────────────────────────


async def test_claims_of_several_processes(opened: Any) -> None:
    """Workers on clients of their own, claiming one or several at a time under leases that run out at once or later,
    never hold one job under one token twice."""
    first: Jobs = await opened("jobs")
    await first.put([Job(f"j{n}", CRAWL, "alpha", "t", created_at=float(n)) for n in range(40)])
    given: list[tuple[str, int]] = []

    async def work(worker: str, limit: int) -> None:
        jobs: Jobs = await opened("jobs")
        chance = random.Random(worker)
        for now in range(100, 112):
            claimed = await jobs.claim(CRAWL, worker, float(now), chance.choice((1.0, 3.0)), limit)
            given.extend((each.id, each.token) for each in claimed)
            assert len(claimed) <= limit
            try:
                await jobs.save([replace(each, state=JobState.DONE) for each in claimed[:1]], float(now))
            except LeaseLost:
                pass

    await asyncio.gather(*(work(f"w{n}", limit) for n, limit in enumerate((1, 1, 3, 7))))
    # A token may be missing: of a claim whose lease ran out before its worker had read what it got.
    assert len(given) == len(set(given))
    assert {id for id, _ in given} == {f"j{n}" for n in range(40)}


async def test_a_cancel_misses_no_job_that_changes_meanwhile(opened: Any) -> None:
    """Whatever a worker does between the steps of a cancel, each child ends as cancelled or is told at its next save."""
    jobs: Jobs = await opened("jobs")
    chance = random.Random(1)

    async def releasing(held: list[Job]) -> None:
        await asyncio.sleep(chance.random() * 0.01)
        await jobs.save([replace(each, state=JobState.QUEUED) for each in held], 2.0)
        for each in await jobs.claim(CRAWL, "w", 3.0, 1e9, 4):
            await jobs.save([each], 4.0)

    for round in range(25):
        parent = f"p{round}"
        await jobs.put([Job(f"{parent} {n}", CRAWL, "alpha", "t", parent=parent) for n in range(4)])
        held = await jobs.claim(CRAWL, "w", 1.0, 1e9, 2)

        await asyncio.gather(releasing(held), jobs.cancel(parent, 2.0))
        for job in await jobs.find(EVERYONE, parent=parent):
            assert job.state is JobState.CANCELLED or (job.state is JobState.RUNNING and job.cancel_requested), job
            await jobs.cancel(parent, 5.0)
        held = [each for each in await jobs.find(EVERYONE, parent=parent) if each.state is JobState.RUNNING]
        assert all((await jobs.save(held, 6.0)).values())
        await jobs.save([replace(each, state=JobState.DONE) for each in held], 7.0)


async def test_a_lost_race_leaves_no_wrong_text(opened: Any, raw: Any) -> None:
    """Of writers of the same new version exactly one text is kept, the winner's, and nothing of the others'."""
    documents: Documents = await opened("documents")
    now = await documents.save(document("a"), text="first")
    for round in range(2, 8):
        writers = [
            documents.save(replace(now, version=round, title=str(n)), text=f"{round} {n}", aliases=[f"https://{n}"])
            for n in range(5)
        ]
        results = await asyncio.gather(*writers, return_exceptions=True)
        (won,) = (each for each in results if isinstance(each, Document))
        assert sum(isinstance(each, Conflict) for each in results) == 4
        assert (await documents.text(now.id, round))[0] == f"{round} {won.title}"
        now = won
    assert await raw.texts.count_documents({}) == 7
    assert await documents.text(now.id, 1) == ("first", "")


async def test_a_text_is_read_while_it_is_replaced(opened: Any) -> None:
    """A reader finds the text before or the one after, whole."""
    documents: Documents = await opened("documents")
    now = await documents.save(document("a"), text="0" * 9_000)
    stop = False

    async def read() -> int:
        seen = set()
        while not stop:
            text, _ = await documents.text(now.id, 1)
            assert len(set(text)) == 1
            assert len(text) == 9_000
            seen.add(text[0])
        return len(seen)

    reading = asyncio.ensure_future(read())
    for n in range(60):
        now = await documents.save(now, text=str(n % 10) * 9_000)
    stop = True
    assert await reading > 2


async def test_feedback_and_redaction_at_once(opened: Any) -> None:
    """Neither undoes the other, in the entry that was made of the document and in a later turn that only quotes it: the
    text is gone and the rating is kept."""
    journal = await opened("journal")
    for round in range(15):
        ids = [f"d{round} {n}" for n in range(2)]
        passages = tuple(Passage("c", id, 1, 0, 6, "SECRET", "", "T", "u", "alpha", 0.5) for id in ids)
        said = f"The SECRET of round {round} is out."
        entry = Generation(
            f"g{round}", "k", None, (), "Q", said, "m", passages, said, (), (), Evidence.ANSWER, Usage(1, 1), {}, "stop",
            1.0, ("alpha",),
        )  # fmt: skip
        later = replace(
            entry, id=f"later {round}", passages=(), messages=(Message("user", "Q"), Message("assistant", said)),
            prompt=said, answer=f"As I said: {said}",
        )  # fmt: skip
        for each in (entry, later):
            await journal.save([each])
        given = [Feedback(each.id, 1, "", ("good",), 2.0) for each in (entry, later)]
        await asyncio.gather(*(journal.feedback(each) for each in given), *map(journal.redact, ids))
        kept, turn = await journal.get(entry.id), await journal.get(later.id)
        assert (kept.feedback, kept.passages, kept.answer, kept.redacted) == (given[0], (), "", True)
        assert turn.feedback == given[1]
        assert "SECRET" not in turn.answer + turn.prompt + "".join(each.content for each in turn.messages)


# ── Crashes ─────────────────────────────────────────────────────────────────────────────────────────


async def broken_off(chance: random.Random, work: Awaitable[Any]) -> bool:
    """Whether the work was cut at some moment: what a crash of its process does to the rest of its steps."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=chance.random() * 0.012)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    except TwinError:
        pass
    return False


async def _text(documents: Documents, id: str, version: int) -> str | None:
    try:
        return (await documents.text(id, version))[0]
    except NotFound:
        return None


async def test_crashes_within_a_save(opened: Any) -> None:
    """A save that breaks off wrote the record, its text and its addresses, or nothing of them."""
    documents: Documents = await opened("documents")
    chance = random.Random(2)
    now = await documents.save(document("a"), text="version 1")
    cut = 0
    for version in range(2, 42):
        alias = f"https://example.org/alias/{version}"
        new = replace(now, version=version)
        cut += await broken_off(chance, documents.save(new, text=f"version {version}", aliases=[alias]))
        # What was sent before is done by the server all the same, soon: a half is one that stays.
        async with asyncio.timeout(30):
            while True:
                stored = (await documents.get([now.id]))[now.id]
                led = await documents.resolve("alpha", [alias])
                text = await _text(documents, now.id, version)
                if (stored.version, led, text) == (version, {alias: now.id}, f"version {version}"):
                    break
                if (stored, led, text) == (now, {}, None):
                    try:
                        stored = await documents.save(new, text=f"version {version}", aliases=[alias])
                    except Conflict:
                        continue  # it was done just now
                    break
                await asyncio.sleep(0.01)
        assert await _text(documents, now.id, version) == f"version {version}"
        now = stored
    assert cut > 5


async def test_crashes_within_a_purge(opened: Any, raw: Any) -> None:
    """A purge that breaks off anywhere is finished by the next: no text is left behind."""
    documents: Documents = await opened("documents")
    chance = random.Random(3)
    cut = 0
    for n in range(30):
        now = await documents.save(document(str(n)), text="SECRET")
        now = await documents.save(replace(now, version=2), text="SECRET too")
        now = await documents.save(replace(now, deleted_at=1.0))
        cut += await broken_off(chance, documents.purge(now.id))
        await documents.purge(now.id)
        assert await raw.texts.count_documents({"owner": now.id}) == 0
        assert (await documents.get([now.id]))[now.id] == now
    assert cut > 5


async def test_crashes_within_a_put_of_bytes(opened: Any, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes in several pieces are the earlier ones or the new ones, whole, and deleting the key takes them all."""
    monkeypatch.setattr(mongodb, "PIECE", 1000)
    blobs = await opened("blobs")
    chance = random.Random(4)
    known = [b"0" * 5500]
    await blobs.put("k", known[0])
    cut = 0
    for n in range(40):
        known.append(str(n).encode() * 2000)
        cut += await broken_off(chance, blobs.put("k", known[-1]))
        # Those before may be done by the server only now.
        assert await blobs.get("k") in known
    assert cut > 5
    async with asyncio.timeout(30):
        left = 1
        while left:
            await raw.blob_pieces.update_many({}, {"$set": {"made_at": 0.0}})
            await blobs.delete(["k"])
            left = await raw.blob_pieces.count_documents({})


async def test_crashes_within_cancel_requeue_and_prune(opened: Any) -> None:
    """The same call again completes what broke off."""
    jobs: Jobs = await opened("jobs")
    chance = random.Random(5)
    cut = 0
    for n in range(20):
        parent = f"p{n}"
        children = [Job(f"{parent} {each}", CRAWL, "alpha", "t", parent=parent) for each in range(5)]
        await jobs.put([Job(parent, JobKind.INGEST, "alpha", ""), *children])
        for call, state in (
            (jobs.cancel, JobState.CANCELLED),
            (jobs.requeue, JobState.QUEUED),
            (jobs.cancel, JobState.CANCELLED),
        ):
            cut += await broken_off(chance, call(parent, 1.0))
            await asyncio.sleep(0.01)
            await call(parent, 1.0)
            assert {each.state for each in await jobs.find(EVERYONE, parent=parent)} == {state}
        cut += await broken_off(chance, jobs.prune(5.0))
        await asyncio.sleep(0.01)
        await jobs.prune(5.0)
        assert await jobs.find(EVERYONE) == []
    assert cut > 10
