"""The third step: the two searches, at once.

Comes in: queries, scope and filter. Goes out: the hits of each. Does not know: how they are put together.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from services.domain import Filter, Hit, Scope
from services.errors import TooLarge
from services.ports import Encoder, Index, Vectors
from services.retriever.queries import Queries

DEPTH = 100
"""Hits of each search: a passage that both hold in mid-field can still be the best, further down there is nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    dense: list[Hit]
    text: list[Hit]
    vector: Vectors
    """The question's."""


async def search(index: Index, encoder: Encoder, wanted: Queries, scope: Scope, filter: Filter) -> Found:
    async def dense() -> tuple[Vectors, list[Hit]]:
        vector = await embed(encoder, wanted.dense)
        return vector, await index.dense(vector, DEPTH, scope, filter)

    # Not a TaskGroup: its ExceptionGroup would hide the one error that the caller is to see.
    (vector, nearest), text = await asyncio.gather(dense(), index.text(wanted.text, DEPTH, scope, filter))
    return Found(nearest, text, vector)


async def embed(encoder: Encoder, query: str) -> Vectors:
    """The query's vector; of one that is longer than the window, the mean of its windows'."""
    try:
        vector: Vectors = (await encoder.encode([query]))[0]
    except TooLarge:
        return await _in_pieces(encoder, query)
    return vector


async def _in_pieces(encoder: Encoder, query: str) -> Vectors:
    # In a thread: an encoder's tokenizer may be on another machine.
    mean = (await encoder.encode(await asyncio.to_thread(_pieces, encoder, query))).mean(axis=0)
    normalised: Vectors = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return normalised


def _pieces(encoder: Encoder, query: str) -> list[str]:
    window = encoder.identity.window
    room = window - encoder.count([""])[0]
    spans = encoder.token_spans(query)
    pieces = [query[spans[at][0] : spans[min(at + room, len(spans)) - 1][1]] for at in range(0, len(spans), room)]
    # A piece cut out of its text can be one token longer than it was in it.
    fitting = [piece for piece, tokens in zip(pieces, encoder.count(pieces), strict=True) if tokens <= window]
    return fitting or [query[: spans[room // 2][1]]]
