"""What a question costs beside what cannot be saved: `make bench-query`.

Reads retrieval/ of the folder in TWIN_TEST_DATA. 20,000 chunks in the embedded index: the passages that answer the
questions, cut and embedded by Twin, and made-up prose of the same words, as frequent, with random vectors (both
searches are exact, so these cost what real ones cost). Twin is the embedded one, every service behind gRPC, the
gateway behind HTTP on loopback. Each question is asked once; what is compared is asked of the same question right
after one another, in random order.

    search       peer: the question's encoding, then the two searches of the index, run as a search runs them
    quotations   peer: the same question as a search; the whole answer, and the same as a stream
    first token  peer: the engine alone, asked with the very prompt that Twin sent; the engine is a stub of fixed speed
                 (benchmarks/slow_engine.py) in a process of its own
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from httpx_sse import aconnect_sse

from benchmarks import slow_engine
from benchmarks.corpus import AUTHORS, MadeUp, put, put_answering
from benchmarks.retrieval import lines
from services import clients, embedded, process, telemetry
from services.adapters import open_adapter
from services.domain import (
    EVERYONE,
    Filter,
    Manifest,
    Message,
    Scope,
    SearchRequest,
)
from services.feature.chunk import CHUNKER
from services.feature.clean import CLEANER
from services.ports import Encoder, Indexes, LanguageModel, Sampling
from services.retriever import bootstrap
from services.retriever.queries import Queries
from services.retriever.search import search

CHUNKS, TO_A_DOCUMENT = 20_000, 20
QUESTIONS, WARM, ENGINE = 72, 12, 24
"""Asked in all; asked first, not measured; asked of a model."""


# ── The corpus ──────────────────────────────────────────────────────────────────────────────────────


async def fill(data: Path, directory: Path, asked: Sequence[Any]) -> None:
    indexes: Indexes = await open_adapter("index", "sqlite:///", directory)
    encoder: Encoder = await open_adapter("encoder", "onnx://", directory)
    await indexes.create(Manifest("bench", encoder.identity, CLEANER, CHUNKER, "live"))
    index = await indexes.open("bench")

    passages = lines(data / "retrieval/chunks.jsonl")
    real = await put_answering(index, encoder, passages, asked)
    for each in MadeUp.like(passages, encoder.identity.dimensions, TO_A_DOCUMENT).documents(0, CHUNKS - real):
        await put(index, each)
    await indexes.close()
    print(f"{CHUNKS} chunks, {real} of them real, of {AUTHORS} authors; {os.cpu_count()} cores, load {load()}")


# ── Figures ─────────────────────────────────────────────────────────────────────────────────────────


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


class Table:
    """Times by name, one a question."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    def add(self, name: str, milliseconds: float) -> None:
        self._times.setdefault(name, []).append(milliseconds)

    def quantile(self, name: str, at: float) -> float:
        return float(np.quantile(self._times[name], at))

    def print(self, title: str, names: Sequence[str]) -> None:
        print(f"\n{title:42}  p50 ms  p95 ms")
        for name in names:
            times = self._times[name]
            print(f"{name:42}{np.median(times):8.1f}{np.quantile(times, 0.95):8.1f}")

    def above(self, name: str, peers: Sequence[str], aim: float) -> None:
        """p50 beside the sum of the peers' p50, and the median of the differences a question."""
        floor = sum(float(np.median(self._times[peer])) for peer in peers)
        times = np.array(self._times[name])
        own = np.median(times - np.sum([self._times[peer] for peer in peers], axis=0))
        print(
            f"{name}: {np.median(times) - floor:+.1f} ms above {' + '.join(peers)} ({np.median(times) / floor:.2f} of "
            f"it; a question's own difference {own:+.1f}); aim: at most +{aim:g}"
        )

    def within(self, name: str, aim: float) -> None:
        print(f"{name}: {np.median(self._times[name]):.1f} ms; aim: at most {aim:g}")


# ── Search ──────────────────────────────────────────────────────────────────────────────────────────


