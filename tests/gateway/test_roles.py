"""Who may do what: every route of the table, without a key, with too small a role, for another author (promise 10)."""

from __future__ import annotations

import pytest

from services.domain import Role
from services.gateway.routes import ROUTES, Route
from tests.gateway.conftest import World

KEYED = [route for route in ROUTES if route.role is not None and not route.local]
SMALLER = {Role.WRITER: "reader", Role.ADMIN: "writer"}
ALL = {"id": "document-alpha", "model": "twin", "name": "alpha"}


def _path(route: Route) -> str:
    return route.path.format_map(ALL)


@pytest.mark.promise(10)
async def test_no_route_without_a_key(world: World) -> None:
    """Without a key, and with one that is none, each route answers 401 in OpenAI's shape before it reads a body."""
    for secret in ("", "sk-twin-nonsense", "page-nonsense"):
        client = world.client(secret)
        for route in KEYED:
            response = await client.request(route.method, _path(route), content=b"not json")
            assert response.status_code == 401, route
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.promise(10)
async def test_no_route_with_too_small_a_role(world: World) -> None:
    """A key of the role below answers 403."""
    clients = {role: world.client(await world.key(smaller)) for role, smaller in SMALLER.items()}
    for route in KEYED:
        if route.role in SMALLER:
            response = await clients[route.role].request(route.method, _path(route), json={})
            assert response.status_code == 403, route
            assert response.json()["error"]["type"] == "permission_error"


async def test_what_concerns_all_needs_a_key_for_all(world: World) -> None:
    """An admin's key that is limited to some authors cannot rebuild, calibrate or read the audit."""
    client = world.client(await world.key("admin", ["alpha"]))
    concerning_all = [route for route in KEYED if route.everyone]
    assert len(concerning_all) >= 4
    for route in concerning_all:
        assert (await client.request(route.method, _path(route))).status_code == 403, route
