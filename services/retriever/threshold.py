"""The sixth step: whether what was found answers at all.

Comes in: the hits, candidates, the question's weighted words and the index's thresholds. Goes out: a confidence, the
evidence that it makes, and the candidates worth showing. Does not know: the index, the wording of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.confidence import features, largest, looked_at
from services.domain import EncoderIdentity, Evidence, Thresholds
from services.retriever.fuse import Candidate
from services.retriever.search import Found

NEAREST = 3
"""Candidates that are kept whatever their score: an answer that declines offers them."""
READ = 24
"""Candidates, at most, that are judged one by one."""

DEFAULTS: Mapping[str, Thresholds] = {
    "onnx://": Thresholds(decline=0.19, answer=0.33, origin="default for all-MiniLM-L6-v2"),
}
"""By the encoder's URL. Of questions off the topic 98 % or more lie below `decline` and 2 % of the answerable at most;
of the answerable 95 % lie above `answer` (`make bench-retrieval`). Other encoders have other cosines: uncalibrated."""


def thresholds_for(encoder: EncoderIdentity, calibrated: Thresholds | None) -> Thresholds | None:
    """The index's own, or those fitted on public questions for a known encoder; None: uncalibrated."""
    return calibrated or DEFAULTS.get(encoder.url)


def judge(found: Found, weighted: Mapping[str, float]) -> float:
    """How sure one may be that what was found answers, 0 to 1."""
    seen = looked_at(found.dense, found.text).values()
    return largest(features(weighted, hit.chunk.heading, hit.chunk.text, cosine) for hit, cosine in seen).confidence


def evidence(confidence: float, thresholds: Thresholds | None, found: bool) -> Evidence:
    if not found:
        return Evidence.NONE
    if thresholds is None:
        return Evidence.UNCALIBRATED
    if confidence < thresholds.decline:
        return Evidence.NONE
    return Evidence.ANSWER if confidence >= thresholds.answer else Evidence.CLOSEST


def above(candidates: Sequence[Candidate], weighted: Mapping[str, float], thresholds: Thresholds) -> list[Candidate]:
    """Those of the first that might answer by themselves, and the nearest in any case."""
    kept = []
    for place, each in enumerate(candidates[:READ]):
        chunk = each.hit.chunk
        alone = features(weighted, chunk.heading, chunk.text, each.scores.get("dense", 0.0)).confidence
        each.scores["confidence"] = alone
        if place < NEAREST or alone >= thresholds.decline:
            kept.append(each)
    return kept