async def searches(directory: Path, twin: embedded.Twin, plain: Plain, questions: Sequence[str]) -> None:
    indexes: Indexes = await open_adapter("index", "sqlite:///", directory)
    encoder: Encoder = await open_adapter("encoder", "onnx://", directory)
    index = await indexes.open("bench")
    inside = await bootstrap.build(bootstrap.Settings(data_dir=directory))
    client = clients.Retriever(twin.channels["retriever"])
    chance = random.Random(2)
    for author, label in ((None, "search, all authors"), ("author-1", f"search, one author of {AUTHORS}")):
        scope = EVERYONE if author is None else Scope(authors=(author,))
        filter = Filter() if author is None else Filter(authors=(author,))
        table = Table()
        for number, question in enumerate(questions):
            wanted, request = Queries(question, question), SearchRequest(question, scope, filter=filter)
            body = {"query": question, "filter": {} if author is None else {"author": author}}
            works: dict[str, Callable[[], Awaitable[object]]] = {
                "encoder": lambda question=question: encoder.encode([question]),  # type: ignore[misc]
                "encoder and index": lambda wanted=wanted, scope=scope, filter=filter: search(  # type: ignore[misc]
                    index, encoder, wanted, scope, filter
                ),
                "retriever in the process": lambda request=request: inside.retrieve(request),  # type: ignore[misc]
                "search through gRPC": lambda request=request: client.search(request),  # type: ignore[misc]
                "search through HTTP": lambda body=body: plain.post("/v1/search", body),  # type: ignore[misc]
            }
            for name in chance.sample(list(works), len(works)):
                milliseconds = await timed(works[name])
                if number >= WARM:
                    table.add(name, milliseconds)
        table.print(label, list(works))
        for name in ("search through gRPC", "search through HTTP"):
            table.above(name, ["encoder and index"], 5)
    await inside.stop()
    await indexes.close()


