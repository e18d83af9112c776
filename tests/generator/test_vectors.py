"""Vectors of sentences, remembered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.clients import Embedded
from services.generator.vectors import SentenceVectors


class Encoding:
    def __init__(self) -> None:
        self.encoder = "one"
        self.asked: list[list[str]] = []

    async def embed(self, texts: Sequence[str]) -> Embedded:
        self.asked.append(list(texts))
        rows = np.array([[len(text), 1] for text in texts], dtype=np.float32)
        return Embedded(rows, self.encoder, tuple(len(text) for text in texts))


async def test_what_a_search_has_encoded_is_not_encoded_again() -> None:
    """A question's vector is taken as its search made it, and forgotten with the encoder that made it."""
    encoding = Encoding()
    vectors = SentenceVectors(encoding)
    vectors.know("why?", np.array([0, 7], dtype="<f4").tobytes(), "one")
    assert (await vectors.get(["why?", "as such"])).tolist() == [[0, 7], [7, 1]]
    assert (await vectors.get(["why?", "as such"])).tolist() == [[0, 7], [7, 1]]
    assert encoding.asked == [["as such"]]
    encoding.encoder = "two"
    assert (await vectors.get(["why?", "so"])).tolist() == [[4, 1], [2, 1]]
