"""Whether passages carry a sentence: checked by the words, the meaning, and what may not be made up.

Comes in: a sentence of an answer and the passages that it cites. Goes out: a score from 0 to 1, a verdict, and the
sentence of a passage that carries it best. Does not know: who wrote the sentence, streams, numbering.

The score is the mean of three: the weighted share of the sentence's words that the cited passages hold, the best
cosine to one of their sentences, and the best weighted share that one of those sentences holds. A number, a name or a
path that neither the passages nor the question hold is unsupported whatever the score. THRESHOLD is fitted on one
half of the benchmark of answers (`make bench-answers`) and reported on the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.domain import Passage, Verdict
from services.generator.segment import Kind, segments
from services.generator.vectors import SentenceVectors
from services.generator.words import Weights, terms, words

THRESHOLD = 0.55
CANDIDATES = 3
"""Sentences of the passages whose cosine is asked for: those that hold most of the sentence's words."""
LONGEST = 120
"""Words of a text that is compared whole: what fits any encoder's window."""

_MARK = re.compile(r"\[\d{1,3}\]")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,:/-]\d+)*%?(?![\w])")
_PATH = re.compile(
    r"(?:[\w.-]*[\w-])?(?:/[\w.-]+)+|\b[\w-]+\.(?:py|js|ts|go|rs|md|json|ya?ml|toml|sh|txt|cfg|ini|com|org|net|io)\b"
)
_IDENTIFIER = re.compile(r"\b[a-z]+(?:_[a-z0-9]+)+\b|\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b|\b[a-z]+[A-Z]\w*\b|--[\w-]+")
_NAME = re.compile(r"(?<![.!?:\n])(?<![.!?:] )(?<!^)\b[A-Z][a-z]+(?:[A-Z]\w*)?\b")
_ABSTAINS = re.compile(
    r"\b(?:passages?|documents?|sources?|text|context|corpus|material)\b[^.]{0,40}\b(?:do(?:es)? not|don't|doesn't|"
    r"no(?:thing|ne)?)\b|\bI (?:do not|don't|cannot|can't) (?:know|find|answer|say)\b|"
    r"\bnot (?:mentioned|stated|given)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Features:
    containment: float
    cosine: float
    single: float

    @property
    def score(self) -> float:
        return (self.containment + max(self.cosine, 0.0) + self.single) / 3


@dataclass(frozen=True, slots=True)
class Checked:
    score: float
    verdict: Verdict
    passage: int
    """Among those given to the Checker: the one with the best sentence."""
    start: int
    end: int
    """That sentence in the passage's text."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    passage: int
    start: int
    end: int
    text: str
    terms: frozenset[str]


class Checker:
    """Checks the sentences of one answer."""

    def __init__(self, question: str, passages: Sequence[Passage], vectors: SentenceVectors) -> None:
        self._vectors = vectors
        self._question = question
        self._passages = passages
        self._sentences = [
            _Sentence(at, each.start, each.end, text, frozenset(terms(text)))
            for at, passage in enumerate(passages)
            for each in segments(passage.text, passage.language)
            if each.kind is not Kind.HEADING
            for text in [passage.text[each.start : each.end]]
        ]
        self._weights = Weights(each.terms for each in self._sentences)
        self._words = [
            frozenset(words(f"{each.title}\n{each.heading}\n{each.text}")) | frozenset(terms(each.text))
            for each in passages
        ]
        self._terms = [frozenset(terms(f"{each.title}\n{each.heading}\n{each.text}")) for each in passages]

    async def check(self, sentence: str, cited: Collection[int]) -> Checked:
        """`cited`: passages' places; none: all that were given. A sentence with nothing to check is UNCHECKED."""
        plain = _MARK.sub("", sentence).strip()
        among = [place for place in dict.fromkeys(cited) if 0 <= place < len(self._passages)]
        places = among or list(range(len(self._passages)))
        candidates = [each for each in self._sentences if each.passage in places]
        wanted = frozenset(terms(plain))
        if not candidates or len(wanted) < 2 or _ABSTAINS.search(plain):
            return Checked(0.0, Verdict.UNCHECKED, 0, 0, 0)
        features, best = await self._features(plain, wanted, places, candidates)
        supported = features.score >= THRESHOLD and not self._unseen(plain, places)
        verdict = Verdict.SUPPORTED if supported else Verdict.UNSUPPORTED
        return Checked(features.score, verdict, best.passage, best.start, best.end)

    async def features(self, sentence: str, cited: Collection[int]) -> Features | None:
        """What the score is made of, for the benchmark; None: there is nothing to compare."""
        candidates = [each for each in self._sentences if each.passage in cited]
        wanted = frozenset(terms(sentence))
        return (await self._features(sentence, wanted, list(cited), candidates))[0] if wanted and candidates else None

    async def _features(
        self, sentence: str, wanted: frozenset[str], places: Sequence[int], candidates: Sequence[_Sentence]
    ) -> tuple[Features, _Sentence]:
        # What the question says already proves nothing of the answer: its words count half.
        asked = wanted & frozenset(terms(self._question))
        total = self._weights.total(wanted - asked) + self._weights.total(asked) / 2 or 1.0

        def share(held: frozenset[str]) -> float:
            return (self._weights.total((wanted - asked) & held) + self._weights.total(asked & held) / 2) / total

        containment = max(share(self._terms[place]) for place in places)
        ranked = sorted(candidates, key=lambda each: -share(each.terms))[:CANDIDATES]
        rows = await self._vectors.get([_short(sentence), *(_short(each.text) for each in ranked)])
        cosines = [float(row @ rows[0]) for row in rows[1:]]
        joint = [share(each.terms) + cosine for each, cosine in zip(ranked, cosines, strict=True)]
        best = ranked[joint.index(max(joint))]
        return Features(containment, max(cosines), share(ranked[0].terms)), best

    def _unseen(self, sentence: str, places: Sequence[int]) -> bool:
        """Whether it holds a number, path, identifier or name that no cited passage and not the question has."""
        seen = f"{self._question}\n" + "\n".join(
            f"{each.title}\n{each.heading}\n{each.before}\n{each.text}\n{each.after}\n"
            f"{each.published or ''}\n{each.author}"
            for each in (self._passages[place] for place in places)
        )
        folded = seen.casefold()
        exact = [*_NUMBER.findall(sentence), *_PATH.findall(sentence), *_IDENTIFIER.findall(sentence)]
        if any(each.casefold().rstrip(".") not in folded for each in exact):
            return True
        known = frozenset(words(seen)) | frozenset(terms(seen))
        return any(
            name.casefold() not in known and terms(name)[:1] and terms(name)[0] not in known
            for name in _NAME.findall(sentence)
        )


def _short(text: str) -> str:
    pieces = text.split()
    return text if len(pieces) <= LONGEST and len(text) <= 8 * LONGEST else " ".join(pieces[:LONGEST])[: 8 * LONGEST]
