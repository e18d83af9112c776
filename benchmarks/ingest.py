"""Documents from disk to searchable, beside the bare encoder and beside LlamaIndex's ingestion pipeline.

    TWIN_TEST_DATA=… python -m benchmarks.ingest [--documents 300] [--small 1000 --large 10000] [--short]

The documents are Markdown files made of the folder's own paragraphs (articles.jsonl, chunking/*.md), drawn at random,
no two alike. Twin's figure is the whole way: the crawler reads the folder, the feature service cleans, chunks, embeds
and indexes, both over gRPC as in `twin up`; it ends when the last document is searchable. Like the encoder and
LlamaIndex, whose libraries are loaded before the clock starts, Twin has been up for a moment: its process that reads
files is there. What it does right after a start is printed beside it.

- Bare encoder: the same chunks' texts, tokenised beforehand and ordered by length, through the ONNX session alone, at
  the best of several batch sizes, once all cores on one batch after another and once a batch on each core; before and
  after Twin's run, the mean of both. Tokens without padding.
- LlamaIndex: SimpleDirectoryReader, SentenceSplitter and an embedding that calls the same encoder, into its
  SimpleVectorStore; at Twin's mean chunk size, and at its defaults (1,024 tokens, overlap 200). What of a chunk is
  beyond the window's 256 tokens is cut off there and never embedded; the share is shown, and tokens count as embedded.
- Memory: peak size (PSS) of the process and its children, ingesting documents of one short paragraph, some 60
  tokens each, so that 10,000 of them take minutes.
- Second ingest: the same folder again.

Each part runs in a process of its own. `make bench-ingest` also runs benchmarks.index_churn (many authors, churn).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SHORT = 240
"""Characters of a short document."""
BATCHES = (256, 512, 768, 1024, 2048, 4096)
"""Tokens of one run of the session, padding included."""


# ── Material ────────────────────────────────────────────────────────────────────────────────────────


def paragraphs(data: Path) -> list[str]:
    lines = (data / "articles.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    texts += [file.read_text(encoding="utf-8") for file in sorted((data / "chunking").glob("[!c]*.md"))]
    found = {each.strip() for text in texts for each in text.split("\n")}
    return sorted(each for each in found if 150 <= len(each) <= 2000)


def write_files(data: Path, folder: Path, count: int, size: int, longest: int | None = None) -> None:
    """`count` files of `size` paragraphs in sections of three, cut after `longest` characters, the same ones each
    time."""
    folder.mkdir(parents=True)
    pool = paragraphs(data)
    draw = random.Random(1)
    for number in range(count):
        chosen = draw.sample(pool, size)
        parts = [f"# Document {number}"]
        for place, each in enumerate(chosen):
            if place % 3 == 0 and size > 3:
                parts.append(f"## Part {place // 3 + 1}: {' '.join(each.split()[:4])}")
            # Sentences in another order: no paragraph stands in two documents as it is.
            sentences = each.split(". ")
            draw.shuffle(sentences)
            parts.append(f"{number}. " + ". ".join(sentences))
        (folder / f"{number:06}.md").write_text("\n\n".join(parts)[:longest], encoding="utf-8")


# ── The parts, each in a process of its own ─────────────────────────────────────────────────────────


class Peak:
    """Peak bytes of this process and its children, looked at five times a second: resident ones, what several share
    by its share (PSS). A child has all of its parent's until it is another program."""

    def __init__(self) -> None:
        self.bytes = 0
        self._process = psutil.Process()
        self._stop = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            total = 0
            for each in (self._process, *self._process.children(recursive=True)):
                try:
                    total += each.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.bytes = max(self.bytes, total)

    def end(self) -> int:
        self._stop.set()
        return self.bytes


