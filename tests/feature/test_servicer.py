"""FeatureService over gRPC: what callers see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from twin.v1 import feature_pb2

from services import clients, rpc
from services.domain import EVERYONE, Document, Job, JobKind, JobState, SourceKind, digest, document_id
from services.errors import InvalidInput, NotFound, Overloaded
from services.feature.bootstrap import Feature, Settings, build
from services.feature.reconcile import sweep
from services.ports import DocumentQuery
from tests.feature.test_featurize import TEXT
from tests.feature.world import World

INDEXED = DocumentQuery(EVERYONE, state="indexed", limit=50)


@pytest.fixture
async def serving(world: World, tmp_path: Path) -> AsyncIterator[clients.Feature]:
    server = rpc.Server(
        f"unix:{tmp_path}/f.sock", [(feature_pb2.DESCRIPTOR.services_by_name["FeatureService"], world.servicer)]
    )
    await server.start()
    channel = rpc.connect(server.address)
    yield clients.Feature(channel)
    await channel.close()
    await server.stop(0)


async def test_featurize_accepts_and_returns(world: World, serving: clients.Feature) -> None:
    """It writes jobs and returns their ids; the parent stands in them."""
    document = await world.add("one", TEXT)
    (id,) = await serving.featurize([(document.id, 1, "author")], "parent")
    job = await world.jobs.get(id)
    assert job is not None
    assert (job.kind, job.state, job.parent, job.target) == (JobKind.FEATURIZE, JobState.QUEUED, "parent", document.id)


async def test_back_pressure(world: World, serving: clients.Feature) -> None:
    """With too many jobs waiting the caller is asked to wait, and told how long."""
    for number in range(5):
        await serving.featurize([((await world.add(f"d{number}", TEXT)).id, 1, "author")])
    with pytest.raises(Overloaded) as refused:
        await serving.featurize([("another", 1, "author")])
    assert refused.value.retry_after
    await world.work()
    await asyncio.sleep(0.6)
    assert await serving.featurize([((await world.add("more", TEXT)).id, 1, "author")])


async def test_what_is_wrong_is_refused(serving: clients.Feature) -> None:
    """No id, no version, no such job: said so."""
    with pytest.raises(InvalidInput):
        await serving.featurize([("", 1, "author")])
    with pytest.raises(InvalidInput):
        await serving.featurize([("x", 0, "author")])
    with pytest.raises(NotFound):
        await serving.get_reindex("nothing")


@pytest.mark.promise(2)
async def test_delete(world: World, serving: clients.Feature) -> None:
    """Every chunk goes, and the record says so; twice does no harm, nor does an unknown id."""
    document = await world.bring("one", TEXT)
    for id in (document.id, document.id, "unknown"):
        await serving.delete_document(id)
    assert await world.everything() == []
    assert (await world.get(document.id)).indexed_version is None


@pytest.mark.promise(2)
async def test_an_old_deletion_leaves_what_lives(world: World) -> None:
    """A deletion that waited for the index comes to a document that was brought in again since: it stays searchable."""
    document = await world.bring("again", TEXT)
    gone = await world.bring("gone", f"{TEXT} It goes.")
    await world.documents.save(replace(gone, deleted_at=1.0))
    now = time.time()
    await world.jobs.put(
        [
            Job(digest("delete", each), JobKind.DELETE, "", each, created_at=now, updated_at=now)
            for each in (document.id, gone.id)
        ]
    )
    await world.servicer.delete(await world.claim(JobKind.DELETE))
    await world.check_indexed(document)


@pytest.mark.promise(2)
async def test_the_sweep_mends(world: World) -> None:
    """What nobody asked for is asked for, deleted documents lose their chunks, failed jobs become reasons."""
    lost = await world.add("lost", TEXT)
    buried = await world.bring("buried", TEXT)
    await world.documents.save(replace(buried, deleted_at=1.0))
    failed = await world.add("failed", TEXT)
    (id,) = await world.ask(failed)
    await world.jobs.cancel(id, 1.0)
    assert await sweep(world.documents, world.jobs, world.generations, world.featurizer, settled=60.0) == 0
    assert await sweep(world.documents, world.jobs, world.generations, world.featurizer, settled=-1.0) == 3
    await world.work()
    await world.check_indexed(lost)
    assert (await world.get(failed.id)).state == "failed"
    assert await sweep(world.documents, world.jobs, world.generations, world.featurizer, settled=-1.0) == 0


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Feature]:
    made = await build(
        Settings(data_dir=tmp_path, encoder_url="hashing://32", feature_linger_seconds=0, feature_batch=4)
    )
    await made.start()
    yield made
    await made.stop()


async def test_workers_do_the_jobs(running: Feature, tmp_path: Path) -> None:
    """Built from settings, it works by itself: documents become searchable, a reindex is watched to its end."""
    wanted = []
    for number in range(20):
        document = Document(
            id=document_id("author", str(number)),
            author="author",
            url=f"file:{number}",
            source_id="s",
            kind=SourceKind.FILE,
            title=str(number),
        )
        await running.documents.save(document, text=f"{TEXT}\n\n{number}")
        wanted.append((document.id, 1, "author"))
    server = rpc.Server(f"unix:{tmp_path}/f.sock", running.services)
    await server.start()
    channel = rpc.connect(server.address)
    feature = clients.Feature(channel)
    await feature.featurize(wanted)
    async with asyncio.timeout(100):
        while len((await running.documents.find(INDEXED)).documents) < 20:
            await asyncio.sleep(0.05)
        job = await feature.reindex()
        states = [each.state async for each in feature.watch_reindex(job.id)]
    assert states[-1] == "done"
    await channel.close()
    await server.stop(0)


async def test_a_new_index_is_filled_with_what_is_there(tmp_path: Path) -> None:
    """Where the setting names another index, or the old one is lost, the documents go into the new one."""
    settings = Settings(data_dir=tmp_path, encoder_url="hashing://32")
    for url in ("sqlite:///one.db", "sqlite:///two.db"):
        made = await build(settings.model_copy(update={"index_url": url}))
        await made.start()
        id = document_id("author", "a")
        if url == "sqlite:///one.db":
            document = Document(id, "author", "file:a", "s", SourceKind.FILE, "a", updated_at=1.0)
            await made.documents.save(document, text=TEXT)
        # Its own sweep may have been faster.
        await sweep(made.documents, made.jobs, made.generations, made.featurizer, settled=-1.0)
        async with asyncio.timeout(100):
            while not await (await made.generations.current())[0].index.versions([id]):
                await asyncio.sleep(0.05)
        await made.stop()
