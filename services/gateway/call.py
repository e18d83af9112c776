"""What a route's function is given: the services behind the gateway, and who asks.

Comes in: a request that routes.py has let in. Goes out: a Call. Does not know: any route.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from services import clients
from services.domain import AuditEntry, Key, Role, Scope
from services.errors import Cancelled, Forbidden
from services.gateway.auth import Auth, PageLinks
from services.gateway.edge import Drain
from services.gateway.names import Names
from services.gateway.settings import Settings
from services.ports import Audit, Keys

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    crawler: clients.Crawler
    feature: clients.Feature
    retriever: clients.Retriever
    generator: clients.Generator
    keys: Keys
    audit: Audit
    settings: Settings
    auth: Auth
    links: PageLinks
    names: Names
    channels: Mapping[str, Any]
    """Service name → channel, for its health."""
    drain: Drain


@dataclass(frozen=True, slots=True)
class Call:
    """One request of one key."""

    parts: Parts
    key: Key
    request: Request

    @property
    def scope(self) -> Scope:
        return self.key.scope

    def may_touch(self, author: str, param: str) -> None:
        """Forbidden where the key is not for this author; it says nothing of whether there is one."""
        if not self.scope.allows(author):
            raise Forbidden("This key is not for that author.", param=param)

    @property
    def admin(self) -> bool:
        return self.key.role is Role.ADMIN

    async def audit(self, action: str, target: str, detail: str = "") -> None:
        """Keep who did what."""
        await self.parts.audit.append(
            AuditEntry(secrets.token_hex(16), time.time(), self.key.id, action, target, detail)
        )


async def _current(request: Request) -> Call:
    call: Call = request.scope["twin.call"]
    return call


TheCall = Annotated[Call, Depends(_current)]


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, built by hand: validating what we made ourselves would cost more than the search."""
    return Response(to_json(content), status, headers, "application/json")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; when the caller goes away the work is cancelled. The body must have been read."""
    working = asyncio.current_task()
    assert working is not None  # noqa: S101 — for the type checker: only in a task is there something to await
    left = ended = False

    def leave(gone: asyncio.Task[None]) -> None:
        nonlocal left
        if not ended and not gone.cancelled():
            left = True
            working.cancel()

    gone = asyncio.create_task(_disconnect(request))
    gone.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left or working.uncancel():
            raise
        raise Cancelled("The caller went away.") from None
    finally:
        ended = True
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def first(events: AsyncGenerator[T, None]) -> T:
    """The first event, for an error before it still has a status of its own."""
    return await anext(events)
