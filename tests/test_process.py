"""A service as a process of its own: health that tells the truth."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import pytest

from services import process, telemetry
from services.adapters import open_adapter
from services.errors import Misconfigured, Unavailable
from services.ports import Documents
from services.retriever import bootstrap
from services.settings import read


async def test_health_follows_the_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away, hanging or faulty stores make it not ready, each change is told once, and it recovers by itself."""
    monkeypatch.setattr(process, "HEALTH_SECONDS", 0.01)
    monkeypatch.setattr(process, "HEALTH_PATIENCE", 0.05)
    told: list[bool] = []
    answers: list[Exception | float | None] = [None, Unavailable("away"), None, RuntimeError("odd"), None, 3600.0, None]

    async def ask() -> None:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        elif answer is not None:
            raise answer

    async def tell(serving: bool) -> None:
        told.append(serving)

    watching = asyncio.create_task(process.watch(ask, tell))
    async with asyncio.timeout(60):
        while len(told) < 6:
            await asyncio.sleep(0.01)
    assert told == [False, True] * 3
    watching.cancel()


async def test_a_store_may_be_away_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again until it answers, and given up in the end; what is set wrongly is not tried again."""
    monkeypatch.setattr(process, "START_SECONDS", 0.001)
    tries: list[Exception] = [Unavailable("away"), Unavailable("away")]

    async def build() -> str:
        if tries:
            raise tries.pop(0)
        return "built"

    assert await process.patiently(build) == "built"
    tries[:] = [Misconfigured("wrong")]
    with pytest.raises(Misconfigured):
        await process.patiently(build)
    monkeypatch.setattr(process, "START_PATIENCE", 0.05)
    tries[:] = [Unavailable("away")] * 10_000
    with pytest.raises(Unavailable):
        await process.patiently(build)


async def test_what_a_failed_start_has_opened_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each try opens its own adapters; those of the tries that failed do not stay open beside them."""
    monkeypatch.setattr(process, "START_SECONDS", 0.0)
    opened: list[Documents] = []

    async def build() -> Documents:
        opened.append(await open_adapter("documents", "sqlite:///", tmp_path))
        if len(opened) < 3:
            raise Unavailable("away")
        return opened[-1]

    made = await process.patiently(build)
    assert await made.get(["-"]) == {}
    for each in opened[:-1]:
        with pytest.raises(Unavailable):
            await each.get(["-"])
    await made.close()


def test_where_metrics_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the address that is set; nowhere where that is off, as an environment says it; a wrong one is refused."""
    monkeypatch.setenv("TWIN_RETRIEVER_METRICS", "off")
    assert telemetry.serve_metrics(read(bootstrap.Settings).retriever_metrics) is None
    port = telemetry.serve_metrics("127.0.0.1:0")
    assert b"# HELP" in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read()
    for wrong in ("9051", "localhost:port", ""):
        with pytest.raises(Misconfigured, match="or off"):
            telemetry.serve_metrics(wrong)
