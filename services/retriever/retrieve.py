"""The steps of a search, in their order.

Comes in: a SearchRequest. Goes out: a SearchResult with what each step did. Does not know: gRPC, how any step works.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from services import telemetry
from services.confidence import terms, weights
from services.domain import (
    Evidence,
    Facets,
    Filter,
    Passage,
    SearchRequest,
    SearchResult,
    Step,
)
from services.errors import DeadlineExceeded, InvalidInput, Overloaded, TooLarge, Unavailable
from services.ports import Index, Reranker
from services.retriever.context import neighbours
from services.retriever.duplicates import distinct
from services.retriever.fuse import Candidate, fuse
from services.retriever.listing import newest
from services.retriever.live import Live, Opened
from services.retriever.queries import queries
from services.retriever.rerank import CANDIDATES, rerank
from services.retriever.search import Found, search
from services.retriever.threshold import Judging, above, evidence, judge, thresholds_for
from services.retriever.understand import Understood, needs_facets, understand

MOST = 100
"""Passages in one result."""
LONGEST = 8_000
"""Code points of a question: more is a document, not a question."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Steps:
    """Notes of what each step did."""

    observe: Callable[[str, float], None]
    made: list[Step] = field(default_factory=list)
    _at: float = field(default_factory=time.perf_counter)

    def note(self, name: str, detail: str, candidates: int = 0) -> None:
        now = time.perf_counter()
        self.made.append(Step(name, detail, (now - self._at) * 1000, candidates))
        self.observe(name, now - self._at)
        self._at = now


class Retrieve:
    """`observe` is told each step's name and seconds."""

    def __init__(self, live: Live, reranker: Reranker | None, observe: Callable[[str, float], None]) -> None:
        self._live = live
        self._reranker = reranker
        self._observe = observe

    async def __call__(self, request: SearchRequest) -> SearchResult:
        """InvalidInput for an empty question or a k out of range, TooLarge for a question that is none."""
        _check(request)
        return await self._live.on(lambda live: self._run(request, live))

    async def _run(self, request: SearchRequest, live: Opened) -> SearchResult:
        steps = _Steps(self._observe)
        notices: list[str] = []

        understood = await self._understand(request, live)
        steps.note("understand", _say_understood(understood))

        wanted = queries(understood.question)
        steps.note("queries", f"searched for: {wanted.dense}")

        async def both(filter: Filter) -> tuple[Found, dict[str, float]]:
            return await asyncio.gather(
                search(live.index, live.encoder, wanted, request.scope, filter),
                _weights(live.index, understood.question),
            )

        found, weighted = await both(understood.filter)
        if understood.recognised and not found.dense and not found.text:
            phrases = ", ".join(f"“{each}”" for each in understood.recognised)
            notices.append(f"Nothing was found under {phrases}: everything was searched.")
            plain = request.query.strip()
            understood = replace(understood, question=plain, filter=request.filter, recognised=(), listing=False)
            wanted = queries(plain)
            found, weighted = await both(request.filter)
        steps.note(
            "search",
            f"{len(found.dense)} by meaning, {len(found.text)} by words",
            len({hit.chunk.id for hit in (*found.dense, *found.text)}),
        )

        ranked = fuse(found.dense, found.text, weighted)
        steps.note("fuse", _say_fused(ranked), len(ranked))

        listing = understood.listing and bool(ranked)
        if listing:
            ranked = await newest(live.index, ranked)
            steps.note("rerank", f"a list is asked for: {len(ranked)} documents' beginnings, newest first", len(ranked))
            if len(ranked) > request.k:
                notices.append(f"{len(ranked)} documents were found: these are the newest {request.k} of them.")
        elif self._reranker is None or request.rerank is False:
            why = "not asked for" if self._reranker is not None else "no reranker is set: the fused order stands"
            steps.note("rerank", why, len(ranked))
        else:
            first = ranked[0].hit.chunk.id if ranked else ""
            try:
                ranked = await rerank(understood.question, ranked, self._reranker)
            except (Unavailable, Overloaded, DeadlineExceeded) as error:
                telemetry.SEARCH_STEP_FAILURES.labels("rerank", error.code).inc()
                log.warning("retriever: not reranked", code=error.code, error=error.message)
                notices.append("The reranker did not answer: the passages are in the order of the searches.")
                steps.note(
                    "rerank", f"{self._reranker.name} failed ({error.code}): the fused order stands", len(ranked)
                )
            else:
                moved = "another passage is first" if ranked and ranked[0].hit.chunk.id != first else "the first stays"
                steps.note("rerank", f"{self._reranker.name} read {min(len(ranked), CANDIDATES)}: {moved}", len(ranked))

        thresholds = thresholds_for(live.manifest.encoder, live.manifest.thresholds)
        judging = Judging(weighted)
        best = judge(found, judging)
        verdict = Evidence.ANSWER if listing else evidence(best, thresholds, bool(ranked))
        deciding = request.threshold and not listing
        kept = above(ranked, judging, thresholds) if deciding and thresholds is not None else ranked
        if verdict is Evidence.UNCALIBRATED:
            notices.append("The index is not calibrated: nothing was declined by score. `twin calibrate` does it.")
        bounds = (
            f"{thresholds.decline:.2f} and {thresholds.answer:.2f} are needed ({thresholds.origin})"
            if thresholds is not None
            else "not calibrated"
        )
        sure = f"topicality {best.topicality:.2f}, confidence {best.confidence:.2f}"
        decided = "a list is not judged" if listing else f"{sure}: {verdict.value}; {bounds}"
        steps.note("threshold", decided, len(kept))

        # Of two documents that begin alike a list has both.
        chosen, repeated = (kept[: request.k], 0) if listing else distinct(kept, request.k)
        steps.note("duplicates", f"{repeated} repeated a better passage", len(chosen))

        beside = await neighbours(live.index, [each.hit for each in chosen])
        steps.note("context", f"{len(beside)} got text beside them", len(chosen))

        return SearchResult(
            passages=tuple(_passage(each, *beside.get(each.hit.chunk.id, ("", ""))) for each in chosen),
            evidence=verdict,
            confidence=best.confidence,
            question=understood.question,
            queries=wanted.all,
            filter=understood.filter,
            steps=tuple(steps.made),
            index=live.manifest.name,
            notices=tuple(notices),
            vector=found.vector.astype("<f4").tobytes(),
            encoder=live.encoder.identity.url,
            listing=listing,
        )

    async def _understand(self, request: SearchRequest, live: Opened) -> Understood:
        if request.rewrite is False:
            return Understood(request.query.strip(), request.filter)
        facets = await self._live.facets(live, request.scope) if needs_facets(request.query) else Facets()
        return understand(request.query, request.history, request.filter, facets)


