"""What Twin's gateway and generator add to an engine, beside LiteLLM's proxy: `make bench-gateway`.

    python -m benchmarks.gateway [--seconds 10] [--requests 100000] [--only twin,litellm]

A stub engine (Go) answers at once. wrk asks it directly, through Twin (retrieval off: `"twin": {"k": 0}`) and through
LiteLLM's proxy with its recommended production settings (one worker, LITELLM_MODE=PRODUCTION, no database), streaming
and not, at 1, 32 and 256 connections. What is measured runs on one core, wrk and the engine on the other; Twin's is
shared by its two processes, gateway and generator. Added latency is the median above the engine alone. Each run takes
--seconds, and longer where a connection would be answered less than five times. Requests a second depend on what else
the machine does; the processor's time that a request costs, printed beside them, hardly does.

--requests: then so many through Twin, and the slope of its memory.

With retrieval on, where TWIN_TEST_DATA names the data: bench-query's 20,000 chunks, and each of its questions streamed
through gateway, generator and retriever, a process each, until the first words are here; beside it the same with
retrieval off, and the question's encoding and the two searches of the index. Any core, one question at a time, a dozen
in a row each way, in random order: asked by turns, each would find the other's copy of the model in the processor's
caches, which costs more than all that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks import query
from benchmarks.retrieval import lines
from services import process as service_process
from services.adapters import open_adapter
from services.domain import EVERYONE, Filter
from services.ports import Encoder, Indexes
from services.retriever.queries import Queries
from services.retriever.search import search
from tests.processes import Cluster, cluster, create_key, free_port
from tests.servers.obtain import CACHE, obtain

CONNECTIONS = (1, 32, 256)
MEASURED, LOADING = 0, 1
"""Cores."""
ROUNDS = 5
"""Requests of each connection, at least."""
MOST_SECONDS = 100.0
LITELLM = "litellm[proxy]==1.106.*"
LITELLM_KEY = "sk-benchmark-0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Run:
    rate: float
    p50: float
    p99: float
    """Milliseconds."""
    failed: int
    requests: int
    cpu: float = 0.0
    """Milliseconds of a processor that a request costs what is measured."""


def wrk(url: str, body: dict[str, object], key: str, connections: int, seconds: float) -> Run:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f'wrk.method = "POST"\nwrk.body = {json.dumps(json.dumps(body))}\n'
            f'wrk.headers["Content-Type"] = "application/json"\nwrk.headers["Authorization"] = "Bearer {key}"\n'
        )
        script.flush()
        program = obtain("wrk")
        libraries = ":".join(str(each) for each in (program.parents[1] / "lib").glob("*-linux-gnu"))
        command = ["taskset", "-c", str(LOADING), str(program), "-t1", f"-c{connections}", f"-d{seconds:.0f}s",
                   "--timeout", "30s", "--latency", "-s", script.name, url]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True,
                              env={**os.environ, "LD_LIBRARY_PATH": libraries})  # fmt: skip
    said = done.stdout
    failed = sum(int(each) for each in re.findall(r"Non-2xx or 3xx responses: (\d+)", said))
    failed += sum(int(each) for each in re.findall(r"(?:connect|read|write|timeout) (\d+)", said))
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found is not None, said
    requests = re.search(r"(\d+) requests in", said)
    assert requests is not None, said
    return Run(float(found[1]), _milliseconds(said, "50"), _milliseconds(said, "99"), failed, int(requests[1]))


def _milliseconds(said: str, quantile: str) -> float:
    found = re.search(rf"^\s+{quantile}%\s+([\d.]+)(us|ms|s|m)", said, re.MULTILINE)
    assert found is not None, said
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[found[2]]


def asked(model: str, *, stream: bool, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Say twenty words."}], "stream": stream, **more}


@asynccontextmanager
async def process(
    command: Sequence[str], core: int, ready: str, key: str = "", **environment: str
) -> AsyncIterator[psutil.Process]:
    with tempfile.NamedTemporaryFile() as log:
        made = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=log, stderr=log, env={**os.environ, **environment}
        )
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with asyncio.timeout(120), httpx.AsyncClient(trust_env=False, headers=headers) as plain:
                while True:
                    assert made.poll() is None, Path(log.name).read_text()[-2000:]
                    try:
                        if (await plain.get(ready)).status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    await asyncio.sleep(0.1)
            yield psutil.Process(made.pid)
        finally:
            made.terminate()
            await asyncio.to_thread(made.wait)


def litellm() -> Path:
    """LiteLLM's command, in an environment of its own."""
    directory = CACHE / "litellm"
    command = directory / "bin" / "litellm"
    if not command.exists():
        print("litellm: installing it, the first time ...", file=sys.stderr)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", directory / "bin" / "python", LITELLM], check=True)
    return command


