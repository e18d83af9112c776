"""How well passages are found, and how well it is known that they answer: `make bench-retrieval`.

Reads retrieval/ and chunking/questions.jsonl of the folder in TWIN_TEST_DATA. Each passage is a document, cut by Twin's
chunker, indexed by the embedded adapters and searched by the retriever itself; a hit counts for its document. Beside
it, in the same run and over the same chunks: each search alone, reciprocal rank fusion, plain relative-score fusion.

Declining is judged on the half of the questions that its threshold was not fitted on, many halves, with 95 % intervals.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from services.adapters import open_adapter
from services.confidence import terms, weights
from services.domain import EVERYONE, Filter, Hit, Manifest, SearchRequest, document_id
from services.feature.chunk import CHUNKER, chunk
from services.feature.clean import CLEANER
from services.ports import Encoder, Index, IndexedDocument, Indexes
from services.retriever.live import Live
from services.retriever.queries import queries
from services.retriever.retrieve import Retrieve
from services.retriever.search import DEPTH, Found, search
from services.retriever.threshold import DEFAULTS, judge

K = 60
"""Of reciprocal rank fusion, as usual."""
HALVES = 200
"""Random halves that thresholds are fitted on."""


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def build(data: Path, directory: Path) -> tuple[Indexes, Index, Encoder]:
    indexes: Indexes = await open_adapter("index", "sqlite:///", directory)
    encoder: Encoder = await open_adapter("encoder", "onnx://", directory)
    await indexes.create(Manifest("bench", encoder.identity, CLEANER, CHUNKER, "live"))
    index = await indexes.open("bench")
    made = []
    for passage in lines(data / "retrieval/chunks.jsonl"):
        heading, text = passage["heading"], passage["text"].removeprefix(passage["heading"]).strip()
        id = document_id("author", passage["id"])
        whole = f"# {heading}\n\n{text}" if heading else text
        made.append((IndexedDocument(id, 1, "author", passage["id"], heading, "source"), chunk(whole, id, "", encoder)))
    chunks = [each for _, each_chunks in made for each in each_chunks]
    vectors = await encoder.encode([each.embedded_text for each in chunks])
    by_id = {each.id: vector for each, vector in zip(chunks, vectors, strict=True)}
    for document, each_chunks in made:
        await index.stage(document, each_chunks, by_id)
        await index.publish(document, len(each_chunks))
    tokens = sum(each.tokens for each in chunks) / len(chunks)
    print(f"{len(made)} passages, {len(chunks)} chunks of {tokens:.0f} tokens, encoder {encoder.identity.url}")
    return indexes, index, encoder


# ── Ranking ─────────────────────────────────────────────────────────────────────────────────────────


def metrics(ranked: Sequence[Sequence[str]], relevant: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """R@3, R@10, MRR; ranked and relevant are documents' addresses."""
    rows: list[tuple[float, float, float]] = []
    for found, wanted in zip(ranked, relevant, strict=True):
        places = {url: place for place, url in enumerate(dict.fromkeys(found))}
        ranks = [places.get(url, 10**6) for url in wanted]
        within = [sum(rank < depth for rank in ranks) / len(ranks) for depth in (3, 10)]
        rows.append((within[0], within[1], 1 / (1 + min(ranks))))
    r3, r10, mrr = np.mean(rows, axis=0)
    return float(r3), float(r10), float(mrr)


def reciprocal(found: Found) -> list[str]:
    scores: dict[str, float] = {}
    urls = {}
    for hits in (found.dense, found.text):
        for rank, hit in enumerate(hits):
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + 1 / (K + rank + 1)
            urls[hit.chunk.id] = hit.url
    return [urls[id] for id in sorted(scores, key=lambda id: -scores[id])]


def relative(found: Found, alpha: float) -> list[str]:
    scores: dict[str, float] = {}
    urls = {}
    for hits, weight in ((found.dense, alpha), (found.text, 1 - alpha)):
        low, high = (hits[-1].score, hits[0].score) if hits else (0.0, 1.0)
        for hit in hits:
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + weight * (hit.score - low) / (high - low or 1.0)
            urls[hit.chunk.id] = hit.url
    return [urls[id] for id in sorted(scores, key=lambda id: -scores[id])]


# ── Declining ───────────────────────────────────────────────────────────────────────────────────────


def interval(values: Sequence[float]) -> str:
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"


