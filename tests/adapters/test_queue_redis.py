"""The doorbell over Redis: between processes, over TLS, and after all that may befall Redis or a worker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from services.adapters import open_adapter, queue_redis
from services.errors import Misconfigured
from services.ports import Queue
from tests.adapters.own_redis import OwnRedis
from tests.contracts.test_queue import eventually

RINGING = """
import asyncio, sys
from pathlib import Path
from services.adapters import open_adapter

async def main():
    for line in sys.stdin:
        url, topic = line.split()
        queue = await open_adapter("queue", url, Path())
        await queue.ring(topic)
        await queue.close()
        print("rung", flush=True)

asyncio.run(main())
"""


class Elsewhere:
    """Another process, which rings and does not listen."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def ring(self, url: str, topic: str = "crawl") -> None:
        await asyncio.to_thread(self._ring, url, topic)

    def _ring(self, url: str, topic: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(url, topic, file=self._process.stdin, flush=True)
        assert "rung" in self._process.stdout.readline()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    arguments = [sys.executable, "-c", RINGING]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Elsewhere(process)
        process.kill()


class Answers:
    """How often it was answered."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1

    async def more(self, seconds: float = 60.0) -> None:
        before = self.count
        await eventually(lambda: self.count > before, seconds)


@pytest.fixture
def answers() -> Answers:
    return Answers()


async def opened(url: str, answers: Answers, tmp_path: Path) -> Queue:
    queue: Queue = await open_adapter("queue", url, tmp_path)
    await queue.listen("crawl", answers)
    return queue


async def test_a_ring_crosses_processes(redis_url: str, answers: Answers, elsewhere: Elsewhere, tmp_path: Path) -> None:
    """What one process rings, and ends, another's listener answers, also one that comes later; other topics it does
    not hear."""
    await elsewhere.ring(redis_url)
    queue = await opened(redis_url, answers, tmp_path)
    await eventually(lambda: answers.count == 1)
    await elsewhere.ring(redis_url, "featurize")
    await elsewhere.ring(redis_url)
    await eventually(lambda: answers.count == 2)
    await queue.close()


async def test_a_dead_redis_holds_nobody_up(answers: Answers, tmp_path: Path) -> None:
    """A ring returns at once, and who listens in the same process answers all the same."""
    queue = await opened("redis://127.0.0.1:9/0", answers, tmp_path)
    seconds = []
    for _ in range(100):
        began = time.monotonic()
        await queue.ring("crawl")
        seconds.append(time.monotonic() - began)
    assert sorted(seconds)[90] < 0.05
    await eventually(lambda: answers.count > 0)
    await queue.close()


async def test_redis_emptied_and_killed(
    own_redis: OwnRedis, answers: Answers, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """After Redis lost all it held, and after it was killed and came back, the same listener answers other processes;
    a ring made while it was away is sent when it is back."""
    queue = await opened(own_redis.url, answers, tmp_path)
    await elsewhere.ring(own_redis.url)
    await eventually(lambda: answers.count > 0)
    with Redis.from_url(own_redis.url) as client:
        client.flushall()
    await asyncio.gather(elsewhere.ring(own_redis.url), answers.more())
    own_redis.kill()
    await asyncio.gather(queue.ring("featurize"), queue.ring("crawl"), answers.more())
    own_redis.start()
    await asyncio.gather(elsewhere.ring(own_redis.url), answers.more())
    with Redis.from_url(own_redis.url) as client:
        await eventually(lambda: client.llen("twin.ring.featurize") == 1)
    await queue.close()


async def test_a_deaf_worker_is_replaced(
    redis_url: str, answers: Answers, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose beats don't come back, for it does not consume any more, is replaced while its process goes on."""
    monkeypatch.setattr(queue_redis, "BEAT", 0.1)
    queue = await opened(redis_url, answers, tmp_path)
    await queue.ring("crawl")
    await eventually(lambda: answers.count > 0)
    bell = queue_redis._bells[redis_url]
    await eventually(lambda: bell._worker is not None)
    deaf = bell._worker
    assert deaf is not None
    deaf._worker.stop()
    await eventually(lambda: bell._worker not in (deaf, None))
    await asyncio.gather(elsewhere.ring(redis_url), answers.more())
    await queue.close()


async def test_over_tls(own_redis: OwnRedis, answers: Answers, elsewhere: Elsewhere, tmp_path: Path) -> None:
    """rediss:// with the authority to believe; with another it is not believed."""
    queue = await opened(own_redis.tls_url, answers, tmp_path)
    await elsewhere.ring(own_redis.tls_url)
    await eventually(lambda: answers.count > 0)
    await queue.close()
    doubting = await open_adapter("queue", own_redis.tls_url.partition("?")[0], tmp_path)
    await doubting.ring("crawl")
    await doubting.close()
    with Redis.from_url(own_redis.url) as client:
        assert client.llen("twin.ring.crawl") == 0


async def test_rings_without_a_listener_don_t_pile_up(redis_url: str, tmp_path: Path) -> None:
    """A topic that nobody listens to holds a few rings, however often it is rung."""
    queue: Queue = await open_adapter("queue", redis_url, tmp_path)
    for _ in range(200):
        await queue.ring("crawl")
        await asyncio.sleep(0.005)
    await queue.close()
    with Redis.from_url(redis_url.partition("?")[0]) as client:
        assert 0 < client.llen(redis_url.partition("prefix=")[2] + "twin.ring.crawl") <= queue_redis.WAITING


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "1e9", "nan"])
async def test_a_wrong_option_is_refused(seconds: str, tmp_path: Path) -> None:
    """With what is wrong, and without the password; a wrong address is test_address.py's."""
    with pytest.raises(Misconfigured, match="visibility_timeout") as raised:
        await open_adapter("queue", f"redis://:secret@127.0.0.1/0?visibility_timeout={seconds}", tmp_path)
    assert "secret" not in raised.value.message
