"""Twin under fire: `make chaos`.

    python -m tests.chaos [--faults 150] [--minutes 45] [--documents 500] [--seed N]

Twin runs as processes, two of each, on MongoDB's protocol, Weaviate and Redis, each server behind Toxiproxy. Questions
are asked without pause and documents are brought in, while processes and servers are killed, stopped, cut off and
restarted at random moments of the printed seed; and each named step of an ingest is a crash point once. Held to:

    every document is in the index exactly once afterwards, none lost                          (promises 1 and 2)
    no answer ends without [DONE] or an error event, unless its own gateway was killed
    answers flow again at most 5 s after what was hit is ready
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.processes import Cluster, Process, cluster, create_key, free_port
from tests.servers.run import Running, Servers

FLOW_SECONDS = 5.0
REPLICAS = {"crawler": 2, "feature": 2, "retriever": 2, "generator": 2, "gateway": 2}
STEPS = {
    "crawler": ["sources.save", "jobs.claim", "jobs.save", "blobs.put", "documents.save", "documents.sketch", "jobs.put"],
    "feature": ["jobs.put", "queue.ring", "jobs.claim", "documents.text", "documents.save", "index.known", "index.stage",
                "index.publish", "jobs.save"],
}  # fmt: skip
"""Of an ingest, by whose process does them; each is crashed at before and after it is done."""
ONCE = {("crawler", "jobs.put")}
"""Those that an ingest does once; of the others it is the first or the second."""
READY_SECONDS = 180.0
"""On a machine with much else to do, a process takes one and a half minutes to start."""


class Server:
    """One real server, started again on the same port with the same data."""

    def __init__(self, name: str, servers: Servers) -> None:
        self.name = name
        self._servers = servers
        self._running: Running | None = None

    @property
    def variables(self) -> dict[str, str]:
        assert self._running is not None
        return self._running.variables

    async def start(self) -> None:
        again = self._servers.start if self._running is None else self._servers.restart
        self._running = await asyncio.to_thread(again, self.name)

    def send(self, number: int) -> None:
        process = self._running.process() if self._running is not None else None
        if process is not None:
            process.send_signal(number)

    async def kill(self) -> None:
        self.send(signal.SIGKILL)


class Proxies:
    """Toxiproxy: each server is reached through it, and can be cut off."""

    def __init__(self, address: str) -> None:
        self._http = httpx.AsyncClient(base_url=address, trust_env=False, headers={"User-Agent": "chaos"})

    async def add(self, name: str, upstream: str) -> int:
        port = free_port()
        made = {"name": name, "listen": f"127.0.0.1:{port}", "upstream": upstream, "enabled": True}
        (await self._http.post("/proxies", json=made)).raise_for_status()
        return port

    async def cut(self, names: list[str], *, off: bool) -> None:
        for name in names:
            (await self._http.post(f"/proxies/{name}", json={"enabled": not off})).raise_for_status()

    async def close(self) -> None:
        await self._http.aclose()


@dataclass
class Load:
    """Questions without pause, and how they ended."""

    cluster: Cluster
    key: str
    outcomes: Counter[str] = field(default_factory=Counter)
    last_good: float = 0.0
    killed: dict[str, float] = field(default_factory=dict)
    """Gateway → when it was last killed or stopped: its streams may be cut."""
    cut: list[str] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, askers: int) -> None:
        self._tasks = [asyncio.create_task(self._ask_for_ever(number)) for number in range(askers)]

    async def stop(self) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask_for_ever(self, number: int) -> None:
        async with httpx.AsyncClient(
            timeout=30, trust_env=False, headers={"Authorization": f"Bearer {self.key}"}
        ) as http:
            while True:
                address = self.cluster.gateways[number % len(self.cluster.gateways)]
                number += 1
                await self.ask(http, address)
                await asyncio.sleep(0.05)

    async def ask(self, http: httpx.AsyncClient, address: str) -> bool:
        began = time.monotonic()
        body = {
            "model": "author",
            "stream": True,
            "messages": [{"role": "user", "content": "When was lighthouse 9003 built?"}],
        }
        said = ""
        try:
            async with http.stream("POST", f"{address}/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    self.outcomes[f"status {answer.status_code}"] += 1
                    return False
                async for line in answer.aiter_lines():
                    said += line
        except httpx.HTTPError as error:
            if said and self.killed.get(address, 0.0) < began:
                self.cut.append(f"{address}: {type(error).__name__} after {len(said)} characters")
            self.outcomes["cut" if said else "refused"] += 1
            return False
        if "[DONE]" in said:
            self.outcomes["answered"] += 1
            self.last_good = time.monotonic()
            return True
        if '"error"' in said:
            self.outcomes["error event"] += 1
        else:
            self.cut.append(f"{address}: ended without [DONE] after {len(said)} characters")
            self.outcomes["cut"] += 1
        return False

    async def flows_again(self) -> float:
        """Seconds until the next good answer."""
        began = time.monotonic()
        while self.last_good < began:
            if time.monotonic() - began > 60:
                return float("inf")
            await asyncio.sleep(0.02)
        return time.monotonic() - began


@dataclass
class Field:
    """Everything that can be hit."""

    made: Cluster
    servers: dict[str, Server]
    proxies: Proxies
    load: Load
    chance: random.Random
    slow: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """Crash points that the work did not come to."""
    faults: Counter[str] = field(default_factory=Counter)

    async def strike(self) -> None:
        kinds: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("kill", self._kill), ("stop", self._stop), ("restart", self._restart), ("kill server", self._kill_server),
            ("stop server", self._stop_server), ("cut", self._cut), ("empty redis", self._empty),
        ]  # fmt: skip
        kind, act = self.chance.choices(kinds, weights=[6, 3, 3, 3, 2, 3, 1])[0]
        await self.done(kind, await act())

    async def done(self, kind: str, what: str) -> None:
        """Wait until what was hit is ready, and measure how soon answers flow again."""
        await asyncio.gather(*(each.ready(READY_SECONDS) for each in self.made.processes))
        seconds = await self.load.flows_again()
        self.faults[kind] += 1
        print(f"{sum(self.faults.values()):4} {kind:12} {what:28} answers after {seconds:.1f} s", flush=True)
        if seconds > FLOW_SECONDS:
            self.slow.append(f"{kind} {what}: {seconds:.1f} s")

    def _process(self) -> Process:
        each = self.chance.choice(self.made.processes)
        self.hit(each)
        return each

    def hit(self, each: Process) -> None:
        if each.service == "gateway":
            # Whatever it had begun may be cut: only its own end is to blame.
            self.load.killed[f"http://127.0.0.1:{each.port}"] = time.monotonic() + 60

    def _healed(self, each: Process) -> None:
        if each.service == "gateway":
            self.load.killed[f"http://127.0.0.1:{each.port}"] = time.monotonic()

    async def _kill(self) -> str:
        each = self._process()
        await each.kill()
        each.start()
        await each.ready(READY_SECONDS)
        self._healed(each)
        return f"{each.service} {each.number}"

    async def _stop(self) -> str:
        each = self._process()
        each.signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(2, 5))
        each.signal(signal.SIGCONT)
        self._healed(each)
        return f"{each.service} {each.number}"

    async def _restart(self) -> str:
        each = self._process()
        await each.stop()
        each.start()
        await each.ready(READY_SECONDS)
        self._healed(each)
        return f"{each.service} {each.number}"

    async def _kill_server(self) -> str:
        server = self.servers[self.chance.choice(["ferretdb", "weaviate", "redis"])]
        await server.kill()
        await asyncio.sleep(self.chance.uniform(0, 2))
        await server.start()
        return server.name

    async def _stop_server(self) -> str:
        server = self.servers[self.chance.choice(["ferretdb", "weaviate", "redis"])]
        server.send(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(2, 5))
        server.send(signal.SIGCONT)
        return server.name

    async def _cut(self) -> str:
        names = self.chance.choice([["ferretdb"], ["weaviate", "weaviate-grpc"], ["redis"]])
        await self.proxies.cut(names, off=True)
        await asyncio.sleep(self.chance.uniform(2, 5))
        await self.proxies.cut(names, off=False)
        return names[0]

    async def _empty(self) -> str:
        from redis.asyncio import Redis

        async with Redis.from_url(self.servers["redis"].variables["TWIN_TEST_REDIS_URL"]) as redis:
            await redis.flushall()
        return "redis"

    async def crash_at(self, service: str, step: str, when: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One of a service's processes ends itself at this step of `work`, which it does alone; then both go on."""
        each, other = self.made.of(service)
        await each.kill()
        number = min(self.chance.randint(1, 2), 1 if (service, step) in ONCE else 2)
        each.start(["-m", "tests.crashing", service, step, when, str(number)])
        try:
            await each.ready(READY_SECONDS)
        except AssertionError:
            # Workers claim as soon as they run: then it has ended already.
            assert each.running is not None
            if each.running.poll() != -signal.SIGKILL:
                raise
        await other.stop()
        # It may end before it has taken the work on: whoever comes next does.
        bringing = asyncio.create_task(work())
        end = time.monotonic() + 20
        while time.monotonic() < end and each.running is not None and each.running.poll() is None:
            await asyncio.sleep(0.1)
        reached = each.running is not None and each.running.poll() is not None
        await each.kill()
        for one in (each, other):
            one.start()
        await asyncio.gather(each.ready(READY_SECONDS), other.ready(READY_SECONDS), bringing)
        if not reached:
            self.missed.append(f"{when} {step}")
        await self.done("crash", f"{when} {step}{'' if reached else ' (not reached)'}")


