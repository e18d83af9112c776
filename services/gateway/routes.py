"""Every route once: what it is, the role it needs, what it takes and gives, how it may refuse.

Comes in: nothing. Goes out: the table, and the FastAPI route that lets a request in by it. Does not know: how a
request is answered. The authors that a route may touch come from the key; tests walk through this table.
"""

from __future__ import annotations

import email.message
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.domain import Key, Role
from services.errors import Forbidden, InvalidInput, UnsupportedMedia
from services.gateway import (
    administration,
    authors,
    chat,
    documents,
    embeddings,
    generations,
    ingest,
    jobs,
    keys,
    models,
    openai,
    search,
    sources,
    static,
    status,
)
from services.gateway.call import Call, Parts
from services.gateway.edge import loopback
from services.gateway.shapes import AuthorName, Gone, SourceShape

READER, WRITER, ADMIN = Role.READER, Role.WRITER, Role.ADMIN
_NOBODY = Key("", "", "nobody", Role.READER, (), created_at=0.0)

ALWAYS = (400, 403, 429, 503, 504)
"""What any route with a key may refuse with, beside 401: it asks a service, and every key has its limit."""
SAYS = {
    303: "The one-time link was used: on to the page.",
    304: "It is as the caller has it.",
    400: "The request is wrong: `param` names the field.",
    401: "No key, or one that is not valid.",
    403: "The key may not do this, or the Host or Origin is foreign.",
    404: "It is not there, or not for this key.",
    405: "The route is there, the method is not.",
    409: "It changed meanwhile, or it exists.",
    412: "If-Match does not hold.",
    413: "Larger than allowed.",
    415: "A body of another media type than the one said.",
    422: "Well formed, but it cannot be carried out.",
    429: "Too much at once: wait as long as Retry-After says.",
    503: "A part is away: try again when Retry-After says.",
    504: "It took longer than allowed.",
}
_UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["author", "file"],
                "additionalProperties": False,
                "properties": {
                    "author": {**TypeAdapter(AuthorName).json_schema(), "description": "Comes first."},
                    "file": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
                },
            }
        }
    },
}
_STREAM = "text/event-stream"
_STRING = {"type": "string"}
_EVENTS: dict[str, Any] = {}
"""Without a schema: it would have to be that of the whole stream, and is read as that of an event."""
_MATCH = [
    {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}},
    {"name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"}},
]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    role: Role | None
    """None: no key is asked for."""
    handler: Callable[..., Awaitable[Response]]
    gives: type[BaseModel] | str
    """The answer's model, or the media type of one that is no JSON."""
    tag: str
    status: int = 200
    refuses: tuple[int, ...] = ()
    """Beside those that every route may answer with."""
    everyone: bool = False
    """It concerns all authors: a key for some may not."""
    local: bool = False
    """From this machine it needs no key."""
    streams: bool = False
    """It may answer with server-sent events."""
    extra: dict[str, Any] | None = None
    """For the OpenAPI document, what the function's signature doesn't say."""

    @property
    def statuses(self) -> tuple[int, ...]:
        """Every status it may refuse with."""
        known = (*ALWAYS, 401) if self.role is not None else (403, 503) if self.path == "/readyz" else ()
        return tuple(sorted({405, *known, *self.refuses}))


BODY = (413, 415, 422)
"""What a route with a body may also refuse with."""
_CHAT, _CORPUS, _INGEST, _ADMIN, _STATE, _PAGE = "Answers", "Corpus", "Bringing in", "Administration", "State", "Page"

