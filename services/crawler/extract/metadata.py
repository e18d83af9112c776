"""What a page says of itself: title, author, dates, canonical address, language.

Comes in: a page's tree as it came and its address. Goes out: Metadata, all of it plain text. Does not know: main text.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urljoin, urlsplit

from lxml.html import HtmlElement as Element

from services.crawler.extract.tree import clean_characters, text_of

TITLE_LENGTH = 300
_ARTICLE_TYPES = re.compile(r"Article|BlogPosting|Report|NewsArticle|WebPage|HowTo|Recipe|TechArticle", re.IGNORECASE)
_SEPARATOR = re.compile(r"\s+(?:[|·•»«–—]|::|-|/)\s+")
_HARD_SEPARATOR = re.compile(r"\s+(?:[|·•»«]|::)\s+")
_HTML_TAG = re.compile(
    r"</?(?:a|abbr|b|bdi|big|br|cite|code|del|div|em|font|h[1-6]|i|iframe|img|input|ins|kbd|li|link|mark|meta|noscript|object|ol|p"
    r"|pre|q|s|script|small|span|strike|strong|style|sub|sup|svg|table|td|tr|tt|u|ul|wbr)\b[^<>]*>",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


@dataclass(frozen=True, slots=True)
class Metadata:
    title: str = ""
    byline: str = ""
    published: str | None = None
    modified: str | None = None
    canonical: str | None = None
    language: str | None = None
    """As declared; sites declare it wrongly at times."""
    description: str = ""
    body: str = ""
    """The article's text, where the page holds it as data (JSON-LD articleBody)."""


def read(root: Element, url: str) -> Metadata:
    import htmldate  # with trafilatura 150 ms: only where there is a page
    from trafilatura.metadata import extract_author

    meta = _meta(root)
    article = _article(root)
    headline = plain(str(article.get("headline") or article.get("name") or "")) if article else ""
    site = plain(meta.get("og:site_name") or meta.get("application-name") or "")
    h1 = [text for element in root.iter("h1") if (text := plain(text_of(element)).strip(" ¶#§🔗"))]
    tag = next((plain(text_of(element)).strip(" ¶") for element in root.iter("title")), "")
    byline = _names(article.get("author")) if article else ""
    byline = byline or _byline(meta.get("author") or "")
    if not byline:
        byline = _byline((extract_author(root) or "").replace("; ", ", "))
    return Metadata(
        title=_title(
            [plain(meta.get("og:title") or ""), headline, tag], h1, site, urlsplit(url).hostname or "", byline
        ),
        byline=byline,
        published=iso_date(article.get("datePublished") if article else None)
        or iso_date(meta.get("article:published_time"))
        or iso_date(htmldate.find_date(root, extensive_search=False, original_date=True, url=url or None)),
        modified=iso_date(article.get("dateModified") if article else None)
        or iso_date(meta.get("article:modified_time")),
        canonical=_canonical(root, meta, url),
        language=language_code(root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""),
        description=plain(meta.get("description") or meta.get("og:description") or ""),
        body=clean_characters(html.unescape(str(article.get("articleBody") or ""))) if article else "",
    )


def plain(text: str) -> str:
    """A line of text without markup, entities, control characters: pages put all of these into their titles."""
    for _ in range(3):
        unescaped = html.unescape(text)
        if unescaped == text:
            break
        text = unescaped
    return " ".join(_HTML_TAG.sub(" ", clean_characters(text)).split())


def iso_date(value: object) -> str | None:
    """YYYY-MM-DD of a value that begins with a date, if it is one between 1980 and tomorrow's eve of 2200."""
    found = _ISO_DATE.match(str(value or "").strip())
    if found is None:
        return None
    try:
        day = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None
    return day.isoformat() if 1980 <= day.year < 2200 else None


def language_code(tag: str) -> str | None:
    """The ISO 639-1 code of a language tag such as en-GB."""
    code = re.split(r"[-_]", tag.strip().lower())[0]
    return code if re.fullmatch(r"[a-z]{2}", code) else None


def _meta(root: Element) -> dict[str, str]:
    """The page's meta elements by name or property, the first of each."""
    found: dict[str, str] = {}
    for element in root.iter("meta"):
        name = (element.get("property") or element.get("name") or "").strip().lower()
        content = (element.get("content") or "").strip()
        if name and content:
            found.setdefault(name, content)
    return found


