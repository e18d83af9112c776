"""What stands around every request: Host, Origin, size, headers, traces, errors that leak nothing (promises 9, 10)."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError

from services.errors import Misconfigured, Unavailable
from services.gateway.bootstrap import Settings
from services.gateway.call import Call
from services.gateway.routes import ROUTES
from tests.gateway.conftest import World

Make = Callable[..., Awaitable[World]]


@pytest.mark.promise(10)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.7", "", "["])
async def test_a_foreign_host_is_refused(world: World, host: str) -> None:
    """A name that was made to point here (DNS rebinding) opens nothing, with or without a key; probes answer."""
    for path in ("/", "/v1/status", "/openapi.json", "/metrics"):
        response = await world.admin.get(path, headers={"Host": host})
        assert response.status_code == 403
        assert response.json()["error"]["type"] == "permission_error"
    assert (await world.client().get("/healthz", headers={"Host": host})).status_code == 200


async def test_known_hosts(make_world: Make) -> None:
    """localhost, the loopback addresses and the settings' hosts are known, with any port and in any case."""
    world = await make_world(gateway_hosts="twin.example, other.example")
    for host in ("localhost", "LOCALHOST:9", "127.0.0.1:8000", "[::1]:8000", "twin.example", "Other.Example:443"):
        assert (await world.admin.get("/v1/models", headers={"Host": host})).status_code == 200, host


@pytest.mark.promise(10)
async def test_listening_everywhere_any_address_is_known_but_no_name(make_world: Make) -> None:
    """Behind 0.0.0.0 a bare address is a fair Host (it cannot be rebound); a name has to be told."""
    world = await make_world(gateway_host="0.0.0.0")
    assert (await world.admin.get("/v1/models", headers={"Host": "10.0.0.7:8000"})).status_code == 200
    assert (await world.admin.get("/v1/models", headers={"Host": "evil.example"})).status_code == 403