async def _weights(index: Index, question: str) -> dict[str, float]:
    words = terms(question)
    frequencies, chunks = await index.document_frequencies(words)
    return weights(words, frequencies, chunks)


def _check(request: SearchRequest) -> None:
    if not request.query.strip():
        raise InvalidInput("The question is empty.", param="query")
    if len(request.query) > LONGEST:
        raise TooLarge(f"A question has at most {LONGEST} characters, this one {len(request.query)}.", param="query")
    since, until = request.filter.since, request.filter.until
    if since is not None and until is not None and since > until:
        raise InvalidInput(f"Nothing is both since {since} and until {until}.", param="filter.since")
    if not 1 <= request.k <= MOST:
        raise InvalidInput(f"k is from 1 to {MOST}, not {request.k}.", param="k")


def _passage(candidate: Candidate, before: str, after: str) -> Passage:
    hit = candidate.hit
    return Passage(
        chunk_id=hit.chunk.id,
        document_id=hit.chunk.document_id,
        version=hit.version,
        start=hit.chunk.start,
        end=hit.chunk.end,
        text=hit.chunk.text,
        heading=hit.chunk.heading,
        title=hit.title,
        url=hit.url,
        author=hit.author,
        score=candidate.score,
        scores=candidate.scores,
        before=before,
        after=after,
        language=hit.language,
        published=hit.published,
        source_id=hit.source_id,
    )


def _say_understood(understood: Understood) -> str:
    said = []
    if understood.carried:
        said.append(f"a follow-up: took over {', '.join(understood.carried)}")
    if understood.recognised:
        said.append(f"read as filters: {', '.join(understood.recognised)}")
    return "; ".join(said) or "stands alone"


def _say_fused(ranked: Sequence[Candidate]) -> str:
    both = sum(1 for each in ranked if _in_both(each.scores))
    return f"{both} found by both searches"


def _in_both(scores: Mapping[str, float]) -> bool:
    return "dense" in scores and "text" in scores
