"""Rate limits in the process's memory: a moving window a key.

Comes in: `memory://`. Goes out: the port Limits. Does not know: what is limited.

With several processes each counts for itself; limits_redis.py counts for all. The library `limits` has a store in
memory too, which starts a thread for each hit: it took a quarter of a request's time.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from services.errors import Misconfigured
from services.ports import Limits

WINDOW = 60.0
"""Seconds."""
SWEEP = 10_000
"""Hits after which keys that are not used any more are forgotten."""


async def open(url: str, data_dir: Path) -> Limits:
    if url != "memory://":
        raise Misconfigured("TWIN_LIMITS_URL: memory:// takes nothing more.")
    return MemoryLimits()


class MemoryLimits:
    def __init__(self) -> None:
        self._hits: dict[str, deque[float]] = {}
        self._count = 0

    async def hit(self, key: str, per_minute: int) -> float:
        now = time.monotonic()
        self._count += 1
        if self._count % SWEEP == 0:
            self._hits = {each: hits for each, hits in self._hits.items() if hits and hits[-1] > now - WINDOW}
        hits = self._hits.setdefault(key, deque())
        while hits and hits[0] <= now - WINDOW:
            hits.popleft()
        if len(hits) < per_minute:
            hits.append(now)
            return 0.0
        # Room there is when so many of the oldest have left the window that fewer than `per_minute` are in it.
        return max(0.001, hits[len(hits) - per_minute] + WINDOW - now) if per_minute > 0 else WINDOW

    async def close(self) -> None:
        """Holds nothing."""
