"""The gateway's HTTP application, put together.

Comes in: clients of the four services, the gateway's own stores, settings. Goes out: an ASGI application.
Does not know: where its parts come from (bootstrap.py does).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Match

from services import clients
from services.errors import InvalidInput, MethodNotAllowed, NotFound, TwinError
from services.gateway.auth import Auth, LocalKey, PageLinks
from services.gateway.call import Parts
from services.gateway.edge import Drain, Edge, error_response
from services.gateway.names import Names
from services.gateway.oidc import OpenId
from services.gateway.routes import ROUTES, KeyedRoute
from services.gateway.settings import Settings
from services.gateway.shapes import Error
from services.gateway.static import Assets
from services.ports import Audit, Keys, Limits


def create_app(
    *,
    crawler: clients.Crawler,
    feature: clients.Feature,
    retriever: clients.Retriever,
    generator: clients.Generator,
    keys: Keys,
    audit: Audit,
    limits: Limits,
    settings: Settings,
    links: PageLinks,
    channels: Mapping[str, Any],
    drain: Drain,
    local: LocalKey | None = None,
    openid: OpenId | None = None,
) -> FastAPI:
    """The application. `channels`: service name → channel, asked for its health by /readyz. `links` makes the tokens
    of one-time links; `local` is this process's own admin key, if it has one."""
    parts = Parts(
        crawler=crawler,
        feature=feature,
        retriever=retriever,
        generator=generator,
        keys=keys,
        audit=audit,
        settings=settings,
        auth=Auth(
            keys,
            limits,
            per_minute=settings.gateway_requests_per_minute,
            session_days=settings.gateway_session_days,
            local=local,
            openid=openid,
        ),
        links=links,
        names=Names(crawler),
        channels=channels,
        drain=drain,
    )
    # FastAPI's own pages fetch their scripts from another host: /docs is ours (static.py).
    app = FastAPI(title="Twin", version=version("twin"), docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.router.routes.extend(KeyedRoute(entry, parts) for entry in ROUTES)
    app.mount("/assets", Assets(), name="assets")
    app.add_exception_handler(TwinError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            # OpenAI's client for browsers has a dozen of its own.
            allow_headers=["*"],
            expose_headers=["ETag", "Location", "Retry-After", "X-Trace-Id"],
        )
    app.add_middleware(
        Edge,
        hosts=settings.hosts,
        origins=settings.origins,
        any_address=_unspecified(settings.gateway_host),
        body_bytes=settings.gateway_body_bytes,
        upload_bytes=settings.gateway_upload_bytes,
        drain=drain,
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _unspecified(host: str) -> bool:
    """Listening on every address, it may be called by any of them."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


# ── Errors: all in OpenAI's shape ───────────────────────────────────────────────────────────────────


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TwinError)  # noqa: S101 — for the type checker: it is registered for nothing else
    return error_response(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    wrong = error.errors()
    place = wrong[0]["loc"][0]
    if wrong[0]["type"] == "json_invalid":
        return error_response(InvalidInput("The body is not JSON."))
    params = [_param(each["loc"][1:], error.body if place == "body" else None) for each in wrong]
    # A field of several types fails once for each: what matters is the type that came furthest.
    field = params[0].partition(".")[0]
    param, first = max(
        ((param, each) for param, each in zip(params, wrong, strict=True) if param.partition(".")[0] == field),
        key=lambda found: (found[0].count("."), not found[1]["type"].endswith("_type")),
    )
    what = {
        "extra_forbidden": "there is no such field; leave it out, or check its spelling",
        "missing": "this is required",
    }.get(first["type"], first["msg"])
    if not param:
        return error_response(InvalidInput(f"The {place} is wrong: {what}."))
    return error_response(InvalidInput(f"{param}: {what.rstrip('.')}.", param=param))


def _param(path: Sequence[int | str], body: Any) -> str:
    """A field's path in dots. Where types are in question pydantic's path names them too: those are not the caller's
    words, and are left out by following the body itself."""
    if body is None:
        return ".".join(str(each) for each in path)
    found = []
    for number, each in enumerate(path):
        if isinstance(body, dict) and isinstance(each, str) and (each in body or number == len(path) - 1):
            found.append(each)
            body = body.get(each)
        elif isinstance(body, list) and isinstance(each, int) and each < len(body):
            found.append(str(each))
            body = body[each]
    return ".".join(found)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if isinstance(error.__cause__, TwinError):
        return error_response(error.__cause__)
    if error.status_code == 404:
        return error_response(NotFound("There is no such route: see /docs."))
    if error.status_code == 405:
        methods = sorted(
            {
                method
                for route in request.app.router.routes
                if route.matches(request.scope)[0] is not Match.NONE
                for method in getattr(route, "methods", None) or ()
            }
        )
        allow = ", ".join(methods or ["GET", "HEAD"])
        return error_response(MethodNotAllowed(f"This route takes {allow}."), {"Allow": allow})
    return error_response(InvalidInput("The request could not be read: check its body and headers."))


# ── The OpenAPI document ────────────────────────────────────────────────────────────────────────────


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title="Twin",
            version=app.version,
            summary="Answers from what a person has written, with its sources.",
            routes=app.routes,
        )
        error = Error.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= {**error.pop("$defs"), "Error": error}
        document["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "`sk-twin-…`, as `twin keys create` makes it."},
            "page": {
                "type": "apiKey",
                "in": "cookie",
                "name": "twin_page",
                "description": "Set by the one-time link (the port follows the name). All but GET need X-Twin-Page.",
            },
        }
        app.openapi_schema = document
    return app.openapi_schema
