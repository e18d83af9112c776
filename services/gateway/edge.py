"""Around every request: trace, Host and Origin, the body's size, security headers, metrics, one log line.

Comes in and goes out: ASGI. Does not know: routes, keys. Plain ASGI, because a wrapper that buffers breaks streams.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services import telemetry
from services.errors import Forbidden, Internal, TooLarge, TwinError

log = structlog.get_logger()

CSP = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
PROBES = ("/healthz", "/readyz")
"""Asked by machines that name an address of their own choosing; nothing in the answers is anyone's secret."""


def error_response(error: TwinError, headers: dict[str, str] | None = None) -> Response:
    """An error in OpenAI's shape."""
    body = {"error": {"message": error.message, "type": error.type, "code": error.code, "param": error.param}}
    headers = dict(headers or {})
    if error.http in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1)))
    if error.http == 401:
        headers["WWW-Authenticate"] = "Bearer"
    # A message may repeat what the caller sent, and that may be no Unicode: escaped, it is always JSON.
    return Response(json.dumps(body), error.http, headers, "application/json")


class Drain:
    """Whether this gateway was told to stop."""

    def __init__(self) -> None:
        self.asked = False
        """It still answers, and asks callers to connect anew, elsewhere."""
        self.over = asyncio.Event()
        """Callers know it by now: what would go on for as long as somebody looks ends, to be taken up elsewhere."""


class Edge:
    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        origins: Collection[str],
        any_address: bool,
        body_bytes: int,
        upload_bytes: int,
        drain: Drain,
    ) -> None:
        self.app = app
        self._drain = drain
        self._hosts = hosts
        self._origins = origins
        self._any_address = any_address
        self._body_bytes = body_bytes
        self._upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD" and scope["path"] in PROBES:
            # Load balancers and watchers of uptime often ask so.
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        parent = {"traceparent": headers.get(b"traceparent", b"").decode("latin-1")}
        telemetry.HTTP_RUNNING.inc()
        try:
            with telemetry.span(scope["method"], telemetry.SpanKind.SERVER, parent=parent) as span:
                await self._answer(scope, headers, receive, send, span)
        finally:
            telemetry.HTTP_RUNNING.dec()

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send, span: telemetry.Span
    ) -> None:
        began = time.perf_counter()
        trace = telemetry.trace_id()
        private = scope["path"].startswith("/v1/")
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [*message["headers"], *_HEADERS, (b"x-trace-id", trace.encode())]
                if private and not any(name.lower() == b"cache-control" for name, _ in added):
                    added.append((b"cache-control", b"no-store"))
                if self._drain.asked:
                    added = [(name, value) for name, value in added if name.lower() != b"connection"]
                    added.append((b"connection", b"close"))
                message["headers"] = added
            await send(message)

        try:
            self._admit(scope, headers)
            await self.app(scope, self._counting(scope, headers, receive), sending)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            # The outermost boundary: logged whole, answered without detail.
            if not isinstance(error, TwinError):
                log.error("request failed", exc_info=error)
                error = Internal("Something went wrong inside Twin; the log has the cause under this trace.")
            if status == 0:
                await error_response(error)(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if route != "none" else "any"
            telemetry.HTTP_SECONDS.labels(method, route, status).observe(seconds, telemetry.exemplar())
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes(
                {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                    "url.scheme": scope.get("scheme", "http"),
                    "twin.key.id": scope.get("twin.key_id") or "",
                }
            )
            if status >= 500:
                span.set_attribute("error.type", str(status))
            # The path and the query may hold what is nobody's business (the one-time link's token): the route is said.
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                ms=round(seconds * 1000, 1),
                key=scope.get("twin.key_id"),
            )
            # The call holds its request, which holds the scope: what a request leaves goes at once, and not when the
            # collector comes by and holds up another.
            scope.pop("twin.call", None)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if scope["path"] in PROBES:
            return
        authority = headers.get(b"host", b"").decode("latin-1").lower()
        name = _hostname(f"//{authority}")
        if name is None or not (name in self._hosts or (self._any_address and _is_address(name))):
            raise Forbidden(
                "This Host is not Twin's: use the address it listens on, or name the host in TWIN_GATEWAY_HOSTS."
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != authority:
            if origin.decode("latin-1").lower() not in self._origins:
                raise Forbidden(
                    "Requests from other sites' pages are refused: open Twin's own page, call from a program, or have "
                    "the page's origin named in TWIN_GATEWAY_ORIGINS."
                )
            # Whoever looks at that page may have Twin's own open beside it: that session is not lent out.
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"cookie"]

    def _counting(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        upload = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
        most = self._upload_bytes if upload else self._body_bytes
        refusal = TooLarge(f"The body is larger than {most} bytes: send less at once.")
        said = headers.get(b"content-length", b"")
        if said.isdigit() and int(said) > most:
            raise refusal
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > most:
                    raise refusal
            return message

        return counted


def _without_body(send: Send) -> Send:
    async def sending(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sending


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    """A bare address cannot be rebound: only names can be made to point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def loopback(scope: dict[str, Any] | Scope) -> bool:
    """Whether the other end is this machine."""
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
