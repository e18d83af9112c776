"""The eighth step: what stands beside a passage, where it can't be read without.

Comes in: the passages chosen. Goes out: for each, text before and after it. Does not know: scores.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from services.domain import Chunk, Hit
from services.ports import Index

SMALL = 60
"""Tokens: a passage so short gets its neighbours, whatever it begins with."""
CHARACTERS = 400
"""Of a neighbour, at most: the end of the one before, the beginning of the one after."""
BROKEN = re.compile(r"\s*(?:[a-z,;:)\]}]|(?:and|or|but|so|this|that|these|those|it|they|he|she)\b)", re.IGNORECASE)
OPEN = re.compile(r"[:,;]\s*$")


async def neighbours(index: Index, chosen: Sequence[Hit]) -> dict[str, tuple[str, str]]:
    """Chunk id → (text before, text after), for the passages that need it."""
    present = {(hit.chunk.document_id, hit.chunk.ordinal) for hit in chosen}
    wanted: dict[str, set[int]] = defaultdict(set)
    for hit in chosen:
        before, after = _needs(hit.chunk)
        for need, ordinal in ((before, hit.chunk.ordinal - 1), (after, hit.chunk.ordinal + 1)):
            if need and ordinal >= 0 and (hit.chunk.document_id, ordinal) not in present:
                wanted[hit.chunk.document_id].add(ordinal)
    if not wanted:
        return {}
    beside = {(hit.chunk.document_id, hit.chunk.ordinal): hit for hit in await index.neighbours(wanted)}
    texts = {}
    for hit in chosen:
        before, after = _needs(hit.chunk)
        earlier = beside.get((hit.chunk.document_id, hit.chunk.ordinal - 1)) if before else None
        later = beside.get((hit.chunk.document_id, hit.chunk.ordinal + 1)) if after else None
        # A neighbour of another version came in between two reads: its text would not join.
        pair = (
            _end(earlier.chunk.text) if earlier and earlier.version == hit.version else "",
            _beginning(later.chunk.text) if later and later.version == hit.version else "",
        )
        if any(pair):
            texts[hit.chunk.id] = pair
    return texts


def _needs(chunk: Chunk) -> tuple[bool, bool]:
    """Whether it can't be read without what is (before, after) it."""
    small = 0 < chunk.tokens < SMALL
    broken = chunk.kind == "prose" and BROKEN.match(chunk.text) is not None and not chunk.text.lstrip()[:1].isupper()
    return small or broken, small or OPEN.search(chunk.text) is not None


def _end(text: str) -> str:
    """The last lines or sentences of a text, within CHARACTERS."""
    if len(text) <= CHARACTERS:
        return text
    cut = text[-CHARACTERS:]
    start = re.search(r"\n|(?<=[.!?])\s", cut)
    return cut[start.end() :] if start else cut


def _beginning(text: str) -> str:
    if len(text) <= CHARACTERS:
        return text
    cut = text[:CHARACTERS]
    ends = [found.end() for found in re.finditer(r"\n|[.!?](?=\s)", cut)]
    return cut[: ends[-1]].rstrip() if ends else cut
