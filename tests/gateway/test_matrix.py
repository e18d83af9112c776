"""Every route of the table × form of credential × foreign author, on a real Twin: nothing of a forbidden author, its
existence included (promises 8 and 10). A route that is added needs a row here."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services import embedded
from services.gateway.routes import ROUTES, Route

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

MINE, THEIRS = "alpha", "beta"
SECRET = "zanzibarquokka"
"""In every text of the foreign author, and nowhere else."""
TEXTS = {
    MINE: "# Bees\n\nBees need fifteen kilograms of honey to come through the winter.\n",
    THEIRS: f"# {SECRET} Title\n\nThe {SECRET} hides fifteen kilograms of honey for the winter.\n",
}
QUESTION = "How much honey for the winter?"


@dataclass
class World:
    http: httpx.AsyncClient
    keys: dict[str, str]
    """Role → secret of a key for MINE alone."""
    theirs: dict[str, str]
    """Kind → id of something of THEIRS."""
    admin: dict[str, str]
    """Headers of the process's own admin."""
    invalid: dict[str, dict[str, str]]
    """Name → headers of a credential that is none."""

    async def ask(self, route: Route, headers: dict[str, str], values: dict[str, str]) -> httpx.Response:
        path, sent = ROWS[route.method, route.path](values)
        self.http.cookies.clear()
        return await self.http.request(route.method, path, headers={"Authorization": "", **headers}, **sent)


def _path(route: str, *names: str, **sent: Any) -> Callable[[dict[str, str]], tuple[str, dict[str, Any]]]:
    """A row whose path names something by id, with a body that needs none."""
    return lambda values: (route.format(id=values.get(names[0] if names else "", "")), sent)


def _chat(values: dict[str, str]) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {
        "json": {"model": values["author"], "messages": [{"role": "user", "content": QUESTION}]}
    }