ROUTES = (
    Route(
        "POST",
        "/v1/chat/completions",
        READER,
        chat.complete,
        openai.ChatAnswer,
        _CHAT,
        refuses=(404, *BODY),
        streams=True,
    ),
    Route("GET", "/v1/models", READER, models.find, openai.ModelList, _CHAT),
    Route("GET", "/v1/models/{model}", READER, models.get, openai.Model, _CHAT, refuses=(404,)),
    Route("POST", "/v1/embeddings", READER, embeddings.create, openai.EmbeddingsAnswer, _CHAT, refuses=(404, *BODY)),
    Route("POST", "/v1/search", READER, search.search, search.SearchAnswer, _CHAT, refuses=BODY),
    Route("GET", "/v1/generations", READER, generations.find, generations.GenerationList, _CHAT),
    Route("GET", "/v1/generations/{id}", READER, generations.get, generations.GenerationWhole, _CHAT, refuses=(404,)),
    Route("DELETE", "/v1/generations/{id}", READER, generations.delete, Gone, _CHAT, refuses=(404,)),
    Route("POST", "/v1/feedback", READER, generations.rate, generations.FeedbackShape, _CHAT, 201, (404, *BODY)),
    #
    Route("POST", "/v1/ingest-jobs", WRITER, ingest.start, jobs.Job, _INGEST, 202, (404, 409, *BODY)),
    Route("GET", "/v1/ingest-jobs", READER, jobs.find, jobs.JobList, _INGEST),
    Route("GET", "/v1/ingest-jobs/{id}", READER, jobs.get, jobs.Job, _INGEST, refuses=(404,)),
    Route("GET", "/v1/ingest-jobs/{id}/events", READER, jobs.watch, "text/event-stream", _INGEST, refuses=(404,)),
    Route("DELETE", "/v1/ingest-jobs/{id}", WRITER, jobs.cancel, jobs.Job, _INGEST, refuses=(404, 409)),
    Route("POST", "/v1/ingest-jobs/{id}/retry", WRITER, jobs.retry, jobs.Job, _INGEST, 202, (404, 409)),
    Route(
        "POST",
        "/v1/documents",
        WRITER,
        ingest.upload,
        jobs.Job,
        _INGEST,
        202,
        (409, *BODY),
        extra={"requestBody": _UPLOAD},
    ),
    Route("GET", "/v1/sources", READER, sources.find, sources.SourceList, _INGEST),
    Route("POST", "/v1/sources", WRITER, sources.put, SourceShape, _INGEST, 201, (404, 409, *BODY)),
    Route("POST", "/v1/sources/{id}/refresh", WRITER, sources.refresh, jobs.Job, _INGEST, 202, (404, 409)),
    Route("DELETE", "/v1/sources/{id}", WRITER, sources.delete, Gone, _INGEST, refuses=(404, 409)),
    #
    Route("GET", "/v1/documents", READER, documents.find, documents.DocumentList, _CORPUS),
    Route(
        "GET",
        "/v1/documents/{id}",
        READER,
        documents.get,
        documents.DocumentWithText,
        _CORPUS,
        refuses=(304, 404, 412),
        extra={"parameters": _MATCH},
    ),
    Route(
        "DELETE",
        "/v1/documents/{id}",
        WRITER,
        documents.delete,
        documents.DocumentGone,
        _CORPUS,
        refuses=(404, 409, 412),
        extra={"parameters": _MATCH[1:]},
    ),
    Route("GET", "/v1/authors", READER, authors.find, authors.AuthorList, _CORPUS),
    Route("DELETE", "/v1/authors/{name}", ADMIN, authors.delete, authors.AuthorGone, _CORPUS, refuses=(404, 409)),
    #
    Route("POST", "/v1/api-keys", ADMIN, keys.create, keys.NewKey, _ADMIN, 201, BODY),
    Route("GET", "/v1/api-keys", ADMIN, keys.find, keys.KeyList, _ADMIN),
    Route("DELETE", "/v1/api-keys/{id}", ADMIN, keys.revoke, keys.KeyShape, _ADMIN, refuses=(404,)),
    Route("GET", "/v1/audit", ADMIN, administration.audit, administration.AuditList, _ADMIN, everyone=True),
    Route(
        "POST",
        "/v1/reindex-jobs",
        ADMIN,
        administration.reindex,
        administration.ReindexShape,
        _ADMIN,
        202,
        (409,),
        everyone=True,
    ),
    Route(
        "GET",
        "/v1/reindex-jobs/{id}",
        ADMIN,
        administration.get_reindex,
        administration.ReindexShape,
        _ADMIN,
        refuses=(404,),
        everyone=True,
    ),
    Route(
        "POST",
        "/v1/calibrations",
        ADMIN,
        administration.calibrate,
        administration.ManifestShape,
        _ADMIN,
        201,
        (409, 422),
        everyone=True,
    ),
    #
    Route("GET", "/v1/status", READER, status.status, status.Status, _STATE),
    Route("GET", "/healthz", None, status.healthz, status.Health, _STATE),
    Route("GET", "/readyz", None, status.readyz, status.Health, _STATE),
    Route("GET", "/metrics", ADMIN, status.metrics, "text/plain", _STATE, local=True),
    Route("GET", "/", None, static.page, "text/html", _PAGE, refuses=(303, 400, 403)),
    Route("GET", "/docs", None, static.reference, "text/html", _PAGE, refuses=(403,)),
    Route("GET", "/docs/{name}", None, static.reference_file, "text/plain", _PAGE, refuses=(403, 404)),
)


