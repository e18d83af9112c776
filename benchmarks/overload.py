"""Twin under ten times the load that its engine can do: `make bench-overload`.

    python -m benchmarks.overload [--slots 16] [--pace 50] [--seconds 30] [--times 10]

A stub engine (Go) has a fixed number of places and writes a word at a fixed pace, so what it can do at best is known.
Twin in front of it (gateway and generator, retrieval off) admits as many as the engine has places for. The load (Go)
begins requests at a fixed rate, whatever becomes of those before, with four keys in turn. Shown:

    goodput     whole answers a second, in the last two thirds of the run, at 1, 2 and `times` times the engine's rate
    refused     429: how long they took, how many took over 100 ms, how many said no Retry-After
    slow        others' answers beside clients that read one byte a second of answers that are as long as may be
    left        200 clients that go away in the middle of their answers at once: when the engine stopped, by its own clock
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.processes import Cluster, cluster, create_key, free_port
from tests.servers.obtain import obtain

WORDS = 20
KEYS = 4
PATIENCE = 5.0
"""Seconds that Twin lets a request wait for its turn."""
SLOW_WORDS = 3000
"""Of an answer that is read slowly: more than what is between Twin and the reader holds."""
LATE_MS = 100.0
STOPS_MS = 1000.0


@dataclass
class Engine:
    """A stub with `slots` places that writes a word every `pace` milliseconds."""

    address: str
    slots: int
    pace: float

    @property
    def best(self) -> float:
        """Answers of WORDS words a second."""
        return self.slots / (WORDS * self.pace / 1000)

    async def stats(self) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return dict((await client.get(f"http://{self.address}/stats")).json())

    async def idle(self, seconds: float = 30) -> None:
        """Until it has nothing to do."""
        async with asyncio.timeout(seconds):
            while (now := await self.stats())["running"] or now["waiting"]:
                await asyncio.sleep(0.05)


@dataclass
class Front:
    """Twin, and how it is asked."""

    made: Cluster
    keys: list[str]

    @property
    def url(self) -> str:
        return f"{self.made.gateways[0]}/v1/chat/completions"

    async def load(
        self, kind: str, number: float, seconds: float, words: int = WORDS, name: str = ""
    ) -> dict[str, Any]:
        """What the load says of itself. `kind`: as benchmarks/load has it."""
        content = f"Say {words} words." + (f" ({name}-NUMBER)" if name else "")
        body = {"model": "twin", "stream": True, "max_tokens": words, "twin": {"k": 0},
                "messages": [{"role": "user", "content": content}]}  # fmt: skip
        command = [
            str(obtain("load")),
            kind,
            self.url,
            ",".join(self.keys),
            str(number),
            str(seconds),
            json.dumps(body),
        ]
        made = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            out, _ = await made.communicate()
        finally:
            if made.returncode is None:
                made.kill()
        assert made.returncode == 0
        return dict(json.loads(out))


@asynccontextmanager
async def engine(slots: int, pace: float) -> AsyncIterator[Engine]:
    address = f"127.0.0.1:{free_port()}"
    made = await asyncio.create_subprocess_exec(str(obtain("engine")), address, str(slots), str(pace))
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(100):
                try:
                    await client.get(f"http://{address}/v1/models")
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
        yield Engine(address, slots, pace)
    finally:
        made.kill()
        await made.wait()


@asynccontextmanager
async def twin(behind: Engine, directory: Path, **more: str) -> AsyncIterator[Front]:
    """Gateway and generator (and what they ask) in front of the engine, which they let do as much as it can."""
    settings: Mapping[str, str] = {
        "TWIN_LLM_URL": f"openai+http://{behind.address}/v1?model=stub",
        "TWIN_GENERATOR_CONCURRENT": str(behind.slots),
        "TWIN_GENERATOR_PATIENCE_SECONDS": str(PATIENCE),
        "TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000",
        "TWIN_ENCODER_URL": "hashing://64",
        **more,
    }
    keys = [await create_key(directory, settings, f"key-{number}", "reader") for number in range(KEYS)]
    async with cluster(directory, settings) as made:
        yield Front(made, keys)


async def left(front: Front, behind: Engine, count: int) -> tuple[np.ndarray[Any, Any], int]:
    """(milliseconds from each client's going to the engine's stopping, how many the engine never stopped) of `count`
    clients that all go away in the middle of their answers."""
    said = await front.load("leave", count, 1, words=5000, name="left")
    assert not said["failed"], said
    await behind.idle()
    cut = (await behind.stats())["cut"]
    gone = {f"left-{number}": when for number, when in said["left"].items()}
    return np.array([(cut[name] - when) / 1e6 for name, when in gone.items() if name in cut]), len(gone.keys() - cut)


def shown(title: str, said: dict[str, Any], best: float) -> None:
    print(
        f"{title:24} {said['offered']:8.1f} {said['goodput']:8.2f} {said['goodput'] / best:6.2f}   "
        f"{said['first_p50_ms']:8.0f} {said['first_p99_ms']:8.0f}   {said['refused']:6} {said['refused_p50_ms']:6.1f} "
        f"{said['refused_p99_ms']:7.1f} {said['refused_most_ms']:7.1f} {said['refused_late']:5} "
        f"{said['refused_without_retry_after']:6}   {said['broken']:4}  {said['statuses']}",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--pace", type=float, default=50, help="milliseconds a word")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--times", type=float, default=10)
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}; engine, load and Twin share {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="twin-overload-") as name:
        directory = Path(name)
        for each in ("load", "slow", "left"):
            (directory / each).mkdir()
        async with engine(given.slots, given.pace) as behind, twin(behind, directory / "load") as front:
            print(f"engine: {given.slots} answers at once of {WORDS} words, {behind.best:.1f} a second at best\n")
            print(
                f"{'':24}  offered  goodput  /best   first p50      p99  refused    p50     p99    most  late silent  broken"
            )
            await front.load("rate", behind.best / 2, 3)
            runs = {}
            for times in (1.0, 2.0, given.times):
                said = await front.load("rate", behind.best * times, given.seconds)
                runs[times] = said
                shown(f"{times:g} times", said, behind.best)
                await behind.idle()
            best = max(each["goodput"] for each in runs.values())
            most = runs[given.times]
            print(
                f"\ngoodput at {given.times:g} times: {most['goodput'] / best:.3f} of its best (aim .9), "
                f"{most['goodput'] / behind.best:.3f} of the engine's"
            )
            print(f"refused: {most['refused_late']} of {most['refused']} after more than {LATE_MS:.0f} ms (aim 0)")
        async with engine(given.slots, 2) as behind, twin(behind, directory / "slow") as front:
            print("\nan engine that writes a word every 2 ms:")
            shown("a tenth", await front.load("rate", behind.best * 0.1, given.seconds / 2), behind.best)
            readers = given.slots * 2
            slow = asyncio.create_task(front.load("slow", readers, given.seconds + 20, words=SLOW_WORDS))
            await asyncio.sleep(2)
            began = time.monotonic()
            await behind.idle(60)
            print(
                f"{readers} slow readers, {SLOW_WORDS} words each: the engine was free {time.monotonic() - began:.1f} s later"
            )
            assert not slow.done()
            said = await front.load("rate", behind.best * 0.1, given.seconds / 2)
            shown(f"a tenth, {readers} slow", said, behind.best)
            print(f"the slow ones had {(await slow)['least_bytes']} bytes at least")
        async with (
            engine(256, 250) as behind,
            twin(behind, directory / "left", TWIN_GENERATOR_PATIENCE_SECONDS="60") as front,
        ):
            times_, never = await left(front, behind, 200)
            p50, p99, most_ = np.quantile(times_, [0.5, 0.99, 1])
            print(
                f"200 clients left at once: the engine stopped after {p50:.0f} ms p50, {p99:.0f} ms p99, {most_:.0f} ms at "
                f"most (aim {STOPS_MS:.0f} p99); never: {never}"
            )
    print(f"load average {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
