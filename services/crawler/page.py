"""What a page or a listing is, and where it leads: looked at in the sandbox, never in the server.

Comes in: bytes of a response. Goes out: plain data. Does not know: the network, documents, the extractor.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urldefrag, urljoin

from lxml import etree, html

from services.crawler.address import resolve_link
from services.errors import Unprocessable

MOST_LINKS = 5_000
"""Of one page."""
MOST_ENTRIES = 60_000
"""Of one feed or sitemap (the sitemap standard allows 50,000)."""

_NOT_PAGES = re.compile(
    r"\.(png|jpe?g|gif|svg|webp|avif|ico|bmp|tiff?|css|m?js|map|json|xml|rss|atom|woff2?|ttf|otf|eot|zip|gz|tgz|bz2|xz|7z"
    r"|rar|tar|dmg|exe|msi|deb|rpm|apk|iso|mp[34]|m4[av]|ogg|og[av]|wav|flac|avi|mov|mkv|webm|bin|jar|whl|ics|vcf|asc|sig"
    r"|psd|ai|eps|pptx?|xlsx?|torrent)$",
    re.IGNORECASE,
)
_BASE = re.compile(rb"""\sxml:base\s*=\s*(?:"([^"]*)"|'([^']*)')""")


@dataclass(frozen=True, slots=True)
class Links:
    pages: tuple[str, ...] = ()
    """Absolute, without fragments, each once, in the page's order."""
    feeds: tuple[str, ...] = ()
    """What the page declares as its feeds, comments' left out."""
    sitemaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a feed or sitemap."""

    url: str
    id: str = ""
    title: str = ""
    published: str | None = None
    content: str = ""
    """HTML of the whole text, where the feed has it."""


@dataclass(frozen=True, slots=True)
class Listing:
    entries: tuple[Entry, ...] = ()
    nested: tuple[str, ...] = ()
    """Sitemaps that this one names."""


# ── What is it? ─────────────────────────────────────────────────────────────────────────────────────


def sniff(data: bytes, media_type: str) -> str:
    """feed, sitemap, page or file: by its first bytes, for servers send feeds and sitemaps under many types."""
    kind = media_type.partition(";")[0].strip().lower()
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"{") and b"jsonfeed.org/version" in data[:4096]:
        return "feed"
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1", "ignore")
    markup = re.sub(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(\[.*?\]\s*)?>", "", text, flags=re.DOTALL | re.IGNORECASE)
    root = re.match(r"\s*<([\w:.-]+)", markup)
    name = root[1].rpartition(":")[2].lower() if root else ""
    if name in ("rss", "feed", "rdf"):
        return "feed"
    if name in ("urlset", "sitemapindex"):
        return "sitemap"
    if name == "html" or "html" in kind or re.search(r"<!doctype html", text, re.IGNORECASE):
        return "page"
    return "file"


# ── Pages ───────────────────────────────────────────────────────────────────────────────────────────


def links(data: bytes, url: str) -> Links:
    """Where a page leads. Links marked nofollow are left out: calendars and sort orders are marked so."""
    try:
        root = html.document_fromstring(data, parser=html.HTMLParser(recover=True, no_network=True, huge_tree=False))
    except (etree.ParserError, ValueError):
        return Links()
    base = url
    for each in root.iter("base"):
        base = resolve_link(url, each.get("href") or "") or url
        break
    pages: dict[str, None] = {}
    feeds: dict[str, None] = {}
    sitemaps: dict[str, None] = {}
    for element in root.iter("a", "area", "link"):
        href = element.get("href")
        if not href or len(pages) >= MOST_LINKS:
            continue
        relation = (element.get("rel") or "").lower().split()
        target = resolve_link(base, href)
        if target is None:
            continue
        if element.tag == "link":
            kind = (element.get("type") or "").lower()
            about = f"{element.get('title') or ''} {href}".lower()
            if "alternate" in relation and re.search(r"(rss|atom)\+xml|feed\+json", kind) and "comment" not in about:
                feeds[target] = None
            elif "sitemap" in relation:
                sitemaps[target] = None
            elif "next" in relation:
                pages[target] = None
        elif "nofollow" not in relation and not _NOT_PAGES.search(target.partition("?")[0]):
            pages[target] = None
    return Links(tuple(pages), tuple(feeds), tuple(sitemaps))


# ── Feeds ───────────────────────────────────────────────────────────────────────────────────────────


def feed(data: bytes, url: str) -> Listing:
    """Entries of an RSS, Atom or JSON feed, in its order. Unprocessable."""
    if data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return _json_feed(data, url)
    import feedparser  # 50 ms: only where there is a feed

    parsed = feedparser.parse(io.BytesIO(_without_broken_bases(data)), sanitize_html=False, resolve_relative_uris=False)
    if not parsed.entries and (parsed.bozo or not parsed.get("version")):
        raise Unprocessable("The feed cannot be read: it is no RSS, Atom or JSON feed.")
    entries = []
    for each in parsed.entries[:MOST_ENTRIES]:
        contents = [piece.get("value", "") for piece in each.get("content", [])]
        entries.append(
            _entry(
                url,
                link=each.get("link", ""),
                id=each.get("id", ""),
                title=each.get("title", ""),
                published=each.get("published_parsed") or each.get("updated_parsed"),
                content=max(contents, key=len, default=""),
            )
        )
    return Listing(tuple(entry for entry in entries if entry is not None))


def _json_feed(data: bytes, url: str) -> Listing:
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise Unprocessable("The feed cannot be read: it is no JSON.") from error
    items = parsed.get("items")
    if not isinstance(items, list):
        raise Unprocessable("The JSON feed has no items.")
    entries = []
    for each in items[:MOST_ENTRIES]:
        if isinstance(each, dict):
            entries.append(
                _entry(
                    url,
                    link=_text(each, "url") or _text(each, "external_url"),
                    id=_text(each, "id"),
                    title=_text(each, "title"),
                    published=_text(each, "date_published"),
                    content=_text(each, "content_html") or html_of(_text(each, "content_text")),
                )
            )
    return Listing(tuple(entry for entry in entries if entry is not None))


def _text(item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""


def html_of(text: str) -> str:
    """Plain text as HTML paragraphs."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"<p>{part}</p>" for part in re.split(r"\n\s*\n", escaped) if part.strip())