def _article(root: Element) -> dict[str, Any]:
    """The JSON-LD object that describes the page's article; empty where there is none that can be read."""
    best: dict[str, Any] = {}
    for script in root.iter("script"):
        if (script.get("type") or "").strip().lower() != "application/ld+json" or not script.text:
            continue
        try:
            data = json.loads(script.text.strip().rstrip(";"), strict=False)
        except (ValueError, RecursionError):
            continue
        for each in _objects(data):
            if _ARTICLE_TYPES.search(str(each.get("@type") or "")):
                score = ("articleBody" in each, "datePublished" in each, "headline" in each)
                if not best or score > ("articleBody" in best, "datePublished" in best, "headline" in best):
                    best = each
    return best


def _objects(data: object) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-LD document: itself, those of a list, those of its graph."""
    pending, seen = [data], 0
    while pending and seen < 1000:
        each = pending.pop(0)
        seen += 1
        if isinstance(each, list):
            pending.extend(each)
        elif isinstance(each, dict):
            yield each
            pending.extend(each[key] for key in ("@graph", "mainEntity", "mainEntityOfPage") if key in each)


def _byline(text: str) -> str:
    """A name that is one: no address, no sentence."""
    name = re.sub(r"^(?:by|von|par|por)\s+", "", plain(text), flags=re.IGNORECASE)
    return "" if "://" in name or len(name) > 120 else name


def _names(author: object) -> str:
    """The names of a JSON-LD author: a name, an object, or a list of either."""
    authors = author if isinstance(author, list) else [author]
    names = [each.get("name") if isinstance(each, dict) else each for each in authors[:20]]
    texts = [plain(name) for name in names if isinstance(name, str)]
    return ", ".join(dict.fromkeys(text for text in texts if text and "://" not in text))


def _canonical(root: Element, meta: dict[str, str], url: str) -> str | None:
    href = next(
        (each.get("href") for each in root.iter("link") if "canonical" in (each.get("rel") or "").lower().split()), None
    )
    try:
        address = urljoin(url, (href or meta.get("og:url") or "").strip())
        parts = urlsplit(address)
    except ValueError:
        return None
    return address if (href or meta.get("og:url")) and parts.scheme in ("http", "https") and parts.hostname else None


def _squeeze(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def _title(candidates: list[str], h1: list[str], site: str, host: str, byline: str) -> str:
    """The best of the names that a page gives itself, without the site's own name before or behind it."""
    site_names = {_squeeze(name) for name in (site, host.removeprefix("www."), byline) if name}
    labels = host.removeprefix("www.").split(".")
    site_names.update(_squeeze(label) for label in labels if len(label) > 3)
    headings = {_squeeze(each): each for each in h1}
    for candidate in candidates:
        if not candidate or _squeeze(candidate) in site_names:
            continue
        title = without_site(candidate[:1000], site_names, set(headings))
        return headings.get(_squeeze(title), title)[:TITLE_LENGTH]
    return next((each[:TITLE_LENGTH] for each in h1), "")


def without_site(title: str, site_names: set[str], headings: set[str]) -> str:
    """A title without a site's name. `site_names`, `headings`: letters and digits alone, in lower case.

    A part goes that is the site's name, or in whose absence the title is the page's heading; and a short last part
    behind a sign that titles themselves do not use, such as |.
    """
    while True:
        parts = list(_SEPARATOR.finditer(title))
        if not parts or _squeeze(title) in headings:
            return title
        for cut in (parts[-1], parts[0]):
            before, after = title[: cut.start()].strip(), title[cut.end() :].strip()
            if before and (_squeeze(after) in site_names or _squeeze(before) in headings):
                title = before
                break
            if after and (_squeeze(before) in site_names or _squeeze(after) in headings):
                title = after
                break
        else:
            hard = list(_HARD_SEPARATOR.finditer(title))
            if hard:
                before, after = title[: hard[-1].start()].strip(), title[hard[-1].end() :].strip()
                if before and len(after.split()) <= 4 and len(before) > len(after):
                    title = before
                    continue
            return title