ROWS: dict[tuple[str, str], Callable[[dict[str, str]], tuple[str, dict[str, Any]]]] = {
    ("POST", "/v1/chat/completions"): _chat,
    ("GET", "/v1/models"): _path("/v1/models"),
    ("GET", "/v1/models/{model}"): lambda values: (f"/v1/models/{values['author']}", {}),
    ("POST", "/v1/embeddings"): _path("/v1/embeddings", json={"model": "twin", "input": "text"}),
    ("POST", "/v1/search"): lambda values: (
        "/v1/search", {"json": {"query": QUESTION, "filter": {"author": values["author"]}}}),
    ("GET", "/v1/generations"): _path("/v1/generations"),
    ("GET", "/v1/generations/{id}"): _path("/v1/generations/{id}", "generation"),
    ("DELETE", "/v1/generations/{id}"): _path("/v1/generations/{id}", "generation"),
    ("POST", "/v1/feedback"): lambda values: (
        "/v1/feedback", {"json": {"generation_id": values["generation"], "rating": 1}}),
    ("POST", "/v1/ingest-jobs"): lambda values: (
        "/v1/ingest-jobs", {"json": {"author": values["author"], "sources": ["https://a.example/"]}}),
    ("GET", "/v1/ingest-jobs"): _path("/v1/ingest-jobs"),
    ("GET", "/v1/ingest-jobs/{id}"): _path("/v1/ingest-jobs/{id}", "job"),
    ("GET", "/v1/ingest-jobs/{id}/events"): _path("/v1/ingest-jobs/{id}/events", "job"),
    ("DELETE", "/v1/ingest-jobs/{id}"): _path("/v1/ingest-jobs/{id}", "job"),
    ("POST", "/v1/ingest-jobs/{id}/retry"): _path("/v1/ingest-jobs/{id}/retry", "job"),
    ("POST", "/v1/documents"): lambda values: (
        "/v1/documents", {"data": {"author": values["author"]}, "files": {"file": ("a.md", b"# A\n\nText.\n")}}),
    ("GET", "/v1/sources"): _path("/v1/sources"),
    ("POST", "/v1/sources"): lambda values: (
        "/v1/sources", {"json": {"author": values["author"], "address": "https://a.example/", "kind": "page"}}),
    ("POST", "/v1/sources/{id}/refresh"): _path("/v1/sources/{id}/refresh", "source"),
    ("DELETE", "/v1/sources/{id}"): _path("/v1/sources/{id}", "source"),
    ("GET", "/v1/documents"): _path("/v1/documents"),
    ("GET", "/v1/documents/{id}"): _path("/v1/documents/{id}", "document"),
    ("DELETE", "/v1/documents/{id}"): _path("/v1/documents/{id}", "document"),
    ("GET", "/v1/authors"): _path("/v1/authors"),
    ("DELETE", "/v1/authors/{name}"): lambda values: (f"/v1/authors/{values['author']}", {}),
    ("POST", "/v1/api-keys"): lambda values: (
        "/v1/api-keys", {"json": {"name": "more", "role": "admin", "authors": [values["author"]]}}),
    ("GET", "/v1/api-keys"): _path("/v1/api-keys"),
    ("DELETE", "/v1/api-keys/{id}"): _path("/v1/api-keys/{id}", "key"),
    ("GET", "/v1/audit"): _path("/v1/audit"),
    ("POST", "/v1/reindex-jobs"): _path("/v1/reindex-jobs"),
    ("GET", "/v1/reindex-jobs/{id}"): _path("/v1/reindex-jobs/{id}", "job"),
    ("POST", "/v1/calibrations"): _path("/v1/calibrations"),
    ("GET", "/v1/status"): _path("/v1/status"),
    ("GET", "/metrics"): _path("/metrics"),
    ("GET", "/healthz"): _path("/healthz"),
    ("GET", "/readyz"): _path("/readyz"),
    ("GET", "/"): _path("/"),
    ("GET", "/docs"): _path("/docs"),
    ("GET", "/docs/{name}"): _path("/docs/reference.js"),
}  # fmt: skip
"""How each route is asked about something: `values` names an author and ids."""
KEYED = [each for each in ROUTES if each.role is not None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    data: Path = tmp_path_factory.mktemp("twin")
    given: dict[str, Any] = {
        "data_dir": data, "gateway_port": 0, "encoder_url": "hashing://64", "gateway_requests_per_minute": 1_000_000,
    }  # fmt: skip
    async with embedded.running(**given) as twin:
        # Not from this machine, as far as the gateway can tell: a local caller may read the metrics.
        transport = httpx.ASGITransport(twin.gateway.app, client=("203.0.113.7", 1))
        admin = {"Authorization": f"Bearer {twin.secret}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
            theirs: dict[str, str] = {"author": THEIRS}
            for author, text in TEXTS.items():
                folder = data / author
                folder.mkdir()
                (folder / f"{author}.md").write_text(text)
                sent = {"author": author, "sources": [str(folder)]}
                job = (await http.post("/v1/ingest-jobs", json=sent, headers=admin)).json()
                while job["state"] in ("queued", "running"):
                    await asyncio.sleep(0.05)
                    job = (await http.get(f"/v1/ingest-jobs/{job['id']}", headers=admin)).json()
                assert job["state"] == "done", job
                theirs["job"] = job["id"]
            found = await http.get("/v1/documents", params={"author": THEIRS}, headers=admin)
            theirs["document"] = found.json()["data"][0]["id"]
            sources = (await http.get("/v1/sources", headers=admin)).json()["data"]
            theirs["source"] = next(each["id"] for each in sources if each["author"] == THEIRS)
            asked = {"model": THEIRS, "messages": [{"role": "user", "content": QUESTION}]}
            answer = (await http.post("/v1/chat/completions", json=asked, headers=admin)).json()
            assert SECRET in answer["choices"][0]["message"]["content"]
            theirs["generation"] = (
                answer["twin"]["generation_id"] if "generation_id" in answer["twin"] else answer["id"]
            )

            async def key(role: str, authors: list[str], **more: Any) -> dict[str, Any]:
                body = {"name": f"{role} of {authors}", "role": role, "authors": authors, **more}
                return dict((await http.post("/v1/api-keys", json=body, headers=admin)).json())

            keys = {role: (await key(role, [MINE]))["secret"] for role in ("reader", "writer", "admin")}
            theirs["key"] = (await key("reader", [THEIRS]))["id"]
            revoked = await key("admin", [MINE])
            await http.delete(f"/v1/api-keys/{revoked['id']}", headers=admin)
            expired = await key("admin", [MINE], expires_in_days=1e-9)
            good = keys["admin"]
            invalid = {
                "none": {},
                "unknown": {"Authorization": f"Bearer {good}x"},
                "revoked": {"Authorization": f"Bearer {revoked['secret']}"},
                "expired": {"Authorization": f"Bearer {expired['secret']}"},
                "another scheme": {"Authorization": "Basic " + base64.b64encode(f"user:{good}".encode()).decode()},
                "no scheme": {"Authorization": good},
                "as a cookie": {"Cookie": f"twin_page={good}"},
                "a page's form": {"Authorization": f"Bearer page-{good.removeprefix('sk-twin-')}"},
                "an unsigned token": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."},
            }
            yield World(http, keys, theirs, admin, invalid)


async def test_every_route_has_a_row() -> None:
    """The table and these rows name the same routes."""
    assert {(each.method, each.path) for each in ROUTES} == set(ROWS)


@pytest.mark.parametrize("route", KEYED, ids=lambda each: f"{each.method} {each.path}")
async def test_a_credential_that_is_none_opens_nothing(world: World, route: Route) -> None:
    """Each form of a wrong credential gets 401, whatever the route is asked for."""
    for name, headers in world.invalid.items():
        answer = await world.ask(route, headers, world.theirs)
        assert answer.status_code == 401, name
        assert SECRET not in answer.text


@pytest.mark.parametrize("role", ["reader", "writer", "admin"])
@pytest.mark.parametrize("route", KEYED, ids=lambda each: f"{each.method} {each.path}")
async def test_nothing_of_a_foreign_author(world: World, route: Route, role: str) -> None:
    """With a key for one author, asked for another's: refused, or an answer without it; and just the same as for an
    author and ids that don't exist, so that not even their existence is told."""
    headers = {"Authorization": f"Bearer {world.keys[role]}"}
    answer = await world.ask(route, headers, world.theirs)
    assert SECRET not in answer.text, answer.text
    assert f'"{THEIRS}"' not in answer.text.replace('"model": "beta"', "").replace('"model":"beta"', "")
    nothing = dict.fromkeys(world.theirs, "0" * 32) | {"author": "nobody"}
    absent = await world.ask(route, headers, nothing)
    assert answer.status_code == absent.status_code, (answer.text, absent.text)
    if answer.status_code >= 400:
        assert _neutral(answer, world.theirs) == _neutral(absent, nothing)


def _neutral(answer: httpx.Response, values: dict[str, str]) -> str:
    """An error without what the caller said itself."""
    text = json.dumps(answer.json())
    for value in values.values():
        text = text.replace(value, "…")
    return text


async def test_it_is_all_there_still(world: World) -> None:
    """None of that touched anything of the foreign author's: document, source, answer and key are as they were."""
    world.http.cookies.clear()
    document = await world.http.get(f"/v1/documents/{world.theirs['document']}", headers=world.admin)
    assert document.json()["state"] == "indexed"
    assert (
        await world.http.get(f"/v1/generations/{world.theirs['generation']}", headers=world.admin)
    ).status_code == 200
    sources = (await world.http.get("/v1/sources", headers=world.admin)).json()["data"]
    assert world.theirs["source"] in [each["id"] for each in sources]
    keys = (await world.http.get("/v1/api-keys", headers=world.admin)).json()["data"]
    assert [each["revoked_at"] for each in keys if each["id"] == world.theirs["key"]] == [None]
    assert len([each for each in keys if each["authors"] == [THEIRS]]) == 1
