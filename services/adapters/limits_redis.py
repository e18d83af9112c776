"""Rate limits in Redis: a moving window a key, counted for all processes together.

Comes in: `redis://[:PASSWORD@]HOST:6379/0`, or `rediss://` for TLS (redis_url.py), with `?on_failure=open` (requests
pass while Redis is away: the default) or `closed` (they are refused), and `?prefix=` (what keys begin with). Goes out:
the port Limits. Does not know: what is limited.

One script looks and counts in one step, by the clock of Redis: exact across processes, whatever their clocks say. After
a failure Redis is left alone for PAUSE seconds, so that a dead one costs nearly nobody anything.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.adapters import redis_url
from services.errors import Misconfigured, Unavailable
from services.ports import Limits

PATIENCE = 0.5
"""Seconds that Redis has to answer: it takes less than a millisecond, a busy event loop some more."""
PAUSE = 2.0
CONNECTIONS = 16
"""At once, from one process; who comes meanwhile waits for one."""

HIT = """
local window, limit, hits = 60000000, tonumber(ARGV[1]), KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', hits, '-inf', now - window)
local count, wait = redis.call('ZCARD', hits), 0
if count < limit then
    redis.call('ZADD', hits, now, redis.call('INCR', KEYS[2]))
else
    local leaving = redis.call('ZRANGE', hits, count - limit, count - limit, 'WITHSCORES')
    wait = #leaving == 0 and window or math.max(tonumber(leaving[2]) + window - now, 1000)
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, window / 1000 + 1000) end
return wait
"""
"""Hits (their numbers, by time) and the number of the last → microseconds to wait. Room there is when so many of the
oldest have left the window that fewer than `limit` are in it."""

log = structlog.get_logger(__name__)


async def open(url: str, data_dir: Path) -> Limits:
    bare, given, tls = redis_url.read(url, "TWIN_LIMITS", ("on_failure", "prefix"))
    failing = given.get("on_failure", "open")
    if failing not in ("open", "closed"):
        raise Misconfigured("TWIN_LIMITS_URL: ?on_failure= is open or closed.")
    client: Redis = Redis.from_url(
        bare,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        # A connection that a restart has cut is made again at once.
        retry=Retry(NoBackoff(), 1),
        **(tls or {}),
    )
    return RedisLimits(client, given.get("prefix", ""), closed=failing == "closed")


class RedisLimits:
    def __init__(self, client: Redis, prefix: str, closed: bool) -> None:
        self._client = client
        self._script: Any = client.register_script(HIT)
        self._prefix = prefix
        self._closed = closed
        self._away_until = 0.0
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def hit(self, key: str, per_minute: int) -> float:
        # The braces keep a key's two names on one shard of a cluster.
        base = f"{self._prefix}twin.hits.{{{key}}}"
        async with self._room:
            if time.monotonic() < self._away_until:
                return self._uncounted()
            try:
                async with asyncio.timeout(PATIENCE):
                    wait = await self._script(keys=[base, f"{base}.number"], args=[per_minute])
            except (RedisError, OSError, TimeoutError) as error:
                if time.monotonic() >= self._away_until:
                    log.warning("limits.redis: requests are not counted", error=type(error).__name__)
                self._away_until = time.monotonic() + PAUSE
                return self._uncounted()
        return float(wait) / 1e6

    async def close(self) -> None:
        await self._client.aclose()

    def _uncounted(self) -> float:
        if self._closed:
            raise Unavailable("Requests cannot be counted at the moment: try again later.", retry_after=PAUSE)
        return 0.0
