"""Authors: each a twin, with everything one person wrote.

Comes in: a name. Goes out: counts, a deletion that reaches everywhere. Does not know: documents' texts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

from starlette.responses import Response

from services.errors import NotFound
from services.gateway import shapes
from services.gateway.call import TheCall, answer
from services.gateway.shapes import AuthorShape, Given, Gone

_AT_ONCE = 8
"""Redactions under way together."""


class AuthorList(Given):
    data: list[AuthorShape]


class AuthorGone(Gone):
    documents: int
    redacted: int


async def find(call: TheCall) -> Response:
    """List the authors that the key may see."""
    return answer({"data": [shapes.author(each) for each in await call.parts.crawler.list_authors(call.scope)]})


async def delete(call: TheCall, name: str) -> Response:
    """Delete an author with everything of theirs: documents, sources, chunks, and their text in the journal."""
    if not call.scope.allows(name):
        raise NotFound("There is no such author, or not for this key.", param="name")
    known = {id async for id in _documents(call, name, (None, "deleted"))}
    redacted = await _redact(call, known)
    gone = await call.parts.crawler.delete_author(name, call.scope)
    # Looked up again: one that came in or was indexed meanwhile may have been in none of the pages.
    redacted += await _redact(call, known | {id async for id in _documents(call, name, ("deleted",))})
    call.parts.names.forget()
    await call.audit("author.delete", name, f"{gone.documents} documents")
    return answer({"id": name, "deleted": True, "documents": gone.documents, "redacted": redacted})


async def _documents(call: TheCall, author: str, states: Sequence[str | None]) -> AsyncIterator[str]:
    for state in states:
        cursor = ""
        while True:
            documents, cursor = await call.parts.crawler.list_documents(
                call.scope, author=author, state=state, limit=200, cursor=cursor
            )
            for each in documents:
                yield each.id
            if not cursor:
                break


async def _redact(call: TheCall, ids: Collection[str]) -> int:
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(id: str) -> int:
        async with free:
            return await call.parts.generator.redact_document(id)

    return sum(await asyncio.gather(*(one(id) for id in ids)))
