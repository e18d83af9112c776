"""Whether the embedded index stays fast: with 1,000 authors, and after every chunk was replaced, many times over.

Run as `python -m benchmarks.index_churn`. The peer is the same index freshly built, of the same size, in the same run;
aim: at most 1.5 times its search time and 2 times its bytes.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from services.adapters import open_adapter
from services.domain import EVERYONE, Chunk, EncoderIdentity, Filter, Manifest, Scope, chunk_id
from services.ports import Index, IndexedDocument

DIMENSIONS, TO_A_DOCUMENT = 384, 10
WORDS = 120
CHURNS = 3
"""Times that every chunk is replaced."""

_random = np.random.default_rng(2)


def made(id: str, version: int) -> list[Chunk]:
    chunks = []
    for place in range(TO_A_DOCUMENT):
        text = " ".join(f"w{number}" for number in _random.zipf(1.3, WORDS) % 5000)
        chunks.append(Chunk(chunk_id(id, f"{version} {text}", 0), id, place, 0, len(text), text))
    return chunks


async def put(index: Index, number: int, version: int, authors: int) -> None:
    id = f"d{number}"
    chunks = made(id, version)
    rows = _random.standard_normal((len(chunks), DIMENSIONS)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    document = IndexedDocument(id, version, f"a{number % authors}", f"https://example.org/{number}", id, "s")
    await index.stage(document, chunks, {each.id: row for each, row in zip(chunks, rows, strict=True)})
    await index.publish(document, len(chunks))


async def milliseconds(index: Index, scope: Scope) -> tuple[float, float]:
    """p50 of (dense, text)."""
    dense, text = [], []
    for number in range(25):
        row = _random.standard_normal(DIMENSIONS).astype(np.float32)
        row /= np.linalg.norm(row)
        query = " ".join(f"w{each}" for each in range(50 + number, 58 + number))
        began = time.perf_counter()
        await index.dense(row, 50, scope, Filter())
        dense.append(time.perf_counter() - began)
        began = time.perf_counter()
        await index.text(query, 50, scope, Filter())
        text.append(time.perf_counter() - began)
    return float(np.median(dense)) * 1000, float(np.median(text)) * 1000


async def run(chunks: int, authors: int, churns: int) -> tuple[float, float, float, float]:
    """(dense, text, dense of one author, megabytes)."""
    with tempfile.TemporaryDirectory() as name:
        indexes = await open_adapter("index", "sqlite:///index.db", Path(name))
        identity = EncoderIdentity("test://", "1", "float32", "none", DIMENSIONS, 256)
        await indexes.create(Manifest("one", identity, "c", "k", "live"))
        index: Index = await indexes.open("one")
        documents = chunks // TO_A_DOCUMENT
        for version in range(1, churns + 2):
            for number in _random.permutation(documents):
                await put(index, int(number), version, authors)
        dense, text = await milliseconds(index, EVERYONE)
        one, _ = await milliseconds(index, Scope(authors=("a1",)))
        await indexes.close()
        return dense, text, one, (Path(name) / "index.db").stat().st_size / 1e6


async def main() -> None:
    print("10,000 chunks                      dense ms  text ms  one author ms      MB")
    rows = {}
    for label, authors, churns in (
        ("20 authors, fresh", 20, 0),
        (f"20 authors, replaced {CHURNS} times", 20, CHURNS),
        ("1,000 authors, fresh", 1000, 0),
        (f"1,000 authors, replaced {CHURNS} times", 1000, CHURNS),
    ):
        rows[label] = await run(10_000, authors, churns)
        dense, text, one, size = rows[label]
        print(f"{label:32}{dense:11.1f}{text:9.1f}{one:15.2f}{size:8.0f}", flush=True)
    fresh, *others = rows.values()
    worst = max(max(each[0] / fresh[0], each[1] / fresh[1]) for each in others)
    print(
        f"slowest of them to the first: {worst:.2f} (aim: at most 1.5); bytes {max(x[3] for x in others) / fresh[3]:.2f}"
    )


if __name__ == "__main__":
    asyncio.run(main())
