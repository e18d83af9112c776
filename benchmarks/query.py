"""What a search costs beside the encoder and the index alone: `make bench-query`.

20,000 chunks of made-up prose under 20 authors, in the embedded index; questions of the folder in TWIN_TEST_DATA where
it is named, else of the same words. The peer is what cannot be saved: the question's encoding, and beside it the two
searches of the index, run exactly as a search runs them. Aim: p50 of a search through gRPC at most 5 ms above.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from services import clients, rpc
from services.adapters import open_adapter
from services.domain import EVERYONE, Chunk, Filter, Manifest, Scope, SearchRequest, chunk_id
from services.ports import Encoder, Index, IndexedDocument, Indexes
from services.retriever import bootstrap
from services.retriever.queries import Queries
from services.retriever.search import search

CHUNKS, AUTHORS, TO_A_DOCUMENT = 20_000, 20, 20
ROUNDS = 3


def words(chance: random.Random) -> list[str]:
    """12,000 words, of which the n-th is as frequent as in natural language (Zipf)."""
    letters = ["ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo"]
    return ["".join(chance.choices(letters, k=chance.randint(2, 5))) for _ in range(12_000)]


async def fill(directory: Path) -> tuple[Indexes, Index, Encoder, list[str]]:
    """Random unit vectors cost a search what real ones cost: both searches are exact."""
    indexes: Indexes = await open_adapter("index", "sqlite:///", directory)
    encoder: Encoder = await open_adapter("encoder", "onnx://", directory)
    await indexes.create(Manifest("bench", encoder.identity, "c", "k", "live"))
    index = await indexes.open("bench")
    chance, random_ = random.Random(1), np.random.default_rng(1)
    vocabulary = words(chance)
    frequency = 1 / np.arange(1, len(vocabulary) + 1)
    drawn = random_.choice(len(vocabulary), size=(CHUNKS, 120), p=frequency / frequency.sum())
    for number in range(CHUNKS // TO_A_DOCUMENT):
        id = f"document-{number}"
        texts = [
            " ".join(vocabulary[place] for place in drawn[number * TO_A_DOCUMENT + ordinal]).capitalize() + "."
            for ordinal in range(TO_A_DOCUMENT)
        ]
        chunks = [
            Chunk(
                chunk_id(id, text, 0),
                id,
                place,
                place * 1000,
                place * 1000 + len(text),
                text,
                f"Part {place}",
                tokens=180,
            )
            for place, text in enumerate(texts)
        ]
        rows = random_.standard_normal((len(chunks), encoder.identity.dimensions)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        document = IndexedDocument(id, 1, f"author-{number % AUTHORS}", f"https://example.org/{number}", id, "s")
        await index.stage(document, chunks, {each.id: row for each, row in zip(chunks, rows, strict=True)})
        await index.publish(document, len(chunks))
    rare = vocabulary[200:4000]
    return indexes, index, encoder, [" ".join(chance.sample(rare, 8)) for _ in range(60)]


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        began = time.perf_counter()
        indexes, index, encoder, questions = await fill(directory)
        folder = os.environ.get("TWIN_TEST_DATA")
        if folder:
            # Real questions over made-up prose: half of the words from each, so that both searches have work to do.
            asked = (Path(folder) / "retrieval/questions.jsonl").read_text().splitlines()
            questions = [
                f"{json.loads(line)['question'].rstrip('?')} {' '.join(made.split()[:4])}?"
                for line, made in zip(asked[: len(questions)], questions, strict=True)
            ]
        print(
            f"{CHUNKS} chunks, {AUTHORS} authors, {len(questions)} questions, built in {time.perf_counter() - began:.0f} s"
        )

        settings = bootstrap.Settings(data_dir=directory)
        retriever = await bootstrap.build(settings)
        address = f"unix:{directory}/r.sock"
        server = rpc.Server(address, retriever.services)
        await server.start()
        channel = rpc.connect(address)
        client = clients.Retriever(channel)

        for scope, label in ((EVERYONE, "all authors"), (Scope(authors=("author-1",)), "one author of 20")):
            encoding: list[float] = []
            alone: list[float] = []
            within: list[float] = []
            through: list[float] = []
            for round_ in range(ROUNDS + 1):
                for question in questions:
                    wanted, request = Queries(question, question), SearchRequest(question, scope)

                    async def bare(wanted: Queries = wanted, scope: Scope = scope) -> object:
                        return await search(index, encoder, wanted, scope, Filter())

                    async def inside(request: SearchRequest = request) -> object:
                        return await retriever.retrieve(request)

                    async def outside(request: SearchRequest = request) -> object:
                        return await client.search(request)

                    async def encode(question: str = question) -> object:
                        return await encoder.encode([question])

                    # One after the other for each question: a busy machine is busy for all of them.
                    times = [await timed(each) for each in (encode, bare, inside, outside)]
                    if round_:
                        for kept, value in zip((encoding, alone, within, through), times, strict=True):
                            kept.append(value)
            middle = [float(np.median(each)) for each in (encoding, alone, within, through)]
            high = [float(np.quantile(each, 0.95)) for each in (encoding, alone, within, through)]
            print(f"\n{label:26}      p50 ms  p95 ms")
            for row, p50, p95 in zip(
                ("encoder", "encoder and index", "retriever in the process", "search through gRPC"),
                middle,
                high,
                strict=True,
            ):
                print(f"{row:30}{p50:8.1f}{p95:8.1f}")
            print(f"above encoder and index:      {middle[3] - middle[1]:+8.1f} ms (aim: at most +5)")
        await channel.close()
        await server.stop(0)
        await retriever.stop()
        await indexes.close()


if __name__ == "__main__":
    asyncio.run(main())
