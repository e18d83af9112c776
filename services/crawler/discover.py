"""What an address is, where the caller does not say.

Comes in: a source without a kind. Goes out: the same source with its kind, and perhaps with the listing that stands for
it. Does not know: what the source holds.

The rules, in their order:

1. A path: a folder, or a file. A bare Git repository, or any when the option `ref` is given, is a Git source; a work
   tree without `ref` is a folder, so that what is written but not committed comes in.
2. A URL that ends in `.git`, or names a project of a known forge (two path segments): a Git repository.
3. What the bytes say: a feed, a sitemap, else a page.
4. A page is a page, also when it names a feed: an article is not its whole blog. Only a front page (path `/`, or a
   single segment such as `/blog` or `/@name`) stands for what it fronts, unless `depth` or `max_pages` ask for its
   links: its sitemap where robots.txt or the page names one with pages below the address, else the feed that the page
   names, else the page alone.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from services.crawler.address import host, same_site
from services.crawler.folders import is_local
from services.crawler.page import sniff
from services.crawler.sources import Tools, fetch_listing, open_listing, page_links
from services.domain import NAMED_KINDS, Source, SourceKind
from services.errors import InvalidInput, TwinError

FORGES = frozenset({"github.com", "gitlab.com", "codeberg.org", "bitbucket.org", "git.sr.ht", "gitea.com"})
_NOT_PROJECTS = frozenset({"orgs", "users", "topics", "features", "about", "blog", "explore", "sponsors", "settings"})
_FRONT = re.compile(
    r"/?|/(blog|blogs|posts?|articles?|writings?|news|notes|essays|journal|log|weblog|archive|@[^/]+)/?", re.IGNORECASE
)


async def discover(source: Source, tools: Tools) -> Source:
    """The source with its kind. Raises what makes the address unreadable."""
    if source.kind is not None:
        return source
    if source.address.startswith("upload:"):
        return replace(source, kind=SourceKind.UPLOAD)
    if is_local(source.address):
        path = await asyncio.to_thread(tools.folders.resolve, source.address)
        return replace(source, kind=await asyncio.to_thread(_local_kind, path, source))
    if _is_repository(source.address):
        return replace(source, kind=SourceKind.GIT)
    fetched = await fetch_listing(tools, source.address)
    tools.web.keep(source.address, fetched)
    match sniff(fetched.body, fetched.media_type):
        case "feed":
            return replace(source, kind=SourceKind.FEED)
        case "sitemap":
            return replace(source, kind=SourceKind.SITEMAP)
        case "page" if _fronts(source):
            return await _fronted(source, fetched.body, fetched.url, tools)
        case _:
            gzipped = fetched.body[:2] == b"\x1f\x8b" and "sitemap" in urlsplit(source.address).path.lower()
            return replace(source, kind=SourceKind.SITEMAP if gzipped else SourceKind.PAGE)


def _local_kind(path: Path, source: Source) -> SourceKind:
    if not path.is_dir():
        return SourceKind.FILE
    bare = (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()
    return SourceKind.GIT if bare or ("ref" in source.options and (path / ".git").exists()) else SourceKind.FOLDER


def _is_repository(url: str) -> bool:
    parts = urlsplit(url)
    if parts.path.rstrip("/").endswith(".git"):
        return True
    segments = [each for each in parts.path.split("/") if each]
    return host(url) in FORGES and len(segments) == 2 and segments[0] not in _NOT_PROJECTS and not parts.query


def _fronts(source: Source) -> bool:
    follows = "depth" in source.options or "max_pages" in source.options
    parts = urlsplit(source.address)
    return not follows and not parts.query and _FRONT.fullmatch(parts.path) is not None


async def _fronted(source: Source, body: bytes, url: str, tools: Tools) -> Source:
    found = await page_links(tools, body, url)
    sitemaps = dict.fromkeys([*await tools.web.sitemaps(url), *found.sitemaps])
    for address in [each for each in sitemaps if same_site(each, url)][:3]:
        candidate = replace(source, kind=SourceKind.SITEMAP, options={**source.options, "listing": address})
        try:
            await open_listing(candidate, tools)
        except TwinError:
            continue  # named but not there, or of other parts of the site
        return candidate
    for address in found.feeds[:1]:
        return replace(source, kind=SourceKind.FEED, options={**source.options, "listing": address})
    return replace(source, kind=SourceKind.PAGE)


def check_kind(text: str | None) -> SourceKind | None:
    """A kind as callers name it. InvalidInput."""
    if not text:
        return None
    try:
        kind = SourceKind(text)
    except ValueError as error:
        known = ", ".join(each.value for each in NAMED_KINDS)
        raise InvalidInput(f"There is no kind of source {text[:40]!r}: it is one of {known}.", param="kind") from error
    if kind is SourceKind.UPLOAD:
        raise InvalidInput("A file is uploaded, not named as a source.", param="kind")
    return kind
