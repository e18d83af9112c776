"""How sure one may be that passages answer a question: a number from 0 to 1, made of a few features.

Comes in: a question, the passages found for it with their cosines, and how rare its words are in the index. Goes out:
features, and the confidence that they make. Does not know: ports, thresholds, where the passages came from. The
retriever decides by it, and calibration fits thresholds to it: both must see the same number.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

PASSAGES = 8
"""That are looked at, best first."""
SATURATION = 1.2
"""BM25's k1: how soon more of the same word tells nothing new (Robertson & Zaragoza 2009, section 3.5)."""
LENGTH_SHARE = 0.75
"""BM25's b."""
LENGTH = 100
"""Content words of an ordinary passage."""
HEADING_TIMES = 2
"""A heading's words count as if they stood so often in the text."""

BIAS, COSINE, STRENGTH, JOINT = -6.0, 4.0, 4.0, 6.0
"""Of the logistic function. TO FIT"""

WORD = re.compile(r"[^\W_]+")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
STOP_WORDS = frozenset(
    WORD.findall(
        "a about above according after again against all also am an and any are as at be because been before being "
        "below between both but by can could did do does doing don down during each either else ever few for from "
        "further get give had has have having he her here hers him his how i if in into is it its itself just know let "
        "like ll m many may me might mine more most much must my need no nor not now of off on once one only or other "
        "our ours out over own per please re s same shall she should show so some such t tell than that the their "
        "theirs them then there these they this those through to too two under until up upon us use used using ve very "
        "via want was way ways we were what when where whether which while who whom whose why will with within without "
        "would you your yours d"
    )
)
"""They say how one asks, not what about."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A passage as it was found."""

    heading: str
    text: str
    cosine: float
    """To the question; of a passage that only the text search found, its own if it is known, else 0."""


@dataclass(frozen=True, slots=True)
class Features:
    cosine: float
    """The best passage's."""
    strength: float
    """0 to 1: how much of what the question's words could weigh, rare ones more, weighs in the best passage."""
    joint: float
    """The most that one passage has of both: its cosine times the share of the question's words that it holds."""


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


def features(weighted: Mapping[str, float], passages: Sequence[Seen]) -> Features:
    """Of a question's weighted words and the passages found for it, best first."""
    total = sum(weighted.values())
    stems = {word: stem(word) for word in weighted}
    best, joint = 0.0, 0.0
    for passage in passages[:PASSAGES]:
        heading, body = _content(passage.heading), _content(passage.text)
        counts = Counter(body)
        for word in heading:
            counts[word] += HEADING_TIMES
        norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * (len(body) + len(heading)) / LENGTH)
        weighs, holds = 0.0, 0.0
        for word, weight in weighted.items():
            times = counts[stems[word]]
            weighs += weight * times / (times + norm)
            holds += weight if times else 0.0
        if total:
            best = max(best, weighs / total)
            joint = max(joint, max(passage.cosine, 0.0) * holds / total)
    cosine = max((passage.cosine for passage in passages), default=0.0)
    return Features(cosine=max(cosine, 0.0), strength=best, joint=joint)


def share(weighted: Mapping[str, float], text: str) -> float:
    """0 to 1: how much of the question's words, by weight, a text holds."""
    total = sum(weighted.values())
    if not total:
        return 0.0
    held = set(_content(text))
    return sum(weight for word, weight in weighted.items() if stem(word) in held) / total


def confidence(found: Features) -> float:
    """From 0 to 1, growing with each feature."""
    score = BIAS + COSINE * found.cosine + STRENGTH * found.strength + JOINT * found.joint
    return 1 / (1 + math.exp(-score))


def _content(text: str) -> list[str]:
    return [stem(word) for word in _words(text) if word not in STOP_WORDS]


def _words(text: str) -> list[str]:
    """Lower case, identifiers split."""
    return [word.lower() for word in WORD.findall(HUMP.sub(" ", text))]


@lru_cache(maxsize=50_000)
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
