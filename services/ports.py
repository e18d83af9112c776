"""What Twin needs of the outside, in domain words. Each adapter in services/adapters meets one of these.

Comes in and goes out: domain objects, float32 arrays, bytes. Does not know: any technology.

All raise errors of services.errors only: `Unavailable` when the part is away, `NotFound`, `Conflict` or `LeaseLost`
where said. Every `close` may be called twice. Adapters are told the time by their caller where the time matters.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from services.domain import (
    AuditEntry,
    Author,
    Chunk,
    Document,
    EncoderIdentity,
    Facets,
    Feedback,
    Filter,
    Generation,
    Hit,
    Job,
    JobKind,
    JobState,
    Key,
    Manifest,
    Message,
    Scope,
    Source,
    Usage,
)
from services.errors import Conflict, InvalidInput

Vectors = npt.NDArray[np.float32]


# ── The document store ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """Newest change first. `cursor` is the `next` of the page before; empty: from the start."""

    scope: Scope
    author: str | None = None
    source_id: str | None = None
    state: str | None = None
    """As Document.state says it; None: all but deleted."""
    text: str = ""
    """In title or address."""
    limit: int = 50
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class DocumentPage:
    documents: tuple[Document, ...]
    next: str = ""


class Documents(Protocol):
    """Documents, the addresses that led to them, and the texts of their versions."""

    async def get(self, ids: Collection[str]) -> dict[str, Document]:
        """Those that exist, tombstones included."""
        ...

    async def resolve(self, author: str, addresses: Collection[str]) -> dict[str, str]:
        """Address → document id, for the addresses (canonical ones and aliases) that are known."""
        ...

    async def addresses(self, id: str) -> frozenset[str]:
        """Those that lead to this document."""
        ...

    async def save(
        self, document: Document, *, text: str | None = None, cleaner: str = "", aliases: Collection[str] = ()
    ) -> Document:
        """Write the record, with `text` as the text of `document.version` and the addresses that lead to it.

        Atomic. The record's `revision` must be the stored one (0: must not exist): else Conflict. Returns the new
        record. Every version's text is kept until `purge`: an answer may cite it.
        """
        ...

    async def text(self, id: str, version: int) -> tuple[str, str]:
        """(text, cleaner that made it) of one version. NotFound."""
        ...

    async def find(self, query: DocumentQuery) -> DocumentPage: ...

    async def unindexed(self, fingerprint: str, limit: int, after: str = "") -> list[Document]:
        """By id, those whose newest version is not indexed under this fingerprint and that have no tombstone,
        no duplicate_of and no failure; and tombstones whose indexed_version is still set. For the reconciler."""
        ...

    async def near(self, author: str, bands: Collection[str]) -> list[tuple[str, str]]:
        """(document id, band) of the author's live documents that share one of these bands of their text's sketch."""
        ...

    async def sketch(self, id: str, author: str, bands: Collection[str]) -> None:
        """Keep the bands of a document's sketch in the place of earlier ones; none: forget them."""
        ...

    async def authors(self, scope: Scope) -> list[Author]:
        """Those with documents, by name; their sources are counted elsewhere."""
        ...

    async def purge(self, id: str) -> None:
        """Take a tombstoned document's texts and sketch; the tombstone itself stays."""
        ...

    async def close(self) -> None: ...


class Sources(Protocol):
    async def save(self, source: Source) -> None:
        """Add it, or put it in the place of what is stored: as a person asks for it."""
        ...

    async def change(self, known: Source, new: Source) -> bool:
        """Write `new` where the stored record is still `known`; whether it was. Atomic: of several that change the
        same record one does, a source that was deleted stays so, and what a person changed meanwhile stands."""
        ...

    async def get(self, id: str) -> Source | None: ...

    async def named(self, ids: Collection[str]) -> dict[str, Source]:
        """Those of them that exist, in one look."""
        ...

    async def find(self, scope: Scope, author: str | None = None) -> list[Source]: ...

    async def due(self, now: float, limit: int) -> list[Source]:
        """Those whose due_at has come."""
        ...

    async def delete(self, id: str) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Backlog:
    """Work of one kind that has not ended."""

    waiting: int
    running: int
    age: float
    """Seconds for which the oldest job that is due (or whose lease ran out) has been waiting; 0: none is."""