def wilson(hits: int, of: int) -> str:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    spread = z / (1 + z * z / of) * float(np.sqrt(p * (1 - p) / of + z * z / (4 * of * of)))
    return f"{p:.3f} [{middle - spread:.3f}, {middle + spread:.3f}]"


def halves(answerable: np.ndarray, unanswerable: np.ndarray, lose: float) -> tuple[str, str]:
    """(declined, lost) on the halves that the threshold was not fitted on; it is the `lose` quantile of the other."""
    random = np.random.default_rng(7)
    declined, lost = [], []
    for _ in range(HALVES):
        order, others = random.permutation(len(answerable)), random.permutation(len(unanswerable))
        fit, held = np.split(order, 2)
        threshold = np.quantile(answerable[fit], lose)
        declined.append(float((unanswerable[others[: len(others) // 2]] < threshold).mean()))
        lost.append(float((answerable[held] < threshold).mean()))
    return interval(declined), interval(lost)


async def main() -> None:
    folder = os.environ.get("TWIN_TEST_DATA")
    if not folder or not (Path(folder) / "retrieval/chunks.jsonl").is_file():
        sys.exit("Skipped: TWIN_TEST_DATA names no folder with retrieval/chunks.jsonl.")
    data = Path(folder)
    questions = lines(data / "retrieval/questions.jsonl")
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        indexes, index, encoder = await build(data, Path(directory))
        print(f"indexed in {time.perf_counter() - began:.0f} s\n")

        async def shared(url: str) -> Encoder:
            return encoder

        live = Live(indexes, shared)
        retrieve = Retrieve(live, None, lambda step, seconds: None)
        relevant = [each["relevant"] for each in questions]
        found, ours = [], []
        for each in questions:
            found.append(await search(index, encoder, queries(each["question"]), EVERYONE, Filter()))
            result = await retrieve(SearchRequest(each["question"], EVERYONE, k=100))
            ours.append([passage.url for passage in result.passages])

        rows: list[tuple[str, Callable[[Found], list[str]]]] = [
            ("dense alone", lambda each: [hit.url for hit in each.dense]),
            ("BM25 alone", lambda each: [hit.url for hit in each.text]),
            ("reciprocal rank fusion", reciprocal),
            ("relative-score fusion, .5", lambda each: relative(each, 0.5)),
            ("relative-score fusion, .6", lambda each: relative(each, 0.6)),
        ]
        print(f"{len(questions)} questions{'':16} R@3   R@10    MRR")
        for name, rank in rows:
            print(f"{name:28}" + "  ".join(f"{x:.3f}" for x in metrics([rank(each) for each in found], relevant)))
        print(f"{'Twin':28}" + "  ".join(f"{x:.3f}" for x in metrics(ours, relevant)))

        async def sure(question: str, without: Sequence[str] = ()) -> float:
            """The confidence, as if these documents were not there."""
            some = await search(index, encoder, queries(question), EVERYONE, Filter())

            def rest(hits: list[Hit]) -> list[Hit]:
                return [hit for hit in hits if hit.url not in without]

            words = terms(question)
            frequencies, size = await index.document_frequencies(words)
            return judge(replace(some, dense=rest(some.dense), text=rest(some.text)), weights(words, frequencies, size))

        answerable = np.array([await sure(each["question"]) for each in questions])
        near = np.array([await sure(each["question"], each["relevant"]) for each in questions])
        off = np.array([await sure(each["question"]) for each in lines(data / "chunking/questions.jsonl")])
        print(f"\nDeclining; off the topic: {len(off)} questions about other texts; near it: the {len(near)} questions")
        print(f"without the passages that answer them (of {DEPTH} hits). Mean and 95 % interval of {HALVES} halves.")
        declined, lost = halves(answerable, off, 0.0)
        print(f"off the topic declined  {declined}   answerable lost {lost}")
        declined, lost = halves(answerable, near, 0.03)
        print(f"near the topic declined {declined}   answerable lost {lost}")
        default = DEFAULTS["onnx://"]
        for name, scores in (("answerable", answerable), ("near the topic", near), ("off the topic", off)):
            below = wilson(int((scores < default.decline).sum()), len(scores))
            answers = wilson(int((scores >= default.answer).sum()), len(scores))
            print(f"with the shipped thresholds, {name}: declined {below}, answered {answers}")
        await live.close()


if __name__ == "__main__":
    asyncio.run(main())
