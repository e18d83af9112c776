"""Tokens of an issuer: a small real one, with keys that it rotates, on loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway import oidc
from tests.gateway.conftest import World

AUDIENCE = "twin-api"


class Issuer:
    """Signs with its newest key, publishes all it still stands for."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.keys: list[RSAKey | ECKey] = []
        self.fetched = 0
        self.away = False
        self.rotate()

    def rotate(self, *, withdraw: bool = False) -> None:
        if withdraw:
            self.keys.clear()
        number: Any = {"kid": f"key-{time.monotonic_ns()}"}
        self.keys.append(
            RSAKey.generate_key(2048, number) if len(self.keys) % 2 == 0 else ECKey.generate_key("P-256", number)
        )

    def token(self, key: Any = None, algorithm: str = "", **claims: Any) -> str:
        key = key or self.keys[-1]
        algorithm = algorithm or ("RS256" if isinstance(key, RSAKey) else "ES256")
        now = int(time.time())
        plain = {"iss": self.address, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 300, "twin_role": "reader",
                 "twin_authors": ["alpha"]}  # fmt: skip
        header = {"alg": algorithm} | ({"kid": key.kid} if key.kid else {})
        return jwt.encode(header, {name: value for name, value in (plain | claims).items() if value is not None}, key,
                          algorithms=[algorithm])  # fmt: skip

    async def configuration(self, request: Request) -> Response:
        self.fetched += 1
        if self.away:
            return Response(status_code=503)
        return JSONResponse({"issuer": self.address, "jwks_uri": f"{self.address}/keys"})

    async def published(self, request: Request) -> Response:
        return JSONResponse({"keys": [each.as_dict(private=False) for each in self.keys]})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    listening = socket.create_server(("127.0.0.1", 0))
    made = Issuer(f"http://127.0.0.1:{listening.getsockname()[1]}")
    routes = [Route("/.well-known/openid-configuration", made.configuration), Route("/keys", made.published)]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve([listening]))
    yield made
    server.should_exit = True
    await task


@pytest.fixture
async def world(issuer: Issuer, make_world: Callable[..., Awaitable[World]], monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(oidc, "REFETCH", 0.0)
    return await make_world(
        oidc_issuer=issuer.address, oidc_audience=AUDIENCE, oidc_roles="editors=writer,owners=admin"
    )


async def ask(world: World, token: str) -> httpx.Response:
    return await world.client(token).get("/v1/status")


async def test_claims_become_role_and_authors(world: World, issuer: Issuer) -> None:
    """A token stands for a key with the role and authors that its claims name: the highest role of several, by the
    configured meaning; no author without the claim; all by `*`."""
    key = (await ask(world, issuer.token())).json()["key"]
    assert (key["role"], key["authors"]) == ("reader", ["alpha"])
    key = (await ask(world, issuer.token(twin_role=["editors", "reader", "other"], twin_authors="*"))).json()["key"]
    assert (key["role"], key["authors"]) == ("writer", None)
    key = (await ask(world, issuer.token(twin_role="owners", twin_authors=None))).json()["key"]
    assert (key["role"], key["authors"]) == ("admin", [])


async def test_the_limits_hold(world: World, issuer: Issuer) -> None:
    """A reader's token cannot write, nor touch an author that it does not name."""
    client = world.client(issuer.token())
    assert (
        await client.post("/v1/ingest-jobs", json={"author": "alpha", "sources": ["https://a.example"]})
    ).status_code == 403
    writer = world.client(issuer.token(twin_role="writer"))
    assert (
        await writer.post("/v1/ingest-jobs", json={"author": "beta", "sources": ["https://a.example"]})
    ).status_code == 403


async def test_what_is_not_valid_is_refused(world: World, issuer: Issuer) -> None:
    """Another issuer, audience or key, no expiry, one that has passed, one not yet valid, no subject, no role, a shared
    secret or no signature: all 401, saying nothing of why in detail."""
    now = int(time.time())
    known: Any = {"kid": issuer.keys[0].kid}
    stranger = RSAKey.generate_key(2048, known)
    unsigned = issuer.token().rpartition(".")[0] + "."
    secret = OctKey.import_key(b"a shared secret that is long enough for HS256....")
    wrong = [
        issuer.token(iss="https://issuer.example"),
        issuer.token(aud="another"),
        issuer.token(aud=None),
        issuer.token(exp=None),
        issuer.token(exp=now - 120),
        issuer.token(nbf=now + 600),
        issuer.token(sub=None),
        issuer.token(twin_role=None),
        issuer.token(twin_role="emperor"),
        issuer.token(key=stranger),
        issuer.token(key=secret, algorithm="HS256"),
        unsigned,
        "a.b.c",
        issuer.token() + "x" * 20_000,
    ]
    for token in wrong:
        answer = await ask(world, token)
        assert answer.status_code == 401, token
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert "Error" not in answer.text


async def test_keys_are_rotated(world: World, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of a new key is believed at once; of a withdrawn one no longer, once the keys were fetched again; and
    unknown keys make the gateway fetch no more often than allowed."""
    old = issuer.token()
    assert (await ask(world, old)).status_code == 200
    issuer.rotate(withdraw=True)
    assert (await ask(world, issuer.token())).status_code == 200
    assert (await ask(world, old)).status_code == 401
    stranger = RSAKey.generate_key(2048, {"kid": "unknown"})
    monkeypatch.setattr(oidc, "REFETCH", 3600.0)
    fetched = issuer.fetched
    for _ in range(20):
        assert (await ask(world, issuer.token(key=stranger))).status_code == 401
    assert issuer.fetched == fetched
    monkeypatch.setattr(oidc, "REFETCH", 0.0)
    assert (await ask(world, issuer.token(key=stranger))).status_code == 401
    assert issuer.fetched == fetched + 1


async def test_an_issuer_that_is_away(world: World, issuer: Issuer) -> None:
    """Before its keys were ever fetched tokens wait (503); afterwards its being away locks nobody out."""
    issuer.away = True
    answer = await ask(world, issuer.token())
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    issuer.away = False
    assert (await ask(world, issuer.token())).status_code == 200
    issuer.away = True
    assert (await ask(world, issuer.token(key=issuer.keys[0]))).status_code == 200
    # Though its keys are asked for again.
    stranger = RSAKey.generate_key(2048, {"kid": "unknown"})
    fetched = issuer.fetched
    assert (await ask(world, issuer.token(key=stranger))).status_code == 401
    assert issuer.fetched == fetched + 1
    assert (await ask(world, issuer.token(key=issuer.keys[0]))).status_code == 200


async def test_api_keys_are_still_taken(world: World) -> None:
    """Beside tokens, keys of Twin's own."""
    assert (await ask(world, await world.key())).status_code == 200
