"""How gently one host is asked: so many requests at once, so long between two.

Comes in: a host. Goes out: a context in which one request may be made. Does not know: HTTP, robots.txt.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOSTS = 10_000
"""Remembered; the one not visited for longest is forgotten first."""
LONGEST_DELAY = 30.0
"""Seconds; a robots.txt that asks for more gets this (most large crawlers cap it likewise)."""


class _Host:
    __slots__ = ("busy", "free_at", "slots")

    def __init__(self, concurrency: int) -> None:
        self.slots = asyncio.Semaphore(concurrency)
        self.free_at = 0.0
        self.busy = 0


class Politeness:
    def __init__(self, *, delay: float, concurrency: int) -> None:
        """`delay`: seconds between the beginnings of two requests to one host; `concurrency`: requests at once."""
        self._delay = delay
        self._concurrency = concurrency
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    @asynccontextmanager
    async def turn(self, host: str, asked: float = 0.0) -> AsyncIterator[None]:
        """Waits for this host's next turn. `asked`: the delay that the host itself asks for."""
        known = self._hosts.setdefault(host, _Host(self._concurrency))
        self._hosts.move_to_end(host)
        known.busy += 1
        try:
            async with known.slots:
                now = time.monotonic()
                begin = max(now, known.free_at)
                known.free_at = begin + min(max(self._delay, asked), LONGEST_DELAY)
                if begin > now:
                    await asyncio.sleep(begin - now)
                yield
        finally:
            known.busy -= 1
            self._forget()

    def _forget(self) -> None:
        while len(self._hosts) > HOSTS:
            name, oldest = next(iter(self._hosts.items()))
            if oldest.busy:
                return
            del self._hosts[name]
