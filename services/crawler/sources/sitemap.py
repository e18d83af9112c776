"""A sitemap: XML or text, compressed or not, and the sitemaps it names.

Comes in: the sitemap's address; with the option `listing` the sitemap stands there, and the source's own address is the
site whose pages are meant. Goes out: its pages. Does not know: the pages.

Only pages of the sitemap's own site are taken: nobody is sent to crawl a third party by a sitemap (the protocol has the
same rule).
"""

from __future__ import annotations

from collections import deque
from urllib.parse import urlsplit

from dulwich.ignore import IgnoreFilter

from services.crawler.address import normalise, same_site
from services.crawler.fetch import inflate
from services.crawler.files import Selection, globs
from services.crawler.sources import (
    MOST_LISTING_BYTES,
    Fixed,
    Item,
    Kind,
    Listing,
    Tools,
    fetch_listing,
    number,
    parse_listing,
)
from services.crawler.sources.page import below
from services.domain import Source
from services.errors import InvalidInput, TwinError, Unprocessable

KIND = Kind(
    on_web=True,
    pages=True,
    options=frozenset({"max_pages", "include", "exclude"}),
    notes=frozenset({"listing"}),
)
MOST_SITEMAPS = 500
"""Read for one source; an index names 50,000 at most."""


async def open(source: Source, tools: Tools) -> Listing:
    listing = source.options.get("listing")
    start = listing or source.address
    folder = below(normalise(source.address)) if listing else "/"
    include, exclude = globs(source.options.get("include", "")), globs(source.options.get("exclude", ""))
    chosen = Selection(IgnoreFilter(include) if include else None, IgnoreFilter(exclude))
    most = number(source, "max_pages", tools.bounds.pages, tools.bounds.pages)
    pending = deque([start])
    known = {normalise(start)}
    items: dict[str, Item] = {}
    failure: TwinError | None = None
    read = 0
    while pending and read < MOST_SITEMAPS and len(items) < most:
        url = pending.popleft()
        read += 1
        try:
            fetched = await fetch_listing(tools, url)
            body = inflate(fetched.body, MOST_LISTING_BYTES) if fetched.body[:2] == b"\x1f\x8b" else fetched.body
            found = await parse_listing(tools, "sitemap", body, fetched.url)
        except TwinError as error:
            # One of many sitemaps that is broken does not take the others with it.
            failure = failure or error
            continue
        for entry in found.entries:
            try:
                address = normalise(entry.url)
            except InvalidInput:
                continue
            path = urlsplit(address).path
            if len(items) < most and same_site(address, start) and path.startswith(folder) and chosen.takes(path[1:]):
                items.setdefault(address, Item((address,), url=entry.url))
        for nested in found.nested:
            try:
                address = normalise(nested)
            except InvalidInput:
                continue
            if address not in known and same_site(nested, start):
                known.add(address)
                pending.append(nested)
    if not items and failure is not None:
        raise failure
    if not items:
        raise Unprocessable("The sitemap names no page of its own site.")
    return Fixed(list(items.values()))
