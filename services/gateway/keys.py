"""API keys: made, listed, revoked.

Comes in: a name, a role, authors. Goes out: the key, and its secret once. Does not know: where keys are kept.
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.domain import Key, Role
from services.errors import Forbidden, NotFound
from services.gateway import auth, shapes
from services.gateway.call import Call, TheCall, answer
from services.gateway.shapes import Asked, AuthorName, Given, Time, Whole


class KeyBody(Asked):
    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")]
    role: Literal["reader", "writer", "admin"] = "reader"
    authors: Annotated[list[AuthorName], Field(min_length=1, max_length=1000)] | None = None
    """null: every author, those to come included."""
    expires_in_days: Annotated[float, Field(gt=0, le=36500)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000), Whole] | None = None
    """null: the gateway's own limit."""


class KeyShape(Given):
    id: str
    name: str
    role: Literal["reader", "writer", "admin"]
    authors: list[str] | None
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    used_at: Time | None
    requests_per_minute: int | None


class NewKey(KeyShape):
    secret: str
    """Shown this once: only its hash is kept."""


class KeyList(Given):
    data: list[KeyShape]


async def create(call: TheCall, body: KeyBody) -> Response:
    """Make a key. Its secret is shown this once."""
    authors = None if body.authors is None else tuple(dict.fromkeys(body.authors))
    if not _within(call, authors):
        raise Forbidden("A key can be made only for authors that your own key may see.", param="authors")
    secret, now = auth.new_secret(), time.time()
    key = Key(
        id=secrets.token_hex(8),
        hash=auth.secret_hash(secret),
        name=body.name,
        role=Role(body.role),
        authors=authors,
        created_at=now,
        expires_at=None if body.expires_in_days is None else now + body.expires_in_days * 86400,
        requests_per_minute=body.requests_per_minute,
    )
    await call.parts.keys.save(key)
    await call.audit("key.create", key.id, f"{body.role} {body.name}")
    return answer({**_key(key), "secret": secret}, 201)


async def find(call: TheCall) -> Response:
    """List the keys, and the page's sessions (their ids begin with `page-`)."""
    return answer({"data": [_key(each) for each in await call.parts.keys.find() if _within(call, each.authors)]})


async def revoke(call: TheCall, id: str) -> Response:
    """Revoke a key: it opens nothing from now on."""
    if not any(each.id == id and _within(call, each.authors) for each in await call.parts.keys.find()):
        raise NotFound("There is no such key.")
    revoked = await call.parts.auth.revoke(id)
    if revoked is None:
        raise NotFound("There is no such key.")
    await call.audit("key.revoke", id, revoked.name)
    return answer(_key(revoked))


def _within(call: Call, authors: tuple[str, ...] | None) -> bool:
    """Whether a key for these authors sees no more than the caller's does."""
    if authors is None:
        return call.scope.everyone
    return all(call.scope.allows(author) for author in authors)


def _key(each: Key) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "role": each.role,
        "authors": None if each.authors is None else list(each.authors),
        "created_at": shapes.time(each.created_at),
        "expires_at": shapes.time_or_none(each.expires_at),
        "revoked_at": shapes.time_or_none(each.revoked_at),
        "used_at": shapes.time_or_none(each.used_at),
        "requests_per_minute": each.requests_per_minute,
    }
