"""In the fifth step's place, where a question asks for what there is: the documents in the order of time.

Comes in: ranked candidates. Goes out: the beginnings of the documents that they are of. Does not know: what was asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.ports import Index
from services.retriever.fuse import Candidate


async def newest(index: Index, ranked: Sequence[Candidate]) -> list[Candidate]:
    """One candidate a document, the latest first, those without a date last."""
    dates = {each.hit.chunk.document_id: each.hit.published or "" for each in ranked}
    order = sorted(dates, key=lambda id: dates[id], reverse=True)
    first = {hit.chunk.document_id: hit for hit in await index.neighbours({id: [0] for id in order})}
    there = [first[id] for id in order if id in first]
    return [Candidate(hit, 1 - place / len(there)) for place, hit in enumerate(there)]
