"""Keys, the page's session and the one-time link (promise 10)."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

import httpx
import pytest

from services.gateway.auth import PageLinks
from tests.gateway.conftest import World


def _path(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


async def _open(world: World) -> tuple[httpx.AsyncClient, httpx.Response]:
    """A browser that opened a one-time link, and the answer it got."""
    browser = world.client()
    response = await browser.get(_path(world.gateway.page_link(8000)))
    return browser, response


@pytest.mark.promise(10)
async def test_a_key_is_shown_once_and_kept_hashed(world: World) -> None:
    """The secret is in the answer that makes it, in no list, and not in the store's file."""
    secret = await world.key("writer", ["alpha"])
    listed = await world.admin.get("/v1/api-keys")
    assert secret.startswith("sk-twin-")
    assert secret not in listed.text
    (key,) = listed.json()["data"]
    assert (key["role"], key["authors"]) == ("writer", ["alpha"])
    path = world.gateway.settings.directory / "twin.db"
    with sqlite3.connect(path) as database:
        dump = "\n".join(database.iterdump())
    assert key["id"] in dump
    assert secret not in dump
    assert secret.removeprefix("sk-twin-") not in dump


@pytest.mark.promise(10)
async def test_a_revoked_or_expired_key_opens_nothing(world: World) -> None:
    """From the moment of its revocation or expiry a key is 401, and the message says which."""
    secret = await world.key()
    client = world.client(secret)
    assert (await client.get("/v1/models")).status_code == 200
    (key,) = (await world.admin.get("/v1/api-keys")).json()["data"]
    assert (await world.admin.delete(f"/v1/api-keys/{key['id']}")).json()["revoked_at"]
    refused = await client.get("/v1/models")
    assert refused.status_code == 401
    assert "revoked" in refused.json()["error"]["message"]
    expired = await world.client(await world.key(expires_in_days=1e-9)).get("/v1/models")
    assert "expired" in expired.json()["error"]["message"]
    assert (await world.admin.delete("/v1/api-keys/none")).status_code == 404


@pytest.mark.promise(10)
async def test_no_key_makes_a_greater_one(world: World) -> None:
    """An admin's key for some authors makes, sees and revokes keys for those authors only."""
    scoped = world.client(await world.key("admin", ["alpha"]))
    await world.key("reader", ["beta"])
    for authors in (None, ["beta"], ["alpha", "beta"]):
        response = await scoped.post("/v1/api-keys", json={"name": "more", "authors": authors})
        assert response.status_code == 403
    assert (await scoped.post("/v1/api-keys", json={"name": "same", "authors": ["alpha"]})).status_code == 201
    assert {tuple(each["authors"]) for each in (await scoped.get("/v1/api-keys")).json()["data"]} == {("alpha",)}
    others = [each for each in (await world.admin.get("/v1/api-keys")).json()["data"] if each["authors"] == ["beta"]]
    assert (await scoped.delete(f"/v1/api-keys/{others[0]['id']}")).status_code == 404


async def test_the_local_key_is_in_no_store(world: World) -> None:
    """The process's own key is an admin's, and no list and no other process knows it."""
    assert (await world.admin.get("/v1/status")).json()["key"]["role"] == "admin"
    assert (await world.admin.get("/v1/api-keys")).json()["data"] == []
    assert world.gateway.local.secret not in repr(world.gateway.local)


@pytest.mark.promise(10)
async def test_the_link_opens_the_page_once(world: World) -> None:
    """The token is exchanged for a strict cookie that scripts cannot read, and then it is worth nothing."""
    link = world.gateway.page_link(8000)
    assert link.startswith("http://127.0.0.1:8000/?token=")
    browser = world.client()
    assert (await browser.head(_path(link))).status_code == 405
    opened = await browser.get(_path(link))
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    (cookie,) = SimpleCookie(opened.headers["set-cookie"]).values()
    assert cookie.key == "twin_page_8000"
    assert cookie["httponly"]
    assert cookie["samesite"] == "strict"
    assert (await browser.get("/v1/status")).json()["key"]["role"] == "admin"
    again = await world.client().get(_path(link))
    assert (again.status_code, "set-cookie" in again.headers) == (303, False)
    wrong = await world.client().get("/?token=nonsense")
    assert "set-cookie" not in wrong.headers


@pytest.mark.promise(10)
async def test_a_link_expires() -> None:
    """Half a day later a link opens nothing."""
    now = 0.0
    links = PageLinks(clock=lambda: now)
    early, late = links.issue(), links.issue()
    assert links.redeem(early)
    now = 12 * 3600.0
    assert not links.redeem(late)


@pytest.mark.promise(10)
async def test_a_cookie_alone_changes_nothing(world: World) -> None:
    """What changes something needs the page's own header beside the cookie: another site's form cannot send it."""
    browser, _ = await _open(world)
    body = {"query": "How?"}
    assert (await browser.post("/v1/search", json=body)).status_code == 403
    assert (await browser.post("/v1/search", json=body, headers={"X-Twin-Page": "1"})).status_code == 200
    assert (await browser.delete("/v1/authors/alpha")).status_code == 403


async def test_a_session_is_no_api_key(world: World) -> None:
    """A cookie's value is no Bearer token, a key is no cookie, and a cookie doesn't rescue a wrong token."""
    browser, opened = await _open(world)
    (cookie,) = SimpleCookie(opened.headers["set-cookie"]).values()
    assert (await world.client(cookie.value).get("/v1/models")).status_code == 401
    secret = await world.key()
    assert (await world.client(Cookie=f"twin_page_8000={secret}").get("/v1/models")).status_code == 401
    assert (await browser.get("/v1/models", headers={"Authorization": "Bearer sk-twin-no"})).status_code == 401


async def test_a_session_outlives_a_restart_and_can_be_revoked(
    make_world: Callable[..., Awaitable[World]],
) -> None:
    """A browser stays signed in when the gateway starts anew, until its session is revoked like a key."""
    before = await make_world()
    _, opened = await _open(before)
    (cookie,) = SimpleCookie(opened.headers["set-cookie"]).values()
    after = await make_world(data_dir=before.gateway.settings.data_dir)
    browser = after.client(Cookie=f"{cookie.key}={cookie.value}")
    assert (await browser.get("/v1/models")).status_code == 200
    (session,) = (await after.admin.get("/v1/api-keys")).json()["data"]
    assert session["id"].startswith("page-")
    await after.admin.delete(f"/v1/api-keys/{session['id']}")
    assert (await browser.get("/v1/models")).status_code == 401


async def test_who_did_what_is_kept(world: World) -> None:
    """Making and revoking keys and deleting documents is in the audit, the newest first."""
    await world.key()
    await world.admin.delete("/v1/documents/document-alpha")
    entries = (await world.admin.get("/v1/audit")).json()["data"]
    assert [each["action"] for each in entries] == ["document.delete", "key.create"]
    assert entries[0]["key_id"] == "local"
    earlier = await world.admin.get("/v1/audit", params={"before": entries[0]["at"]})
    assert [each["action"] for each in earlier.json()["data"]] == ["key.create"]
