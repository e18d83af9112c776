"""The four services as their callers see them: domain objects in, domain objects out.

Comes in: a channel from rpc.connect. Goes out: results, or errors of services.errors. Does not know: where a service
runs. Every call has a deadline (the constants below, in seconds); only what is idempotent is tried again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from twin.v1 import crawler_pb2 as c
from twin.v1 import feature_pb2 as f
from twin.v1 import generator_pb2 as g
from twin.v1 import retriever_pb2 as r
from twin.v1 import types_pb2 as t

from services import rpc, wire
from services.domain import (
    AnswerEvent,
    Author,
    Crawl,
    Document,
    Feedback,
    GenerateRequest,
    Generation,
    Manifest,
    Progress,
    Scope,
    SearchRequest,
    SearchResult,
    Source,
)
from services.errors import MethodNotAllowed
from services.ports import Vectors

READ = 10.0
"""A look into a store."""
WRITE = 30.0
"""A write, or the taking of a job."""
SEARCH = 20.0
EMBED = 30.0
GENERATE = 600.0
"""A whole answer of a slow engine."""
UPLOAD = 600.0
WATCH = 24 * 3600.0
DELETE = 120.0
"""A document or author with everything of theirs."""
CALIBRATE = 600.0

_PIECE = 1 << 20
"""Bytes of an upload in one message; a message holds 4 MiB."""
_WINDOW = 500_000
"""Code points of a text in one message: at most 4 bytes each."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source as it is asked for."""

    address: str
    kind: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    every: float | None = None
    watch: bool = False


@dataclass(frozen=True, slots=True)
class UploadedFile:
    name: str
    media_type: str | None
    data: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class DocumentText:
    """A document with the whole text of one of its versions."""

    document: Document
    version: int
    text: str
    source_address: str


@dataclass(frozen=True, slots=True)
class ReindexJob:
    id: str
    state: str
    manifest: Manifest
    progress: Progress
    seconds_left: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class IndexDescription:
    """What the live index is, and what it holds within a scope."""

    manifest: Manifest
    authors: tuple[str, ...]
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Embedded:
    vectors: Vectors
    """(n, dimensions) float32."""
    encoder: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GeneratorDescription:
    answers: str
    hint: str


def _scope(scope: Scope) -> t.Scope:
    return wire.to_wire(scope, t.Scope)


