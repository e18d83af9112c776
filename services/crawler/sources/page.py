"""A web page, and the pages of its site that it leads to where that is asked for.

Comes in: an address, and the options `depth` (clicks from it; 0: this page alone), `max_pages`, `include` and `exclude`
(globs on paths). Goes out: pages, the nearest first. Does not know: what stands on them, apart from their links.

A crawl stays on the host, below the folder of the address it began with. URLs without end (calendars, sort orders,
pagers, links that repeat themselves) are bounded by depth, by pages, and by a budget for all URLs of one shape.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from urllib.parse import unquote, urlsplit

from dulwich.ignore import IgnoreFilter

from services.crawler.address import host, normalise, shape
from services.crawler.files import Selection, globs
from services.crawler.page import Links
from services.crawler.sources import Fixed, Item, Kind, Listing, Tools, number
from services.domain import Source
from services.errors import InvalidInput

KIND = Kind(on_web=True, pages=True, options=frozenset({"depth", "max_pages", "include", "exclude"}))
SAME_SHAPE = 300
"""Pages whose addresses differ only in numbers: a diary of numbered posts fits, a calendar ends."""
SAME_QUERY = 60
"""Pages whose addresses differ only in the values of parameters: searches, sort orders, sessions."""
MOST_PENDING = 20_000
"""Addresses waiting: more are not remembered."""


async def open(source: Source, tools: Tools) -> Listing:
    bounds = tools.bounds
    follows = "depth" in source.options or "max_pages" in source.options
    depth = number(source, "depth", bounds.depth if follows else 0, bounds.depth)
    pages = number(source, "max_pages", bounds.pages if depth else 1, bounds.pages)
    start = Item(addresses=(normalise(source.address),), url=source.address)
    if depth == 0 or pages <= 1:
        return Fixed([start])
    include, exclude = globs(source.options.get("include", "")), globs(source.options.get("exclude", ""))
    chosen = Selection(IgnoreFilter(include) if include else None, IgnoreFilter(exclude))
    return _Site(start, chosen, depth=depth, pages=pages)


class _Site:
    """Breadth first. Items come out while earlier ones are being worked on; `handled` brings their links in."""

    complete = False
    unchanged = False
    wants_links = True

    def __init__(self, start: Item, chosen: Selection, *, depth: int, pages: int) -> None:
        self.total: int | None = None
        self.notes: dict[str, str] = {}
        self._chosen = chosen
        self._depth = depth
        self._left = pages
        self._host = host(start.address)
        self._below = below(start.address)
        self._pending = deque([start])
        self._known = {start.address}
        self._shapes: Counter[str] = Counter()
        self._working = 0
        self._changed = asyncio.Event()

    async def items(self) -> AsyncGenerator[Item, None]:
        while self._left > 0:
            if self._pending:
                self._left -= 1
                self._working += 1
                yield self._pending.popleft()
            elif self._working:
                self._changed.clear()
                await self._changed.wait()
            else:
                return

    def handled(self, item: Item, links: Links | None) -> None:
        self._working -= 1
        if links is not None and item.depth < self._depth:
            for url in links.pages:
                if len(self._pending) < MOST_PENDING:
                    self._add(url, item.depth + 1)
        self._changed.set()

    def _add(self, url: str, depth: int) -> None:
        try:
            address = normalise(url)
        except InvalidInput:
            return
        if address in self._known or host(address) != self._host:
            return
        path = urlsplit(address).path
        if not path.startswith(self._below) or not self._chosen.takes(unquote(path).lstrip("/") or "index"):
            return
        kind = shape(address)
        endless = kind != f"{self._host}{path}?"
        if endless and self._shapes[kind] >= (SAME_QUERY if urlsplit(address).query else SAME_SHAPE):
            return
        self._shapes[kind] += 1
        self._known.add(address)
        self._pending.append(Item(addresses=(address,), url=url, depth=depth))


def below(address: str) -> str:
    """The folder of a page's path: what lies below it belongs to the same part of a site."""
    path = urlsplit(address).path
    return path[: path.rfind("/") + 1] or "/"