@asynccontextmanager
async def battlefield(directory: Path, seed: int) -> AsyncIterator[Field]:
    running = Servers(directory / "servers")
    servers = {name: Server(name, running) for name in ("toxiproxy", "ferretdb", "weaviate", "redis")}
    try:
        for each in servers.values():
            await each.start()
        variables = {name: value for each in servers.values() for name, value in each.variables.items()}
        proxies = Proxies(variables["TWIN_TEST_TOXIPROXY_URL"])
        mongo = urlsplit(variables["TWIN_TEST_MONGODB_URL"])
        redis = urlsplit(variables["TWIN_TEST_REDIS_URL"])
        weaviate = urlsplit(variables["TWIN_TEST_WEAVIATE_URL"])
        grpc = weaviate.query.partition("grpc_port=")[2].partition("&")[0]
        ports = {
            "ferretdb": await proxies.add("ferretdb", str(mongo.netloc)),
            "redis": await proxies.add("redis", str(redis.netloc)),
            "weaviate": await proxies.add("weaviate", f"127.0.0.1:{weaviate.port}"),
            "weaviate-grpc": await proxies.add("weaviate-grpc", f"127.0.0.1:{grpc}"),
        }
        settings = {
            "TWIN_DOCUMENTS_URL": f"mongodb://127.0.0.1:{ports['ferretdb']}/twin",
            "TWIN_INDEX_URL": f"weaviate://127.0.0.1:{ports['weaviate']}?grpc_port={ports['weaviate-grpc']}",
            "TWIN_QUEUE_URL": f"redis://127.0.0.1:{ports['redis']}/0",
            "TWIN_LIMITS_URL": f"redis://127.0.0.1:{ports['redis']}/1",
            "TWIN_CRAWLER_FOLDERS": "*",
            "TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000",
        }  # fmt: skip
        key = await create_key(directory, settings)
        async with cluster(directory, settings, REPLICAS) as made:
            yield Field(made, servers, proxies, Load(made, key), random.Random(seed))
        await proxies.close()
    finally:
        await asyncio.to_thread(running.stop)


