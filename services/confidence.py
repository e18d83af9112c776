"""How sure one may be that passages speak of a question, and that they answer it: two numbers from 0 to 1.

Comes in: a question, the hits of both searches for it, and how rare its words are in the index. Goes out: features,
and the two numbers that they make. Does not know: ports, thresholds, what is done below them. The retriever decides by
them, and calibration fits thresholds to them: both must see the same numbers.

Two, for no one number tells both: a question of everyday life meets a corpus' words by chance, and its vector gives it
away; a near-topic question without an answer has as near a vector as an answerable one, and its words give it away.
`make bench-retrieval` shows both.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from services.domain import Hit

COSINE, STRENGTH, JOINT = 0.2, 0.5, 0.3
"""Weights of the features in the confidence. Fitted weights were no better on other questions and other corpora than
these round ones; nor were two sentences' words instead of a passage's, pairs of words, the margin of the best hit, its
distance from the corpus' other cosines, or how far the two searches agree."""
TOPICAL = 0.5
"""Weight of the cosine in the topicality, the joint feature having the rest: from .4 to .6 hardly anything changes."""
PASSAGES = 8
"""Of each search that are looked at, best first."""
SATURATION = 1.2
"""BM25's k1: how soon more of the same word tells nothing new (Robertson & Zaragoza 2009, section 3.5)."""
LENGTH_SHARE = 0.75
"""BM25's b."""
LENGTH = 100
"""Content words of an ordinary passage."""
HEADING_TIMES = 2
"""A heading's words count as if they stood so often in the text."""
REMEMBERED = 50_000
"""Words whose stems are remembered,"""
LONGEST = 40
"""and the most characters of one: a script without spaces would fill the memory with whole passages."""

WORD = re.compile(r"[^\W_]+")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
STOP_WORDS = frozenset(
    WORD.findall(
        "a about above according after again against all also am an and any are as at be because been before being "
        "below between both but by can concerning could d describe described describes did discuss discussed "
        "discusses do does doing don down during each either else ever explain explained explains few for from "
        "further get give had has have having he her here hers him his how i if in into is it its itself just know "
        "let like ll m many may me mention mentioned mentions might mine more most much must my need no nor not now "
        "of off on once one only or other our ours out over own particular per please re regarding s same shall she "
        "should show so some specific specifically such t tell than that the their theirs them then there these they "
        "this those through to too two under until up upon us use used using ve very via want was way ways we were "
        "what when where whether which while who whom whose why will with within without would you your yours"
    )
)
"""They say how one asks, not what about."""


@dataclass(frozen=True, slots=True)
class Features:
    """Of one passage, or the largest of several passages."""

    cosine: float = 0.0
    """To the question."""
    strength: float = 0.0
    """0 to 1: how much of what the question's words could weigh, rare ones more, weighs in the passage."""
    joint: float = 0.0
    """Its cosine times the share of the question's words, by weight, that it holds."""

    @property
    def confidence(self) -> float:
        """That the passages answer."""
        return COSINE * self.cosine + STRENGTH * self.strength + JOINT * self.joint

    @property
    def topicality(self) -> float:
        """That they speak of what is asked about."""
        return TOPICAL * self.cosine + (1 - TOPICAL) * self.joint


def terms(question: str) -> list[str]:
    """The question's content words, each once: what document frequencies are to be asked for."""
    words = _words(question)
    return list(dict.fromkeys(word for word in words if word not in STOP_WORDS) or dict.fromkeys(words))


def weights(words: Collection[str], frequencies: Mapping[str, int], chunks: int) -> dict[str, float]:
    """How much each word tells: BM25's inverse document frequency, never below 0 (Lucene's form)."""
    found = {}
    for word in words:
        frequency = min(frequencies.get(word, 0), chunks)
        found[word] = math.log(1 + (chunks - frequency + 0.5) / (frequency + 0.5))
    return found


def looked_at(dense: Sequence[Hit], text: Sequence[Hit]) -> dict[str, tuple[Hit, float]]:
    """Chunk id → hit and cosine, of the first hits of both searches. A passage that only the text search found is not
    among the nearest: its cosine counts as 0."""
    cosines = {hit.chunk.id: hit.score for hit in dense}
    return {hit.chunk.id: (hit, cosines.get(hit.chunk.id, 0.0)) for hit in (*dense[:PASSAGES], *text[:PASSAGES])}


def features(weighted: Mapping[str, float], heading: str, text: str, cosine: float) -> Features:
    """Of a question's weighted words and one passage."""
    total = sum(weighted.values())
    near = max(cosine, 0.0)
    if not total:
        return Features(cosine=near)
    counts = Counter(_content(text))
    length = counts.total()
    for word in _heading(heading):
        counts[word] += HEADING_TIMES
        length += 1
    norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * length / LENGTH)
    weighs, holds = 0.0, 0.0
    for word, weight in weighted.items():
        times = counts[stem(word)]
        weighs += weight * times / (times + norm)
        holds += weight if times else 0.0
    return Features(near, weighs / total, near * holds / total)


def largest(found: Iterable[Features]) -> Features:
    """Each feature's largest value; zeros where nothing was found."""
    every = [Features(), *found]
    return Features(
        cosine=max(each.cosine for each in every),
        strength=max(each.strength for each in every),
        joint=max(each.joint for each in every),
    )


def share(weighted: Mapping[str, float]) -> Callable[[str], float]:
    """What tells how much of the question's words, by weight, a heading holds: 0 to 1."""
    total = sum(weighted.values())
    stems = [(stem(word), weight) for word, weight in weighted.items()]

    def of(heading: str) -> float:
        held = _heading(heading)
        return sum(weight for each, weight in stems if each in held) / total if total and held else 0.0

    return of


@lru_cache(maxsize=10_000)
def _heading(heading: str) -> frozenset[str]:
    return frozenset(_content(heading))


def _content(text: str) -> list[str]:
    # No word goes on over white space, and splitting there is five times as fast as looking for words.
    return list(chain.from_iterable(map(_STEMS.__getitem__, text.split())))


class _Stems(dict[str, tuple[str, ...]]):
    """What stands between white space → what the words in it have in common with their other forms, function words
    left out. Remembered: a text's words are looked up some ten times as fast as they are taken apart."""

    def __missing__(self, written: str) -> tuple[str, ...]:
        found = tuple(stem(word) for word in _words(written) if word not in STOP_WORDS)
        if len(written) <= LONGEST:
            if len(self) >= REMEMBERED:
                self.clear()
            self[written] = found
        return found


_STEMS = _Stems()


def _words(text: str) -> list[str]:
    """Lower case, identifiers split."""
    return [word.lower() for word in WORD.findall(HUMP.sub(" ", text))]


@lru_cache(maxsize=REMEMBERED)
def stem(word: str) -> str:
    """Without the commonest English endings; enough to let forms of a word meet."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ingly", "edly", "ing", "ed", "ly"):
        if len(word) - len(ending) >= 4 and word.endswith(ending):
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word