class Jobs(Protocol):
    """The state of all work. The queue only rings; a job is claimed here, by lease with a fencing token."""

    async def put(self, jobs: Sequence[Job]) -> int:
        """Add those whose id is not there yet; how many were new."""
        ...

    async def claim(self, kind: JobKind, worker: str, now: float, lease: float, limit: int = 1) -> list[Job]:
        """Up to `limit` jobs, oldest first, that are queued and due (not_before), or running under a lease that has
        run out: now running, under this worker's lease of `lease` seconds, attempts and token grown by one.
        No job is given to two workers at once."""
        ...

    async def save(self, jobs: Sequence[Job], now: float) -> dict[str, bool]:
        """Write state, progress, failure, attempts, not_before, lease_until of running jobs whose token is still the
        newest. One that goes back to the queue while it was asked to cancel ends as cancelled instead; one that ends
        as cancelled and is not asked to any more goes back to the queue, to start afresh.

        Returns id → whether it was asked to cancel. LeaseLost, and nothing of that job written, for any other token
        or a job that does not run: jobs of the same call whose token holds are written.
        """
        ...

    async def get(self, id: str) -> Job | None: ...

    async def find(
        self,
        scope: Scope,
        *,
        kind: JobKind | None = None,
        parent: str | None = None,
        target: str | None = None,
        states: Collection[JobState] = (),
        limit: int = 100,
    ) -> list[Job]:
        """Newest first."""
        ...

    async def counts(self, parent: str | None = None) -> dict[tuple[JobKind, JobState], int]:
        """Of all jobs, or of one parent's."""
        ...

    async def backlog(self, now: float) -> dict[JobKind, Backlog]:
        """Of every kind that workers claim, those without work included."""
        ...

    async def cancel(self, id: str, now: float) -> None:
        """A queued job and queued children end as cancelled at once; running ones are asked to."""
        ...

    async def requeue(self, parent: str, now: float) -> int:
        """Failed and cancelled children of this parent are queued again; how many. Running ones that were asked to
        cancel are not any more."""
        ...

    async def prune(self, before: float) -> int:
        """Drop ended jobs last written before this time, whole families only."""
        ...

    async def close(self) -> None: ...


class Blobs(Protocol):
    """Raw bytes as they came, by key."""

    async def put(self, key: str, data: bytes) -> None: ...

    async def copy(self, key: str, file: BinaryIO, size: int) -> None:
        """Put the next `size` bytes of a file, a piece at a time: they are never in memory whole. ValueError where it
        has fewer, and the value before stays."""
        ...

    async def get(self, key: str) -> bytes:
        """NotFound."""
        ...

    async def delete(self, keys: Collection[str]) -> None: ...

    async def close(self) -> None: ...


class Queue(Protocol):
    """A doorbell: that a ring is lost or doubled does no harm, for workers also look at the store by themselves."""

    async def ring(self, topic: str) -> None: ...

    async def listen(self, topic: str, answer: Callable[[], Awaitable[None]]) -> None:
        """Have `answer` run, in the loop that calls this, after rings of this topic. Rings that come while it
        runs make it run once more."""
        ...

    async def close(self) -> None: ...


# ── The index ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """What an index keeps of a document, to filter by and to show."""

    id: str
    version: int
    author: str
    url: str
    title: str
    source_id: str
    source_address: str = ""
    byline: str = ""
    language: str | None = None
    published: str | None = None


def refuse_older(document: IndexedDocument, searchable: int | None) -> None:
    """Conflict where a newer version than this is searchable."""
    if searchable is not None and searchable > document.version:
        raise Conflict(f"Version {searchable} of the document is searchable: {document.version} is too late.")


def refuse_odd(vector: Vectors, dimensions: int) -> None:
    """InvalidInput for what is no vector of the index's encoder."""
    if vector.shape != (dimensions,) or not np.isfinite(vector).all():
        raise InvalidInput(
            f"A vector of shape {vector.shape} is not {dimensions} finite numbers: "
            "encode with the encoder that the index names."
        )