class Plain:
    """HTTP with next to no cost of its own: httpx takes one to two milliseconds a request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: str) -> None:
        self._reader = reader
        self._writer = writer
        self._secret = secret

    @classmethod
    async def connect(cls, address: str, secret: str) -> Plain:
        host, _, port = address.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)), secret)

    async def post(self, path: str, body: object) -> Any:
        self._send(path, body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?i)^HTTP/1.1 200 .*\r\ncontent-length: (\d+)", answered, re.DOTALL)
        if length is None:
            raise RuntimeError(answered)
        return json.loads(await self._reader.readexactly(int(length[1])))

    async def first_words(self, path: str, body: object) -> float:
        """Milliseconds until a streamed answer's first words are here; it returns at the stream's end."""
        began, found = time.perf_counter(), 0.0
        self._send(path, body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if not answered.startswith("HTTP/1.1 200 "):
            raise RuntimeError(answered)
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            piece = await self._reader.readexactly(size + 2)
            if not found and re.search(rb'"content": ?"[^"]', piece):
                found = (time.perf_counter() - began) * 1000
        await self._reader.readuntil(b"\r\n")
        return found

    def _send(self, path: str, body: object) -> None:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        self._writer.write(head.encode() + data)

    def close(self) -> None:
        self._writer.close()


# ── Answers ─────────────────────────────────────────────────────────────────────────────────────────


async def chunks(http: httpx.AsyncClient, question: str, support: str = "mark") -> AsyncIterator[Any]:
    """The events of a streamed answer."""
    body = {
        "model": "twin",
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "twin": {"support": support},
    }
    async with aconnect_sse(http, "POST", "/v1/chat/completions", json=body) as events:
        events.response.raise_for_status()
        async for event in events.aiter_sse():
            if event.data != "[DONE]":
                yield json.loads(event.data)


async def quotations(twin: embedded.Twin, plain: Plain, http: httpx.AsyncClient, questions: Sequence[str]) -> None:
    """Half of the questions whole, half as a stream: vectors of sentences that were quoted before are remembered."""
    client = clients.Retriever(twin.channels["retriever"])
    table = Table()
    evidence: Counter[str] = Counter()
    for number, question in enumerate(questions):
        request = SearchRequest(question, EVERYONE, threshold=True)
        searched = await timed(lambda request=request: client.search(request))  # type: ignore[misc]
        began = time.perf_counter()
        if number % 2:
            body = {"model": "twin", "messages": [{"role": "user", "content": question}]}
            found = (await plain.post("/v1/chat/completions", body))["twin"]["evidence"]
            times = {"quoted answer": (time.perf_counter() - began) * 1000}
        else:
            times = {}
            async for each in chunks(http, question):
                found = each.get("twin", {}).get("started", {}).get("evidence", "") or found
                if "first words" not in times and each["choices"][0]["delta"].get("content"):
                    times["first words"] = (time.perf_counter() - began) * 1000
            times["quoted answer, streamed"] = (time.perf_counter() - began) * 1000
        if number >= WARM:
            evidence[found] += 1
            table.add("search through gRPC", searched)
            for name, milliseconds in times.items():
                table.add(name, milliseconds)
    rows = ["search through gRPC", "quoted answer", "quoted answer, streamed", "first words"]
    table.print(f"quotations through HTTP ({dict(evidence)})", rows)
    for name in rows[1:3]:
        table.within(name, 60)


async def first_tokens(directory: Path, questions: Sequence[str]) -> None:
    with subprocess.Popen([sys.executable, "-m", "benchmarks.slow_engine"], stdout=subprocess.PIPE, text=True) as stub:
        try:
            assert stub.stdout is not None  # for the type checker
            address = f"127.0.0.1:{stub.stdout.readline().strip()}"
            url = f"openai+http://{address}/v1?model=stub"
            async with (
                embedded.running(workers=False, data_dir=directory, gateway_port=0, llm_url=url) as twin,
                await caller(twin) as http,
                httpx.AsyncClient(base_url=f"http://{address}") as asking,
            ):
                model: LanguageModel = await open_adapter("language_model", url, directory)
                await _first_tokens(twin, http, asking, model, questions)
                await model.close()
        finally:
            stub.terminate()


async def _first_tokens(
    twin: embedded.Twin,
    http: httpx.AsyncClient,
    asking: httpx.AsyncClient,
    model: LanguageModel,
    questions: Sequence[str],
) -> None:
    client = clients.Retriever(twin.channels["retriever"])
    table = Table()
    counted = 0
    for question in questions:
        request = SearchRequest(question, EVERYONE, threshold=True)
        searched = await timed(lambda request=request: client.search(request))  # type: ignore[misc]
        marked, evidence = await first_words(http, question, "mark")
        replaced, _ = await first_words(http, question, "replace")
        if evidence != "answer":
            # What Twin says itself before a weaker answer would come sooner than any token.
            continue
        sent = [Message(each["role"], each["content"]) for each in (await asking.get("/last")).json()]
        token, sentence = await alone(model, sent)
        counted += 1
        if counted <= 2:
            continue
        table.add("search", searched)
        table.add("the engine's first token", token)
        table.add("the engine's first sentence", sentence)
        table.add("first token, mark", marked)
        table.add("first token, replace", replaced)
    set_up = (
        f"stub of {slow_engine.PREFILL * 1000:.0f} ms and {1 / slow_engine.TOKEN:.0f} tokens/s, {counted - 2} questions"
    )
    rows = ["search", "the engine's first token", "the engine's first sentence"]
    table.print(f"first token ({set_up})", [*rows, "first token, mark", "first token, replace"])
    table.above("first token, mark", ["the engine's first token", "search"], 10)
    table.above("first token, replace", ["the engine's first sentence", "search"], 10)


async def first_words(http: httpx.AsyncClient, question: str, support: str) -> tuple[float, str]:
    """Milliseconds to the first words, and the evidence."""
    began, first, evidence = time.perf_counter(), 0.0, ""
    async for each in chunks(http, question, support):
        evidence = each.get("twin", {}).get("started", {}).get("evidence", "") or evidence
        if each["choices"][0]["delta"].get("content"):
            first = first or (time.perf_counter() - began) * 1000
    return first, evidence


async def alone(model: LanguageModel, sent: Sequence[Message]) -> tuple[float, float]:
    """Milliseconds to the engine's first token, and until something follows its first sentence."""
    began, first, text = time.perf_counter(), 0.0, ""
    async with aclosing(model.stream(sent, Sampling(max_tokens=600))) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            now = (time.perf_counter() - began) * 1000
            if isinstance(piece, str):
                first = first or now
                text += piece
                if re.search(r"\]\.\s+\S", text):
                    return first, now
    return first, now


async def caller(twin: embedded.Twin) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {twin.secret}"}
    return httpx.AsyncClient(base_url=await twin.serve(), headers=headers, timeout=60, trust_env=False)


async def main() -> None:
    folder = os.environ.get("TWIN_TEST_DATA")
    if not folder:
        print("TWIN_TEST_DATA names no folder: skipped")
        return
    telemetry.configure_logs("error")
    asked = lines(Path(folder) / "retrieval/questions.jsonl")[:QUESTIONS]
    questions = [each["question"] for each in asked]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        await fill(Path(folder), directory, asked)
        async with (
            embedded.running(workers=False, data_dir=directory, gateway_port=0, llm_url="quotes://") as twin,
            await caller(twin) as http,
        ):
            plain = await Plain.connect(str(http.base_url).rstrip("/"), twin.secret)
            await searches(directory, twin, plain, questions)
            await quotations(twin, plain, http, questions)
            plain.close()
        await first_tokens(directory, questions[:ENGINE])
    print(f"\nload at the end: {load()}")


if __name__ == "__main__":
    process.run(main())
