"""The fourth step: one ranking out of two.

Comes in: the hits of the dense and of the text search, and the weight of each of the question's words. Goes out:
candidates, best first. Does not know: the index, models.

Relative-score fusion: each search's scores are stretched from 0 (its last hit, or nothing found) to 1 (its best), so
that a search with a clear winner says more than one without. Source: Bruch et al. 2023, "An Analysis of Fusion
Functions for Hybrid Retrieval", which finds it ahead of reciprocal ranks; `make bench-retrieval` shows it beside them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.confidence import share
from services.domain import Hit
from services.retriever.search import DEPTH

DENSE = 0.4
"""Weight of the dense search, the text search having the rest. Between .4 and .5 hardly anything changes."""
SECTION = 0.5
"""Weight of a section's best scores in its best passage's: where one passage has the meaning and the next the words,
the section is what was asked for."""
HEADING = 0.45
"""What it adds that all of the question's words stand in the heading above a passage: it says what the passage is
about. From .4 to .5 nothing changes."""
DOCUMENT, COMPANIONS = 0.05, 4
"""What all passages of a document get of the scores of those behind its best one, and of how many: a document that
speaks of the matter in several places is more likely about it. From .03 to .08 and from 3 to 6 all gain alike."""
LEADERS = 3
"""The best of each search that are never lost, however the other ranks them: in meaning or in words, something fits."""
WITHIN = 10
"""The rank that leaders come in at, at the latest."""


@dataclass(slots=True)
class Candidate:
    hit: Hit
    score: float = 0.0
    """That it is ranked by, larger is better."""
    scores: dict[str, float] = field(default_factory=dict)
    """Each stage's."""


def fuse(dense: Sequence[Hit], text: Sequence[Hit], weighted: Mapping[str, float]) -> list[Candidate]:
    near = _stretched(dense, complete=False)
    worded = _stretched(text, complete=len(text) < DEPTH)
    found: dict[str, Candidate] = {}
    for hit in dense:
        id = hit.chunk.id
        found[id] = Candidate(hit, DENSE * near[id] + (1 - DENSE) * worded.get(id, 0.0), {"dense": hit.score})
    for hit in text:
        id = hit.chunk.id
        if id in found:
            found[id].scores["text"] = hit.score
        else:
            found[id] = Candidate(hit, (1 - DENSE) * worded[id], {"text": hit.score})
    sections: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in found.values():
        chunk = candidate.hit.chunk
        sections[chunk.document_id, chunk.heading].append(candidate)
    held = share(weighted)
    for (_, said), members in sections.items():
        if len(members) > 1:
            together = DENSE * max(near.get(each.hit.chunk.id, 0.0) for each in members)
            together += (1 - DENSE) * max(worded.get(each.hit.chunk.id, 0.0) for each in members)
            lead = max(members, key=lambda each: each.score)
            lead.score += SECTION * (together - lead.score)
        heading = HEADING * held(said)
        for each in members:
            each.score += heading
    _with_companions(found.values())
    for each in found.values():
        each.scores["fused"] = each.score
    ranked = sorted(found.values(), key=lambda each: (-each.score, each.hit.chunk.document_id, each.hit.chunk.ordinal))
    return _with_leaders(ranked, {hit.chunk.id for hits in (dense, text) for hit in hits[:LEADERS]})


def _with_companions(candidates: Iterable[Candidate]) -> None:
    documents: dict[str, list[Candidate]] = defaultdict(list)
    for each in candidates:
        documents[each.hit.chunk.document_id].append(each)
    for members in documents.values():
        others = sorted((each.score for each in members), reverse=True)[1 : 1 + COMPANIONS]
        for each in members:
            each.score += DOCUMENT * sum(others)


def _stretched(hits: Sequence[Hit], *, complete: bool) -> dict[str, float]:
    """Chunk id → 0 to 1. `complete`: the search found no more than these, so that the rest are worth nothing at all."""
    if not hits:
        return {}
    best, worst = hits[0].score, 0.0 if complete else hits[-1].score
    if best <= worst:
        return {hit.chunk.id: 1.0 for hit in hits}
    return {hit.chunk.id: (hit.score - worst) / (best - worst) for hit in hits}


def _with_leaders(ranked: list[Candidate], leaders: set[str]) -> list[Candidate]:
    """Leaders that rank behind WITHIN come in at the end of it, in their order, and others make room."""
    late = [each for each in ranked[WITHIN:] if each.hit.chunk.id in leaders]
    if not late:
        return ranked
    others = [each.hit.chunk.id for each in ranked[:WITHIN] if each.hit.chunk.id not in leaders]
    moved = {*others[-len(late) :], *(each.hit.chunk.id for each in late)}
    before = [each for each in ranked[:WITHIN] if each.hit.chunk.id not in moved]
    pushed = [each for each in ranked[:WITHIN] if each.hit.chunk.id in moved]
    behind = [*pushed, *(each for each in ranked[WITHIN:] if each.hit.chunk.id not in moved)]
    # Scores must not contradict the order.
    for each in late:
        each.score = min(before[-1].score, behind[0].score)
    for each in pushed:
        each.score = min(each.score, late[-1].score)
    return [*before, *late, *behind]
