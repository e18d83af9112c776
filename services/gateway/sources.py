"""Sources: what is crawled, and when again.

Comes in: addresses with schedules. Goes out: records, jobs. Does not know: what an address leads to.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import Field, StringConstraints, WithJsonSchema
from starlette.responses import Response

from services.clients import SourceSpec
from services.domain import NAMED_KINDS
from services.errors import Forbidden, InvalidInput
from services.gateway import jobs, openai, shapes
from services.gateway.call import Call, TheCall, answer
from services.gateway.shapes import Address, Asked, AuthorName, Given, SourceShape

Kind = Annotated[
    str,
    StringConstraints(pattern=f"^({'|'.join(NAMED_KINDS)})$"),
    WithJsonSchema({"type": "string", "enum": list(NAMED_KINDS)}),
]
Option = Annotated[str, Field(max_length=2000)] | int | float | bool
_WEB = ("http://", "https://")


class SourceBody(Asked):
    """An address, with what is to be known of it."""

    address: Address
    kind: Kind | None = None
    """null: the crawler finds out."""
    options: Annotated[dict[Annotated[str, Field(max_length=100)], Option], Field(max_length=50)] = Field(
        default_factory=dict
    )
    """Per kind: max_pages, depth, ref, include, exclude, …"""
    every: Annotated[float, Field(ge=60, le=10 * 366 * 86400)] | None = None
    """Seconds between crawls; null: only by hand."""
    watch: bool = False
    """A folder: look for changes all the time."""

    def spec(self) -> SourceSpec:
        options = {
            name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in self.options.items()
        }
        return SourceSpec(self.address, self.kind, options, self.every, self.watch)


class PutSourceBody(SourceBody):
    author: AuthorName


class SourceList(Given):
    data: list[SourceShape]


def may_write(call: Call, author: str) -> None:
    """Whether the key may bring text in for this author."""
    call.may_touch(author, "author")
    if author.casefold() == openai.EVERYONE_MODEL:
        raise InvalidInput("The name twin means every author: choose another one.", param="author")


def may_read(call: Call, source: SourceBody, param: str) -> None:
    """A path is read with the service's own rights: only an admin may name one."""
    if not call.admin and not source.address.lower().startswith(_WEB):
        raise Forbidden(
            "Only an admin's key may name what is no http(s) address. Upload the files instead.", param=param
        )


async def find(call: TheCall, author: Annotated[str | None, Query(max_length=200)] = None) -> Response:
    """List the sources."""
    if author is not None:
        call.may_touch(author, "author")
    return answer({"data": [shapes.source(each) for each in await call.parts.crawler.list_sources(call.scope, author)]})


async def put(call: TheCall, body: PutSourceBody) -> Response:
    """Add a source, or change its schedule and options: an author's source is known by its address."""
    may_write(call, body.author)
    may_read(call, body, "address")
    return answer(shapes.source(await call.parts.crawler.put_source(body.author, body.spec(), call.scope)), 201)


async def refresh(call: TheCall, id: str) -> Response:
    """Crawl a source now."""
    return jobs.accepted(await call.parts.crawler.refresh_source(id, call.scope))


async def delete(call: TheCall, id: str) -> Response:
    """Forget a source. Its documents stay."""
    await call.parts.crawler.delete_source(id, call.scope)
    await call.audit("source.delete", id)
    return answer({"id": id, "deleted": True})
