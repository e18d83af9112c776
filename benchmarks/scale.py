"""Search as the corpus grows, and crawling as workers are added: `make bench-scale`.

    python -m benchmarks.scale [--sizes 2000,20000,200000] [--seconds 10] [--only search,crawl] [--pages 40]

Twin as separate processes on a real Weaviate (crawling: on MongoDB's protocol and Redis too); needs Go for these.

    search   The index holds the passages of retrieval/ in the folder of TWIN_TEST_DATA that answer its questions,
             embedded, and made-up prose (corpus.py), written by the index's adapter, a document of 50 chunks at a time.
             After SETTLES seconds, in which Weaviate writes what it holds in memory to its disk, questions are asked,
             each of these right after the other in random order:

             peer     the question's encoding, then one hybrid query of 100 hits by Weaviate's own client
             adapter  the question's encoding and the two searches as Twin's retriever makes them
             Twin     POST /v1/search through gateway, retriever and Weaviate

             then requests a second from CALLERS callers at once.
    crawl    Sites and an encoder that answer after 50 ms. A worker is a crawler, with one source at a time, and a
             feature process; each host is asked no sooner than by default, four times a second. Most of the time nothing
             is computed, so that two cores show whether workers hold one another up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import weaviate

from benchmarks.corpus import MadeUp, put, put_answering
from benchmarks.query import Plain, Table, load, timed
from benchmarks.retrieval import lines
from services import telemetry
from services.adapters import open_adapter
from services.adapters.words import Words
from services.domain import EVERYONE, Filter, Manifest
from services.feature.chunk import CHUNKER
from services.feature.clean import CLEANER
from services.ports import Encoder, Index, Indexes
from services.retriever.queries import queries
from services.retriever.search import DEPTH, search
from tests.processes import Cluster, cluster, create_key
from tests.servers.loopback import served
from tests.servers.run import Servers
from tests.servers.tei import Tei, application
from tests.up_servers import settings_of

TO_A_DOCUMENT = 50
WRITERS = 4
"""Documents written at once."""
SETTLES = 95.0
"""Seconds: Weaviate writes its memory to disk after 60, and drops queries in the moment of it."""
ROUNDS, WARM = 2, 10
"""Times that each question is asked; questions that are not measured."""
CALLERS = 8
STEPS = ("understand", "queries", "search", "fuse", "rerank", "threshold", "duplicates", "context")
"""Of a search."""
AIM = 8.0
"""Milliseconds that Twin may add."""
SLOW = 0.05
"""Seconds after which sites and encoder answer."""
SITES = 8
SCALING = 0.9


# ── Search ──────────────────────────────────────────────────────────────────────────────────────────


async def grow(index: Index, corpus: MadeUp, held: int, size: int) -> None:
    """From so many chunks to so many."""
    began = time.monotonic()
    made = corpus.documents(held, size - held)
    one = asyncio.Lock()

    async def write() -> None:
        while True:
            async with one:
                each = await asyncio.to_thread(next, made, None)
            if each is None:
                return
            await put(index, each)

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    print(f"\n{size} chunks: {size - held} written in {time.monotonic() - began:.0f} s; load {load()}", flush=True)


async def ask(plain: Plain, question: str, steps: Table) -> None:
    for each in (await plain.post("/v1/search", {"query": question}))["steps"]:
        steps.add(each["name"], each["milliseconds"])


async def rate(address: str, key: str, questions: Sequence[str], seconds: float) -> float:
    """Searches a second, of callers that ask one after the other."""
    done = 0
    end = time.monotonic() + seconds

    async def call(number: int) -> None:
        nonlocal done
        plain = await Plain.connect(address, key)
        while time.monotonic() < end:
            await plain.post("/v1/search", {"query": questions[number % len(questions)]})
            number += CALLERS
            done += 1
        plain.close()

    await asyncio.gather(*(call(number) for number in range(CALLERS)))
    return done / seconds


async def searching(data: Path, sizes: Sequence[int], seconds: float) -> None:
    passages = lines(data / "retrieval/chunks.jsonl")
    asked_of = lines(data / "retrieval/questions.jsonl")
    questions = [each["question"] for each in asked_of]
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twin-scale-")))
        servers = Servers(directory / "servers")
        stack.callback(servers.stop)
        url = (await asyncio.to_thread(servers.start, "weaviate")).variables["TWIN_TEST_WEAVIATE_URL"]
        settings = {"TWIN_INDEX_URL": url, "TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000"}
        indexes: Indexes = await open_adapter("index", url, directory)
        stack.push_async_callback(indexes.close)
        encoder: Encoder = await open_adapter("encoder", "onnx://", directory)
        await indexes.create(Manifest("bench", encoder.identity, CLEANER, CHUNKER, "live"))
        index = await indexes.open("bench")
        held = await put_answering(index, encoder, passages, asked_of)
        corpus = MadeUp.like(passages, encoder.identity.dimensions, TO_A_DOCUMENT)
        key = await create_key(directory, settings)
        made = await stack.enter_async_context(cluster(directory, settings))
        parts = urlsplit(url)
        bare = weaviate.use_async_with_local(
            host="127.0.0.1", port=int(parts.port or 0), grpc_port=int(parts.query.partition("=")[2]),
            skip_init_checks=True,
        )  # fmt: skip
        await bare.connect()
        stack.push_async_callback(bare.close)
        (name,) = [each for each in await bare.collections.list_all() if "Chunks_" in each]
        chunks, folded = bare.collections.get(name), Words()

        async def peer(question: str) -> None:
            vector = (await encoder.encode([question]))[0].tolist()
            await chunks.query.hybrid(
                " ".join(folded.of_query(question)),
                vector=vector,
                query_properties=["words"],
                limit=DEPTH,
                return_properties=["shown"],
            )

        rows = []
        for size in sizes:
            await grow(index, corpus, held, size)
            held = size
            await asyncio.sleep(SETTLES)
            # Anew: the gateway closes what has not been used for a while.
            plain = await Plain.connect(made.gateways[0], key)
            table, steps = Table(), Table()
            asked = [*questions[:WARM], *questions * ROUNDS]
            chance = random.Random(size)
            for number, question in enumerate(asked):
                works: dict[str, Callable[[], Awaitable[object]]] = {
                    "encoder": lambda question=question: encoder.encode([question]),  # type: ignore[misc]
                    "peer": lambda question=question: peer(question),  # type: ignore[misc]
                    "adapter": lambda question=question: search(  # type: ignore[misc]
                        index, encoder, queries(question), EVERYONE, Filter()
                    ),
                    "Twin": lambda question=question, plain=plain, steps=steps: ask(  # type: ignore[misc]
                        plain, question, steps
                    ),
                }
                for each in chance.sample(list(works), len(works)):
                    milliseconds = await timed(works[each])
                    if number >= WARM:
                        table.add(each, milliseconds)
            table.print(f"{size} chunks", ["encoder", "peer", "adapter", "Twin"])
            steps.print("of it, as the answer's steps say", list(STEPS))
            table.above("Twin", ["peer"], AIM)
            table.above("Twin", ["adapter"], AIM)
            plain.close()
            before = {each: spent(made, [each]) for each in ("gateway", "retriever")}
            each_second = await rate(made.gateways[0], key, questions, seconds)
            rows.append(
                (
                    size,
                    table.quantile("peer", 0.5),
                    table.quantile("Twin", 0.5),
                    table.quantile("Twin", 0.95),
                    each_second,
                )
            )
            taken = ", ".join(
                f"{each} {(spent(made, [each]) - seconds_) / (each_second * seconds) * 1000:.1f} ms"
                for each, seconds_ in before.items()
            )
            print(
                f"{CALLERS} callers: {each_second:.1f} searches a second, each takes of a core: {taken}; load {load()}",
                flush=True,
            )
        print("\n  chunks  peer p50  Twin p50  Twin p95  requests/s  growth of p50: peer  Twin")
        for size, theirs, p50, p95, each_second in rows:
            print(
                f"{size:8}{theirs:10.1f}{p50:10.1f}{p95:10.1f}{each_second:12.1f}{theirs / rows[0][1]:21.2f}{p50 / rows[0][2]:6.2f}"
            )


# ── Crawling ────────────────────────────────────────────────────────────────────────────────────────


class SlowEncoder(Tei):
    """Answers after SLOW seconds, whatever it is asked, and computes nothing."""

    async def _embed(self, given: dict[str, Any]) -> list[list[float]]:
        rows = np.random.default_rng(1).standard_normal((len(self._inputs(given["inputs"])), 384))
        await asyncio.sleep(SLOW)
        vectors: list[list[float]] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).round(6).tolist()
        return vectors


async def sites(pages: int) -> tuple[list[asyncio.Server], list[str]]:
    """SITES of so many pages, each on an address of its own; the first page links to all others."""

    def page(site: str, number: int) -> bytes:
        chance = random.Random(f"{site} {number}")
        words = ["".join(chance.choices("abcdefghijklmnoprstu", k=chance.randint(3, 9))) for _ in range(150)]
        links = "".join(f'<a href="/{each}">{each}</a> ' for each in range(1, pages)) if number == 0 else ""
        title = f"Page {number} of {site}"
        return f"<html><title>{title}</title><body><article><h1>{title}</h1><p>{' '.join(words)}.</p>{links}</article>".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().removeprefix("/")
            await asyncio.sleep(SLOW)
            there = path.isdecimal()
            body = page(writer.get_extra_info("sockname")[0], int(path)) if there else b"none"
            writer.write(b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                         % (b"200 OK" if there else b"404 Not Found", len(body), body))  # fmt: skip
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    made = [await asyncio.start_server(serve, f"127.0.1.{number + 1}", 0) for number in range(SITES)]
    ports = [each.sockets[0].getsockname() for each in made]
    return made, [f"http://{host}:{port}/0" for host, port in ports]


async def crawled(
    settings: dict[str, str], directory: Path, addresses: Sequence[str], pages: int, workers: int
) -> tuple[float, float]:
    """Seconds until all are searchable, and of them those for which a core of the workers' was busy."""
    key = await create_key(directory, settings, f"of-{workers}")
    async with (
        cluster(directory, settings, {"crawler": workers, "feature": workers}) as made,
        httpx.AsyncClient(
            base_url=made.gateways[0], headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
        ) as http,
    ):
        # What reads pages is started with the first: each worker has had one then.
        await ingested(http, f"warm-{workers}", [{"address": each} for each in addresses])
        sources = [{"address": each, "options": {"depth": 1, "max_pages": pages}} for each in addresses]
        began, busy = time.monotonic(), spent(made, ("crawler", "feature"))
        job = await ingested(http, f"of-{workers}", sources)
        seconds = time.monotonic() - began
        assert job["documents"]["indexed"] == len(addresses) * pages, job["documents"]
        return seconds, spent(made, ("crawler", "feature")) - busy


