"""Kinds of sources, a file each: what a source holds, told item by item.

Comes in: a Source and the tools to look at it. Goes out: a Listing, whose items are web addresses to be fetched, or
things that bring their own bytes. Does not know: jobs, versions, what became of an item.

A new kind is a member of domain.SourceKind and a file named like it, with `KIND = Kind(…)`, what the kind says of
itself, and `async def open(source, tools) -> Listing`; discover.py says which addresses are of that kind when the
caller doesn't.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from services.crawler.fetch import Fetched
from services.crawler.folders import Folders
from services.crawler.page import Entry, Links
from services.crawler.page import Listing as Page
from services.crawler.sandbox import Sandbox
from services.crawler.web import Web
from services.domain import Source, SourceKind
from services.errors import InvalidInput, TooLarge, TwinError, Unprocessable
from services.ports import Blobs


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of source says of itself."""

    on_web: bool = False
    """An address of it may begin with http:// or https://."""
    on_machine: bool = False
    """An address of it may be a path of the server's machine."""
    pages: bool = False
    """Its items may be pages to be fetched, so many at once; else they bring their bytes, and come in a fixed order."""
    options: frozenset[str] = frozenset()
    """What callers may say of it."""
    notes: frozenset[str] = frozenset()
    """What crawls find out and keep among the options (Listing.notes, discover.py), while what the caller says stays
    the same."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one source may hold and take. Settings fill it; a source's own options may only narrow it."""

    pages: int
    depth: int
    files: int
    file_bytes: int
    repository_bytes: int
    parse_seconds: float
    repository_seconds: float


@dataclass(frozen=True, slots=True)
class Tools:
    web: Web
    sandbox: Sandbox
    """For what takes a moment."""
    repositories: Sandbox
    """For what takes minutes."""
    blobs: Blobs
    folders: Folders
    bounds: Bounds
    networks: str
    """Those that may be reached although they are private, as the sandbox takes them."""
    user_agent: str


@dataclass(frozen=True, slots=True)
class Payload:
    data: bytes
    media_type: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a source holds."""

    addresses: tuple[str, ...]
    """By which it may be known, the best first; another is taken where a different document has that one already."""
    url: str = ""
    """What to fetch; empty: `read` brings the bytes."""
    read: Callable[[], Awaitable[Payload]] | None = None
    stamp: str = ""
    """Where a document's record carries the same, it has not changed."""
    place: str = ""
    """Where it lies, to tell two files of one address apart; empty on the web."""
    title: str = ""
    published: str | None = None
    fallback: str = ""
    """HTML of the text, for a page that cannot be fetched."""
    depth: int = 0
    size: int = 0
    """Bytes that the item holds in memory."""

    @property
    def address(self) -> str:
        return self.addresses[0]


class Listing(Protocol):
    total: int | None
    """Items, where it is known."""
    complete: bool
    """Once the items have ended: that nothing else is there, so that what was known and did not come is gone."""
    unchanged: bool
    """Nothing has changed since the last crawl of this source, so there are no items."""
    notes: dict[str, str]
    """What to keep in the source's options for the next time."""

    def items(self) -> AsyncGenerator[Item, None]: ...

    def handled(self, item: Item, links: Links | None) -> None:
        """The item is done with; a page's links, where they are wanted."""
        ...

    @property
    def wants_links(self) -> bool: ...


class Fixed:
    """A listing that is known from the start."""

    unchanged = False
    wants_links = False

    def __init__(self, items: list[Item], *, complete: bool = False) -> None:
        self._items = items
        self.total: int | None = len(items)
        self.complete = complete
        self.notes: dict[str, str] = {}

    async def items(self) -> AsyncGenerator[Item, None]:
        for item in self._items:
            yield item

    def handled(self, item: Item, links: Links | None) -> None:
        return None


def kind_of(kind: SourceKind) -> Kind:
    """What a kind says of itself."""
    declared: Kind = import_module(f"{__name__}.{kind.value}").KIND
    return declared


@cache
def options() -> frozenset[str]:
    """What callers may say of a source: of which kind it is may show later."""
    return frozenset().union(*(kind_of(each).options for each in SourceKind))


@cache
def notes() -> frozenset[str]:
    """What crawls have found out of sources of every kind."""
    return frozenset().union(*(kind_of(each).notes for each in SourceKind))


async def open_listing(source: Source, tools: Tools) -> Listing:
    """What the source holds. Raises the error that makes it unreadable as a whole."""
    if source.kind is None:
        raise InvalidInput("It is not known what this source is.")
    module = import_module(f"{__name__}.{source.kind.value}")
    listing: Listing = await module.open(source, tools)
    return listing


def number(source: Source, name: str, default: int, most: int) -> int:
    """A source's option that is a whole number. InvalidInput."""
    text = source.options.get(name, "").strip()
    if not text:
        return min(default, most)
    if not text.isdigit() or len(text) > 9:
        raise InvalidInput(f"The option {name} is a whole number.", param=f"options.{name}")
    return min(int(text), most)


async def fetch_listing(tools: Tools, url: str) -> Fetched:
    """A feed or sitemap. What fails here fails the source, at once: fetching has tried again already."""
    try:
        fetched = await tools.web.fetch(url)
    except (InvalidInput, Unprocessable):
        raise
    except TwinError as error:
        raise Unprocessable(error.message) from error
    if fetched.status == 410:
        raise Unprocessable("The server answers 410: there is nothing at this address any more.")
    return fetched


async def parse_listing(tools: Tools, task: str, data: bytes, url: str) -> Page:
    """A feed's or sitemap's entries, read in the sandbox."""
    if len(data) > MOST_LISTING_BYTES:
        raise TooLarge(f"A feed or sitemap of more than {MOST_LISTING_BYTES:,} bytes is not read.")
    answer, _ = await tools.sandbox.call(task, {"url": url}, data, seconds=tools.bounds.parse_seconds)
    return Page(tuple(Entry(**each) for each in answer["entries"]), tuple(answer["nested"]))


MOST_LISTING_BYTES = 52_428_800
"""Source: sitemaps.org, the largest sitemap allowed."""


async def page_links(tools: Tools, data: bytes, url: str) -> Links:
    answer, _ = await tools.sandbox.call("links", {"url": url}, data, seconds=tools.bounds.parse_seconds)
    return links_of(answer)


def links_of(answer: dict[str, Any]) -> Links:
    return Links(tuple(answer["pages"]), tuple(answer["feeds"]), tuple(answer["sitemaps"]))