@pytest.mark.promise(10)
@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3000", "null", "http://localhost"])
async def test_a_foreign_origin_is_refused(world: World, origin: str) -> None:
    """Another site's page, also one of another port of this machine, may ask nothing."""
    response = await world.admin.post("/v1/search", json={"query": "x"}, headers={"Origin": origin})
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.promise(10)
async def test_an_origin_that_is_named(make_world: Make) -> None:
    """Its pages may ask with a key, and read the answer, errors and streams included; not with the page's session, and
    no other origin's."""
    world = await make_world(gateway_origins="https://app.example.org, http://localhost:5173")
    origin = {"Origin": "https://app.example.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    preflight = await world.client().options("/v1/chat/completions", headers={**origin, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin["Origin"]
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    answered = await world.admin.post("/v1/search", json={"query": "x"}, headers=origin)
    assert (answered.status_code, answered.headers["access-control-allow-origin"]) == (200, origin["Origin"])
    assert "X-Trace-Id" in answered.headers["access-control-expose-headers"]
    refused = await world.client().get("/v1/models", headers=origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin["Origin"])
    page = world.client()
    link = urlsplit(world.gateway.page_link(8000))
    await page.get(f"{link.path}?{link.query}")
    assert (await page.get("/v1/models")).status_code == 200
    assert (await page.get("/v1/models", headers=origin)).status_code == 401
    for foreign in ("https://evil.example", "http://app.example.org", "null"):
        assert (await world.admin.get("/v1/models", headers={"Origin": foreign})).status_code == 403


@pytest.mark.parametrize("origins", ["*", "https://app.example.org/path", "app.example.org", "null"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="origins such as"):
        Settings(gateway_origins=origins)


@pytest.mark.promise(10)
async def test_the_own_origin_is_welcome(world: World) -> None:
    response = await world.admin.get("/v1/models", headers={"Origin": "http://localhost:8000"})
    assert response.status_code == 200


async def test_headers_on_everything(world: World) -> None:
    """Each answer, errors included, has a trace id, a policy that lets nothing in from elsewhere, and is not kept."""
    for path in ("/", "/v1/models", "/v1/nothing", "/docs", "/assets/none.js"):
        response = await world.admin.get(path)
        assert len(response.headers["x-trace-id"]) == 32
        assert response.headers["content-security-policy"].startswith("default-src 'self'")
        assert response.headers["x-content-type-options"] == "nosniff"
        if path.startswith("/v1/"):
            assert response.headers["cache-control"] == "no-store"


async def test_the_callers_trace_goes_on(world: World) -> None:
    """A traceparent's id is the answer's."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    response = await world.admin.get("/v1/models", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert response.headers["x-trace-id"] == trace


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "code"),
    [
        ("GET", "/v1/nothing", b"", {}, 404, "not_found"),
        ("GET", "/assets/../api.py", b"", {}, 404, "not_found"),
        ("PUT", "/v1/search", b"{}", {}, 405, "method_not_allowed"),
        ("DELETE", "/healthz", b"", {}, 405, "method_not_allowed"),
        ("POST", "/v1/search", b"{", {"Content-Type": "application/json"}, 400, "invalid_input"),
        ("POST", "/v1/search", b"\xff\xfe", {"Content-Type": "application/json"}, 400, "invalid_input"),
        ("POST", "/v1/search", b'{"query": "\\ud800"}', {"Content-Type": "application/json"}, 400, "invalid_input"),
        ("POST", "/v1/search", b"[" * 100_000, {"Content-Type": "application/json"}, 400, "invalid_input"),
        ("POST", "/v1/search", b"", {"Content-Type": "application/json"}, 400, "invalid_input"),
        ("POST", "/v1/search", b'{"query": "x"}', {"Content-Type": "text/plain"}, 415, "unsupported_media"),
        ("POST", "/v1/search", b'{"query": "x"}', {}, 415, "unsupported_media"),
        ("GET", "/v1/documents?limit=0", b"", {}, 400, "invalid_input"),
        ("GET", "/v1/documents?state=odd", b"", {}, 400, "invalid_input"),
        ("GET", "/v1/generations?before=noon", b"", {}, 400, "invalid_input"),
    ],
)
async def test_every_error_has_one_shape(
    world: World, method: str, path: str, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """What is wrong is said in OpenAI's shape, whatever part noticed it."""
    response = await world.admin.request(method, path, content=content, headers=headers)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "code", "param"}
    assert (status == 405) == ("allow" in response.headers)


async def test_405_names_all_methods(world: World) -> None:
    """Allow lists what the path takes, over all its routes."""
    response = await world.admin.put("/v1/documents")
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.promise(9)
async def test_errors_of_services_come_through(world: World) -> None:
    """Status and Retry-After are the service's; a fault says nothing of the inside."""
    overloaded = await world.admin.post("/v1/search", json={"query": "overloaded"})
    assert (overloaded.status_code, overloaded.headers["retry-after"]) == (429, "3")
    away = await world.admin.post("/v1/search", json={"query": "away"})
    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    fault = await world.admin.post("/v1/search", json={"query": "fault"})
    assert fault.status_code == 500
    assert "secret" not in fault.text


async def test_the_body_is_limited(make_world: Make) -> None:
    """Beyond the limit is 413, whether the length is said or not, and nothing reaches a service."""
    world = await make_world(gateway_body_bytes=2000)
    body = json.dumps({"query": "x" * 3000}).encode()

    async def pieces() -> object:
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    headers = {"Content-Type": "application/json"}
    said = await world.admin.post("/v1/search", content=body, headers=headers)
    unsaid = await world.admin.post("/v1/search", content=pieces(), headers=headers)  # type: ignore[arg-type]
    assert (said.status_code, unsaid.status_code) == (413, 413)
    assert unsaid.json()["error"]["code"] == "too_large"
    assert world.services.requests == []


async def test_requests_of_a_key_are_limited(make_world: Make) -> None:
    """Each key has its own minute; beyond it 429 says when to come again. The process's own key has no limit."""
    world = await make_world(gateway_requests_per_minute=3)
    one, other = world.client(await world.key()), world.client(await world.key(requests_per_minute=5))
    statuses = [(await one.get("/v1/models")).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = await one.get("/v1/models")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert [(await other.get("/v1/models")).status_code for _ in range(6)] == [200] * 5 + [429]
    assert {(await world.admin.get("/v1/models")).status_code for _ in range(10)} == {200}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_by_head(world: World, path: str) -> None:
    """As by GET, without the body; other routes do not take it."""
    client = world.client()
    answered, asked = await client.head(path), await client.get(path)
    assert (answered.status_code, answered.content) == (200, b"")
    assert answered.headers["content-length"] == asked.headers["content-length"]
    assert (await client.head("/v1/models")).status_code == 405


async def test_a_parameter_that_is_none(world: World) -> None:
    """A misspelt one is refused by its name, with those that there are: the list would be of all."""
    client = world.admin
    for path, known in (("/v1/documents", "author"), ("/v1/generations", "limit"), ("/v1/audit", "limit")):
        refused = await client.get(path, params={"autor": "alpha"})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["param"], error["type"]) == ("autor", "invalid_request_error")
        assert known in error["message"]
    assert "takes none" in (await client.get("/v1/models", params={"limit": "3"})).json()["error"]["message"]


async def test_probes_and_metrics(world: World) -> None:
    """healthz speaks for the process, readyz for the services; metrics are for this machine or an admin."""
    client = world.client()
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    metrics = await client.get("/metrics")
    assert 'route="/healthz"' in metrics.text
    await world.server.set_serving(False)
    away = await client.get("/readyz")
    assert away.status_code == 503
    assert "crawler" in away.json()["error"]["message"]

    def from_afar(secret: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(world.gateway.app, client=("203.0.113.9", 1))
        return httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers={"Authorization": f"Bearer {secret}"}
        )

    assert (await from_afar("").get("/metrics")).status_code == 401
    assert (await from_afar(await world.key("writer")).get("/metrics")).status_code == 403
    assert (await from_afar(await world.key("admin")).get("/metrics")).status_code == 200


async def test_the_table_has_each_route_once() -> None:
    """A method and path stand once, and below /v1/ none is open to everyone."""
    seen = [(route.method, route.path) for route in ROUTES]
    assert len(seen) == len(set(seen))
    assert all(route.role is not None for route in ROUTES if route.path.startswith("/v1/"))


async def test_an_answer_does_not_wait_for_an_acknowledgement(world: World, served: str) -> None:
    """Head and body go out at once (no Nagle): on one kept connection a small answer takes less than the 40 ms after
    which a client acknowledges by itself. Where it waits for that, every answer after the first few does."""
    host, port = served.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    seconds = []
    for _ in range(30):
        began = time.perf_counter()
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len('{"status":"ok"}'))
        seconds.append(time.perf_counter() - began)
    writer.close()
    assert min(seconds[5:]) < 0.035


