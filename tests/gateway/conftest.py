"""A gateway as it is built, before scripted services on Unix sockets, and callers with keys of each role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services import rpc
from services.gateway.bootstrap import Gateway, Settings, build
from tests.gateway.scripted import SERVICES, Services

BASE = "http://localhost:8000"


@dataclass
class World:
    """The gateway, what is behind it, and how to call it."""

    gateway: Gateway
    services: Services
    server: rpc.Server

    def client(self, secret: str = "", **headers: str) -> httpx.AsyncClient:
        """In this process; `secret`: a key, or none."""
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.gateway.app), base_url=BASE, headers=headers)

    @property
    def admin(self) -> httpx.AsyncClient:
        return self.client(self.gateway.local.secret)

    async def key(self, role: str = "reader", authors: list[str] | None = None, **more: object) -> str:
        """A new key's secret."""
        body = {"name": f"{role} of a test", "role": role, "authors": authors, **more}
        response = await self.admin.post("/v1/api-keys", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["secret"])


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Builds worlds with settings that differ from the defaults."""
    made: list[World] = []

    async def make(**settings: object) -> World:
        services = Services()
        path = tmp_path / f"{len(made)}.sock"
        server = rpc.Server(f"unix:{path}", [(each, services) for each in SERVICES.values()])
        await server.start()
        channels = {name: rpc.connect(server.address) for name in SERVICES}
        values: dict[str, object] = {"data_dir": tmp_path / f"data-{len(made)}", "gateway_port": 0, **settings}
        gateway = await build(Settings.model_validate(values), channels)
        made.append(World(gateway, services, server))
        return made[-1]

    yield make
    for each in made:
        await each.gateway.close()
        for channel in each.gateway.channels.values():
            await channel.close()
        await each.server.stop(0)


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    return await make_world()


@pytest.fixture
async def served(world: World) -> AsyncIterator[str]:
    """The world over a real socket; its address."""
    server, listening = world.gateway.server(), await world.gateway.bind()
    task = asyncio.create_task(server.serve([listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    await task
