"""Services that say what a test wants said, over real gRPC: for what the embedded ones cannot be brought to do at will
(an engine that is slow, or breaks off; a part that is overloaded), and for shapes with every field set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import numpy as np
from twin.v1 import crawler_pb2 as c
from twin.v1 import feature_pb2 as f
from twin.v1 import generator_pb2 as g
from twin.v1 import retriever_pb2 as r
from twin.v1 import types_pb2 as t

from services import wire
from services.clients import DocumentText, GeneratorDescription, IndexDescription, ReindexJob, SourceSpec
from services.domain import (
    Author,
    Citation,
    Crawl,
    Delta,
    Document,
    EncoderIdentity,
    Evidence,
    Failed,
    Failure,
    Feedback,
    Filter,
    Finished,
    Generation,
    JobState,
    Manifest,
    Message,
    Passage,
    Progress,
    Scope,
    SearchResult,
    Source,
    SourceKind,
    SourceProgress,
    Started,
    Step,
    Support,
    Thresholds,
    Usage,
    Verdict,
    digest,
)
from services.errors import InvalidInput, NotFound, Overloaded, TwinError, Unavailable

SERVICES = {
    "crawler": c.DESCRIPTOR.services_by_name["CrawlerService"],
    "feature": f.DESCRIPTOR.services_by_name["FeatureService"],
    "retriever": r.DESCRIPTOR.services_by_name["RetrieverService"],
    "generator": g.DESCRIPTOR.services_by_name["GeneratorService"],
}
TEXT = "Sources are added with `twin sources add`. A feed is crawled again when due."
MANIFEST = Manifest(
    "index-1",
    EncoderIdentity("hashing://4", "1", "float32", "mean", 4, 256),
    "clean-1",
    "chunk-1",
    "live",
    Thresholds(0.42, 0.58, "default for hashing"),
)


def document(id: str, author: str) -> Document:
    return Document(
        id=id,
        author=author,
        url=f"https://example.org/{id}",
        source_id=f"source-{author}",
        kind=SourceKind.PAGE,
        title="Sources",
        language="en",
        published="2024-05-01",
        media_type="text/html",
        version=2,
        indexed_version=2,
        fingerprint="print",
        characters=len(TEXT),
        chunks=1,
        revision=3,
        created_at=1.7e9,
        updated_at=1.7e9,
    )


def passage(author: str) -> Passage:
    return Passage(
        chunk_id="chunk",
        document_id=f"document-{author}",
        version=2,
        start=0,
        end=42,
        text=TEXT[:42],
        heading="Guide › Sources",
        title="Sources",
        url=f"https://example.org/document-{author}",
        author=author,
        score=0.71,
        scores={"dense": 0.64, "fused": 0.71},
        language="en",
        published="2024-05-01",
        source_id=f"source-{author}",
    )


class Services:
    """All four. Two authors, alpha and beta, of one document each."""

    def __init__(self) -> None:
        self.goes_on = False
        self.waiting = asyncio.Event()
        """Whether a watched job has no end."""
        self.documents = {f"document-{name}": document(f"document-{name}", name) for name in ("alpha", "beta")}
        self.buried: dict[str, Document] = {}
        self.half_way: list[TwinError] = []
        """Raised by the next deletions, one each, when the tombstone is written."""
        self.sources = {
            f"source-{name}": Source(f"source-{name}", name, SourceKind.PAGE, "https://example.org/")
            for name in ("alpha", "beta")
        }
        self.crawls: dict[str, Crawl] = {}
        self.generations: dict[str, Generation] = {}
        self.redacted: list[str] = []
        self.uploaded: list[tuple[str, int]] = []
        self.idempotency_keys: list[str] = []
        self.generating = asyncio.Event()
        self.closed = asyncio.Event()
        self.requests: list[Any] = []

    # Crawler

    async def start_crawl(self, request: c.StartCrawlRequest) -> c.Crawl:
        specs = [wire.from_wire(each, SourceSpec) for each in request.sources]
        return self._crawl(request.author, [each.address for each in specs], request.idempotency_key)

    async def upload(self, pieces: AsyncIterator[c.UploadPiece]) -> c.Crawl:
        author, key, names, whole = "", "", [], False
        async for piece in pieces:
            match piece.WhichOneof("piece"):
                case "header":
                    author, key = piece.header.author, piece.header.idempotency_key
                case "file":
                    names.append(piece.file.name)
                    self.uploaded.append((piece.file.name, 0))
                case "data":
                    name, size = self.uploaded[-1]
                    self.uploaded[-1] = (name, size + len(piece.data))
                case "end":
                    whole = True
        if not whole:
            raise InvalidInput("The upload broke off before its end: send it again.")
        return self._crawl(author, [f"upload:{name}" for name in names], key)

    def _crawl(self, author: str, addresses: list[str], key: str) -> c.Crawl:
        self.idempotency_keys.append(key)
        id = digest("crawl", key or str(len(self.crawls)))
        if id not in self.crawls:
            progress = Progress(total=2, seen=1, new=1, current=addresses[0])
            sources = tuple(
                SourceProgress(digest(each), each, SourceKind.PAGE, JobState.RUNNING, progress, 1.5)
                for each in addresses
            )
            failure = Failure("https://example.org/gone", "not_found", "It is gone.")
            self.crawls[id] = Crawl(id, author, JobState.RUNNING, sources, 1, 1, 1, (failure,), 1.5, 1.7e9, 1.7e9)
        return wire.to_wire(self.crawls[id], c.Crawl)

    def _found(self, id: str, scope: t.Scope) -> Crawl:
        crawl = self.crawls.get(id)
        if crawl is None or not wire.from_wire(scope, Scope).allows(crawl.author):
            raise NotFound("There is no such job.")
        return crawl

    async def get_crawl(self, request: c.CrawlId) -> c.Crawl:
        return wire.to_wire(self._found(request.id, request.scope), c.Crawl)

    retry_crawl = get_crawl

    async def cancel_crawl(self, request: c.CrawlId) -> c.Crawl:
        crawl = self._found(request.id, request.scope)
        return wire.to_wire(_ended(crawl, JobState.CANCELLED), c.Crawl)

    async def watch_crawl(self, request: c.CrawlId) -> AsyncIterator[c.Crawl]:
        crawl = self._found(request.id, request.scope)
        yield wire.to_wire(crawl, c.Crawl)
        yield wire.to_wire(crawl, c.Crawl)
        if self.goes_on:
            self.waiting.set()
            await asyncio.Event().wait()
        yield wire.to_wire(_ended(crawl, JobState.DONE), c.Crawl)

    async def list_crawls(self, request: c.ListCrawlsRequest) -> c.CrawlList:
        scope = wire.from_wire(request.scope, Scope)
        found = [each for each in self.crawls.values() if scope.allows(each.author)]
        return c.CrawlList(crawls=[wire.to_wire(each, c.Crawl) for each in found[: request.limit]])

    async def list_sources(self, request: c.ListSourcesRequest) -> c.SourceList:
        scope = wire.from_wire(request.scope, Scope)
        return c.SourceList(
            sources=[wire.to_wire(each, c.Source) for each in self.sources.values() if scope.allows(each.author)]
        )

    async def put_source(self, request: c.PutSourceRequest) -> c.Source:
        spec = wire.from_wire(request.source, SourceSpec)
        kind = None if spec.kind is None else SourceKind(spec.kind)
        source = Source("source-new", request.author, kind, spec.address, spec.options, spec.every, spec.watch, 1.7e9)
        return wire.to_wire(source, c.Source)

    def _source(self, request: c.SourceId) -> Source:
        source = self.sources.get(request.id)
        if source is None or not wire.from_wire(request.scope, Scope).allows(source.author):
            raise NotFound("There is no such source.")
        return source

    async def delete_source(self, request: c.SourceId) -> t.Empty:
        self._source(request)
        return t.Empty()

    async def refresh_source(self, request: c.SourceId) -> c.Crawl:
        source = self._source(request)
        return self._crawl(source.author, [source.address], "")

    async def list_documents(self, request: c.ListDocumentsRequest) -> c.DocumentList:
        scope = wire.from_wire(request.scope, Scope)
        found = [
            each
            for each in self.documents.values()
            if scope.allows(each.author) and request.author in ("", each.author) and request.state in ("", each.state)
        ]
        return c.DocumentList(documents=[wire.to_wire(each, t.Document) for each in found])

    def _document(self, id: str, scope: t.Scope) -> Document:
        found = self.documents.get(id)
        if found is None or not wire.from_wire(scope, Scope).allows(found.author):
            raise NotFound("There is no such document, or not for this key.")
        return found

    async def get_document(self, request: c.GetDocumentRequest) -> c.DocumentText:
        found = self._document(request.id, request.scope)
        version = request.version if request.HasField("version") else found.version
        if version > found.version:
            raise NotFound("There is no such version.")
        message = wire.to_wire(DocumentText(found, version, TEXT, "https://example.org/"), c.DocumentText)
        message.start, message.end, message.characters = 0, len(TEXT), len(TEXT)
        return message

    async def delete_document(self, request: c.DocumentId) -> t.Document:
        if request.id not in self.buried:
            self._document(request.id, request.scope)
            self.buried[request.id] = self.documents.pop(request.id)
        elif not wire.from_wire(request.scope, Scope).allows(self.buried[request.id].author):
            raise NotFound("There is no such document, or not for this key.")
        if self.half_way:
            raise self.half_way.pop()
        return wire.to_wire(self.buried[request.id], t.Document)

    async def list_authors(self, request: c.ListAuthorsRequest) -> c.AuthorList:
        scope = wire.from_wire(request.scope, Scope)
        names = sorted({each.author for each in self.documents.values()})
        return c.AuthorList(
            authors=[wire.to_wire(Author(name, 1, 1, 1), c.Author) for name in names if scope.allows(name)]
        )

    async def delete_author(self, request: c.AuthorName) -> c.Author:
        mine = [id for id, each in self.documents.items() if each.author == request.name]
        if not mine:
            raise NotFound("There is no such author.")
        for id in mine:
            del self.documents[id]
        return wire.to_wire(Author(request.name, len(mine), len(mine), 1), c.Author)

    # Feature

    async def featurize(self, request: f.FeaturizeRequest) -> f.FeaturizeReply:
        return f.FeaturizeReply()

    async def reindex(self, request: f.ReindexRequest) -> f.ReindexJob:
        return wire.to_wire(ReindexJob("reindex-1", "running", MANIFEST, Progress(total=10, seen=3), 7.0), f.ReindexJob)

    async def get_reindex(self, request: f.ReindexId) -> f.ReindexJob:
        if request.id != "reindex-1":
            raise NotFound("There is no such job.")
        return await self.reindex(f.ReindexRequest())

    async def watch_reindex(self, request: f.ReindexId) -> AsyncIterator[f.ReindexJob]:
        yield await self.get_reindex(request)

    async def calibrate(self, request: f.CalibrateRequest) -> t.Manifest:
        return wire.to_wire(MANIFEST, t.Manifest)

    # Retriever

    async def search(self, request: r.SearchRequest) -> r.SearchResult:
        self.requests.append(request)
        if request.query == "overloaded":
            raise Overloaded("Too many searches at once. Try again in a moment.", retry_after=2.5)
        if request.query == "away":
            raise Unavailable("The index is away. Try again in a moment.", retry_after=1.0)
        if request.query == "fault":
            raise RuntimeError("a secret: /etc/inside")
        scope = wire.from_wire(request.scope, Scope)
        passages = tuple(passage(name) for name in ("alpha", "beta") if scope.allows(name))[: request.k]
        steps = (Step("understand", "as it is", 0.1), Step("dense", "50 nearest", 2.0, 50))
        result = SearchResult(
            passages, Evidence.ANSWER, 0.64, request.query, (request.query,), Filter(), steps, "index-1", ("A notice.",)
        )
        return wire.to_wire(result, r.SearchResult)

    async def embed(self, request: r.EmbedRequest) -> r.EmbedReply:
        vectors = np.tile(np.array([0.5, 0.5, 0.5, -0.5], np.float32), (len(request.texts), 1))
        return r.EmbedReply(
            vectors=wire.vectors_to_bytes(vectors), dimensions=4, encoder="hashing://4", tokens=[3] * len(request.texts)
        )

    async def describe(self, request: Any) -> Any:
        if isinstance(request, t.Empty):
            return wire.to_wire(
                GeneratorDescription("quotes", "Set TWIN_LLM_URL to have it write."), g.GeneratorDescription
            )
        scope = wire.from_wire(request.scope, Scope)
        names = tuple(name for name in ("alpha", "beta") if scope.allows(name))
        return wire.to_wire(IndexDescription(MANIFEST, names, len(names), len(names)), r.IndexDescription)

    # Generator

    async def answer(self, request: g.GenerateRequest) -> g.AnswerEvents:
        async with aclosing(self.generate(request)) as events:
            return g.AnswerEvents(events=[event async for event in events])

    async def generate(self, request: g.GenerateRequest) -> AsyncGenerator[g.AnswerEvent, None]:
        self.requests.append(request)
        question = request.messages[-1].content
        if question == "overloaded":
            raise Overloaded("Too many answers at once. Try again in a moment.", retry_after=2.5)
        scope = wire.from_wire(request.scope, Scope)
        wanted = () if request.HasField("k") and request.k == 0 else ("alpha", "beta")
        passages = tuple(passage(name) for name in wanted if scope.allows(name))
        asked = {request.author} if request.HasField("author") else set(scope.authors)
        id = f"generation-{len(self.generations) + 1}"
        started = Started(id, "quotes", 1.7e9, Evidence.ANSWER, passages, question, ("A notice.",))
        try:
            if question == "late":
                self.generating.set()
                await asyncio.sleep(60)
            yield wire.event_to_wire(started)
            if question == "slow":
                for number in range(10_000):
                    self.generating.set()
                    yield wire.event_to_wire(Delta(f"{number} "))
                    await asyncio.sleep(0.01)
            answer = "Sources are added with a command. [1]"
            yield wire.event_to_wire(Delta(answer[:20]))
            if question == "breaks":
                yield wire.event_to_wire(Failed("unavailable", "The engine went away. Ask again."))
                return
            yield wire.event_to_wire(Delta(answer[20:]))
            citation = Citation(
                1,
                "document-alpha",
                2,
                "Sources",
                "https://example.org/document-alpha",
                "alpha",
                0,
                42,
                TEXT[:42],
                0,
                33,
                "Guide › Sources",
                "chunk",
                "2024-05-01",
            )
            support = Support(0, 33, Verdict.QUOTED, 1.0)
            for _ in range(2 if question == "twice" else 1):
                yield wire.event_to_wire(citation)
            yield wire.event_to_wire(support)
            yield wire.event_to_wire(Usage(11, 7))
            timings = {"search": 12.0, "first_token": 30.0, "total": 31.5}
            yield wire.event_to_wire(Finished("stop", timings))
            self.generations[id] = Generation(
                id,
                request.key_id,
                None,
                (Message("user", question),),
                question,
                "the prompt",
                "quotes",
                passages,
                answer,
                (citation,),
                (support,),
                Evidence.ANSWER,
                Usage(11, 7),
                timings,
                "stop",
                1.7e9,
                tuple(sorted({each.author for each in passages} or asked)),
            )
        finally:
            self.closed.set()

    async def give_feedback(self, request: g.FeedbackRequest) -> t.Empty:
        feedback = wire.from_wire(request.feedback, Feedback)
        if feedback.rating not in (1, -1):
            raise InvalidInput("rating is 1 or -1.", param="rating")
        return t.Empty()

    def _generation(self, request: g.GenerationId) -> Generation:
        found = self.generations.get(request.id)
        scope = wire.from_wire(request.scope, Scope)
        if found is None or not _shows(scope, found):
            raise NotFound("There is no such answer.")
        return found

    async def list_generations(self, request: g.ListGenerationsRequest) -> g.GenerationList:
        scope = wire.from_wire(request.scope, Scope)
        found = [
            each
            for each in self.generations.values()
            if _shows(scope, each) and (not request.HasField("key_id") or request.key_id == each.key_id)
        ]
        return g.GenerationList(generations=[wire.to_wire(each, g.Generation) for each in found])

    async def get_generation(self, request: g.GenerationId) -> g.Generation:
        return wire.to_wire(self._generation(request), g.Generation)

    async def delete_generation(self, request: g.GenerationId) -> t.Empty:
        self._generation(request)
        del self.generations[request.id]
        return t.Empty()

    async def redact_document(self, request: g.RedactRequest) -> g.RedactReply:
        self.redacted.append(request.document_id)
        return g.RedactReply(entries=1)


def _shows(scope: Scope, generation: Generation) -> bool:
    """An entry that names no author is everyone's only: all were asked."""
    authors = generation.authors
    return scope.everyone or (bool(authors) and all(scope.allows(name) for name in authors))


def _ended(crawl: Crawl, state: JobState) -> Crawl:
    return Crawl(crawl.id, crawl.author, state, crawl.sources, 0, 2, 0, (), None, crawl.created_at, crawl.updated_at)