@asynccontextmanager
async def system(data_dir: Path) -> AsyncIterator[tuple[Any, Any, Any]]:
    """The crawler's client, the feature service, both serving over sockets in this process, and what reads files."""
    from services import clients, rpc
    from services.crawler import bootstrap as crawler
    from services.feature import bootstrap as feature
    from services.settings import read

    given: dict[str, Any] = {"data_dir": data_dir, "crawler_folders": "*"}
    made_feature = await feature.build(read(feature.Settings, **given))
    feature_server = rpc.Server(f"unix:{data_dir}/feature.sock", made_feature.services)
    await feature_server.start()
    channel = rpc.connect(f"unix:{data_dir}/feature.sock")
    made_crawler = await crawler.build(read(crawler.Settings, **given), clients.Feature(channel))
    crawler_server = rpc.Server(f"unix:{data_dir}/crawler.sock", made_crawler.services)
    await crawler_server.start()
    crawler_channel = rpc.connect(f"unix:{data_dir}/crawler.sock")
    await made_feature.start()
    await made_crawler.start()
    try:
        yield clients.Crawler(crawler_channel), made_feature, made_crawler.readers
    finally:
        await crawler_channel.close()
        await crawler_server.stop(1)
        await made_crawler.stop(1)
        await channel.close()
        await feature_server.stop(1)
        await made_feature.stop(1)


async def ingest(folder: Path, data_dir: Path, *, at_once: bool, memory: bool) -> dict[str, Any]:
    """Seconds of the first and of a second ingest, what came of it, and the peak of memory, where that is asked for:
    to look at it takes time. `at_once`: right after the start, before the process that reads files is there."""
    from services.clients import SourceSpec
    from services.domain import EVERYONE
    from services.ports import DocumentQuery

    peak = Peak() if memory else None
    async with system(data_dir) as (crawler, feature, readers):
        if not at_once:
            await readers.call("load", {}, seconds=60)
        seconds: list[float] = []
        processor = 0.0
        for _ in range(2):
            began = time.perf_counter()
            crawl = await crawler.start_crawl("author", [SourceSpec(str(folder))], EVERYONE)
            async for each in crawler.watch_crawl(crawl.id, EVERYONE):
                crawl = each
            seconds.append(time.perf_counter() - began)
            if len(seconds) == 1:
                processor = _processor()
        if crawl.state != "done" or crawl.failures:
            raise SystemExit(f"The ingest ended {crawl.state}: {crawl.failures[:3]}")
        documents = chunks = 0
        cursor = ""
        while True:
            page = await feature.documents.find(
                DocumentQuery(scope=EVERYONE, state="indexed", limit=500, cursor=cursor)
            )
            documents += len(page.documents)
            chunks += sum(each.chunks for each in page.documents)
            cursor = page.next
            if not cursor:
                break
        most = peak.end() if peak else 0
    return {
        "seconds": seconds[0],
        "again": seconds[1],
        "documents": documents,
        "chunks": chunks,
        "memory": most,
        "processor": processor,
    }


