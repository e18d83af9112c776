"""What Twin's services speak of: frozen dataclasses of the standard library, and the rules that are theirs alone.

Comes in: nothing. Goes out: types. Does not know: storage, wire formats, HTTP, models.

Times are seconds since the epoch (float, UTC). Spans are half-open ranges of Unicode code points in one version of
a document's cleaned text. Vectors are not here: ports pass them as float32 arrays of shape (n, dimensions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# ── Who may see what ────────────────────────────────────────────────────────────────────────────────


class Role(StrEnum):
    """What a key may do. Each role includes the ones before it: reader < writer < admin."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Scope:
    """The authors a caller may see. The empty scope sees nothing: forgetting it on a call denies."""

    everyone: bool = False
    authors: tuple[str, ...] = ()

    def allows(self, author: str) -> bool:
        return self.everyone or author in self.authors


EVERYONE = Scope(everyone=True)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is kept: the hash of a random secret, never the secret."""

    id: str
    hash: str
    """SHA-256 of the whole secret, hexadecimal."""
    name: str
    role: Role
    authors: tuple[str, ...] | None
    """None: every author, those to come included."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None
    requests_per_minute: int | None = None

    @property
    def scope(self) -> Scope:
        return EVERYONE if self.authors is None else Scope(authors=self.authors)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One administrative act: who did what to what."""

    id: str
    at: float
    key_id: str
    action: str
    target: str
    detail: str = ""


# ── Sources and work ────────────────────────────────────────────────────────────────────────────────


class SourceKind(StrEnum):
    PAGE = "page"
    FEED = "feed"
    SITEMAP = "sitemap"
    GIT = "git"
    FOLDER = "folder"
    FILE = "file"
    UPLOAD = "upload"


NAMED_KINDS = tuple(kind for kind in SourceKind if kind is not SourceKind.UPLOAD)
"""Kinds that callers may name: an upload's bytes come with the request."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an author's documents come from, and when to look again."""

    id: str
    author: str
    kind: SourceKind | None
    """None until it has been looked at: the crawler finds out what an address is."""
    address: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Per kind: max_pages, depth, ref, include, exclude, … as text."""
    every: float | None = None
    """Seconds between crawls; None: only by hand."""
    watch: bool = False
    created_at: float = 0.0
    crawled_at: float | None = None
    due_at: float | None = None


class JobKind(StrEnum):
    INGEST = "ingest"
    """What a person asked for: the parent of the others. Never claimed; its state is its children's."""
    CRAWL = "crawl"
    """One source of an ingest."""
    FEATURIZE = "featurize"
    """One version of one document."""
    DELETE = "delete"
    """A deleted document's chunks, where taking them at once did not succeed."""
    REINDEX = "reindex"


CLAIMED = tuple(kind for kind in JobKind if kind is not JobKind.INGEST)
"""Kinds that workers claim."""


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work, claimed by lease. Only the holder of the newest `token` may write it."""

    id: str
    kind: JobKind
    author: str
    target: str
    """crawl: source id; featurize and delete: document id; reindex: name of the new index."""
    state: JobState = JobState.QUEUED
    parent: str | None = None
    version: int = 0
    """featurize: the document's version."""
    not_before: float = 0.0
    attempts: int = 0
    worker: str | None = None
    lease_until: float = 0.0
    token: int = 0
    """Fencing token: grows by one with each claim."""
    cancel_requested: bool = False
    progress: Progress | None = None
    failure: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    trace: str = ""
    """W3C traceparent of what asked for it: who works on it goes on with that trace. Empty: of nothing exported."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that did not come in, and why. The rest of the job went on."""

    address: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one claimed job is. `checkpoint` is the worker's own note for resuming after a crash."""

    total: int | None = None
    """Pages, files or chunks to look at, where it is known."""
    seen: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    current: str = ""
    failures: tuple[Failure, ...] = ()
    """The newest 100; `failed` counts all."""
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """One source of an ingest as people see it."""

    source_id: str
    address: str
    kind: SourceKind | None
    state: JobState
    progress: Progress
    seconds_left: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Crawl:
    """An ingest job as people see it: its sources' progress, and its documents' way into the index."""

    id: str
    author: str
    state: JobState
    sources: tuple[SourceProgress, ...]
    documents_queued: int = 0
    documents_indexed: int = 0
    documents_failed: int = 0
    failures: tuple[Failure, ...] = ()
    seconds_left: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


