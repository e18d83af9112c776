"""Words as the generator compares them: folded, without function words and endings, weighted by how rare they are.

Comes in: text. Goes out: terms, and weights of terms. Does not know: the index (its counts are the retriever's).

Weights come from the passages at hand: in the passages of one search the words they all share are the subject, and
those that only some hold tell them apart. That was measured to choose as well as counts over the whole corpus.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

_WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\u3040-\u30ff]|[^\W_]+(?:'[^\W_]+)?")
"""One Chinese, Japanese or Korean character, or a run of letters and digits."""

FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be been being but by can could did do does doing for from had has have having he her hers "
        "him his how i if in into is it its itself me my myself of on or our ours she should so such than that the "
        "their theirs them then there these they this those to was we were what when where which while who whom whose why "  # noqa: E501
        "will with would you your yours about also any some no not all more most other each just very may might "
        "must shall s t don doesn isn aren wasn weren won ll re ve d m"
    )
)
"""English; in another language common words are weighed down by their counts alone."""

_ENDINGS = ("izations", "ization", "ations", "ation", "ings", "ing", "edly", "ied", "ies", "ed", "es", "s", "ly")


def words(text: str) -> list[str]:
    """Every word in order, folded."""
    return _WORD.findall(text.casefold())


def terms(text: str) -> list[str]:
    """Words that carry meaning, their endings taken off."""
    return [_stem(word) for word in words(text) if word not in FUNCTION_WORDS]


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return f"{stem}y" if ending in ("ied", "ies") else stem
    return word


class Weights:
    """How much each term tells, from the pieces of text that it stands in: ln(1 + (n + 1) / (holding + ½))."""

    def __init__(self, pieces: Iterable[Collection[str]]) -> None:
        self._count: dict[str, int] = {}
        self._pieces = 0
        for piece in pieces:
            self._pieces += 1
            for term in set(piece):
                self._count[term] = self._count.get(term, 0) + 1

    def __getitem__(self, term: str) -> float:
        return math.log(1 + (self._pieces + 1) / (self._count.get(term, 0) + 0.5))

    def total(self, terms: Collection[str]) -> float:
        return sum(self[term] for term in terms)

    def containment(self, wanted: Collection[str], held: Collection[str]) -> float:
        """Weighted share of the wanted terms that are held, 0 to 1; nothing wanted: 1."""
        total = self.total(wanted)
        return sum(self[term] for term in wanted if term in held) / total if total else 1.0
