"""Limits in Redis: exact across processes, over TLS, and cheap where Redis is dead."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.adapters import limits_redis, open_adapter
from services.errors import Misconfigured, Unavailable
from services.ports import Limits
from tests.adapters.own_redis import OwnRedis

HITS = """
import asyncio, sys
from pathlib import Path
from services.adapters import limits_redis, open_adapter

limits_redis.PATIENCE = 60
async def main(url):
    limits = await open_adapter("limits", url, Path())
    await asyncio.gather(*(limits.hit("other", 1000) for _ in range(32)))
    print("ready", flush=True)
    for line in sys.stdin:
        hits, allowed = map(int, line.split())
        waits = await asyncio.gather(*(limits.hit("key", allowed) for _ in range(hits)))
        print(sum(wait == 0 for wait in waits), flush=True)
    await limits.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Redis has as long as it likes, for a hit that it is late for is not counted; in a test of that, this long."""
    before = limits_redis.PATIENCE
    monkeypatch.setattr(limits_redis, "PATIENCE", 60.0)
    return before


async def test_exact_across_processes(redis_url: str) -> None:
    """Of 200 hits that two processes make at once, exactly as many pass as there is room for."""
    with ExitStack() as running:
        arguments = [sys.executable, "-c", HITS, redis_url]
        made = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        both = [running.enter_context(each) for each in made]

        async def hear() -> list[str]:
            return await asyncio.gather(*(asyncio.to_thread(each.stdout.readline) for each in both if each.stdout))

        assert await hear() == ["ready\n"] * 2
        for each in both:
            print(100, 37, file=each.stdin, flush=True)
        assert sum(int(said) for said in await hear()) == 37


async def test_a_window_moves(redis_url: str, tmp_path: Path) -> None:
    """What is asked to wait for is when the oldest hits that are in the way leave the window of a minute."""
    limits: Limits = await open_adapter("limits", redis_url, tmp_path)
    began, ended = [], []
    for _ in range(3):
        began.append(time.time())
        assert await limits.hit("key", 3) == 0
        ended.append(time.time())
        await asyncio.sleep(0.3)
    for allowed, leaving in ((3, 0), (2, 1), (1, 2)):
        asked = time.time()
        wait = await limits.hit("key", allowed)
        # Between the moments before and after, for Redis looked at its clock within them.
        assert began[leaving] + 60 <= time.time() + wait + 0.01
        assert asked + wait <= ended[leaving] + 60 + 0.01
    await limits.close()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_dead_redis_costs_milliseconds(
    own_redis: OwnRedis, tmp_path: Path, how: str, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open: requests pass; closed: they are refused with when to come again; neither waits for long, and of a thousand
    hardly any waits at all. When Redis is back it counts again, with a script that it had forgotten."""
    opened: Limits = await open_adapter("limits", f"{own_redis.url}/0", tmp_path)
    closed: Limits = await open_adapter("limits", f"{own_redis.url}/1?on_failure=closed", tmp_path)
    assert await opened.hit("key", 1) == await closed.hit("key", 1) == 0
    assert await opened.hit("key", 1) > 0
    monkeypatch.setattr(limits_redis, "PATIENCE", patience)
    if how == "killed":
        own_redis.kill()
    else:
        own_redis.signal(signal.SIGSTOP)
    seconds = []
    for _ in range(500):
        began = time.monotonic()
        assert await opened.hit("key", 1) == 0
        with pytest.raises(Unavailable) as raised:
            await closed.hit("key", 1)
        assert raised.value.retry_after
        seconds.append(time.monotonic() - began)
    assert sorted(seconds)[450] < 0.05
    if how == "killed":
        own_redis.start()
    else:
        own_redis.signal(signal.SIGCONT)
    async with asyncio.timeout(60):
        while await opened.hit("key", 1) == 0:
            await asyncio.sleep(0.05)
        while True:
            try:
                await closed.hit("other", 1)
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    await opened.close()
    await closed.close()


async def test_over_tls(own_redis: OwnRedis, tmp_path: Path) -> None:
    """rediss:// with the authority to believe; with another it is not believed."""
    limits: Limits = await open_adapter("limits", own_redis.tls_url, tmp_path)
    assert await limits.hit("key", 1) == 0
    assert await limits.hit("key", 1) > 0
    await limits.close()
    doubting: Limits = await open_adapter(
        "limits", f"{own_redis.tls_url.partition('?')[0]}?on_failure=closed", tmp_path
    )
    with pytest.raises(Unavailable):
        await doubting.hit("key", 1)
    await doubting.close()


async def test_a_wrong_option_is_refused(tmp_path: Path) -> None:
    """With what is wrong, and without the password; a wrong address is test_address.py's."""
    with pytest.raises(Misconfigured, match="on_failure") as raised:
        await open_adapter("limits", "redis://:secret@127.0.0.1/0?on_failure=perhaps", tmp_path)
    assert "secret" not in raised.value.message
