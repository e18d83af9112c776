from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest_asyncio

from services.crawler.sandbox import Sandbox
from tests.crawler.site import Site
from tests.crawler.world import World, open_world

Opener = Callable[..., Awaitable[World]]


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def readers() -> AsyncIterator[Sandbox]:
    """One process that reads documents, for all tests: it takes most of a second to start."""
    made = Sandbox(size=1, memory=2 << 30)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="package")
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="package")
async def open_crawler(tmp_path: Path, readers: Sandbox) -> AsyncIterator[Opener]:
    """Opens crawlers on one data directory; settings by name."""
    opened: list[World] = []

    async def open_one(**settings: object) -> World:
        opened.append(await open_world(tmp_path / "data", readers=readers, **settings))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()


@pytest_asyncio.fixture(loop_scope="package")
async def world(open_crawler: Opener) -> World:
    """A crawler that may reach loopback and read every folder."""
    return await open_crawler()