class KeyedRoute(APIRoute):
    """Lets a request in by the table, before a byte of its body is read."""

    def __init__(self, entry: Route, parts: Parts) -> None:
        self._entry = entry
        self._parts = parts
        super().__init__(
            entry.path,
            entry.handler,
            methods=[entry.method],
            status_code=entry.status,
            response_model=entry.gives if not isinstance(entry.gives, str) else None,
            tags=[entry.tag],
            name=f"{entry.handler.__module__.rpartition('.')[2]}.{entry.handler.__name__}",
            operation_id=f"{entry.handler.__module__.rpartition('.')[2]}_{entry.handler.__name__}",
            responses=_responses(entry),
            openapi_extra=_extra(entry),
        )
        self._parameters = sorted(each.alias for each in self.dependant.query_params)
        self._body = _body(entry.handler)
        if self._body is not None:
            self._framework, self.app = self.app, self._direct

    async def _direct(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The way of a route that takes a body and nothing else: FastAPI's own costs a quarter of what the gateway does
        for a question. A body that is not as it should be goes FastAPI's way, for its errors."""
        request = Request(scope, receive, send)
        await self._admit(request)
        content = await request.body()
        try:
            body = self._body.model_validate(from_json(content)) if self._body is not None else None
        except (ValueError, RecursionError):
            await self._framework(scope, _again(content, receive), send)
            return
        response = await self._entry.handler(request.scope["twin.call"], body)
        await response(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_admitted(request: Request) -> Response:
            if "twin.call" not in request.scope:
                await self._admit(request)
            return await handle(request)

        return handle_admitted

    async def _admit(self, request: Request) -> None:
        entry, auth = self._entry, self._parts.auth
        key = _NOBODY
        if entry.role is not None and not (entry.local and loopback(request.scope)):
            key = await auth.caller(request)
            request.scope["twin.key_id"] = key.id
            await auth.within_limit(key)
            if not key.role.includes(entry.role):
                raise Forbidden(f"This key is a {key.role}'s; this needs one of role {entry.role}.")
            if entry.everyone and not key.scope.everyone:
                raise Forbidden("This concerns every author: it needs a key that is not limited to some.")
        if entry.role is not None and entry.method != "POST":
            self._know_parameters(request)
        if self.body_field is not None and not _is_json(request.headers.get("content-type", "")):
            raise UnsupportedMedia("Send the body as JSON, with the header `Content-Type: application/json`.")
        request.scope["twin.call"] = Call(self._parts, key, request)

    def _know_parameters(self, request: Request) -> None:
        """InvalidInput for a parameter that would be passed over: a list narrowed by a misspelt name would be whole."""
        for name in request.query_params:
            if name not in self._parameters:
                there = f"it takes {', '.join(self._parameters)}" if self._parameters else "it takes none"
                raise InvalidInput(f"{name}: there is no such parameter; {there}.", param=name)


def _body(handler: Callable[..., Awaitable[Response]]) -> type[BaseModel] | None:
    """The model of a route's body, where it takes that and nothing else but the call."""
    taken = inspect.signature(handler, eval_str=True).parameters
    if list(taken) != ["call", "body"]:
        return None
    kind = taken["body"].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _again(content: bytes, receive: Receive) -> Receive:
    """What a body was read from, not read yet."""
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


@lru_cache(64)
def _is_json(content_type: str) -> bool:
    message = email.message.Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _responses(entry: Route) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    given = "Made." if entry.status == 201 else "Accepted." if entry.status == 202 else "As asked."
    found[entry.status] = {"description": given}
    if isinstance(entry.gives, str):
        found[entry.status]["content"] = {entry.gives: _EVENTS if entry.gives == _STREAM else {"schema": _STRING}}
    elif entry.streams:
        found[entry.status]["content"] = {_STREAM: _EVENTS}
    for code in entry.statuses:
        found[code] = {"description": SAYS[code]}
        if code not in (303, 304):
            # Named, not given as a model: FastAPI would build a serializer for each of 400 places.
            found[code]["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return found


def _extra(entry: Route) -> dict[str, Any]:
    extra = dict(entry.extra or {})
    if entry.role is not None:
        schemes: list[dict[str, list[str]]] = [{"key": []}, {"page": []}]
        extra["security"] = [*schemes, {}] if entry.local else schemes
        extra["x-role"] = entry.role.value
    return extra
