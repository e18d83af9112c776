"""What the sandbox does, by name: the reading of everything that came from outside.

Comes in: a header and bytes. Goes out: frames of header and bytes. Does not know: the process it runs in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from services.crawler import page, sketch
from services.domain import text_hash

EXTRACTOR = "extract/2"
"""Grows with every change of the extractor that gives other texts: unchanged bytes are then extracted again."""

Frames = Iterator[tuple[dict[str, Any], bytes]]


def _extract(header: dict[str, Any], data: bytes) -> Frames:
    """A document's text, title, dates; the hash and the sketch of its text; and, where asked for, its links."""
    from services.crawler.extract import extract

    found = extract(data, url=header["url"], media_type=header["media_type"] or None, name=header["name"])
    answer = asdict(found)
    encoded = answer.pop("text").encode("utf-8", "replace")
    text = encoded.decode()
    answer["text_hash"] = text_hash(text)
    answer["bands"] = sketch.bands(text)
    answer["found_links"] = asdict(page.links(data, header["url"])) if header["links"] else None
    yield answer, encoded


def _load(header: dict[str, Any], data: bytes) -> Frames:
    """A text is read, so that what reads texts is in memory: a quarter of a second."""
    text = "A text that is long enough for the language in which it was written to be told from the words it uses."
    yield from _extract({"url": "", "media_type": "text/markdown", "name": "a.md", "links": False}, text.encode())


def _links(header: dict[str, Any], data: bytes) -> Frames:
    yield asdict(page.links(data, header["url"])), b""


def _feed(header: dict[str, Any], data: bytes) -> Frames:
    yield asdict(page.feed(data, header["url"])), b""


def _sitemap(header: dict[str, Any], data: bytes) -> Frames:
    yield asdict(page.sitemap(data, header["url"])), b""


def _git(header: dict[str, Any], data: bytes) -> Frames:
    from services.crawler.repository import read

    yield from read(**header)


TASKS: dict[str, Callable[[dict[str, Any], bytes], Frames]] = {
    "extract": _extract,
    "links": _links,
    "feed": _feed,
    "sitemap": _sitemap,
    "git": _git,
    "load": _load,
}