async def test_a_taken_address_says_what_to_do(make_world: Make) -> None:
    """A port that is taken is an error that names the setting, not the end of the process."""
    world = await make_world()
    with await world.gateway.bind() as listening:
        taken = replace(world.gateway, settings=Settings(gateway_port=listening.getsockname()[1]))
        with pytest.raises(Unavailable, match="TWIN_GATEWAY_PORT"):
            await taken.bind()


async def test_open_to_a_network_it_starts_with_a_key_only(make_world: Make) -> None:
    """On an address that others can reach it refuses to listen until there is a key that holds, and says how to make
    one; the command that makes it needs no such address."""
    world = await make_world(gateway_host="0.0.0.0")
    with pytest.raises(Misconfigured, match="twin keys create"):
        await world.gateway.bind()
    async with world.admin as client:
        made = await client.post("/v1/api-keys", json={"name": "first", "role": "admin"})
        (await world.gateway.bind()).close()
        await client.delete(f"/v1/api-keys/{made.json()['id']}")
    with pytest.raises(Misconfigured, match="TWIN_GATEWAY_HOST"):
        await world.gateway.bind()


async def test_nothing_of_a_request_waits_for_the_collector(world: World) -> None:
    """What a request leaves goes with its last reference: cycles would be looked through while others wait."""
    chat = {"model": "twin", "messages": [{"role": "user", "content": "Q?"}]}
    gc.collect()
    gc.disable()
    try:
        for body in ({**chat, "stream": False}, {**chat, "stream": True}):
            assert (await world.admin.post("/v1/chat/completions", json=body)).status_code == 200
        assert (await world.admin.get("/v1/models")).status_code == 200
        await asyncio.sleep(0.1)
        assert not [each for each in gc.get_objects() if isinstance(each, Call)]
    finally:
        gc.enable()