async def ingested(http: httpx.AsyncClient, author: str, sources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The job once it is done."""
    accepted = await http.post("/v1/ingest-jobs", json={"author": author, "sources": sources})
    assert accepted.status_code == 202, accepted.text
    job: dict[str, Any] = {"state": "queued"}
    while job["state"] in ("queued", "running"):
        await asyncio.sleep(0.5)
        job = (await http.get(accepted.headers["location"])).json()
    assert job["state"] == "done", job
    return job


def spent(made: Cluster, services: Sequence[str]) -> float:
    """Seconds of a core that these, and what reads pages for them, have taken."""
    total = 0.0
    for each in (process for service in services for process in made.of(service)):
        assert each.running is not None
        process = psutil.Process(each.running.pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system
    return total


async def on_new_stores(encoder: str, addresses: Sequence[str], pages: int, workers: int) -> tuple[float, float]:
    """As `crawled` has it. The store that speaks MongoDB's protocol here looks through all records of a collection for
    most questions: what an earlier run left would be counted against the next."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twin-scale-")))
        servers = Servers(directory / "servers")
        stack.callback(servers.stop)
        variables: dict[str, str] = {}
        for each in ("ferretdb", "weaviate", "redis"):
            variables |= (await asyncio.to_thread(servers.start, each)).variables
        settings = {
            **settings_of(variables),
            "TWIN_ENCODER_URL": f"tei+{encoder}",
            "TWIN_CRAWLER_ALLOWED_NETWORKS": "127.0.0.0/8",
            "TWIN_CRAWLER_JOBS": "1",
            "TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000",
        }
        return await crawled(settings, directory, addresses, pages, workers)


