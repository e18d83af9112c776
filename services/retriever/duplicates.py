"""The seventh step: no passage twice.

Comes in: candidates, best first. Goes out: those among them that don't repeat a better one. Does not know: the index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.retriever.fuse import Candidate

WORDS = 4
"""Of a shingle."""
SAME = 0.8
"""Share of the shorter passage's shingles that stand in the better one too, from which on it repeats it."""
WORD = re.compile(r"\w+")


def distinct(candidates: Iterable[Candidate], limit: int) -> tuple[list[Candidate], int]:
    """The first `limit` that are no near-duplicates of better ones, and how many were left out for it."""
    kept: list[tuple[Candidate, frozenset[int]]] = []
    dropped = 0
    for candidate in candidates:
        if len(kept) == limit:
            break
        shingles = _shingles(candidate.hit.chunk.text)
        if any(_same(shingles, other) for _, other in kept):
            dropped += 1
        else:
            kept.append((candidate, shingles))
    return [candidate for candidate, _ in kept], dropped


def _same(one: frozenset[int], other: frozenset[int]) -> bool:
    smaller = min(len(one), len(other))
    return smaller >= SAME * max(len(one), len(other)) / 2 and len(one & other) >= SAME * smaller


def _shingles(text: str) -> frozenset[int]:
    """As hashes, which a tuple would compute anew for each passage it is compared with."""
    words = WORD.findall(text.lower())
    if len(words) <= WORDS:
        return frozenset([hash(tuple(words))])
    return frozenset(map(hash, zip(*(words[start:] for start in range(WORDS)), strict=False)))
