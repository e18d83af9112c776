"""The adapters that every contract runs through: one more is added by one more entry here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.adapters import limits_redis, open_adapter
from services.ports import Audit, Blobs, Documents, Jobs, Journal, Keys, Limits, Queue, Sources

STORES = ("sqlite", "mongodb")
"""Documents, jobs, sources, blobs, journal, keys and audit."""
DOORBELLS = ("memory", "redis")
"""Queues and limits."""


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest) -> str:
    """Of an empty store."""
    return "sqlite:///twin.db" if request.param == "sqlite" else str(request.getfixturevalue("mongodb_url"))


async def _opened(port: str, url: str, data_dir: Path) -> AsyncIterator[Any]:
    adapter = await open_adapter(port, url, data_dir)
    yield adapter
    await adapter.close()
    await adapter.close()


@pytest.fixture
async def documents(store_url: str, tmp_path: Path) -> AsyncIterator[Documents]:
    async for adapter in _opened("documents", store_url, tmp_path):
        yield adapter


@pytest.fixture
async def jobs(store_url: str, tmp_path: Path) -> AsyncIterator[Jobs]:
    async for adapter in _opened("jobs", store_url, tmp_path):
        yield adapter


@pytest.fixture
async def sources(store_url: str, tmp_path: Path) -> AsyncIterator[Sources]:
    async for adapter in _opened("sources", store_url, tmp_path):
        yield adapter


@pytest.fixture
async def blobs(store_url: str, tmp_path: Path) -> AsyncIterator[Blobs]:
    async for adapter in _opened("blobs", store_url, tmp_path):
        yield adapter


@pytest.fixture
async def journal(store_url: str, tmp_path: Path) -> AsyncIterator[Journal]:
    async for adapter in _opened("journal", store_url, tmp_path):
        yield adapter


@pytest.fixture
async def keys(store_url: str, tmp_path: Path) -> AsyncIterator[Keys]:
    async for adapter in _opened("keys", store_url, tmp_path):
        yield adapter


@pytest.fixture
async def audit(store_url: str, tmp_path: Path) -> AsyncIterator[Audit]:
    async for adapter in _opened("audit", store_url, tmp_path):
        yield adapter


@pytest.fixture(params=DOORBELLS)
def doorbell_url(request: pytest.FixtureRequest) -> str:
    """Of a queue or of limits that nobody else uses."""
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


@pytest.fixture
async def queue(doorbell_url: str, tmp_path: Path) -> AsyncIterator[Queue]:
    async for adapter in _opened("queue", doorbell_url, tmp_path):
        yield adapter


@pytest.fixture
async def limits(doorbell_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Limits]:
    # A hit for which Redis was late on a busy machine would not be counted.
    monkeypatch.setattr(limits_redis, "PATIENCE", 60.0)
    async for adapter in _opened("limits", doorbell_url, tmp_path):
        yield adapter
