"""JSON that several routes speak: what it looks like (models, for the OpenAPI document and for requests), and how it
is made of domain objects (functions, for speed).

Comes in: domain objects. Goes out: dictionaries for JSON. Does not know: routes. A test holds that the two agree.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from services.domain import Author, Citation, Document, Filter, Passage, Source, Step, Support

MAX_INT = 2**31 - 1


class Asked(BaseModel):
    """A request's body: strict, so that a misspelt field is an error and not silence."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Given(BaseModel):
    """A response's body: clients must bear fields that come to be later."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
"""With an integer, behind its bounds: JSON has numbers of one kind, in which 2.0 is 2."""


def _iso_date(text: str) -> str:
    if len(text) != 10:
        raise ValueError("a date is YYYY-MM-DD")
    return date.fromisoformat(text).isoformat()


Date = Annotated[str, AfterValidator(_iso_date), WithJsonSchema({"type": "string", "format": "date"})]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
Query = Annotated[str, StringConstraints(min_length=1, max_length=8000, pattern=r"^[^\x00]*[^\s\x00-\x1f][^\x00]*$")]
"""It says something: white space alone is no question."""
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
Address = Annotated[
    Text,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 2000,
            "pattern": rf"^(https?://{_LABEL}(\.{_LABEL})*(:[1-9][0-9]{{0,3}})?([/?#][^\\\x00-\x1f\x7f-\x9f]*)?"
            r"|(file://)?/[^\x00]*|~(/[^\x00]*)?)$",
            "description": "A page's, feed's, sitemap's or Git repository's, or a path of the server's machine, which "
            "only an admin's key may name. (Hosts of other scripts, IPv6 and users' homes are taken too.)",
            "examples": ["https://example.org/blog", "/home/me/notes"],
        }
    ),
]
AuthorName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=r"^\w([\w .-]{0,62}[\w.-])?$"),
    AfterValidator(lambda name: unicodedata.normalize("NFC", name)),
]
"""The crawler's rule: letters and digits of any script, spaces, `.`, `_`, `-`; compared in NFC."""
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Moment = Annotated[
    str, StringConstraints(max_length=40), WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40})
]
"""A time in a query."""
Verdict = Literal["supported", "unsupported", "quoted", "unchecked"]
Evidence = Literal["answer", "closest", "none", "uncalibrated"]
State = Literal["queued", "running", "done", "failed", "cancelled"]


class Problem(Given):
    message: str
    type: str
    code: str | None
    param: str | None


class Error(Given):
    error: Problem


class FilterBody(Asked):
    """What a search is narrowed to."""

    author: Text | None = None
    source: Text | None = None
    """A source's id or address, or a host."""
    language: Text | None = None
    """ISO 639-1."""
    since: Date | None = None
    until: Date | None = None

    def filter(self) -> Filter:
        return Filter(
            authors=(self.author,) if self.author else (),
            sources=(self.source,) if self.source else (),
            languages=(self.language,) if self.language else (),
            since=self.since,
            until=self.until,
        )


class PassageDocument(Given):
    id: str
    title: str
    url: str
    author: str
    language: str | None
    published: str | None
    source_id: str


class PassageShape(Given):
    text: str
    score: float
    scores: dict[str, float]
    """Each stage's."""
    start: int
    end: int
    heading: str
    before: str
    after: str
    chunk_id: str
    version: int
    document: PassageDocument


class CitationShape(Given):
    number: int
    document_id: str
    version: int
    title: str
    url: str
    author: str
    heading: str
    start: int
    end: int
    quote: str
    answer_start: int
    answer_end: int
    published: str | None
    chunk_id: str


class SupportShape(Given):
    start: int
    end: int
    verdict: Verdict
    score: float


class StepShape(Given):
    """One step of a search, and its effect."""

    name: str
    detail: str
    milliseconds: float
    candidates: int


