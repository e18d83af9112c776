"""Extraction, in the sandbox: bytes in, a text with its hash and sketch out.

Comes in: a payload and its address. Goes out: Read, or the extractor's error. Does not know: documents, jobs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from services.crawler.page import Links
from services.crawler.sandbox import Sandbox
from services.crawler.sources import Payload, links_of
from services.crawler.tasks import EXTRACTOR
from services.domain import Extracted


@dataclass(frozen=True, slots=True)
class Read:
    extracted: Extracted
    text_hash: str
    bands: tuple[str, ...]
    """Of the text's sketch (sketch.py)."""
    links: Links | None = None


def raw_hash(payload: Payload) -> str:
    """Of the extractor, the bytes, and what else decides the text: the same again needs no extracting."""
    state = hashlib.sha256(payload.data)
    state.update(payload.media_type.partition(";")[0].strip().lower().encode("utf-8", "replace"))
    return f"{EXTRACTOR}:{state.hexdigest()[:32]}"


def is_current(hash: str) -> bool:
    """Whether this extractor made the document of that raw_hash."""
    return hash.startswith(f"{EXTRACTOR}:")


class Extraction:
    def __init__(self, sandbox: Sandbox, *, seconds: float) -> None:
        """`seconds`: for one document, to its text."""
        self._sandbox = sandbox
        self._seconds = seconds

    async def read(self, payload: Payload, url: str, *, links: bool = False) -> Read:
        header = {"url": url, "media_type": payload.media_type, "name": payload.name, "links": links}
        answer, text = await self._sandbox.call("extract", header, payload.data, seconds=self._seconds)
        text_hash, bands, found = answer.pop("text_hash"), answer.pop("bands"), answer.pop("found_links")
        return Read(
            extracted=Extracted(text=text.decode(), **answer),
            text_hash=text_hash,
            bands=tuple(bands),
            links=None if found is None else links_of(found),
        )
