"""What the routes answer and what the OpenAPI document declares are made apart, for speed: here they meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from services.gateway.openai import ChatBody
from services.gateway.routes import ROUTES, SAYS, Route
from tests.gateway.conftest import World

SOURCES = {"author": "alpha", "sources": ["https://example.org"]}
CHAT = {"model": "twin", "messages": [{"role": "user", "content": "How?"}]}
BODIES: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": {"model": "twin", "input": "a"},
    "/v1/search": {"query": "How?"},
    "/v1/feedback": {"generation_id": "generation-1", "rating": -1, "correction": "So."},
    "/v1/ingest-jobs": SOURCES,
    "/v1/sources": {"author": "alpha", "address": "https://example.org", "every": 3600, "options": {"depth": "1"}},
    "/v1/api-keys": {"name": "a key", "role": "reader", "authors": ["alpha"], "expires_in_days": 1},
}
WITH_MODEL = [route for route in ROUTES if not isinstance(route.gives, str)]


def _undeclared(value: BaseModel, at: str = "") -> list[str]:
    """Paths of fields that no model declares."""
    found = [f"{at}.{name}" for name in value.model_extra or {}]
    for name in type(value).model_fields:
        for each in _models(getattr(value, name)):
            found += _undeclared(each, f"{at}.{name}")
    return found


def _models(value: Any) -> list[BaseModel]:
    if isinstance(value, BaseModel):
        return [value]
    return [each for each in value if isinstance(each, BaseModel)] if isinstance(value, list) else []


@pytest.mark.parametrize("route", WITH_MODEL, ids=lambda route: f"{route.method} {route.path}")
async def test_an_answer_is_as_declared(world: World, route: Route) -> None:
    """A good answer of each route has the declared status, every declared field with its type, and no other."""
    admin = world.admin
    await admin.post("/v1/chat/completions", json=CHAT)
    await admin.post("/v1/feedback", json=BODIES["/v1/feedback"])
    job = (await admin.post("/v1/ingest-jobs", json=SOURCES)).json()["id"]
    key = (await admin.post("/v1/api-keys", json=BODIES["/v1/api-keys"])).json()["id"]
    ids = {
        "/v1/generations/{id}": "generation-1",
        "/v1/sources/{id}": "source-alpha",
        "/v1/sources/{id}/refresh": "source-alpha",
        "/v1/documents/{id}": "document-alpha",
        "/v1/api-keys/{id}": key,
        "/v1/reindex-jobs/{id}": "reindex-1",
    }
    path = route.path.format(id=ids.get(route.path, job), model="alpha", name="alpha")
    if route.path == "/v1/documents" and route.method == "POST":
        response = await admin.post(path, data={"author": "alpha"}, files={"file": ("a.md", b"x")})
    else:
        response = await admin.request(route.method, path, json=BODIES.get(path) if route.method == "POST" else None)
    assert response.status_code == route.status, response.text
    assert not isinstance(route.gives, str)
    assert _undeclared(route.gives.model_validate_json(response.content, strict=True)) == []


async def test_the_document_declares_what_it_may_answer(world: World) -> None:
    """Every status of HTTP's that Twin uses is declared somewhere, each error with its shape, and no 500."""
    document = (await world.client().get("/openapi.json")).json()
    declared = {
        int(status)
        for methods in document["paths"].values()
        for each in methods.values()
        for status in each["responses"]
    }
    assert declared - {200, 201, 202} == set(SAYS)
    assert set(document["components"]["securitySchemes"]) == {"key", "page"}
    for route in ROUTES:
        described = document["paths"][route.path][route.method.lower()]
        assert ("security" in described) == (route.role is not None)
        for status in route.statuses:
            if status not in (303, 304):
                schema = described["responses"][str(status)]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}


def test_every_openai_field_is_in_the_table() -> None:
    """docs/openai-compatibility.md names each field that a chat request may have."""
    table = (Path(__file__).parents[2] / "docs" / "openai-compatibility.md").read_text()
    assert [name for name in ChatBody.model_fields if f"`{name}`" not in table] == []


async def test_nothing_comes_from_another_host(world: World) -> None:
    """The reference at /docs is drawn by the gateway's own script and style."""
    for path in ("/docs", "/docs/reference.js", "/docs/reference.css"):
        response = await world.client().get(path)
        assert response.status_code == 200
        assert "http://" not in response.text
        assert "https://" not in response.text
    assert (await world.client().get("/docs/../api.py")).status_code == 404


@pytest.mark.parametrize(("k", "status"), [(1, 200), (1.0, 200), (1.5, 400), (True, 400), ("1", 400)])
async def test_a_whole_number_may_be_written_with_a_point(world: World, k: object, status: int) -> None:
    """JSON has numbers of one kind: 1.0 is 1, as its schema says; a fraction, a boolean or a text is none."""
    assert (await world.admin.post("/v1/search", json={"query": "How?", "k": k})).status_code == status