# ── Documents ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Extracted:
    """One document as the extractor found it: clean, structured Markdown and what is known of it."""

    text: str
    title: str = ""
    byline: str = ""
    """Whom the document itself names as its author; the twin it belongs to is `Document.author`."""
    published: str | None = None
    """ISO date, YYYY-MM-DD."""
    modified: str | None = None
    canonical: str | None = None
    language: str | None = None
    """ISO 639-1 code."""
    media_type: str = "text/markdown"
    """What it was made from."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document and where it is on its way. Its texts are kept a version each, beside it."""

    id: str
    author: str
    url: str
    """Canonical address: a normalised URL, `file:`, `git:` or `upload:` (ids are derived from it)."""
    source_id: str
    kind: SourceKind
    title: str
    byline: str = ""
    language: str | None = None
    published: str | None = None
    modified: str | None = None
    media_type: str = ""
    version: int = 1
    """Grows with each change of what is searched or shown: the text, title, byline, language or date, and when it is
    brought back after a deletion."""
    indexed_version: int | None = None
    """The version that search finds; None: not searchable yet."""
    fingerprint: str = ""
    """Cleaner, chunker and encoder of the indexed version."""
    raw_hash: str = ""
    """Of the bytes as they came: the same bytes need no extracting."""
    text_hash: str = ""
    """Of the text of `version`: the same text is no new version."""
    etag: str = ""
    last_modified: str = ""
    """The source's validators, for conditional requests."""
    duplicate_of: str | None = None
    """The document that holds nearly the same text: kept, not indexed."""
    characters: int = 0
    chunks: int = 0
    failure: str | None = None
    """Why the newest version is not indexed."""
    deleted_at: float | None = None
    """The tombstone: a re-crawl does not bring it back, an explicit ingest does."""
    created_at: float = 0.0
    updated_at: float = 0.0
    revision: int = 0
    """Of the record; a write names the revision it read and fails if it is no longer the newest."""

    @property
    def state(self) -> str:
        """deleted, failed, duplicate, indexed, updating (an older version is searchable) or queued."""
        if self.deleted_at is not None:
            return "deleted"
        if self.failure is not None:
            return "failed"
        if self.duplicate_of is not None:
            return "duplicate"
        if self.indexed_version == self.version:
            return "indexed"
        return "queued" if self.indexed_version is None else "updating"


@dataclass(frozen=True, slots=True)
class Author:
    """A twin: everything one person wrote."""

    name: str
    documents: int = 0
    indexed: int = 0
    sources: int = 0


# ── The index ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """What makes two vectors comparable."""

    url: str
    revision: str
    precision: str
    pooling: str
    dimensions: int
    window: int
    """Tokens that fit, special tokens included."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Of a search's best scores, below which the passages do not answer (source: `twin calibrate`)."""

    decline: float
    """Topicality below it: the corpus does not speak of it."""
    answer: float
    """Confidence from here on: an answer; else the closest passages, said so."""
    origin: str = ""
    """`default for MODEL`, or `calibrated on N documents`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one index is made of. The retriever opens what it names; settings are only the target."""

    name: str
    encoder: EncoderIdentity
    cleaner: str
    chunker: str
    state: str = "building"
    """building, live or retired."""
    thresholds: Thresholds | None = None
    created_at: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Same fingerprint and same text: same chunks, same vectors."""
        return digest(
            self.cleaner,
            self.chunker,
            self.encoder.url,
            self.encoder.revision,
            self.encoder.precision,
            self.encoder.pooling,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """An exact span of one version of a document's cleaned text."""

    id: str
    document_id: str
    ordinal: int
    start: int
    end: int
    text: str
    """The span itself: `document text[start:end]`."""
    heading: str = ""
    """The path of headings above it, joined by " › "; embedded and searched together with the text."""
    kind: str = "prose"
    """prose, code, table or list."""
    tokens: int = 0
    """Of heading and text, in the encoder's own tokens, special tokens included."""

    @property
    def embedded_text(self) -> str:
        """What the encoder sees."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search is narrowed to. Empty: not narrowed."""

    authors: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Source ids or addresses, or hosts such as `example.org`."""
    languages: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    """ISO dates, both included, of `published`."""
    documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk as an index returns it, with its document's attributes (denormalised into the index)."""

    chunk: Chunk
    score: float
    """dense: cosine; text: BM25, larger is better."""
    author: str
    url: str
    title: str
    source_id: str
    version: int
    language: str | None = None
    published: str | None = None


@dataclass(frozen=True, slots=True)
class Facets:
    """What exists in an index, within a scope: filters are recognised against it, never created."""

    authors: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    bylines: tuple[str, ...] = ()
    documents: int = 0
    chunks: int = 0
    earliest: str | None = None
    latest: str | None = None
    """ISO dates: the range of `published`; None where no document has one."""


# ── Answers ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    """system, user or assistant."""
    content: str


class Evidence(StrEnum):
    """How well the passages answer, by calibrated scores."""

    ANSWER = "answer"
    CLOSEST = "closest"
    """Near the question, perhaps not its answer."""
    NONE = "none"
    """The corpus does not speak of it."""
    UNCALIBRATED = "uncalibrated"


