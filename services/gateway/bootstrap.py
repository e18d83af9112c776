"""The gateway, put together from its settings.

Comes in: Settings. Goes out: a Gateway that serves. The only file here that opens adapters.
"""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from services import clients, process, rpc, telemetry
from services.adapters import open_adapter
from services.errors import Misconfigured, Unavailable
from services.gateway.api import create_app
from services.gateway.auth import LocalKey, PageLinks, keep_admin_key
from services.gateway.edge import Drain
from services.gateway.oidc import Mapped, OpenId, parse_roles
from services.gateway.settings import Settings
from services.ports import Audit, Keys, Limits
from services.settings import read

log = structlog.get_logger()

_GRACE = 10
"""Seconds that running requests have to end."""
SERVICES = ("crawler", "feature", "retriever", "generator")

__all__ = ["SERVICES", "Gateway", "Settings", "build", "main", "serve"]


class _Unsignalled(uvicorn.Server):
    """Who runs it listens to the signals: uvicorn would stop listening at once, before callers know."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is put together. `app` may also be called in the process (httpx.ASGITransport) with `local`."""

    app: FastAPI
    settings: Settings
    local: LocalKey
    keys: Keys
    audit: Audit
    limits: Limits
    channels: Mapping[str, Any]
    own_channels: bool
    drain: Drain
    openid: OpenId | None
    _links: PageLinks

    async def bind(self) -> socket.socket:
        """Take the address; then `await server().serve([socket])`. Unavailable, saying what to do, where it is
        taken. (uvicorn by itself would end the process.) Misconfigured where a network could reach it and nobody has
        a key: whoever opens it knows then who may use it."""
        if (
            not self.settings.loopback
            and self.openid is None
            and all(key.revoked_at is not None for key in await self.keys.find())
        ):
            raise Misconfigured(
                f"{self.settings.gateway_host} is open to the network and there is no key yet. Make the first one with "
                "`twin keys create NAME --role admin` (here, without --url), or listen on 127.0.0.1 (TWIN_GATEWAY_HOST "
                "or --host)."
            )
        return self._bind()

    def _bind(self) -> socket.socket:
        host, port = self.settings.gateway_host, self.settings.gateway_port
        # By its protocol asyncio knows the connections for TCP, and turns Nagle's algorithm off: with it each answer
        # would wait 40 ms for the client's acknowledgement of its head.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(2048)
        except OSError as error:
            listening.close()
            raise Unavailable(
                f"Cannot listen on {host}:{port} ({error.strerror}). Is Twin running already? Otherwise set "
                "TWIN_GATEWAY_PORT to a free port (0: any)."
            ) from error
        return listening

    def page_link(self, port: int | None = None) -> str:
        """A link that opens the page once. `port`: the one really listened on, where the setting says 0."""
        host = self.settings.gateway_host if self.settings.loopback else "localhost"
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port or self.settings.gateway_port}/?token={self._links.issue()}"

    def server(self, grace: float = _GRACE, *, signals: bool = True) -> uvicorn.Server:
        """A server of the app: `await server.serve([await bind()])`; `server.should_exit = True` ends it, and so does a
        signal where `signals` are its own. `grace`: seconds that running requests have to end."""
        config = uvicorn.Config(
            self.app,
            http="httptools",
            lifespan="off",
            # It would log the one-time link's token; edge.py logs each request by its route.
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=math.ceil(grace),
        )
        return uvicorn.Server(config) if signals else _Unsignalled(config)

    async def close(self) -> None:
        for each in (self.keys, self.audit, self.limits):
            await each.close()
        if self.openid is not None:
            await self.openid.close()
        if self.own_channels:
            for channel in self.channels.values():
                await channel.close()


async def build(settings: Settings, channels: Mapping[str, Any] | None = None) -> Gateway:
    """Open the stores, connect to the services. `channels`: service name → channel, for services in this process;
    they stay their owner's to close."""
    own = channels is None
    if channels is None:
        channels = {name: rpc.connect(getattr(settings, f"{name}_address"), settings.identity) for name in SERVICES}
    keys: Keys = await open_adapter("keys", settings.documents_url, settings.directory, setting="TWIN_DOCUMENTS_URL")
    audit: Audit = await open_adapter("audit", settings.documents_url, settings.directory, setting="TWIN_DOCUMENTS_URL")
    limits: Limits = await open_adapter("limits", settings.limits_url, settings.directory)
    if secret := settings.gateway_admin_key.get_secret_value():
        await keep_admin_key(keys, secret)
    openid = _openid(settings)
    local, links, drain = LocalKey(), PageLinks(), Drain()
    app = create_app(
        crawler=clients.Crawler(channels["crawler"]),
        feature=clients.Feature(channels["feature"]),
        retriever=clients.Retriever(channels["retriever"]),
        generator=clients.Generator(channels["generator"]),
        keys=keys,
        audit=audit,
        limits=limits,
        settings=settings,
        links=links,
        channels=channels,
        local=local,
        drain=drain,
        openid=openid,
    )
    return Gateway(app, settings, local, keys, audit, limits, channels, own, drain, openid, links)


def _openid(settings: Settings) -> OpenId | None:
    if not settings.oidc_issuer:
        return None
    return OpenId(
        Mapped(
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            role_claim=settings.oidc_role_claim,
            authors_claim=settings.oidc_authors_claim,
            roles=parse_roles(settings.oidc_roles),
        )
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then tell callers to go elsewhere, and let what runs end."""
    gateway = await process.patiently(lambda: build(settings))
    asked = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, asked.set)
    server = gateway.server(settings.drain_seconds, signals=False)
    try:
        telemetry.serve_metrics(settings.gateway_metrics)
        process.settle()
        serving = asyncio.create_task(server.serve([await gateway.bind()]))
        waiting = asyncio.create_task(asked.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        gateway.drain.asked = True
        await asyncio.sleep(settings.drain_linger_seconds)
        gateway.drain.over.set()
        server.should_exit = True
        await serving
    finally:
        await gateway.close()
        telemetry.flush_traces()


def main() -> None:
    telemetry.configure_logs()
    telemetry.configure_traces("twin-gateway")
    process.run(serve(read(Settings)))
