"""What benchmarks of search fill an index with: passages that answer the questions, and made-up prose around them.

Comes in: an open index, its encoder, the passages. Goes out: published documents. Does not know: which index it is.

The made-up prose has the passages' words as often as they do, and random unit vectors: to embed 200,000 chunks would
take hours on two cores, and what a search costs depends on how many chunks there are and on how often words occur.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.domain import Chunk, chunk_id, document_id
from services.feature.chunk import chunk
from services.ports import Encoder, Index, IndexedDocument, Vectors

AUTHORS, WORDS = 20, 120
NAMES = [f"author-{number}" for number in range(AUTHORS)]


@dataclass(frozen=True)
class Document:
    id: str
    author: str
    title: str
    chunks: Sequence[Chunk]
    vectors: Vectors


@dataclass(frozen=True)
class MadeUp:
    words: Sequence[str]
    shares: np.ndarray[Any, Any]
    """How often each word is."""
    dimensions: int
    to_a_document: int
    """Chunks."""

    @classmethod
    def like(cls, passages: Sequence[Any], dimensions: int, to_a_document: int) -> MadeUp:
        counts = Counter(re.findall(r"[^\W\d_]+", " ".join(each["text"] for each in passages)))
        often = np.array(list(counts.values()), dtype=float)
        return cls(list(counts), often / often.sum(), dimensions, to_a_document)

    def documents(self, first: int, count: int) -> Iterator[Document]:
        """`count` chunks together. `first`: of the documents' numbers, which say what is in them."""
        number = first
        while count:
            size = min(self.to_a_document, count)
            drawn, chance = np.random.default_rng(number), random.Random(number)
            id = f"document-{number}"
            texts = [self._text(drawn, chance) for _ in range(size)]
            chunks = [
                Chunk(chunk_id(id, text, place), id, place, place * 2000, place * 2000 + len(text), text, tokens=180)
                for place, text in enumerate(texts)
            ]
            rows = drawn.standard_normal((size, self.dimensions)).astype(np.float32)
            vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            yield Document(id, NAMES[number % AUTHORS], id, chunks, vectors)
            count -= size
            number += 1

    def _text(self, drawn: np.random.Generator, chance: random.Random) -> str:
        said = [self.words[place] for place in drawn.choice(len(self.words), WORDS, p=self.shares)]
        ends = sorted(chance.sample(range(8, WORDS - 8), 6))
        cuts = zip([0, *ends], [*ends, WORDS], strict=True)
        return " ".join(" ".join(said[start:end]).capitalize() + "." for start, end in cuts)


async def put(index: Index, given: Document) -> None:
    document = IndexedDocument(given.id, 1, given.author, f"https://example.org/{given.id}", given.title, "source")
    vectors = {each.id: row for each, row in zip(given.chunks, given.vectors, strict=True)}
    await index.stage(document, given.chunks, vectors)
    await index.publish(document, len(given.chunks))


async def put_answering(index: Index, encoder: Encoder, passages: Sequence[Any], asked: Sequence[Any]) -> int:
    """The passages that answer the questions, cut and embedded; how many chunks."""
    wanted = {id for each in asked for id in each["relevant"]}
    held = 0
    for number, passage in enumerate(each for each in passages if each["id"] in wanted):
        heading, text = passage["heading"], passage["text"].removeprefix(passage["heading"]).strip()
        id = document_id("author", passage["id"])
        cut = chunk(f"# {heading}\n\n{text}" if heading else text, id, "", encoder)
        vectors = await encoder.encode([each.embedded_text for each in cut])
        await put(index, Document(id, NAMES[number % AUTHORS], heading, cut, vectors))
        held += len(cut)
    return held
