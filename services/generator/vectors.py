"""Vectors of sentences, asked of the retriever and remembered.

Comes in: sentences. Goes out: rows of length 1 under the live index's encoder. Does not know: what they are for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from services.clients import Embedded
from services.ports import Vectors

REMEMBERED = 8192
"""Sentences; 12 MB at 384 dimensions."""


class Embeds(Protocol):
    async def embed(self, texts: Sequence[str]) -> Embedded: ...


class SentenceVectors:
    def __init__(self, embeds: Embeds) -> None:
        self._embeds = embeds
        self._known: OrderedDict[str, Vectors] = OrderedDict()
        self._encoder = ""

    def know(self, text: str, vector: bytes, encoder: str) -> None:
        """The vector (float32, little-endian) of a text that was encoded elsewhere, which may be of any length."""
        self._are_of(encoder)
        self._known[text] = np.frombuffer(vector, dtype="<f4")
        self._known.move_to_end(text)

    async def get(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions). One call for those not remembered; a changed encoder forgets them all."""
        while missing := [text for text in dict.fromkeys(texts) if text not in self._known]:
            answer = await self._embeds.embed(missing)
            self._are_of(answer.encoder)
            self._known.update(zip(missing, answer.vectors, strict=True))
        rows = np.stack([self._known[text] for text in texts])
        for text in texts:
            self._known.move_to_end(text)
        while len(self._known) > max(REMEMBERED, len(texts)):
            self._known.popitem(last=False)
        return rows

    def _are_of(self, encoder: str) -> None:
        if encoder != self._encoder:
            self._known.clear()
            self._encoder = encoder