class FilterShape(Given):
    authors: list[str]
    sources: list[str]
    languages: list[str]
    since: str | None
    until: str | None


class DocumentShape(Given):
    id: str
    author: str
    url: str
    title: str
    byline: str
    kind: str
    language: str | None
    published: str | None
    modified: str | None
    media_type: str
    state: Literal["queued", "indexed", "updating", "failed", "duplicate", "deleted"]
    version: int
    indexed_version: int | None
    characters: int
    chunks: int
    failure: str | None
    duplicate_of: str | None
    source_id: str
    created_at: Time
    updated_at: Time


class SourceShape(Given):
    id: str
    author: str
    kind: str | None
    address: str
    options: dict[str, str]
    every: float | None
    """Seconds between crawls."""
    watch: bool
    created_at: Time
    crawled_at: Time | None
    due_at: Time | None


class AuthorShape(Given):
    name: str
    documents: int
    indexed: int
    sources: int


class Gone(Given):
    id: str
    deleted: Literal[True]


def time(seconds: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def time_or_none(seconds: float | None) -> str | None:
    return None if seconds is None else time(seconds)


def passage(each: Passage) -> dict[str, Any]:
    return {
        "text": each.text,
        "score": each.score,
        "scores": dict(each.scores),
        "start": each.start,
        "end": each.end,
        "heading": each.heading,
        "before": each.before,
        "after": each.after,
        "chunk_id": each.chunk_id,
        "version": each.version,
        "document": {
            "id": each.document_id,
            "title": each.title,
            "url": each.url,
            "author": each.author,
            "language": each.language,
            "published": each.published,
            "source_id": each.source_id,
        },
    }


def citation(each: Citation) -> dict[str, Any]:
    return {
        "number": each.number,
        "document_id": each.document_id,
        "version": each.version,
        "title": each.title,
        "url": each.url,
        "author": each.author,
        "heading": each.heading,
        "start": each.start,
        "end": each.end,
        "quote": each.quote,
        "answer_start": each.answer_start,
        "answer_end": each.answer_end,
        "published": each.published,
        "chunk_id": each.chunk_id,
    }


def support(each: Support) -> dict[str, Any]:
    return {"start": each.start, "end": each.end, "verdict": each.verdict, "score": each.score}


def step(each: Step) -> dict[str, Any]:
    return {
        "name": each.name,
        "detail": each.detail,
        "milliseconds": each.milliseconds,
        "candidates": each.candidates,
    }


def document(each: Document) -> dict[str, Any]:
    return {
        "id": each.id,
        "author": each.author,
        "url": each.url,
        "title": each.title,
        "byline": each.byline,
        "kind": each.kind,
        "language": each.language,
        "published": each.published,
        "modified": each.modified,
        "media_type": each.media_type,
        "state": each.state,
        "version": each.version,
        "indexed_version": each.indexed_version,
        "characters": each.characters,
        "chunks": each.chunks,
        "failure": each.failure,
        "duplicate_of": each.duplicate_of,
        "source_id": each.source_id,
        "created_at": time(each.created_at),
        "updated_at": time(each.updated_at),
    }


def source(each: Source) -> dict[str, Any]:
    return {
        "id": each.id,
        "author": each.author,
        "kind": each.kind,
        "address": each.address,
        "options": dict(each.options),
        "every": each.every,
        "watch": each.watch,
        "created_at": time(each.created_at),
        "crawled_at": time_or_none(each.crawled_at),
        "due_at": time_or_none(each.due_at),
    }


def author(each: Author) -> dict[str, Any]:
    return {"name": each.name, "documents": each.documents, "indexed": each.indexed, "sources": each.sources}


def filter(each: Filter) -> dict[str, Any]:
    return {
        "authors": list(each.authors),
        "sources": list(each.sources),
        "languages": list(each.languages),
        "since": each.since,
        "until": each.until,
    }


Limit = Annotated[int, Field(ge=1, le=200)]