async def bare(folder: Path) -> dict[str, Any]:
    """Tokens a second of the session alone, over the chunks that Twin makes of the same files."""
    from services.adapters import open_adapter
    from services.cores import cores
    from services.feature.chunk import chunk
    from services.feature.clean import clean

    encoder = await open_adapter("encoder", "onnx://", folder)
    texts = []
    for file in sorted(folder.iterdir()):
        text = clean(file.read_text(encoding="utf-8"))
        title = text.partition("\n")[0].removeprefix("# ")
        texts += [each.embedded_text for each in chunk(text, file.name, title, encoder)]
    encodings = encoder._tokenize(texts)
    lengths = [len(each) for each in encodings]
    sample = encodings[:: max(1, len(encodings) // 400)]
    rates: list[float] = []
    best: list[int] = []
    processor = 0.0
    for at_once in (1, cores()):
        best.append(max(BATCHES, key=lambda tokens, at_once=at_once: _rate(encoder, sample, tokens, at_once)))  # type: ignore[misc]
        earlier = _processor()
        rates.append(_rate(encoder, encodings, best[-1], at_once))
        processor = _processor() - earlier
    return {
        "tokens": sum(lengths),
        "chunks": len(texts),
        "rates": rates,
        "batches": best,
        "processor": processor,
        "mean": float(np.mean([len(encoder.token_spans(text)) for text in texts])),
    }


def _processor() -> float:
    """Seconds of processor time that this process and its children have taken."""
    times = psutil.Process().cpu_times()
    running = [each.cpu_times() for each in psutil.Process().children(recursive=True)]
    own = times.user + times.system + times.children_user + times.children_system
    return float(own + sum(each.user + each.system for each in running))


def _rate(encoder: Any, encodings: Sequence[Any], tokens: int, at_once: int) -> float:
    """Tokens a second in batches of so many, so many of which are computed at once."""
    from concurrent.futures import ThreadPoolExecutor

    from services.adapters.batches import batches
    from services.adapters.encoder_onnx import UNEVEN, session
    from services.cores import cores

    lengths = [len(each) for each in encodings]
    each_ones = session(max(1, cores() // at_once))
    found = batches(lengths, tokens, len(lengths), UNEVEN)
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda batch: encoder._run([encodings[each] for each in batch], each_ones), found))
    return sum(lengths) / (time.perf_counter() - began)


def llama_index(folder: Path, chunk_size: int | None) -> dict[str, Any]:
    """LlamaIndex's pipeline over the same files: seconds, and the tokens that were embedded."""
    from benchmarks.chunking import sentence_data, within

    with sentence_data():
        from llama_index.core import SimpleDirectoryReader
        from llama_index.core.base.embeddings.base import BaseEmbedding
        from llama_index.core.ingestion import IngestionPipeline
        from llama_index.core.node_parser import SentenceSplitter
        from llama_index.core.vector_stores import SimpleVectorStore

        from services.adapters import encoder_onnx

        encoder = encoder_onnx._load()
        counted = {"tokens": 0, "all": 0}

        class Same(BaseEmbedding):
            def _get_text_embedding(self, text: str) -> list[float]:
                return self._get_text_embeddings([text])[0]

            def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
                cut = within(texts, encoder)
                encodings = encoder._tokenize(cut)
                counted["tokens"] += sum(len(each) for each in encodings)
                counted["all"] += sum(encoder.count(texts))
                found: list[list[float]] = encoder._run(encodings, encoder._session).tolist()
                return found

            def _get_query_embedding(self, query: str) -> list[float]:
                return self._get_text_embedding(query)

            async def _aget_query_embedding(self, query: str) -> list[float]:
                return self._get_text_embedding(query)

        splitter = (
            SentenceSplitter()
            if chunk_size is None
            else SentenceSplitter(chunk_size=chunk_size, chunk_overlap=0, tokenizer=encoder.token_spans)
        )
        began = time.perf_counter()
        documents = SimpleDirectoryReader(str(folder)).load_data()
        pipeline = IngestionPipeline(transformations=[splitter, Same()], vector_store=SimpleVectorStore())
        nodes = pipeline.run(documents=documents)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "chunks": len(nodes), **counted}


# ── The run ─────────────────────────────────────────────────────────────────────────────────────────


def part(name: str, folder: Path, *more: str) -> dict[str, Any]:
    """One part in its own process; its last line is the result."""
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.ingest",
                "--part",
                name,
                "--folder",
                str(folder),
                "--scratch",
                scratch,
                *more,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"The part {name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(data: Path, documents: int, small: int, large: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "throughput"
        write_files(data, folder, documents, 15)
        characters = sum(len(each.read_text(encoding="utf-8")) for each in folder.iterdir())
        cores = os.cpu_count()
        print(f"{documents} Markdown files, {characters / 1e6:.1f} million characters; onnx://, {cores} cores")
        before = part("bare", folder)
        twin = part("ingest", folder)
        cold = part("ingest", folder, "--at-once")
        after = part("bare", folder)
        if (twin["documents"], twin["chunks"]) != (documents, before["chunks"]):
            print(f"NOTE: {twin['documents']} documents and {twin['chunks']} chunks indexed of {before['chunks']}.")
        twin_rate = before["tokens"] / twin["seconds"]
        print(f"{'':40} {'documents/s':>12} {'tokens/s':>9} {'chunks':>7}   (tokens that are embedded)")
        ways = ("one batch at a time", "a batch on each core")
        bare_rates = [(earlier + later) / 2 for earlier, later in zip(before["rates"], after["rates"], strict=True)]
        for way, rate, batch, earlier, later in zip(
            ways, bare_rates, before["batches"], before["rates"], after["rates"], strict=True
        ):
            name = f"bare, {way}, {batch} tokens"
            print(f"{name:40} {'':12} {rate:9.0f} {before['chunks']:7}   ({earlier:.0f}, {later:.0f})")
        print(
            f"{'Twin, disk to searchable':40} {documents / twin['seconds']:12.2f} {twin_rate:9.0f} {twin['chunks']:7}"
        )
        print(f"  right after a start: {before['tokens'] / cold['seconds']:.0f}")
        processor = (before["processor"] + after["processor"]) / 2
        for way, rate in zip(ways, bare_rates, strict=True):
            print(f"  Twin / bare encoder, {way}: {twin_rate / rate:.3f} (target ≥ .9)")
        print(f"  bare / Twin in processor time, start and sandbox included: {processor / twin['processor']:.3f}")
        mean = round(before["mean"])
        for label, size in ((f"LlamaIndex, chunks of {mean} tokens", mean), ("LlamaIndex, its defaults", None)):
            peer = part("llama_index", folder, *(["--size", str(size)] if size else []))
            seconds, rate = peer["seconds"], peer["tokens"] / peer["seconds"]
            cut = 1 - peer["tokens"] / peer["all"]
            print(f"{label:40} {documents / seconds:12.2f} {rate:9.0f} {peer['chunks']:7}   ({cut:.0%} never embedded)")
            print(f"  Twin / it: embedded tokens/s {twin_rate / rate:.2f}, documents/s {seconds / twin['seconds']:.2f}")
            if cut > 0.01:
                print(f"  Its documents are embedded to {1 - cut:.0%} only, Twin's whole: documents/s do not compare.")
        first, again = twin["seconds"], twin["again"]
        print(f"Second ingest: {again:.2f} s after {first:.1f} s, {first / again:.0f} times faster (target ≥ 50)")
        peaks = {}
        for count in (small, large):
            short = Path(scratch) / f"short{count}"
            write_files(data, short, count, 1, SHORT)
            done = part("ingest", short, "--memory")
            peaks[count] = done["memory"]
            print(f"Peak memory, {count} short documents: {peaks[count] / 1e6:.0f} MB, in {done['seconds']:.0f} s")
        print(f"  {large} / {small} documents: {peaks[large] / peaks[small]:.3f} (target within 10 %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--short", action="store_true", help="a tenth of everything: to see that it runs")
    parser.add_argument("--part", choices=("ingest", "bare", "llama_index"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--at-once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "ingest":
        done = ingest(given.folder, given.scratch, at_once=given.at_once, memory=given.memory)
        print(json.dumps(asyncio.run(done)))
    elif given.part == "bare":
        print(json.dumps(asyncio.run(bare(given.folder))))
    elif given.part == "llama_index":
        print(json.dumps(llama_index(given.folder, given.size)))
    else:
        data = os.environ.get("TWIN_TEST_DATA")
        if not data or not (Path(data) / "articles.jsonl").is_file():
            print("Skipped: TWIN_TEST_DATA names no folder that holds articles.jsonl.")
            return
        scale = 10 if given.short else 1
        run(Path(data), given.documents // scale, given.small // scale, given.large // scale)


if __name__ == "__main__":
    main()