def _without_broken_bases(data: bytes) -> bytes:
    """Without each xml:base that is no address: feedparser loses the links of all that stands below it."""

    def kept(found: re.Match[bytes]) -> bytes:
        try:
            urljoin((found[1] or found[2] or b"").decode("utf-8", "replace"), "entry")
        except ValueError:
            return b""
        return found[0]

    return _BASE.sub(kept, data)


def _entry(base: str, *, link: str, id: str, title: str, published: Any, content: str) -> Entry | None:
    url = resolve_link(base, link) if link.strip() else None
    if url is None and not content:
        return None
    if url is None:
        # An entry without a page of its own is known by the feed and its id.
        url = f"{urldefrag(base)[0]}#{quote(id or title)[:300]}"
    date: str | None = None
    if isinstance(published, str):
        date = published[:10] if re.match(r"\d{4}-\d\d-\d\d", published) else None
    elif published is not None:
        date = f"{published.tm_year:04}-{published.tm_mon:02}-{published.tm_mday:02}"
    title = re.sub(r"<[^>]*>|\s+", " ", title).strip()
    return Entry(url=url, id=id[:500], title=title[:500], published=date, content=content)


# ── Sitemaps ────────────────────────────────────────────────────────────────────────────────────────


def sitemap(data: bytes, url: str) -> Listing:
    """Pages and further sitemaps of a sitemap: XML, or text with an address a line. Unprocessable."""
    if not re.match(rb"(\xef\xbb\xbf)?\s*<", data[:4096]) and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        lines = data.decode("utf-8-sig", "replace").splitlines()
        found = [resolve_link(url, line) for line in lines[:MOST_ENTRIES] if line.strip().startswith("http")]
        if not found:
            raise Unprocessable("The sitemap cannot be read: it is neither XML nor a list of addresses.")
        return Listing(tuple(Entry(each) for each in dict.fromkeys(found) if each))
    pages: dict[str, None] = {}
    nested: dict[str, None] = {}
    root = ""
    path: list[str] = []
    # No DTD, no entities, no network: what a sitemap never needs.
    events = etree.iterparse(
        io.BytesIO(data), events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, recover=True
    )
    try:
        for event, element in events:
            name = etree.QName(element).localname.lower() if isinstance(element.tag, str) else ""
            if event == "start":
                root = root or name
                path.append(name)
                continue
            if name == "loc" and len(path) >= 2 and path[-2] in ("url", "sitemap"):
                target = resolve_link(url, "".join(element.itertext()))
                if target:
                    (pages if path[-2] == "url" else nested)[target] = None
            path.pop()
            if len(path) <= 1:
                element.clear()
            if len(pages) + len(nested) >= MOST_ENTRIES:
                break
    except etree.XMLSyntaxError as error:
        if not pages and not nested:
            raise Unprocessable("The sitemap cannot be read: its XML is broken.") from error
    if root not in ("urlset", "sitemapindex"):
        raise Unprocessable("The address holds no sitemap: its XML is something else.")
    return Listing(tuple(Entry(each) for each in pages), tuple(nested))
