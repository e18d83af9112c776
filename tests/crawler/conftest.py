from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.crawler.site import Site
from tests.crawler.world import World, open_world

Opener = Callable[..., Awaitable[World]]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def open_crawler(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens crawlers on one data directory; settings by name."""
    opened: list[World] = []

    async def open_one(**settings: object) -> World:
        opened.append(await open_world(tmp_path / "data", **settings))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()


@pytest.fixture
async def world(open_crawler: Opener) -> World:
    """A crawler that may reach loopback and read every folder."""
    return await open_crawler()
