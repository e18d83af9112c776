"""Text Embeddings Inference (TEI) as the reranker: a cross-encoder on another machine.

Comes in: `tei+http://host:port` or `tei+https://…`, and the key from TWIN_RERANKER_API_KEY. Goes out: a score a text,
0 to 1. Does not know: passages, models. A text that does not fit the model together with the query is read as far as
it fits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.adapters import address, tei
from services.adapters.words import storable
from services.errors import Misconfigured, Unavailable
from services.ports import Reranker

SETTING = "TWIN_RERANKER"
PARALLEL = 4
"""Requests of one question at once."""


async def open(url: str, data_dir: Path) -> Reranker:
    """The server need not be up yet: it is looked at when it is first needed."""
    base, _ = address.parse(url, SETTING, "HOST:PORT")
    reranker = TeiReranker(tei.Tei(base, SETTING, tei.key(SETTING)))
    try:
        await reranker.look()
    except Unavailable:
        pass
    except BaseException:
        await reranker.close()
        raise
    return reranker


class TeiReranker:
    def __init__(self, server: tei.Tei) -> None:
        self._server = server
        self._info: tei.Info | None = None

    @property
    def name(self) -> str:
        return self._info.model if self._info is not None else "tei"

    async def look(self) -> tei.Info:
        """Unavailable where it is away, Misconfigured where it serves no reranker."""
        info = await self._server.info()
        if info.kind != "reranker":
            raise Misconfigured(f"{SETTING}_URL: {info.model} is served as a {info.kind}, not as a reranker.")
        self._info = info
        return info

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        info = self._info or await self.look()
        # Empty ones are refused where the query is empty too.
        sent = [storable(text) or " " for text in texts]
        parts = [sent[at : at + info.client_batch] for at in range(0, len(sent), info.client_batch)]
        room = asyncio.Semaphore(PARALLEL)
        done = await asyncio.gather(
            *(self._rank(storable(query), part, room) for part in parts), return_exceptions=True
        )
        scores: list[float] = []
        for part in done:
            if isinstance(part, BaseException):
                raise part
            scores += part
        return scores

    async def close(self) -> None:
        await self._server.close()

    async def _rank(self, query: str, texts: Sequence[str], room: asyncio.Semaphore) -> list[float]:
        body = {"query": query, "texts": texts, "truncate": True, "raw_scores": False, "return_text": False}
        try:
            async with room:
                answer = await self._server.ask("POST", "/rerank", body)
        except Unavailable:
            self._info = None  # what is there next may be another one
            raise
        try:
            scores = {int(each["index"]): float(each["score"]) for each in answer.json()}
            return [scores[place] for place in range(len(texts))]
        except (ValueError, TypeError, KeyError) as error:
            raise self._server.strange() from error
