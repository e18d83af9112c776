"""A web page: its main text as Markdown, and what it says of itself.

Comes in: HTML bytes. Goes out: Extracted. Does not know: how the page was fetched.
"""

from __future__ import annotations

import re

from lxml.html import HtmlElement as Element

from services.crawler.extract import metadata, select
from services.crawler.extract.encoding import decode
from services.crawler.extract.language import language
from services.crawler.extract.limits import ExtractLimits
from services.crawler.extract.render import Writer, escape, paragraph
from services.crawler.extract.tree import parse, separate
from services.domain import Extracted
from services.errors import TooLarge, Unprocessable

_MORE = 1.5
"""How much longer than the found text the page's own articleBody must be to be taken instead: a page whose text only
scripts would show holds little else."""


def extract_html(data: bytes, *, url: str, charset: str | None, name: str, limits: ExtractLimits) -> Extracted:
    if len(data) > limits.html_bytes:
        raise TooLarge(f"The page has {len(data):,} bytes, more than {limits.html_bytes:,}: bring in a part of it.")
    root = parse(decode(data, charset), limits)
    known = metadata.read(root, url)
    base = _base(root, url)
    body = root.find("body")
    body = root if body is None else body
    _mathematics(body)
    select.prune(body)
    named = select.named_text(root)
    leaves = separate(body)
    kept = set(select.main_text(leaves, named, known.title, known.description))
    text = Writer(base, kept.__contains__).write(body)
    if len(known.body) > _MORE * len(text) and len(known.body) > 300:
        text = "\n\n".join(paragraph(escape(part)) for part in re.split(r"\n\s*\n|\n", known.body) if part.strip())
    if not text:
        raise Unprocessable("The page has no text of its own: it may need a browser's scripts to show any.")
    return Extracted(
        text=text,
        title=known.title or name,
        byline=known.byline,
        published=known.published,
        modified=known.modified,
        canonical=known.canonical,
        language=language(text, known.language),
        media_type="text/html",
    )


def _base(root: Element, url: str) -> str:
    """The address that the page's links are relative to."""
    base = next((each.get("href") for each in root.iter("base") if each.get("href")), None)
    return base if base and base.startswith(("http://", "https://")) else url


def _mathematics(body: Element) -> None:
    """Put a formula's TeX, where the page holds it, in the place of what only draws it."""
    for script in [each for each in body.iter("script") if (each.get("type") or "").startswith("math/tex")]:
        drawn = script.getprevious()
        if drawn is not None and "mathjax" in (drawn.get("class") or "").lower():
            drawn.drop_tree()
        display = "mode=display" in (script.get("type") or "")
        _as_text(script, script.text or "", display)
    for annotation in [each for each in body.iter("annotation") if each.get("encoding") == "application/x-tex"]:
        whole = next((a for a in annotation.iterancestors("math")), annotation)
        display = whole.get("display") == "block"
        for ancestor in annotation.iterancestors():
            if re.search(
                r"(?:^|\s)(?:katex(?:-display)?|mwe-math-element|mjx-container)(?:\s|$)", ancestor.get("class") or ""
            ):
                whole = ancestor
                display = display or "katex-display" in (ancestor.get("class") or "")
        if whole.getparent() is not None:
            _as_text(whole, annotation.text or "", display)


def _as_text(element: Element, tex: str, display: bool) -> None:
    tail = element.tail
    sign = "$$" if display else "$"
    element.clear()
    element.tag = "span"
    element.text = f"{sign}{' '.join(tex.split())}{sign}"
    element.tail = tail
