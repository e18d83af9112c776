"""A feed: RSS, Atom or JSON Feed.

Comes in: the feed's address. Goes out: its entries' pages, in the feed's order. Does not know: the pages.

The page is fetched, because it has the whole text, its structure and its code. Where it cannot be (many platforms give
pages to browsers only), the entry's own content stands in for it, if the feed has it whole. An entry without a page is
its content.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable

from services.crawler.address import normalise
from services.crawler.page import Entry
from services.crawler.sources import Fixed, Item, Kind, Listing, Payload, Tools, fetch_listing, number, parse_listing
from services.domain import Source
from services.errors import InvalidInput

KIND = Kind(on_web=True, pages=True, options=frozenset({"max_pages"}), notes=frozenset({"listing"}))
WHOLE = 600
"""Characters of HTML from which on an entry's content is taken for the whole text and no teaser."""


async def open(source: Source, tools: Tools) -> Listing:
    address = source.options.get("listing", source.address)
    fetched = await fetch_listing(tools, address)
    found = await parse_listing(tools, "feed", fetched.body, fetched.url)
    most = number(source, "max_pages", tools.bounds.pages, tools.bounds.pages)
    items: dict[str, Item] = {}
    for entry in found.entries:
        item = _item(entry)
        if item is not None and len(items) < most:
            items.setdefault(item.address, item)
    return Fixed(list(items.values()))


def _item(entry: Entry) -> Item | None:
    whole = as_page(entry) if len(entry.content) >= WHOLE else ""
    if "#" in entry.url:
        return Item((entry.url,), read=_reader(as_page(entry)), title=entry.title, published=entry.published)
    try:
        address = normalise(entry.url)
    except InvalidInput:
        return None
    return Item((address,), url=entry.url, title=entry.title, published=entry.published, fallback=whole)


def as_page(entry: Entry) -> str:
    """An entry's content as a page of its own."""
    title = html.escape(entry.title)
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{title}</title></head>'
        f"<body><article><h1>{title}</h1>{entry.content}</article></body></html>"
    )


def _reader(content: str) -> Callable[[], Awaitable[Payload]]:
    async def read() -> Payload:
        return Payload(content.encode("utf-8", "replace"), "text/html; charset=utf-8")

    return read
