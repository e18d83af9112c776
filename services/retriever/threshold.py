"""The sixth step: whether what was found answers at all.

Comes in: the hits, candidates, the question's weighted words and the index's thresholds. Goes out: the features of what
was found, the evidence that they make, and the candidates worth showing. Does not know: the index, the wording of an
answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.confidence import Features, features, largest, looked_at
from services.domain import EncoderIdentity, Evidence, Hit, Thresholds
from services.retriever.fuse import Candidate
from services.retriever.search import Found

NEAREST = 3
"""Candidates that are kept whatever their score: an answer that declines offers them."""
READ = 24
"""Candidates, at most, that are judged one by one."""

SURE = 0.35
"""Confidence from which passages are taken to speak of the question however far its vector is: a short note or a row of
a table that holds its rare words. Of 1,288 questions off the topic (`make bench-retrieval`) none that `decline` catches
comes to .28."""

DEFAULTS: Mapping[str, Thresholds] = {
    "onnx://": Thresholds(decline=0.245, answer=0.325, origin="default for all-MiniLM-L6-v2"),
}
"""By the encoder's URL. Of questions off the topic 98 % lie below `decline`, of the answerable at most 2 % below it and
6 % below `answer`, in three of four corpora (`make bench-retrieval` shows each); a text that never names what it speaks
of wants `twin calibrate`. Other encoders have other cosines: uncalibrated."""


def thresholds_for(encoder: EncoderIdentity, calibrated: Thresholds | None) -> Thresholds | None:
    """The index's own, or those fitted on public questions for a known encoder; None: uncalibrated."""
    return calibrated or DEFAULTS.get(encoder.url)


class Judging:
    """The features of one question's hits, each looked at once."""

    def __init__(self, weighted: Mapping[str, float]) -> None:
        self._weighted = weighted
        self._known: dict[str, Features] = {}

    def of(self, hit: Hit, cosine: float) -> Features:
        """`cosine`: of the hit; 0 for one that is not among the nearest."""
        known = self._known.get(hit.chunk.id)
        if known is None:
            known = features(self._weighted, hit.chunk.heading, hit.chunk.text, cosine)
            self._known[hit.chunk.id] = known
        return known


def judge(found: Found, judging: Judging) -> Features:
    """The best of what was found."""
    return largest(judging.of(hit, cosine) for hit, cosine in looked_at(found.dense, found.text).values())


def evidence(best: Features, thresholds: Thresholds | None, found: bool) -> Evidence:
    """None where the corpus does not speak of it, the closest passages where it does but nothing answers outright."""
    if not found:
        return Evidence.NONE
    if thresholds is None:
        return Evidence.UNCALIBRATED
    if not topical(best, thresholds):
        return Evidence.NONE
    return Evidence.ANSWER if best.confidence >= thresholds.answer else Evidence.CLOSEST


def topical(found: Features, thresholds: Thresholds) -> bool:
    """Whether what was found speaks of the question at all."""
    return found.topicality >= thresholds.decline or found.confidence >= max(thresholds.answer, SURE)


def above(candidates: Sequence[Candidate], judging: Judging, thresholds: Thresholds) -> list[Candidate]:
    """Those of the first that might answer by themselves, and the nearest in any case."""
    kept = []
    for place, each in enumerate(candidates[:READ]):
        alone = judging.of(each.hit, each.scores.get("dense", 0.0))
        each.scores["confidence"] = alone.confidence
        if place < NEAREST or topical(alone, thresholds):
            kept.append(each)
    return kept
