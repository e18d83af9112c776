"""robots.txt: whether a page may be fetched, and how slowly.

Comes in: URLs. Goes out: yes or no, delays, the sitemaps that a host names. Does not know: who asks, what is fetched.

Source: RFC 9309. Rules are kept for a day at most (2.4); a file that cannot be reached because of the server's or the
network's fault forbids everything (2.3.1.4); one that is not there (4xx) allows everything (2.3.1.3); at least 500 KiB
are read (2.5), and what lies beyond is not.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from services.crawler.address import origin
from services.errors import Forbidden, InvalidInput, NotFound, TwinError, Unavailable

KEPT_SECONDS = 24 * 3600.0
RETRIED_SECONDS = 90.0
"""After which an unreachable robots.txt is asked for again: longer than any fetch waits by itself."""
LARGEST = 512 * 1024
"""Bytes parsed; the standard demands 500 KiB."""
MOST_LINES = 20_000
"""Rules beyond these are dropped: matching is linear in them."""
HOSTS = 1_000
"""Kept in memory."""

Fetch = Callable[[str], Awaitable[bytes]]
"""The bytes of a robots.txt, redirects followed."""


@dataclass(frozen=True, slots=True)
class _Rules:
    parser: Protego | None
    """None: it could not be reached, and nothing may be fetched."""
    until: float
    reason: str = ""


class Robots:
    def __init__(self, fetch: Fetch, *, agent: str, now: Callable[[], float] = time.monotonic) -> None:
        """`agent`: the product token that a robots.txt names us by."""
        self._fetch = fetch
        self._agent = agent
        self._now = now
        self._rules: OrderedDict[str, _Rules] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def check(self, url: str) -> None:
        """Forbidden where robots.txt does not allow the URL."""
        rules = await self._of(url)
        if rules.parser is None:
            raise Unavailable(
                f"The host's robots.txt cannot be read, and until it can nothing else is: {rules.reason}",
                retry_after=RETRIED_SECONDS,
            )
        if not rules.parser.can_fetch(url, self._agent):
            raise Forbidden("The host's robots.txt does not allow this address to be fetched.")

    async def delay(self, url: str) -> float:
        """Seconds between requests that the host asks for; 0 where it asks for none."""
        parser = (await self._of(url)).parser
        if parser is None:
            return 0.0
        asked = parser.crawl_delay(self._agent) or 0.0
        rate = parser.request_rate(self._agent)
        return max(float(asked), rate.seconds / rate.requests if rate and rate.requests else 0.0)

    async def sitemaps(self, url: str) -> list[str]:
        parser = (await self._of(url)).parser
        return [] if parser is None else list(parser.sitemaps)[:100]

    async def _of(self, url: str) -> _Rules:
        host = origin(url)
        lock = self._locks.setdefault(host, asyncio.Lock())
        async with lock:
            known = self._rules.get(host)
            if known is None or known.until < self._now():
                known = await self._ask(host)
                self._rules[host] = known
                self._rules.move_to_end(host)
                while len(self._rules) > HOSTS:
                    dropped, _ = self._rules.popitem(last=False)
                    if not self._locks[dropped].locked():
                        del self._locks[dropped]
            return known

    async def _ask(self, host: str) -> _Rules:
        try:
            body = await self._fetch(f"{host}/robots.txt")
        except (NotFound, InvalidInput):
            body = b""
        except Forbidden as error:
            if error.param == "address":  # the guard's refusal, which holds for the host as a whole
                raise
            body = b""
        except TwinError as error:
            return _Rules(None, self._now() + RETRIED_SECONDS, error.message)
        return _Rules(await asyncio.to_thread(_parse, body), self._now() + KEPT_SECONDS)


def _parse(body: bytes) -> Protego:
    text = body[:LARGEST].decode("utf-8-sig", "replace")
    lines = re.split(r"\r\n|\r|\n", text, maxsplit=MOST_LINES)[:MOST_LINES]
    # A pattern of many stars takes a matcher very long: such a rule is no honest one.
    return Protego.parse("\n".join(line for line in lines if len(line) <= 2048 and line.count("*") <= 8))
