"""The web as the crawler may use it: guarded, allowed by robots.txt, polite.

Comes in: URLs. Goes out: what fetch.py brings. Does not know: documents, jobs.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.crawler.address import origin
from services.crawler.fetch import Fetched, Fetcher
from services.crawler.politeness import Politeness
from services.crawler.robots import LARGEST, Robots

KEPT_SECONDS = 30.0
"""For which a response kept by `keep` is taken as the present one."""


class Web:
    def __init__(self, fetcher: Fetcher, politeness: Politeness, *, agent: str) -> None:
        """`agent`: the product token that a robots.txt names us by."""
        self._fetcher = fetcher
        self._politeness = politeness
        self.robots = Robots(self._robots_txt, agent=agent)
        self._ahead: dict[str, tuple[float, Fetched]] = {}

    def keep(self, url: str, fetched: Fetched) -> None:
        """What was fetched to find out what it is need not be fetched again to be read: the next fetch gets it."""
        self._ahead[url] = (time.monotonic(), fetched)
        while len(self._ahead) > 8:
            del self._ahead[next(iter(self._ahead))]

    async def fetch(
        self, url: str, *, etag: str = "", last_modified: str = "", max_bytes: int | None = None
    ) -> Fetched:
        """As Fetcher.fetch; Forbidden where robots.txt does not allow the address or one it redirects to."""
        at, ahead = self._ahead.pop(url, (0.0, None))
        if ahead is not None and time.monotonic() - at < KEPT_SECONDS:
            return ahead
        return await self._fetcher.fetch(url, self._visit, etag=etag, last_modified=last_modified, max_bytes=max_bytes)

    async def sitemaps(self, url: str) -> list[str]:
        """Those that the host's robots.txt names."""
        return await self.robots.sitemaps(url)

    @asynccontextmanager
    async def _visit(self, url: str) -> AsyncIterator[None]:
        await self.robots.check(url)
        async with self._politeness.turn(origin(url), await self.robots.delay(url)):
            yield

    @asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[None]:
        async with self._politeness.turn(origin(url)):
            yield

    async def _robots_txt(self, url: str) -> bytes:
        # Larger ones are read as far as the standard demands and no further.
        fetched = await self._fetcher.fetch(url, self._turn, accept="text/plain", max_bytes=LARGEST, truncate=True)
        # A line that is cut off says something else, such as "Disallow: /".
        return fetched.body[: fetched.body.rfind(b"\n") + 1] if fetched.truncated else fetched.body

    async def close(self) -> None:
        await self._fetcher.close()
