"""The fifth step: the best candidates read again, together with the question.

Comes in: candidates and a cross-encoder, where one is set. Goes out: candidates in its order. Does not know: which
model it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.errors import DeadlineExceeded
from services.ports import Reranker
from services.retriever.fuse import Candidate

CANDIDATES = 30
"""That are read again; those behind keep their order behind them."""
PATIENCE = 8.0
"""Seconds that the reranker has: a search has 20 in all, and is better answered in the fused order than not at all."""


async def rerank(question: str, candidates: Sequence[Candidate], reranker: Reranker) -> list[Candidate]:
    """DeadlineExceeded, or what the reranker raises; the candidates are as they were then."""
    read = list(candidates[:CANDIDATES])
    try:
        async with asyncio.timeout(PATIENCE):
            scores = await reranker.score(question, [each.hit.chunk.embedded_text for each in read])
    except TimeoutError as error:
        raise DeadlineExceeded(f"The reranker took longer than {PATIENCE:.0f} s.") from error
    for candidate, score in zip(read, scores, strict=True):
        candidate.scores["rerank"] = score
    read.sort(key=lambda each: -each.scores["rerank"])
    # Scores of two kinds on one scale: the read ones keep the fused scores' places, in their new order.
    places = sorted((each.score for each in read), reverse=True)
    for candidate, place in zip(read, places, strict=True):
        candidate.score = place
    return [*read, *candidates[CANDIDATES:]]
