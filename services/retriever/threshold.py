"""The sixth step: whether what was found answers at all.

Comes in: candidates, the question's weighted words and the index's thresholds. Goes out: a confidence, the evidence
that it makes, and the candidates worth showing. Does not know: the index, the wording of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.confidence import PASSAGES, Features, Seen, confidence, features
from services.domain import EncoderIdentity, Evidence, Thresholds
from services.retriever.fuse import Candidate

NEAREST = 3
"""Candidates that are kept whatever their score: an answer that declines offers them."""

DEFAULTS: Mapping[str, Thresholds] = {}


def thresholds_for(encoder: EncoderIdentity, calibrated: Thresholds | None) -> Thresholds | None:
    """The index's own, or those fitted on public questions for a known encoder; None: uncalibrated."""
    return calibrated or DEFAULTS.get(encoder.url)


def judge(candidates: Sequence[Candidate], weighted: Mapping[str, float]) -> float:
    """How sure one may be that these answer, 0 to 1; each of the first ones gets its own as a score."""
    seen = [_seen(each) for each in candidates[:PASSAGES]]
    for candidate, passage in zip(candidates[:PASSAGES], seen, strict=True):
        candidate.scores["confidence"] = confidence(features(weighted, [passage]))
    return confidence(decisive(weighted, candidates))


def decisive(weighted: Mapping[str, float], candidates: Sequence[Candidate]) -> Features:
    """The features of a search: of its first passages, and the best cosine of all."""
    found = features(weighted, [_seen(each) for each in candidates[:PASSAGES]])
    best = max((each.scores.get("dense", 0.0) for each in candidates), default=0.0)
    return replace(found, cosine=max(found.cosine, best))


def evidence(confidence: float, thresholds: Thresholds | None, found: bool) -> Evidence:
    if not found:
        return Evidence.NONE
    if thresholds is None:
        return Evidence.UNCALIBRATED
    if confidence < thresholds.decline:
        return Evidence.NONE
    return Evidence.ANSWER if confidence >= thresholds.answer else Evidence.CLOSEST


def above(candidates: Sequence[Candidate], thresholds: Thresholds) -> list[Candidate]:
    """Those that might answer by themselves, and the nearest in any case."""
    return [
        each
        for place, each in enumerate(candidates)
        if place < NEAREST or each.scores.get("confidence", 0.0) >= thresholds.decline
    ]


def _seen(candidate: Candidate) -> Seen:
    chunk = candidate.hit.chunk
    return Seen(chunk.heading, chunk.text, candidate.scores.get("dense", 0.0))