class Crawler:
    def __init__(self, channel: Any) -> None:
        self._call = rpc.Caller(channel, c.DESCRIPTOR.services_by_name["CrawlerService"])

    async def start_crawl(
        self, author: str, sources: Sequence[SourceSpec], scope: Scope, idempotency_key: str = ""
    ) -> Crawl:
        request = c.StartCrawlRequest(
            author=author,
            sources=[wire.to_wire(each, c.SourceSpec) for each in sources],
            idempotency_key=idempotency_key,
            scope=_scope(scope),
        )
        answer = await self._call.unary("StartCrawl", request, c.Crawl, timeout=WRITE, idempotent=bool(idempotency_key))
        return wire.from_wire(answer, Crawl)

    async def upload(
        self, author: str, files: AsyncIterator[UploadedFile], scope: Scope, idempotency_key: str = ""
    ) -> Crawl:
        async def pieces() -> AsyncIterator[c.UploadPiece]:
            header = c.UploadHeader(author=author, idempotency_key=idempotency_key, scope=_scope(scope))
            yield c.UploadPiece(header=header)
            async for file in files:
                yield c.UploadPiece(file=c.UploadFile(name=file.name, media_type=file.media_type))
                async for data in file.data:
                    for start in range(0, len(data), _PIECE):
                        yield c.UploadPiece(data=data[start : start + _PIECE])
            # To the server a call that is cancelled may look like one that has sent all: it is told the end.
            yield c.UploadPiece(end=t.Empty())

        return wire.from_wire(await self._call.collect("Upload", pieces(), c.Crawl, timeout=UPLOAD), Crawl)

    async def get_crawl(self, id: str, scope: Scope) -> Crawl:
        return await self._crawl("GetCrawl", id, scope, READ, idempotent=True)

    async def watch_crawl(self, id: str, scope: Scope) -> AsyncGenerator[Crawl, None]:
        request = c.CrawlId(id=id, scope=_scope(scope))
        async for each in self._call.stream("WatchCrawl", request, c.Crawl, timeout=WATCH, resume=True):
            yield wire.from_wire(each, Crawl)

    async def list_crawls(self, scope: Scope, limit: int = 20) -> list[Crawl]:
        request = c.ListCrawlsRequest(scope=_scope(scope), limit=limit)
        answer = await self._call.unary("ListCrawls", request, c.CrawlList, timeout=READ, idempotent=True)
        return [wire.from_wire(each, Crawl) for each in answer.crawls]

    async def cancel_crawl(self, id: str, scope: Scope) -> Crawl:
        return await self._crawl("CancelCrawl", id, scope, WRITE, idempotent=True)

    async def retry_crawl(self, id: str, scope: Scope) -> Crawl:
        return await self._crawl("RetryCrawl", id, scope, WRITE, idempotent=True)

    async def _crawl(self, method: str, id: str, scope: Scope, timeout: float, *, idempotent: bool) -> Crawl:
        request = c.CrawlId(id=id, scope=_scope(scope))
        answer = await self._call.unary(method, request, c.Crawl, timeout=timeout, idempotent=idempotent)
        return wire.from_wire(answer, Crawl)

    async def list_sources(self, scope: Scope, author: str | None = None) -> list[Source]:
        request = c.ListSourcesRequest(scope=_scope(scope), author=author)
        answer = await self._call.unary("ListSources", request, c.SourceList, timeout=READ, idempotent=True)
        return [wire.from_wire(each, Source) for each in answer.sources]

    async def put_source(self, author: str, source: SourceSpec, scope: Scope) -> Source:
        request = c.PutSourceRequest(author=author, source=wire.to_wire(source, c.SourceSpec), scope=_scope(scope))
        answer = await self._call.unary("PutSource", request, c.Source, timeout=WRITE, idempotent=True)
        return wire.from_wire(answer, Source)

    async def delete_source(self, id: str, scope: Scope) -> None:
        request = c.SourceId(id=id, scope=_scope(scope))
        await self._call.unary("DeleteSource", request, t.Empty, timeout=WRITE, idempotent=True)

    async def refresh_source(self, id: str, scope: Scope) -> Crawl:
        request = c.SourceId(id=id, scope=_scope(scope))
        return wire.from_wire(await self._call.unary("RefreshSource", request, c.Crawl, timeout=WRITE), Crawl)

    async def list_documents(
        self,
        scope: Scope,
        *,
        author: str | None = None,
        source_id: str | None = None,
        state: str | None = None,
        text: str = "",
        limit: int = 50,
        cursor: str = "",
    ) -> tuple[list[Document], str]:
        """A page of documents, and the cursor of the next (empty: there is none)."""
        request = c.ListDocumentsRequest(
            scope=_scope(scope), author=author, source_id=source_id, state=state, text=text, limit=limit, cursor=cursor
        )
        answer = await self._call.unary("ListDocuments", request, c.DocumentList, timeout=READ, idempotent=True)
        return [wire.from_wire(each, Document) for each in answer.documents], answer.next

    async def get_document(self, id: str, scope: Scope, version: int | None = None) -> DocumentText:
        """The record and the whole text of a version (None: the newest), fetched in windows."""
        texts: list[str] = []
        start = 0
        while True:
            request = c.GetDocumentRequest(
                id=id, scope=_scope(scope), version=version, start=start, end=start + _WINDOW
            )
            answer = await self._call.unary("GetDocument", request, c.DocumentText, timeout=READ, idempotent=True)
            texts.append(answer.text)
            start, version = answer.end, answer.version
            if start >= answer.characters or not answer.text:
                document = wire.from_wire(answer.document, Document)
                return DocumentText(document, answer.version, "".join(texts), answer.source_address)

    async def delete_document(self, id: str, scope: Scope) -> Document:
        request = c.DocumentId(id=id, scope=_scope(scope))
        answer = await self._call.unary("DeleteDocument", request, t.Document, timeout=DELETE, idempotent=True)
        return wire.from_wire(answer, Document)

    async def list_authors(self, scope: Scope) -> list[Author]:
        request = c.ListAuthorsRequest(scope=_scope(scope))
        answer = await self._call.unary("ListAuthors", request, c.AuthorList, timeout=READ, idempotent=True)
        return [wire.from_wire(each, Author) for each in answer.authors]

    async def delete_author(self, name: str, scope: Scope) -> Author:
        request = c.AuthorName(name=name, scope=_scope(scope))
        answer = await self._call.unary("DeleteAuthor", request, c.Author, timeout=DELETE, idempotent=True)
        return wire.from_wire(answer, Author)


class Feature:
    def __init__(self, channel: Any) -> None:
        self._call = rpc.Caller(channel, f.DESCRIPTOR.services_by_name["FeatureService"])

    async def featurize(self, documents: Sequence[tuple[str, int, str]], parent: str = "") -> list[str]:
        """(document id, version, author) each → job ids. Overloaded where the workers are far behind: wait."""
        request = f.FeaturizeRequest(
            documents=[
                f.DocumentVersion(document_id=id, version=version, author=author) for id, version, author in documents
            ],
            parent=parent,
        )
        answer = await self._call.unary("Featurize", request, f.FeaturizeReply, timeout=WRITE, idempotent=True)
        return list(answer.job_ids)

    async def delete_document(self, id: str) -> None:
        request = f.FeatureDocumentId(document_id=id)
        await self._call.unary("DeleteDocument", request, t.Empty, timeout=WRITE, idempotent=True)

    async def reindex(self) -> ReindexJob:
        answer = await self._call.unary("Reindex", f.ReindexRequest(), f.ReindexJob, timeout=WRITE)
        return wire.from_wire(answer, ReindexJob)

    async def get_reindex(self, id: str) -> ReindexJob:
        answer = await self._call.unary("GetReindex", f.ReindexId(id=id), f.ReindexJob, timeout=READ, idempotent=True)
        return wire.from_wire(answer, ReindexJob)

    async def watch_reindex(self, id: str) -> AsyncGenerator[ReindexJob, None]:
        async for each in self._call.stream(
            "WatchReindex", f.ReindexId(id=id), f.ReindexJob, timeout=WATCH, resume=True
        ):
            yield wire.from_wire(each, ReindexJob)

    async def calibrate(self) -> Manifest:
        answer = await self._call.unary("Calibrate", f.CalibrateRequest(), t.Manifest, timeout=CALIBRATE)
        return wire.from_wire(answer, Manifest)