@dataclass(frozen=True, slots=True)
class Passage:
    """A found chunk with what is needed to read, cite and open it."""

    chunk_id: str
    document_id: str
    version: int
    start: int
    end: int
    text: str
    heading: str
    title: str
    url: str
    author: str
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    """Each stage's: dense, text, fused, rerank."""
    before: str = ""
    after: str = ""
    """Neighbouring text where it helps; not part of the span."""
    language: str | None = None
    published: str | None = None
    source_id: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a search and its effect, in words and numbers."""

    name: str
    detail: str
    milliseconds: float
    candidates: int = 0


@dataclass(frozen=True, slots=True)
class SearchRequest:
    query: str
    scope: Scope
    k: int = 8
    filter: Filter = Filter()
    history: tuple[Message, ...] = ()
    rewrite: bool | None = None
    """None: where it was measured to help."""
    rerank: bool | None = None
    threshold: bool = False
    """Drop passages below the index's calibrated threshold (answers do; a plain search shows all)."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    passages: tuple[Passage, ...]
    evidence: Evidence
    confidence: float
    """The score that `evidence` was decided by."""
    question: str
    """The question as understood: standalone."""
    queries: tuple[str, ...]
    filter: Filter
    """As asked and as recognised in the question."""
    steps: tuple[Step, ...]
    index: str = ""
    notices: tuple[str, ...] = ()
    vector: bytes = b""
    """The question's: float32, little-endian."""
    encoder: str = ""
    """The URL of the encoder that made it."""
    listing: bool = False
    """The question asks for nothing but what its filter names, such as the texts of a year: the passages are beginnings
    of documents, newest first."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A numbered reference from a place in the answer to an exact span of a given passage."""

    number: int
    document_id: str
    version: int
    title: str
    url: str
    author: str
    start: int
    end: int
    """In the document's cleaned text of `version`."""
    quote: str
    """That text: `document text[start:end]`."""
    answer_start: int
    answer_end: int
    """The sentence of the answer that it supports, code points."""
    heading: str = ""
    chunk_id: str = ""
    published: str | None = None


class Verdict(StrEnum):
    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    QUOTED = "quoted"
    """The passage's own words, by construction or in the place of an unsupported sentence."""
    UNCHECKED = "unchecked"
    """Nothing to check: a heading, a greeting, the sentence that declines."""


@dataclass(frozen=True, slots=True)
class Support:
    """Whether the passages carry one sentence of the answer."""

    start: int
    end: int
    verdict: Verdict
    score: float


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Delta:
    text: str


@dataclass(frozen=True, slots=True)
class Started:
    """First event of an answer: what it is made from."""

    generation_id: str
    model: str
    created_at: float
    evidence: Evidence
    passages: tuple[Passage, ...]
    question: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event of an answer."""

    reason: str
    """stop, length or cancelled."""
    timings: Mapping[str, float]
    """Milliseconds: search, first_token, total."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Last event of an answer that broke off after it had begun to stream."""

    code: str
    message: str


AnswerEvent = Started | Delta | Citation | Support | Usage | Finished | Failed


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A conversation whose last message is the question."""

    messages: tuple[Message, ...]
    scope: Scope
    key_id: str = ""
    author: str | None = None
    """The twin that answers; None: every author in scope."""
    filter: Filter = Filter()
    k: int | None = None
    """Passages; 0: no retrieval; None: the generator's own choice."""
    support: str = "mark"
    """mark: stream at once, a verdict after each sentence; replace: whole sentences, unsupported ones quoted."""
    rewrite: bool | None = None
    rerank: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    together: bool = False
    """Who asks takes events together that come together."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer as the journal keeps it."""

    id: str
    key_id: str
    author: str | None
    messages: tuple[Message, ...]
    question: str
    prompt: str
    model: str
    passages: tuple[Passage, ...]
    answer: str
    citations: tuple[Citation, ...]
    support: tuple[Support, ...]
    evidence: Evidence
    usage: Usage
    timings: Mapping[str, float]
    reason: str
    created_at: float
    authors: tuple[str, ...] = ()
    """Of the passages; without any, those that were asked: who may read the entry is decided by them. Empty: all were
    asked, so only who may see all reads it."""
    feedback: Feedback | None = None
    redacted: bool = False
    trace: str = ""
    """Of the request, 32 hexadecimal digits; empty in entries of before it was kept."""
    queries: tuple[str, ...] = ()
    """That were searched for."""
    filter: Filter = Filter()
    """As asked and as recognised in the question."""
    confidence: float | None = None
    """The score that `evidence` was decided by; None: nothing was searched."""
    steps: tuple[Step, ...] = ()
    """Of the search, and what the generator then made of its passages."""


@dataclass(frozen=True, slots=True)
class Feedback:
    generation_id: str
    rating: int
    """1 or -1."""
    correction: str = ""
    reasons: tuple[str, ...] = ()
    at: float = 0.0


# ── Ids are derived (promise 3) ─────────────────────────────────────────────────────────────────────


def digest(*parts: str) -> str:
    """32 hexadecimal digits of SHA-256 over the parts, each preceded by its length so that none runs into the next."""
    state = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        state.update(len(encoded).to_bytes(8, "big"))
        state.update(encoded)
    return state.hexdigest()[:32]


def document_id(author: str, address: str) -> str:
    """From author and canonical address."""
    return digest("document", author, address)


def source_id(author: str, address: str) -> str:
    return digest("source", author, address)


def chunk_id(document: str, embedded_text: str, occurrence: int) -> str:
    """From the document, what is embedded, and which of its equal chunks it is."""
    return digest("chunk", document, embedded_text, str(occurrence))


def text_hash(text: str) -> str:
    return digest("text", text)