class Index(Protocol):
    """One generation of the index: chunks and vectors of one encoder."""

    async def known(self, document_id: str) -> frozenset[str]:
        """Ids of the document's chunks that have a vector here, searchable or staged."""
        ...

    async def stage(self, document: IndexedDocument, chunks: Sequence[Chunk], vectors: Mapping[str, Vectors]) -> None:
        """Write chunks of a new version, not searchable yet. `vectors`: chunk id → (dimensions,) for those that
        `known` did not name. May be called several times for one version; again with the same chunks does nothing."""
        ...

    async def publish(self, document: IndexedDocument, chunks: int) -> None:
        """Make the staged version, of `chunks` chunks, the searchable one and drop the version before. A search
        finds the one or the other whole, never none and never both. An older version than the searchable one is
        Conflict; the same one again does nothing. What was published outlasts `close`, and the process."""
        ...

    async def delete(self, document_ids: Collection[str]) -> None:
        """Take every chunk, staged ones included."""
        ...

    async def dense(self, vector: Vectors, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        """Nearest by cosine, best first."""
        ...

    async def text(self, query: str, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        """Best by BM25 over titles, headings and text, identifiers split (camelCase, snake_case, dots), best first."""
        ...

    async def neighbours(self, places: Mapping[str, Collection[int]]) -> list[Hit]:
        """Chunks of documents' searchable versions by their places in them, in this order; score 0."""
        ...

    async def vectors(self, chunk_ids: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of these chunks, those that exist."""
        ...

    async def document_frequencies(self, terms: Collection[str]) -> tuple[dict[str, int], int]:
        """In how many chunks each term (as the text search folds it) stands, and how many chunks there are."""
        ...

    async def facets(self, scope: Scope) -> Facets: ...

    async def versions(self, document_ids: Collection[str]) -> dict[str, int]:
        """Document id → its searchable version, for those that have one."""
        ...


class Indexes(Protocol):
    """The generations of the index, of which one is live (promise 5).

    Several openers of one URL, in one process or in many, see the same: the feature service writes what the retriever
    reads, each through an adapter of its own.
    """

    async def manifests(self) -> list[Manifest]:
        """The live one first, then those being built; retired ones last."""
        ...

    async def create(self, manifest: Manifest) -> None:
        """A new, empty generation. Conflict where the name is taken by one with another fingerprint."""
        ...

    async def update(self, manifest: Manifest) -> None:
        """Write state and thresholds. Making one live retires the one that was, atomically; Conflict for one that was
        retired: who writes its thresholds has read it before the switch."""
        ...

    async def drop(self, name: str) -> None:
        """Take a retired or building generation with all it holds."""
        ...

    async def open(self, name: str) -> Index:
        """NotFound."""
        ...

    async def close(self) -> None: ...


# ── Models ──────────────────────────────────────────────────────────────────────────────────────────


class Encoder(Protocol):
    """`count` and `token_spans` may block, for a tokenizer may be on another machine: they are called in threads."""

    @property
    def identity(self) -> EncoderIdentity: ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) in code points of each token of the text, special tokens left out. Not truncated."""
        ...

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions), rows of length 1. TooLarge for a text beyond the window: nothing is truncated.
        A caller may batch; the adapter orders by length and limits the padding."""
        ...

    async def close(self) -> None: ...


class Reranker(Protocol):
    @property
    def name(self) -> str: ...

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Relevance, larger is better, one a text. A text that does not fit the model together with the query is read
        as far as it fits."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine is to choose tokens; None: the engine's default."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


class LanguageModel(Protocol):
    """An engine that continues a conversation."""

    @property
    def name(self) -> str:
        """Of the model as it is served."""
        ...

    @property
    def window(self) -> int:
        """Tokens of prompt and answer together."""
        ...

    async def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these make; an estimate from above where the engine cannot say."""
        ...

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Usage, None]:
        """Pieces of text, and last the Usage. Closing the iterator stops the engine's work."""
        ...

    async def prove(self) -> None:
        """Misconfigured where it serves another model than the one that was named, Unavailable where it is away."""
        ...

    async def waiting(self) -> int | None:
        """Requests in the engine's own queue, by its metrics; None where it tells none. Raises nothing."""
        ...

    async def close(self) -> None: ...


# ── The gateway's and the generator's own ───────────────────────────────────────────────────────────


class Journal(Protocol):
    """Every generation, as it was asked, made and judged."""

    async def save(self, generations: Sequence[Generation]) -> None:
        """Add each, or put it in the place of the one with its id; without the text of documents that were redacted
        since it was begun, by whatever process. Where it raises, some of them may have been saved."""
        ...

    async def get(self, id: str) -> Generation | None: ...

    async def find(
        self,
        scope: Scope,
        *,
        key_id: str | None = None,
        limit: int = 50,
        before: float | None = None,
        trace: str | None = None,
    ) -> list[Generation]:
        """Newest first; only those whose `authors` all lie in the scope: one that names none, in everyone's only.
        `trace`: only those of this trace."""
        ...

    async def feedback(self, feedback: Feedback) -> None:
        """NotFound."""
        ...

    async def delete(self, ids: Collection[str] = (), before: float | None = None) -> int:
        """By id, or all made before a time; how many."""
        ...

    async def redact(self, document_id: str) -> int:
        """Take the document's passages, its citations, and the prompt and answer that hold its text, from every
        entry, and its quotations from other entries of the same key that hold them (later turns); how many. Entries
        that were begun before and are saved later come to the same."""
        ...

    async def close(self) -> None: ...


class Keys(Protocol):
    async def save(self, key: Key) -> None: ...

    async def by_hash(self, hash: str) -> Key | None: ...

    async def find(self) -> list[Key]: ...

    async def used(self, id: str, at: float) -> None: ...

    async def close(self) -> None: ...


class Audit(Protocol):
    async def append(self, entry: AuditEntry) -> None: ...

    async def find(self, limit: int = 100, before: float | None = None) -> list[AuditEntry]: ...

    async def close(self) -> None: ...


class Limits(Protocol):
    async def hit(self, key: str, per_minute: int) -> float:
        """Count one against a moving window of a minute; 0, or the seconds after which there is room."""
        ...

    async def close(self) -> None: ...