class Retriever:
    def __init__(self, channel: Any) -> None:
        self._call = rpc.Caller(channel, r.DESCRIPTOR.services_by_name["RetrieverService"])

    async def search(self, request: SearchRequest) -> SearchResult:
        message = wire.to_wire(request, r.SearchRequest)
        answer = await self._call.unary("Search", message, r.SearchResult, timeout=SEARCH, idempotent=True)
        return wire.from_wire(answer, SearchResult)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        request = r.EmbedRequest(texts=texts)
        answer = await self._call.unary("Embed", request, r.EmbedReply, timeout=EMBED, idempotent=True)
        vectors = wire.vectors_from_bytes(answer.vectors, answer.dimensions)
        return Embedded(vectors, answer.encoder, tuple(answer.tokens))

    async def describe(self, scope: Scope) -> IndexDescription:
        request = r.DescribeRequest(scope=_scope(scope))
        answer = await self._call.unary("Describe", request, r.IndexDescription, timeout=READ, idempotent=True)
        return wire.from_wire(answer, IndexDescription)


class Generator:
    def __init__(self, channel: Any) -> None:
        self._call = rpc.Caller(channel, g.DESCRIPTOR.services_by_name["GeneratorService"])

    async def generate(
        self, request: GenerateRequest, timeout: float = GENERATE
    ) -> AsyncGenerator[list[AnswerEvent], None]:
        """The answer's events as they are made, or as the request says; closing the iterator stops the work, down to
        the engine."""
        message = wire.to_wire(request, g.GenerateRequest)
        events = self._call.stream("Generate", message, g.AnswerEvent, timeout=timeout)
        try:
            async for event in events:
                yield wire.events_from_wire(event)
        finally:
            await events.aclose()

    async def answer(self, request: GenerateRequest, timeout: float = GENERATE) -> list[AnswerEvent]:
        """All events of an answer, at its end; cancelling it stops the work, down to the engine. Tried again where the
        generator goes away: an answer that nobody has is made anew."""
        message = wire.to_wire(request, g.GenerateRequest)
        try:
            reply = await self._call.unary("Answer", message, g.AnswerEvents, timeout=timeout, idempotent=True)
        except MethodNotAllowed:
            # While a new Twin is rolled out, an older generator may still be asked.
            async with aclosing(self.generate(request, timeout)) as batches:
                return [event async for events in batches for event in events]
        return [wire.event_from_wire(event) for event in reply.events]

    async def give_feedback(self, feedback: Feedback, scope: Scope) -> None:
        request = g.FeedbackRequest(feedback=wire.to_wire(feedback, g.Feedback), scope=_scope(scope))
        await self._call.unary("GiveFeedback", request, t.Empty, timeout=WRITE, idempotent=True)

    async def list_generations(
        self,
        scope: Scope,
        *,
        key_id: str | None = None,
        limit: int = 50,
        before: float | None = None,
        trace: str | None = None,
    ) -> list[Generation]:
        request = g.ListGenerationsRequest(scope=_scope(scope), key_id=key_id, limit=limit, before=before, trace=trace)
        answer = await self._call.unary("ListGenerations", request, g.GenerationList, timeout=READ, idempotent=True)
        return [wire.from_wire(each, Generation) for each in answer.generations]

    async def get_generation(self, id: str, scope: Scope) -> Generation:
        request = g.GenerationId(id=id, scope=_scope(scope))
        answer = await self._call.unary("GetGeneration", request, g.Generation, timeout=READ, idempotent=True)
        return wire.from_wire(answer, Generation)

    async def delete_generation(self, id: str, scope: Scope) -> None:
        request = g.GenerationId(id=id, scope=_scope(scope))
        await self._call.unary("DeleteGeneration", request, t.Empty, timeout=WRITE, idempotent=True)

    async def redact_document(self, id: str) -> int:
        """Take a document's text from the journal; how many entries held it."""
        request = g.RedactRequest(document_id=id)
        answer = await self._call.unary("RedactDocument", request, g.RedactReply, timeout=DELETE, idempotent=True)
        return answer.entries

    async def describe(self) -> GeneratorDescription:
        answer = await self._call.unary("Describe", t.Empty(), g.GeneratorDescription, timeout=READ, idempotent=True)
        return wire.from_wire(answer, GeneratorDescription)
