"""Near-duplicates: the same text under another address, apart from a date, a footer, a changed line.

Comes in: texts. Goes out: the bands of a sketch to look candidates up by, and whether two texts really are near.
Does not know: documents, stores.

A text is a set of shingles (runs of 4 words). One-permutation MinHash (Li, Owen, Zhang 2012): each shingle is hashed
once, the hash chooses one of 48 bins, each bin keeps its smallest. 8 bands of 6 bins: texts that share 90 % of their
shingles meet in a band with probability .998, those that share half of them in 1 of 8. Candidates are then compared
exactly, so a band never decides.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
import numpy.typing as npt

from services.domain import digest

NEAR = 0.9
"""Share of common shingles from which on a text is a duplicate: in 1,000 words some 13 single changed words, or 50
words changed in one place. What is not indexed cannot be found, so this is strict."""
_SHINGLE = 4
_BANDS, _ROWS = 8, 6
_BINS = _BANDS * _ROWS
_FEWEST = 64
"""Shingles below which a text has too few bins filled for bands: only texts of the very same words meet."""
# Scripts without spaces: each character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

Hashes = npt.NDArray[np.uint64]


def shingles(text: str) -> Hashes:
    """Hashes of the text's shingles, sorted, each once."""
    words = [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in _WORD.findall(text.casefold())]
    if not words:
        return np.zeros(0, dtype=np.uint64)
    hashed = np.array(words, dtype=np.uint64)
    length = min(_SHINGLE, len(words))
    combined = np.zeros(len(words) - length + 1, dtype=np.uint64)
    for offset in range(length):
        # FNV-like mixing modulo 2^64: the order of the words counts.
        combined = (combined ^ hashed[offset : offset + len(combined)]) * np.uint64(0x9E3779B97F4A7C15)
        combined ^= combined >> np.uint64(29)
    return np.unique(combined)


def bands(text: str) -> list[str]:
    """Keys under which near texts meet, 9 at most; none for an empty text."""
    found = shingles(text)
    if not len(found):
        return []
    same = digest("words", found.tobytes().hex())[:16]
    if len(found) < _FEWEST:
        return [same]
    smallest = np.full(_BINS, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, (found % np.uint64(_BINS)).astype(np.intp), found // np.uint64(_BINS))
    rows = smallest.reshape(_BANDS, _ROWS)
    return [same, *(f"{number}{digest(row.tobytes().hex())[:15]}" for number, row in enumerate(rows))]


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of the shingles: common ones by all."""
    first, second = shingles(one), shingles(other)
    common = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - common
    return common / union if union else 1.0


def near(one: str, other: str) -> bool:
    return similarity(one, other) >= NEAR
