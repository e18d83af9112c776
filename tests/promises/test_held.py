"""Promise 1: work that another run holds under a lease. An ingest has ended only when its documents are searchable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from services import clients, rpc, settings
from services.clients import SourceSpec
from services.crawler import bootstrap as crawler
from services.domain import EVERYONE, Crawl, Filter, Job, JobKind, JobState
from services.feature import bootstrap as feature

ENCODER = "hashing://384"
HELD = 600.0
"""Seconds of the other run's lease: no test waits for its end."""


@asynccontextmanager
async def parts(data: Path) -> AsyncIterator[tuple[crawler.CrawlerService, feature.Feature]]:
    """A crawler at work, and a feature service that takes requests and does not work before its `start`."""
    given = {"data_dir": data, "encoder_url": ENCODER}
    async with AsyncExitStack() as stack:
        address = f"unix:{stack.enter_context(tempfile.TemporaryDirectory(prefix='twin-'))}/feature.sock"
        indexing = await feature.build(settings.read(feature.Settings, **given))
        stack.push_async_callback(indexing.stop, 1)
        server = rpc.Server(address, indexing.services)
        await server.start()
        stack.push_async_callback(server.stop, 1)
        channel = rpc.connect(address)
        stack.push_async_callback(channel.close)
        crawling = await crawler.build(settings.read(crawler.EmbeddedSettings, **given), clients.Feature(channel))
        stack.push_async_callback(crawling.stop, 1)
        await crawling.start()
        yield crawling, indexing


def notes(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ledger.md").write_text("# Ledger\n\nThe ledger was closed by hand.\n", encoding="utf-8")
    return folder


async def held(crawling: crawler.CrawlerService, indexing: feature.Feature, folder: Path) -> tuple[Crawl, Job]:
    """An ingest of the folder whose one document another run has taken on and does not bring in."""
    first = await crawling.ingests.start("alpha", [SourceSpec(str(folder))], EVERYONE)
    async for shown in crawling.ingests.watch(first.id, EVERYONE):
        assert not shown.state.ended
        if shown.documents_queued:
            break
    (job,) = await indexing.jobs.claim(JobKind.FEATURIZE, "another run", time.time(), HELD)
    return first, job


async def searchable(indexing: feature.Feature) -> int:
    live = (await indexing.generations.current())[0]
    return len(await live.index.text("ledger", 10, EVERYONE, Filter()))


@pytest.mark.promise(1)
async def test_an_ingest_of_what_another_run_holds_is_watched_to_its_end(tmp_path: Path) -> None:
    """It goes on while the other holds the document, says done when it is searchable and not before, and does not
    wait for the other's lease; the other's ingest has not ended until that is given back."""
    folder = notes(tmp_path / "notes")
    async with parts(tmp_path / "data") as (crawling, indexing):
        first, job = await held(crawling, indexing, folder)
        second = await crawling.ingests.start("alpha", [SourceSpec(str(folder))], EVERYONE)
        working = False
        async for shown in crawling.ingests.watch(second.id, EVERYONE):
            if shown.state.ended:
                break
            if not working and shown.sources[0].state is JobState.DONE:
                # The crawl is over: what is left is the document that the other holds.
                assert (shown.state, shown.documents_queued) == (JobState.RUNNING, 1)
                assert await searchable(indexing) == 0
                await indexing.start()
                working = True
        assert working
        assert await searchable(indexing) == 1
        assert (shown.state, shown.documents_indexed, shown.documents_failed) == (JobState.DONE, 1, 0)
        assert (await crawling.ingests.get(first.id, EVERYONE)).state is JobState.RUNNING
        known = await indexing.jobs.get(job.id)
        assert known is not None
        assert (known.state, known.worker) == (JobState.RUNNING, "another run")


@pytest.mark.promise(1)
async def test_the_command_ends_when_what_another_run_holds_is_searchable(tmp_path: Path) -> None:
    """`twin ingest` of a document that a run which is gone holds: it says done, and the document is found."""
    folder, data = notes(tmp_path / "notes"), tmp_path / "data"
    async with parts(data) as (crawling, indexing):
        await held(crawling, indexing, folder)
        assert await searchable(indexing) == 0
    environment = {**os.environ, "TWIN_DATA_DIR": str(data), "TWIN_ENCODER_URL": ENCODER}
    environment.pop("TWIN_URL", None)
    words = ("ingest", str(folder), "--author", "alpha", "--json")
    ended = subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr
    job = json.loads(ended.stdout)
    assert (job["state"], job["documents"]) == ("done", {"queued": 0, "indexed": 1, "failed": 0})
    indexing = await feature.build(settings.read(feature.Settings, data_dir=data, encoder_url=ENCODER))
    try:
        assert await searchable(indexing) == 1
    finally:
        await indexing.stop(1)
