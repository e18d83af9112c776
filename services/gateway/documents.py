"""Documents: what an author's corpus holds.

Comes in: filters and ids. Goes out: records, texts, deletions that reach everywhere. Does not know: how they came in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.clients import DocumentText
from services.domain import digest
from services.errors import NotFound, PreconditionFailed
from services.gateway import shapes
from services.gateway.call import Call, TheCall, answer
from services.gateway.shapes import MAX_INT, DocumentShape, Given, Gone, Limit

State = Literal["queued", "indexed", "updating", "failed", "duplicate", "deleted"]
Version = Annotated[int, Field(ge=1, le=MAX_INT)]


class DocumentList(Given):
    data: list[DocumentShape]
    next: str
    """The `cursor` of the next page; empty: there is none."""


class LineageSource(Given):
    id: str
    address: str


class Lineage(Given):
    """Where a text came from and what was made of it."""

    source: LineageSource
    text_version: int
    """Of the text shown."""
    version: int
    """The newest."""
    indexed_version: int | None
    """The one that search finds."""
    fingerprint: str
    """Of the cleaner, the chunker and the encoder that the indexed version went through."""


class DocumentWithText(DocumentShape):
    text: str
    text_version: int
    lineage: Lineage


class DocumentGone(Gone):
    redacted: int
    """Journal entries that its text was taken from."""


async def find(
    call: TheCall,
    author: Annotated[str | None, Query(max_length=200)] = None,
    source: Annotated[str | None, Query(max_length=2000)] = None,
    state: State | None = None,
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Limit = 50,
    cursor: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """List documents, the newest change first."""
    if author is not None:
        call.may_touch(author, "author")
    documents, following = await call.parts.crawler.list_documents(
        call.scope, author=author, source_id=source, state=state, text=q, limit=limit, cursor=cursor
    )
    return answer({"data": [shapes.document(each) for each in documents], "next": following})


async def get(call: TheCall, id: str, version: Version | None = None) -> Response:
    """One document with a version's text (the newest unless said) and its lineage."""
    found = await call.parts.crawler.get_document(id, call.scope, version)
    tag = _etag(found)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    _require_match(call, tag)
    if _names(call.request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    record = found.document
    content = {
        **shapes.document(record),
        "text": found.text,
        "text_version": found.version,
        "lineage": {
            "source": {"id": record.source_id, "address": found.source_address},
            "text_version": found.version,
            "version": record.version,
            "indexed_version": record.indexed_version,
            "fingerprint": record.fingerprint,
        },
    }
    return answer(content, headers=headers)


async def delete(call: TheCall, id: str) -> Response:
    """Delete a document with every chunk, and take its text from the journal."""
    redacted = 0
    try:
        _require_match(call, _etag(await call.parts.crawler.get_document(id, call.scope)))
    except NotFound:
        # Deleted before, perhaps not to its end: to delete it again ends it, and 404 is for what never was or is
        # another's. A tag is of what is no more.
        if "if-match" in call.request.headers:
            raise
    else:
        # Before and after: neither a failure half way nor an answer in between leaves anything of it there.
        redacted = await call.parts.generator.redact_document(id)
    deleted = await call.parts.crawler.delete_document(id, call.scope)
    redacted += await call.parts.generator.redact_document(id)
    call.parts.names.forget()
    await call.audit("document.delete", id, deleted.url)
    return answer({"id": id, "deleted": True, "redacted": redacted})


def _etag(found: DocumentText) -> str:
    record = found.document
    return f'"{digest(record.id, str(found.version), str(record.revision), str(record.updated_at))}"'


def _require_match(call: Call, tag: str) -> None:
    wanted = call.request.headers.get("if-match")
    if wanted is not None and not _names(wanted, tag):
        raise PreconditionFailed("The document has changed since: read it again.", param="If-Match")


def _names(header: str | None, tag: str) -> bool:
    """Whether a list of entity tags names this one."""
    if header is None:
        return False
    return any(each.strip().removeprefix("W/") in ("*", tag) for each in header.split(","))
