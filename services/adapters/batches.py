"""Which texts a model reads together.

Comes in: the texts' lengths in tokens. Goes out: their places, batch by batch. Does not know: texts, models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

UNEVEN = 0.6
"""A text of less than this share of the longest's tokens begins a batch of its own: padding costs what words cost."""


def batches(lengths: Sequence[int], tokens: int, most: int, uneven: float = UNEVEN) -> Iterator[list[int]]:
    """Longest first, so that memory is claimed once; each batch of at most `most` texts and, unless it is one text
    alone, within `tokens` when all are padded to its longest."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        longest = lengths[batch[0]] if batch else 0
        if batch and (len(batch) == most or (len(batch) + 1) * longest > tokens or lengths[place] < uneven * longest):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
