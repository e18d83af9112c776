"""CrawlerService: messages to calls and back.

Comes in: protobuf. Goes out: protobuf, or errors of services.errors. Does not know: how the work is done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from twin.v1 import crawler_pb2 as c
from twin.v1 import types_pb2 as t

from services import wire
from services.clients import SourceSpec
from services.crawler.ingest import Ingests
from services.crawler.library import MOST, Library
from services.crawler.spool import Spool
from services.domain import Crawl, Scope
from services.errors import InvalidInput, TooLarge
from services.ports import DocumentQuery, Sources


class CrawlerServicer:
    def __init__(self, ingests: Ingests, library: Library, sources: Sources, *, upload_bytes: int) -> None:
        """`upload_bytes`: of one file."""
        self._ingests = ingests
        self._library = library
        self._sources = sources
        self._upload_bytes = upload_bytes

    async def start_crawl(self, request: c.StartCrawlRequest) -> c.Crawl:
        specs = [wire.from_wire(each, SourceSpec) for each in request.sources]
        return _crawl(await self._ingests.start(request.author, specs, _scope(request.scope), request.idempotency_key))

    async def upload(self, pieces: AsyncIterator[c.UploadPiece]) -> c.Crawl:
        first = await anext(pieces, None)
        if first is None or first.WhichOneof("piece") != "header":
            raise InvalidInput("An upload begins with its header.")
        header = first.header
        with Spool() as spool:
            await self._arrive(pieces, spool)
            crawl = await self._ingests.upload(header.author, spool, _scope(header.scope), header.idempotency_key)
        return _crawl(crawl)

    async def _arrive(self, pieces: AsyncIterator[c.UploadPiece], spool: Spool) -> None:
        async for piece in pieces:
            match piece.WhichOneof("piece"):
                case "file":
                    spool.begin(piece.file.name, piece.file.media_type)
                case "data" if spool.files:
                    await spool.write(piece.data)
                    if spool.files[-1].size > self._upload_bytes:
                        raise TooLarge(f"A file may have {self._upload_bytes:,} bytes at most.", param="file")
                case "end":
                    return
                case _:
                    raise InvalidInput("In an upload, a file's name comes before its data.")
        raise InvalidInput("The upload broke off before its end: send it again.")

    async def get_crawl(self, request: c.CrawlId) -> c.Crawl:
        return _crawl(await self._ingests.get(request.id, _scope(request.scope)))

    async def watch_crawl(self, request: c.CrawlId) -> AsyncGenerator[c.Crawl, None]:
        async for each in self._ingests.watch(request.id, _scope(request.scope)):
            yield _crawl(each)

    async def list_crawls(self, request: c.ListCrawlsRequest) -> c.CrawlList:
        found = await self._ingests.find(_scope(request.scope), request.limit)
        return c.CrawlList(crawls=[_crawl(each) for each in found])

    async def cancel_crawl(self, request: c.CrawlId) -> c.Crawl:
        return _crawl(await self._ingests.cancel(request.id, _scope(request.scope)))

    async def retry_crawl(self, request: c.CrawlId) -> c.Crawl:
        return _crawl(await self._ingests.retry(request.id, _scope(request.scope)))

    async def list_sources(self, request: c.ListSourcesRequest) -> c.SourceList:
        author = request.author if request.HasField("author") else None
        found = await self._sources.find(_scope(request.scope), author)
        return c.SourceList(sources=[wire.to_wire(each, c.Source) for each in found])

    async def put_source(self, request: c.PutSourceRequest) -> c.Source:
        spec = wire.from_wire(request.source, SourceSpec)
        return wire.to_wire(await self._ingests.put_source(request.author, spec, _scope(request.scope)), c.Source)

    async def delete_source(self, request: c.SourceId) -> t.Empty:
        await self._ingests.delete_source(request.id, _scope(request.scope))
        return t.Empty()

    async def refresh_source(self, request: c.SourceId) -> c.Crawl:
        return _crawl(await self._ingests.refresh(request.id, _scope(request.scope)))

    async def list_documents(self, request: c.ListDocumentsRequest) -> c.DocumentList:
        page = await self._library.find(
            DocumentQuery(
                scope=_scope(request.scope),
                author=request.author if request.HasField("author") else None,
                source_id=request.source_id if request.HasField("source_id") else None,
                state=request.state if request.HasField("state") else None,
                text=request.text,
                limit=max(1, min(request.limit or 50, MOST)),
                cursor=request.cursor,
            )
        )
        return c.DocumentList(documents=[wire.to_wire(each, t.Document) for each in page.documents], next=page.next)

    async def get_document(self, request: c.GetDocumentRequest) -> c.DocumentText:
        version = request.version if request.HasField("version") else None
        found = await self._library.text(
            request.id, _scope(request.scope), version=version, start=request.start, end=request.end
        )
        return c.DocumentText(
            document=wire.to_wire(found.document, t.Document),
            version=found.version,
            text=found.text,
            start=found.start,
            end=found.end,
            characters=found.characters,
            source_address=found.source_address,
        )

    async def delete_document(self, request: c.DocumentId) -> t.Document:
        return wire.to_wire(await self._library.delete(request.id, _scope(request.scope)), t.Document)

    async def list_authors(self, request: c.ListAuthorsRequest) -> c.AuthorList:
        found = await self._library.authors(_scope(request.scope))
        return c.AuthorList(authors=[wire.to_wire(each, c.Author) for each in found])

    async def delete_author(self, request: c.AuthorName) -> c.Author:
        return wire.to_wire(await self._library.delete_author(request.name, _scope(request.scope)), c.Author)


def _scope(message: t.Scope) -> Scope:
    return wire.from_wire(message, Scope)


def _crawl(crawl: Crawl) -> c.Crawl:
    return wire.to_wire(crawl, c.Crawl)