def watched(made: Cluster) -> list[psutil.Process]:
    """The gateway's process and the generator's."""
    return [
        psutil.Process(each.running.pid)
        for name in ("gateway", "generator")
        for each in made.of(name)
        if each.running is not None
    ]


def pin(made: Cluster, services: Sequence[str]) -> None:
    for each in made.processes:
        assert each.running is not None
        psutil.Process(each.running.pid).cpu_affinity([MEASURED if each.service in services else LOADING])


def table(name: str, runs: dict[tuple[bool, int], Run], bare: dict[tuple[bool, int], Run]) -> None:
    for (stream, connections), run in runs.items():
        base = bare[stream, connections]
        print(
            f"{name:10} {'stream' if stream else 'whole':7} {connections:4}  {run.rate:9.1f}  {run.p50:8.2f} {run.p99:8.2f}  "
            f"{run.p50 - base.p50:+8.2f} {run.p99 - base.p99:+8.2f}  {run.failed:6}  {run.cpu:6.2f}",
            flush=True,
        )


def spent(processes: Sequence[psutil.Process]) -> float:
    """Seconds of a processor."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def measured(
    url: str, model: str, key: str, seconds: float, processes: Sequence[psutil.Process] = (), **more: object
) -> dict[tuple[bool, int], Run]:
    runs: dict[tuple[bool, int], Run] = {}
    for stream in (False, True):
        body = asked(model, stream=stream, **more)
        best = wrk(url, body, key, 8, 2).rate  # and warm
        for connections in CONNECTIONS:
            # wrk tells the latencies of what was answered in its time: where that is less than each connection's first
            # request, only of the fastest.
            needed = min(MOST_SECONDS, ROUNDS * connections / max(best, 1.0))
            before = spent(processes)
            run = wrk(url, body, key, connections, max(seconds, needed))
            cpu = (spent(processes) - before) * 1000 / max(1, run.requests)
            runs[stream, connections] = replace(run, cpu=cpu)
            best = max(best, run.rate)
    return runs


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--only", default="twin,litellm")
    given = parser.parse_args()
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        sys.exit("Two cores and taskset are needed: one for what is measured, one for the load.")
    wanted = given.only.split(",")
    if unknown := set(wanted) - {"twin", "litellm"}:
        parser.error(f"--only takes twin and litellm, not {', '.join(sorted(unknown))}")
    async with AsyncExitStack() as stack:
        port = free_port()
        base = f"http://127.0.0.1:{port}/v1"
        await stack.enter_async_context(
            process([str(obtain("engine")), f"127.0.0.1:{port}"], LOADING, f"{base}/models")
        )
        print(f"load average {os.getloadavg()[0]:.2f}; measured on core {MEASURED}, wrk and engine on core {LOADING}")
        print(f"{'':10} {'':7} conn  requests/s   p50 ms   p99 ms  above p50  p99       failed  cpu ms")
        bare = await asyncio.to_thread(measured, f"{base}/chat/completions", "stub", "", given.seconds)
        table("engine", bare, bare)
        if "twin" in wanted:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            settings = {
                "TWIN_LLM_URL": f"openai+{base}?model=stub", "TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000",
                "TWIN_GENERATOR_CONCURRENT": "256",
            }  # fmt: skip
            data = os.environ.get("TWIN_TEST_DATA")
            asked_of = lines(Path(data) / "retrieval/questions.jsonl")[: query.QUESTIONS] if data else []
            if data:
                await query.fill(Path(data), directory, asked_of)
            key = await create_key(directory, settings)
            if data:
                # Processes of their own: threads keep the core that they were begun on.
                async with cluster(directory, settings) as made:
                    await retrieving(made, key, directory, asked_of)
            made = await stack.enter_async_context(cluster(directory, settings))
            pin(made, ("gateway", "generator"))
            url = f"{made.gateways[0]}/v1/chat/completions"
            twin = await asyncio.to_thread(measured, url, "twin", key, given.seconds, watched(made), twin={"k": 0})
            table("twin", twin, bare)
            if given.requests:
                await memory(made, url, key, given.requests, twin[False, 32].rate)
        if "litellm" in wanted:
            port = free_port()
            config = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "config.yaml"
            config.write_text(
                json.dumps(
                    {
                        "model_list": [
                            {
                                "model_name": "stub",
                                "litellm_params": {"model": "openai/stub", "api_base": base, "api_key": "none"},
                            }
                        ],
                        "litellm_settings": {"set_verbose": False, "request_timeout": 600, "json_logs": True},
                        "general_settings": {"master_key": LITELLM_KEY},
                    }
                )
            )
            command = [
                str(litellm()),
                "--config",
                str(config),
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--num_workers",
                "1",
            ]
            proxy = await stack.enter_async_context(
                process(command, MEASURED, f"http://127.0.0.1:{port}/v1/models", LITELLM_KEY, LITELLM_MODE="PRODUCTION",
                        LITELLM_LOG="ERROR", LITELLM_LOCAL_MODEL_COST_MAP="True")
            )  # fmt: skip
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            peer = await asyncio.to_thread(measured, url, "stub", LITELLM_KEY, given.seconds, [proxy])
            table("litellm", peer, bare)
            if "twin" in wanted:
                print("\nTwin beside LiteLLM (aims: added latency at most .25, requests a second and core at least 6)")
                for each, ours in twin.items():
                    theirs, base_run = peer[each], bare[each]
                    print(
                        f"  {'stream' if each[0] else 'whole':7} {each[1]:4}  added p50 {_ratio(ours.p50, theirs.p50, base_run.p50)}"
                        f"  p99 {_ratio(ours.p99, theirs.p99, base_run.p99)}  requests/s {ours.rate / max(1e-9, theirs.rate):.2f}"
                        f"  cpu {theirs.cpu / max(1e-9, ours.cpu):.2f}"
                    )
        print(f"load average {os.getloadavg()[0]:.2f}")


def _ratio(ours: float, theirs: float, base: float) -> str:
    return f"{(ours - base) / max(1e-9, theirs - base):.2f}"


async def memory(made: Cluster, url: str, key: str, requests: int, rate: float) -> None:
    """Resident bytes of the two processes while so many requests are answered: the slope, by least squares."""
    seconds = 1.1 * requests / rate  # the rate was a shorter run's
    load = asyncio.create_task(
        asyncio.to_thread(wrk, url, asked("twin", stream=False, twin={"k": 0}), key, 32, max(2.0, seconds))
    )
    services = dict(zip(("gateway", "generator"), watched(made), strict=True))
    seen: dict[str, list[float]] = {name: [] for name in services}
    began = time.monotonic()
    while not load.done():
        for name, each in services.items():
            seen[name].append(each.memory_info().rss / 1e6)
        await asyncio.sleep(max(0.2, seconds / 200))
    done = await load
    for name, values in seen.items():
        kept = values[len(values) // 4 :]
        slope = np.polyfit(np.arange(len(kept)), kept, 1)[0] * len(kept)
        print(
            f"memory of {name}: {values[0]:.0f} MB at first, {values[-1]:.0f} MB at last, {slope:+.1f} MB over the last three quarters"
        )
    print(f"  of {done.rate * (time.monotonic() - began):.0f} requests")


async def retrieving(made: Cluster, key: str, directory: Path, asked_of: Sequence[Any]) -> None:
    """First words of streamed answers beside the encoder and the index alone."""
    indexes: Indexes = await open_adapter("index", "sqlite:///", directory)
    encoder: Encoder = await open_adapter("encoder", "onnx://", directory)
    index = await indexes.open("bench")
    plain = await query.Plain.connect(made.gateways[0], key)
    table, chance = query.Table(), random.Random(3)
    questions = [each["question"] for each in asked_of]

    async def ask(question: str, **own: Any) -> float:
        body = {"model": "twin", "messages": [{"role": "user", "content": question}], "stream": True, "twin": own}
        return await plain.first_words("/v1/chat/completions", body)

    async def peer(question: str) -> float:
        return await query.timed(lambda: search(index, encoder, Queries(question, question), EVERYONE, Filter()))

    works: dict[str, Callable[[str], Awaitable[float]]] = {
        "encoder and index": peer,
        "first words, retrieval off": lambda question: ask(question, k=0),
        "first words": ask,
    }
    for begin in range(0, len(questions), query.WARM):
        for name in chance.sample(list(works), len(works)):
            for question in questions[begin : begin + query.WARM]:
                milliseconds = await works[name](question)
                if begin:
                    table.add(name, milliseconds)
    table.print("with retrieval, one connection", list(works))
    table.above("first words", ["encoder and index", "first words, retrieval off"], 8)
    plain.close()
    await indexes.close()


if __name__ == "__main__":
    service_process.run(main())