async def crawling(pages: int) -> None:
    with ExitStack() as stack:
        made, addresses = await sites(pages)
        for each_site in made:
            stack.callback(each_site.close)
        encoder = stack.enter_context(served(application(SlowEncoder())))
        print(f"\n{SITES} sites of {pages} pages; {os.cpu_count()} cores, load {load()}")
        print("workers  seconds  documents/s  a document takes of a core  scaling of the doubling")
        before, documents = 0.0, len(addresses) * pages
        for workers in (1, 2, 4):
            seconds, busy = await on_new_stores(encoder, addresses, pages, workers)
            scaling = f"{before / seconds / 2:.2f} (aim {SCALING})" if before else ""
            print(
                f"{workers:7}{seconds:9.1f}{documents / seconds:13.2f}{busy / documents * 1000:24.0f} ms  {scaling}  load {load()}",
                flush=True,
            )
            before = seconds


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="2000,20000,200000")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement of requests a second")
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--only", default="search,crawl")
    given = parser.parse_args()
    telemetry.configure_logs("error")
    print(f"{os.cpu_count()} cores, load {load()}")
    folder = os.environ.get("TWIN_TEST_DATA")
    if "search" in given.only.split(","):
        if folder:
            await searching(Path(folder), [int(each) for each in given.sizes.split(",")], given.seconds)
        else:
            print("search: TWIN_TEST_DATA names no folder: skipped", file=sys.stderr)
    if "crawl" in given.only.split(","):
        await crawling(given.pages)


if __name__ == "__main__":
    asyncio.run(main())
