"""Search: the passages, and what each step did.

Comes in: a query. Goes out: the retriever's result as JSON. Does not know: how passages are found.
"""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from services.domain import SearchRequest
from services.gateway import shapes
from services.gateway.call import TheCall, answer
from services.gateway.shapes import (
    Asked,
    Evidence,
    FilterBody,
    FilterShape,
    Given,
    PassageShape,
    Query,
    StepShape,
    Whole,
)


class SearchBody(Asked):
    query: Query
    k: Annotated[int, Field(ge=1, le=100), Whole] = 8
    filter: FilterBody = FilterBody()
    rewrite: bool | None = None
    """null: where it was measured to help."""
    rerank: bool | None = None


class SearchAnswer(Given):
    passages: list[PassageShape]
    evidence: Evidence
    confidence: float
    question: str
    queries: list[str]
    filter: FilterShape
    """As asked and as recognised in the question."""
    notices: list[str]
    index: str
    steps: list[StepShape]
    timings: dict[str, float]
    """Milliseconds of each step, and `total`."""


async def search(call: TheCall, body: SearchBody) -> Response:
    """The passages nearest to a query, with every stage's scores and timings."""
    if body.filter.author is not None:
        call.may_touch(body.filter.author, "filter.author")
    began = time.perf_counter()
    found = await call.parts.retriever.search(
        SearchRequest(
            query=body.query,
            scope=call.scope,
            k=body.k,
            filter=body.filter.filter(),
            rewrite=body.rewrite,
            rerank=body.rerank,
        )
    )
    timings = {step.name: step.milliseconds for step in found.steps}
    timings["total"] = (time.perf_counter() - began) * 1000
    return answer(
        {
            "passages": [shapes.passage(each) for each in found.passages],
            "evidence": found.evidence,
            "confidence": found.confidence,
            "question": found.question,
            "queries": list(found.queries),
            "filter": shapes.filter(found.filter),
            "notices": list(found.notices),
            "index": found.index,
            "steps": [shapes.step(each) for each in found.steps],
            "timings": timings,
        }
    )
