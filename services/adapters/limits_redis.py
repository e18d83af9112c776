"""Rate limits in Redis: a moving window a key, counted for all processes together.

Comes in: `redis://[:PASSWORD@]HOST:6379/0`, or `rediss://` for TLS, with `?on_failure=open` (requests pass while Redis
is away: the default) or `closed` (they are refused), and `?prefix=` (what keys begin with). Goes out: the port Limits.
Does not know: what is limited.

One script looks and counts in one step, by the clock of Redis: exact across processes, whatever their clocks say. After
a failure Redis is left alone for PAUSE seconds, so that a dead one costs nearly nobody anything.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.errors import Misconfigured, Unavailable
from services.ports import Limits

PATIENCE = 0.5
"""Seconds that Redis has to answer: it takes less than a millisecond, a busy event loop some more."""
PAUSE = 2.0
CONNECTIONS = 16
"""At once, from one process; who comes meanwhile waits for one."""

HIT = """
local window, limit, cost = 60000000, tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local entries, total = KEYS[1], tonumber(redis.call('GET', KEYS[2]) or '-1')
local function costs(members)
    local sum = 0
    for _, member in ipairs(members) do sum = sum + tonumber(string.match(member, '%d+$')) end
    return sum
end
local old = redis.call('ZRANGEBYSCORE', entries, '-inf', now - window)
if #old > 0 then redis.call('ZREMRANGEBYSCORE', entries, '-inf', now - window) end
if total < 0 then total = costs(redis.call('ZRANGE', entries, 0, -1)) else total = total - costs(old) end
local wait = 0
if total + cost <= limit then
    redis.call('ZADD', entries, now, string.format('%.0f:%s:%d', now, redis.call('INCR', KEYS[3]), cost))
    total = total + cost
elseif cost > limit then
    wait = window
else
    local free, at = limit - total, 0
    while free < cost do
        local oldest = redis.call('ZRANGE', entries, at, at, 'WITHSCORES')
        if #oldest == 0 then break end
        free, at = free + costs({oldest[1]}), at + 1
        wait = tonumber(oldest[2]) + window - now
    end
    wait = math.max(wait, 1000)
end
redis.call('SET', KEYS[2], total)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, window / 1000 + 1000) end
return wait
"""
"""Entries (`time:number:cost`, by time), the sum of their costs, and a number for each → microseconds to wait."""

log = structlog.get_logger(__name__)


async def open(url: str, data_dir: Path) -> Limits:
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    failing, prefix = given.pop("on_failure", "open"), given.pop("prefix", "")
    try:
        if failing not in ("open", "closed"):
            raise ValueError("on_failure is open or closed")
        unknown = [name for name in given if not name.startswith("ssl_")]
        if unknown:
            raise ValueError(f"it takes no {', '.join(sorted(unknown))}")
        client: Redis = Redis.from_url(
            urlunsplit(parts._replace(query=urlencode(given))),
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            # A connection that a restart has cut is made again at once.
            retry=Retry(NoBackoff(), 1),
        )
    except (ValueError, TypeError) as error:
        raise Misconfigured(
            f"TWIN_LIMITS_URL is wrong: {error}. It is redis://HOST:6379/0?on_failure=open (docs/settings.md)."
        ) from None
    return RedisLimits(client, prefix, closed=failing == "closed")


class RedisLimits:
    def __init__(self, client: Redis, prefix: str, closed: bool) -> None:
        self._client = client
        self._script: Any = client.register_script(HIT)
        self._prefix = prefix
        self._closed = closed
        self._away_until = 0.0
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def hit(self, key: str, per_minute: int, cost: int = 1) -> float:
        # The braces keep a key's three names on one shard of a cluster.
        base = f"{self._prefix}twin.limits.{{{key}}}"
        async with self._room:
            if time.monotonic() < self._away_until:
                return self._uncounted()
            try:
                async with asyncio.timeout(PATIENCE):
                    wait = await self._script(keys=[base, f"{base}.sum", f"{base}.number"], args=[per_minute, cost])
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
