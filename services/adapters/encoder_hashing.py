"""An encoder without a model: words and their letters, hashed into a vector (`hashing://DIMENSIONS`).

Comes in: texts of any language. Goes out: float32 rows of length 1, the same on every machine and in every year.
Does not know: meaning. Texts that share words, or words that share most of their letters, are near each other; that
is enough for tests and for a second encoder to re-embed into.

Feature hashing with a sign: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning".
"""

from __future__ import annotations

import asyncio
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from services.domain import EncoderIdentity
from services.errors import Misconfigured, TooLarge
from services.ports import Encoder, Vectors

WINDOW = 256
"""Tokens; as the encoder that is the default, so that chunks come out alike."""
TOKEN = re.compile(r"\w{1,16}|[^\w\s]")
"""A run of letters longer than 16 counts as several, as in any subword vocabulary."""
WORD = re.compile(r"\w+")
LETTERS = 4
"""Of the n-grams by which inflected forms of a word meet."""
LETTERS_WEIGHT = 0.5
"""All n-grams of a word together, against the word itself as 1."""
FUNCTION_WORDS = frozenset(
    WORD.findall(
        "a an and are as at be but by can do does for from had has have how i if in into is it its me my not "
        "of on or our she he so that the their them there they this to was we were what when where which who "
        "why will with you your der die das und ist ein eine le la les et est un une de el los "
    )
)
FUNCTION_WEIGHT = 0.1


class HashingEncoder:
    def __init__(self, dimensions: int) -> None:
        self._identity = EncoderIdentity(
            url=f"hashing://{dimensions}",
            revision="1",
            precision="float32",
            pooling="sum",
            dimensions=dimensions,
            window=WINDOW,
        )

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def count(self, texts: Sequence[str]) -> list[int]:
        return [sum(1 for _ in TOKEN.finditer(text)) for text in texts]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [found.span() for found in TOKEN.finditer(text)]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        longest = max(self.count(texts), default=0)
        if longest > WINDOW:
            raise TooLarge(
                f"A text of {longest} tokens does not fit the encoder's window of {WINDOW}: split it, nothing is cut."
            )
        return await asyncio.to_thread(self._encode, texts)

    async def close(self) -> None:
        """Holds nothing."""

    def _encode(self, texts: Sequence[str]) -> Vectors:
        dimensions = self._identity.dimensions
        vectors = np.zeros((len(texts), dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word, times in Counter(WORD.findall(text.casefold())).items():
                weight = (FUNCTION_WEIGHT if word in FUNCTION_WORDS else 1.0) * (1 + math.log(times))
                for feature, share in _features(word):
                    vectors[row, feature % dimensions] += share * weight * (1 if feature >> 31 else -1)
            length = float(np.linalg.norm(vectors[row]))
            if length > 0:
                vectors[row] /= length
            else:
                # No word at all: still a direction, and the same one each time.
                vectors[row, 0] = 1.0
        return vectors


@lru_cache(maxsize=20_000)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    """(hash, weight) of a word and of its n-grams."""
    framed = f"<{word}>"
    grams = [framed[start : start + LETTERS] for start in range(max(1, len(framed) - LETTERS + 1))]
    share = LETTERS_WEIGHT / math.sqrt(len(grams))
    return ((_hash(f"={word}"), 1.0), *((_hash(gram), share) for gram in grams))


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


async def open(url: str, data_dir: Path) -> Encoder:
    dimensions = url.removeprefix("hashing://")
    if not dimensions.isdecimal() or not 8 <= int(dimensions) <= 4096:
        raise Misconfigured("TWIN_ENCODER_URL: hashing:// takes a number of dimensions, such as hashing://384.")
    return HashingEncoder(int(dimensions))