def write(folder: Path, count: int, first: int = 0) -> None:
    """Names are a document's address below its folder: each number once."""
    folder.mkdir()
    for number in range(first, first + count):
        body = "\n\n".join(
            f"Paragraph {part} of lighthouse {number}: it stood on rock {number * 7 + part} and was painted in "
            f"{1800 + (number * 13 + part) % 200}." for part in range(6)
        )  # fmt: skip
        (folder / f"{number:04}.md").write_text(
            f"# Lighthouse {number}\n\nIt was built in {1500 + number}.\n\n{body}\n"
        )


async def persist(
    http: httpx.AsyncClient, method: str, path: str, seconds: float = 120, **sent: object
) -> httpx.Response:
    """Ask until there is an answer that is no passing failure."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = await http.request(method, path, **sent)  # type: ignore[arg-type]
            if answer.status_code < 500 and answer.status_code != 429:
                return answer
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, f"{method} {path} is not answered"
        await asyncio.sleep(0.2)


async def run(faults: int, minutes: float, documents: int, seed: int, steps: int | None = None) -> None:
    """AssertionError where a promise is broken. `steps`: how many of the crash points; None: all."""
    print(f"seed {seed}, {faults} faults, {documents} documents; load average {os.getloadavg()[0]:.1f}", flush=True)
    end = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory(prefix="twin-chaos-") as name:
        directory = Path(name)
        async with battlefield(directory, seed) as ground:
            folder = directory / "notes"
            write(folder, documents)
            headers = {"Authorization": f"Bearer {ground.load.key}"}
            async with httpx.AsyncClient(
                base_url=ground.made.gateways[0], headers=headers, timeout=30, trust_env=False
            ) as http:
                first = directory / "first"
                write(first, 10, 9000)
                await _ingested(http, first)
                ground.load.start(3)
                await ground.load.flows_again()
                points = [(service, step, when) for service, some in STEPS.items() for step in some
                          for when in ("before", "after")]  # fmt: skip
                ground.chance.shuffle(points)
                points = points[: len(points) if steps is None else steps]
                planned = len(points)
                batch = max(1, documents // max(1, planned + 4))
                jobs: list[str] = []
                written = sorted(folder.iterdir())

                async def bring() -> None:
                    if not written:
                        return
                    part = directory / f"part-{len(jobs)}"
                    part.mkdir()
                    for each in written[:batch]:
                        each.rename(part / each.name)
                    del written[:batch]
                    sent = {"author": "author", "sources": [str(part)]}
                    own = {**headers, "Idempotency-Key": f"job-{len(jobs)}"}
                    job = await persist(http, "POST", "/v1/ingest-jobs", json=sent, headers=own)
                    assert job.status_code == 202, job.text
                    jobs.append(job.json()["id"])

                while sum(ground.faults.values()) < faults and time.monotonic() < end:
                    if points:
                        await ground.crash_at(*points.pop(), bring)
                    else:
                        await bring()
                        await asyncio.sleep(ground.chance.uniform(0, 1))
                        await ground.strike()
                rest = directory / "rest"
                rest.mkdir()
                for each in written:
                    each.rename(rest / each.name)
                for number, job_id in enumerate(jobs):
                    state = await _ended(http, job_id)
                    assert state["state"] == "done", (number, state, _said(ground.made))
                await _ingested(http, rest)
                await ground.load.stop()
                await _whole(http, documents + 10)
            print(f"faults: {dict(ground.faults)}")
            print(f"answers: {dict(ground.load.outcomes)}")
            print(f"crash points not reached: {ground.missed}")
            assert sum(ground.faults.values()) >= faults, (
                f"the time was over after {sum(ground.faults.values())} faults"
            )
            assert len(ground.missed) <= planned // 4, f"crash points not reached: {ground.missed}"
            assert not ground.load.cut, ground.load.cut
            assert not ground.slow, ground.slow


def _said(made: Cluster) -> str:
    """What went wrong by the logs, for who looks for the cause."""
    lines = [f"{each.service} {each.number}: {line}" for each in made.processes
             for line in each.log.read_text(errors="replace").splitlines()
             if '"level": "warning"' in line or '"level": "error"' in line]  # fmt: skip
    return "\n" + "\n".join(line[:1500] for line in lines[-60:])


async def _ingested(http: httpx.AsyncClient, folder: Path) -> None:
    job = await persist(http, "POST", "/v1/ingest-jobs", json={"author": "author", "sources": [str(folder)]})
    state = await _ended(http, job.json()["id"])
    assert state["state"] == "done", state


async def _ended(http: httpx.AsyncClient, id: str) -> dict[str, object]:
    for _ in range(1200):
        state: dict[str, object] = (await persist(http, "GET", f"/v1/ingest-jobs/{id}")).json()
        if state["state"] not in ("queued", "running"):
            return state
        await asyncio.sleep(0.3)
    raise AssertionError(f"an ingest does not end: {json.dumps(state)[:2000]}")


async def _whole(http: httpx.AsyncClient, documents: int) -> None:
    """Every document is there once and indexed, and the index holds as many chunks as the records name: none lost,
    none twice."""
    found: list[dict[str, object]] = []
    cursor = ""
    while True:
        params: dict[str, str | int] = {"limit": 200, **({"cursor": cursor} if cursor else {})}
        page = (await persist(http, "GET", "/v1/documents", params=params)).json()
        found += page["data"]
        cursor = page.get("next") or ""
        if not cursor:
            break
    assert len(found) == len({each["id"] for each in found}) == documents, len(found)
    assert Counter(str(each["state"]) for each in found) == {"indexed": documents}
    status = (await persist(http, "GET", "/v1/status")).json()
    assert status["index"]["documents"] == documents, status["index"]
    assert status["index"]["chunks"] == sum(int(str(each["chunks"])) for each in found), status["index"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, default=150)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    given = parser.parse_args()
    try:
        asyncio.run(run(given.faults, given.minutes, given.documents, given.seed, given.steps))
    except AssertionError as error:
        sys.exit(f"broken: {error}")
    print("held")


if __name__ == "__main__":
    main()
