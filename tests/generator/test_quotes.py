"""Choosing what to quote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.adapters import open_adapter
from services.clients import Embedded
from services.domain import Passage
from services.generator.quotes import choose
from services.generator.vectors import SentenceVectors
from services.ports import Encoder

TEXT = """Time!

Image by author of the oven and of a loaf of sourdough bread.

The sourdough loaf bakes for forty minutes in a hot oven, and steam keeps its crust open.

Join with my referral link to read about the oven and the loaf.

© 2024 The baker of the sourdough loaf"""


async def test_a_pages_furniture_is_not_quoted(tmp_path: Path) -> None:
    """Captions, claims of copyright, calls to join and exclamations say nothing, whatever words they share."""
    encoder: Encoder = await open_adapter("encoder", "hashing://64", tmp_path)

    class Embeds:
        async def embed(self, texts: Sequence[str]) -> Embedded:
            return Embedded(await encoder.encode(texts), encoder.identity.url, ())

    passage = Passage("c", "d", 1, 0, len(TEXT), TEXT, "", "Bread", "https://example.org", "alpha", 1.0)
    vectors = SentenceVectors(Embeds())
    chosen = await choose("How long does the sourdough loaf bake in the oven?", [passage], vectors)
    assert [TEXT[each.start : each.end] for each in chosen] == [TEXT.split("\n\n")[2]]
    await encoder.close()
