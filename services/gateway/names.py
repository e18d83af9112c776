"""Which authors there are, remembered for a moment: every chat request names one.

Comes in: a name. Goes out: whether there is such an author. Does not know: who may see them.
"""

from __future__ import annotations

import time

from services import clients
from services.domain import EVERYONE

_KNOWN = 30.0
"""Seconds for which an author once seen is taken to be there. One that was not seen is looked for each time."""


class Names:
    def __init__(self, crawler: clients.Crawler) -> None:
        self._crawler = crawler
        self._names: frozenset[str] = frozenset()
        self._until = 0.0

    async def has(self, author: str) -> bool:
        if author in self._names and time.monotonic() < self._until:
            return True
        self._names = frozenset(each.name for each in await self._crawler.list_authors(EVERYONE))
        self._until = time.monotonic() + _KNOWN
        return author in self._names

    def forget(self) -> None:
        self._until = 0.0
