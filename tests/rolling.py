"""python -m tests.rolling [--requests 10000]: every process of Twin is restarted under load, and keys change (`make rolling`).

Two of each service on one data directory. Callers search, list documents and ask without pause, some by streams of
seconds, through whichever gateway says that it is ready, as a Kubernetes Service routes. They try again only where no
connection was made, so where nothing was sent. Meanwhile one process after the other gets SIGTERM and is started
anew, and the callers get a new key while the old one is revoked. Every answer must be whole.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.processes import ORDER, Cluster, Process, cluster, create_key, free_port
from tests.servers.obtain import obtain

SLOTS, PACE = 64, 5
"""Of the stub engine: answers at once, milliseconds a word."""
STREAMED = 400
"""Words of a stream: two seconds."""
CALLERS = 6
"""Of short requests; one more in three streams."""
LOOK = 0.1
"""Seconds between looks at which gateways are ready."""
LINGER = 2.0
"""Seconds for which a gateway that was told to stop still takes requests: several looks."""
KEY_SECONDS = 10.0
SETTLED = 6.0
"""Seconds after which an old key is revoked: longer than any request."""


@dataclass
class Load:
    made: Cluster
    key: str
    done: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    going: bool = True
    revoked: int = 0

    @property
    def count(self) -> int:
        return sum(self.done.values())

    async def look(self) -> None:
        """Which gateways are ready."""
        async with httpx.AsyncClient(trust_env=False, timeout=1) as http:
            while self.going:
                found = []
                for address in self.made.gateways:
                    try:
                        if (await http.get(f"{address}/readyz")).status_code == 200:
                            found.append(address)
                    except httpx.HTTPError:
                        pass
                self.ready = found or self.ready
                await asyncio.sleep(LOOK)

    async def call(self, number: int) -> None:
        """Requests of every kind, in turn."""
        requests = (
            ("search", "POST", "/v1/search", {"query": "honey for the winter", "k": 3}),
            ("documents", "GET", "/v1/documents", None),
            ("whole", "POST", "/v1/chat/completions", asked(5, stream=False)),
        )
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            while self.going:
                for name, method, path, body in requests:
                    await self._send(http, name, method, path, body, number)
                    number += 1

    async def stream(self, number: int) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            while self.going:
                await self._send(http, "stream", "POST", "/v1/chat/completions", asked(STREAMED, stream=True), number)
                number += 1

    async def _send(
        self, http: httpx.AsyncClient, name: str, method: str, path: str, body: object, number: int
    ) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        for attempt in range(20):
            address = self.ready[(number + attempt) % len(self.ready)]
            try:
                async with http.stream(method, f"{address}{path}", json=body, headers=headers) as response:
                    text = (await response.aread()).decode()
            except httpx.ConnectError:
                await asyncio.sleep(LOOK)
                continue
            except httpx.HTTPError as error:
                self.broken.append(f"{name}: {type(error).__name__} {error}")
                return
            if response.status_code != 200:
                self.broken.append(f"{name}: {response.status_code} {text[:200]}")
            elif name == "stream" and (words(text) != STREAMED or not text.endswith("data: [DONE]\n\n")):
                self.broken.append(f"{name}: cut after {words(text)} words: {text[-200:]}")
            else:
                self.done[name] += 1
            return
        self.broken.append(f"{name}: no gateway takes a connection")

    async def rotate(self, http: httpx.AsyncClient, admin: str) -> None:
        """A new key for the callers every few seconds; the old one is revoked once nobody uses it."""
        headers = {"Authorization": f"Bearer {admin}"}
        old = ""
        while self.going:
            made = await self._administer(http, "POST", "/v1/api-keys", headers, {"name": "load", "role": "reader"})
            self.key = made["secret"]
            await asyncio.sleep(SETTLED)
            if old:
                await self._administer(http, "DELETE", f"/v1/api-keys/{old}", headers, None)
                self.revoked += 1
            old = made["id"]
            await asyncio.sleep(KEY_SECONDS - SETTLED)

    async def _administer(
        self, http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: object
    ) -> dict[str, str]:
        while True:
            try:
                answer = await http.request(method, f"{self.ready[0]}{path}", json=body, headers=headers)
            except httpx.ConnectError:
                await asyncio.sleep(LOOK)
                continue
            assert answer.is_success, answer.text
            found: dict[str, str] = answer.json() if answer.content else {}
            return found


def words(stream: str) -> int:
    """Of an answer that was streamed."""
    events = [json.loads(each[6:]) for each in stream.splitlines() if each.startswith("data: {")]
    return len("".join(each["choices"][0]["delta"].get("content", "") for each in events if "choices" in each).split())


def asked(count: int, *, stream: bool) -> dict[str, object]:
    message = {"role": "user", "content": f"Say {count} words."}
    return {"model": "twin", "messages": [message], "stream": stream, "twin": {"k": 0}, "max_tokens": 1000}


async def restart(each: Process, load: Load) -> None:
    began = time.monotonic()
    code = await each.stop(60)
    stopped = time.monotonic() - began
    assert code == 0, f"{each.service} {each.number} ended with {code}:\n{each.tail()}"
    each.start()
    await each.ready()
    print(
        f"{each.service:10} {each.number}  drained {stopped:5.1f} s  ready {time.monotonic() - began - stopped:5.1f} s"
        f"  {load.count:6} answered  {len(load.broken)} failed",
        flush=True,
    )


async def run(requests: int) -> Load:
    """As many requests at least, and every process restarted once at least."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twin-rolling-")))
        port = free_port()
        engine = await asyncio.create_subprocess_exec(str(obtain("engine")), f"127.0.0.1:{port}", f"{SLOTS}", f"{PACE}")
        stack.callback(engine.kill)
        settings = {
            "TWIN_ENCODER_URL": "hashing://384",
            "TWIN_LLM_URL": f"openai+http://127.0.0.1:{port}/v1?model=stub",
            "TWIN_CRAWLER_FOLDERS": "*",
            "TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000",
            "TWIN_DRAIN_LINGER_SECONDS": str(LINGER),
        }
        notes = directory / "notes"
        notes.mkdir()
        (notes / "bees.md").write_text("# Bees\n\nBees need fifteen kilograms of honey for the winter.\n")
        admin = await create_key(directory, settings)
        made = await stack.enter_async_context(cluster(directory, settings, dict.fromkeys(ORDER, 2)))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30))
        body = {"author": "author", "sources": [str(notes)]}
        headers = {"Authorization": f"Bearer {admin}"}
        accepted = await http.post(f"{made.gateways[0]}/v1/ingest-jobs", json=body, headers=headers)
        assert accepted.status_code == 202, accepted.text
        load = Load(made, admin, ready=list(made.gateways))
        tasks = [asyncio.create_task(load.look()), asyncio.create_task(load.rotate(http, admin))]
        callers = [asyncio.create_task(load.call(each)) for each in range(CALLERS)]
        callers += [asyncio.create_task(load.stream(each)) for each in range(CALLERS // 3)]
        try:
            while load.count < requests:
                for each in made.processes:
                    await restart(each, load)
                    for task in (*tasks, *callers):
                        if task.done():
                            task.result()
        finally:
            load.going = False
            await asyncio.gather(*callers, return_exceptions=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rolling")
    parser.add_argument("--requests", type=int, default=10_000)
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}")
    began = time.monotonic()
    load = asyncio.run(run(given.requests))
    seconds = time.monotonic() - began
    print(json.dumps({"answered": dict(load.done), "seconds": round(seconds), "keys revoked": load.revoked}))
    for each, times in Counter(load.broken).most_common(20):
        print(f"{times} x {each}")
    print(f"{load.count} answered, {len(load.broken)} failed")
    return 1 if load.broken else 0


if __name__ == "__main__":
    sys.exit(main())
