"""Rate limits in the process's memory: a moving window a key.

Comes in: `memory://`. Goes out: the port Limits. Does not know: what is limited.

With several processes each counts for itself; limits_redis.py counts for all.
"""

from __future__ import annotations

import time
from pathlib import Path

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from services.ports import Limits


async def open(url: str, data_dir: Path) -> Limits:
    return MemoryLimits()


class MemoryLimits:
    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._window = MovingWindowRateLimiter(self._storage)

    async def hit(self, key: str, per_minute: int, cost: int = 1) -> float:
        # A few microseconds under a lock in memory: no thread needed.
        limit = RateLimitItemPerMinute(per_minute)
        if self._window.hit(limit, key, cost=cost):
            return 0.0
        return max(0.001, self._window.get_window_stats(limit, key).reset_time - time.time())

    async def close(self) -> None:
        self._storage.timer.cancel()
