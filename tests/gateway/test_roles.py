"""Who may do what: every route of the table, without a key, with too small a role, for another author (promise 10)."""

from __future__ import annotations

import pytest

from services.domain import Role
from services.gateway.routes import ROUTES, Route
from tests.gateway.conftest import World

KEYED = [route for route in ROUTES if route.role is not None and not route.local]
SMALLER = {Role.WRITER: "reader", Role.ADMIN: "writer"}
ALL = {"id": "document-alpha", "model": "twin", "name": "alpha"}


def _id(route: Route) -> str:
    return f"{route.method} {route.path}"


def _path(route: Route) -> str:
    return route.path.format_map(ALL)


@pytest.mark.parametrize("route", KEYED, ids=_id)
async def test_no_route_without_a_key(world: World, route: Route) -> None:
    """Without a key, and with one that is none, each route answers 401 in OpenAI's shape before it reads a body."""
    for secret in ("", "sk-twin-nonsense", "page-nonsense"):
        response = await world.client(secret).request(route.method, _path(route), content=b"not json")
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", [route for route in KEYED if route.role is not Role.READER], ids=_id)
async def test_no_route_with_too_small_a_role(world: World, route: Route) -> None:
    """A key of the role below answers 403."""
    secret = await world.key(SMALLER[route.role or Role.ADMIN])
    response = await world.client(secret).request(route.method, _path(route), json={})
    assert response.status_code == 403
    assert response.json()["error"]["type"] == "permission_error"


@pytest.mark.parametrize("route", [route for route in KEYED if route.everyone], ids=_id)
async def test_what_concerns_all_needs_a_key_for_all(world: World, route: Route) -> None:
    """An admin's key that is limited to some authors cannot rebuild, calibrate or read the audit."""
    secret = await world.key("admin", ["alpha"])
    response = await world.client(secret).request(route.method, _path(route))
    assert response.status_code == 403
