"""Documents, authors, sources, ingest jobs and uploads through HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from services.errors import Internal
from tests.gateway.conftest import World
from tests.gateway.scripted import TEXT

Make = Callable[..., Awaitable[World]]


async def test_a_document_has_an_etag(world: World) -> None:
    """The same again is 304 without a body; another version has another tag."""
    first = await world.admin.get("/v1/documents/document-alpha")
    tag = first.headers["etag"]
    assert first.json()["text"] == TEXT
    assert first.json()["lineage"]["indexed_version"] == 2
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await world.admin.get("/v1/documents/document-alpha", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = await world.admin.get("/v1/documents/document-alpha?version=1", headers={"If-None-Match": tag})
    assert (other.status_code, other.json()["text_version"]) == (200, 1)


@pytest.mark.promise(2)
async def test_deleting_with_if_match(world: World) -> None:
    """A tag that no longer holds deletes nothing; the right one deletes, and redacts the journal."""
    tag = (await world.admin.get("/v1/documents/document-alpha")).headers["etag"]
    stale = await world.admin.delete("/v1/documents/document-alpha", headers={"If-Match": '"stale"'})
    assert stale.status_code == 412
    assert world.services.redacted == []
    gone = await world.admin.delete("/v1/documents/document-alpha", headers={"If-Match": tag})
    assert gone.json() == {"id": "document-alpha", "deleted": True, "redacted": 2}
    assert set(world.services.redacted) == {"document-alpha"}
    assert (await world.admin.get("/v1/documents/document-alpha")).status_code == 404


@pytest.mark.promise(2)
async def test_a_delete_that_failed_half_way_is_repeated(world: World) -> None:
    """The document is not shown any more, and the same request ends its deletion; again it is answered the same. With
    a tag, by another author's key, and of what never was it is 404, and redacts nothing."""
    path = "/v1/documents/document-alpha"
    world.services.half_way.append(Internal("The rest could not be taken."))
    assert (await world.admin.delete(path)).status_code == 500
    assert (await world.admin.get(path)).status_code == 404
    for _ in range(2):
        world.services.redacted.clear()
        gone = await world.admin.delete(path)
        assert (gone.status_code, gone.json()["deleted"]) == (200, True)
        assert set(world.services.redacted) == {"document-alpha"}
    world.services.redacted.clear()
    other = world.client(await world.key("admin", ["beta"]))
    assert (await other.delete(path)).status_code == 404
    assert (await world.admin.delete(path, headers={"If-Match": "*"})).status_code == 404
    assert (await world.admin.delete("/v1/documents/document-gamma")).status_code == 404
    assert world.services.redacted == []


@pytest.mark.promise(10)
async def test_another_authors_are_not_there(world: World) -> None:
    """For a key of alpha, beta's documents, jobs and sources are 404, and beta's name is 403 wherever it stands."""
    job = (
        await world.admin.post("/v1/ingest-jobs", json={"author": "beta", "sources": ["https://example.org"]})
    ).json()
    client = world.client(await world.key("admin", ["alpha"]))
    for method, path in [
        ("GET", "/v1/documents/document-beta"),
        ("DELETE", "/v1/documents/document-beta"),
        ("GET", f"/v1/ingest-jobs/{job['id']}"),
        ("GET", f"/v1/ingest-jobs/{job['id']}/events"),
        ("DELETE", f"/v1/ingest-jobs/{job['id']}"),
        ("POST", f"/v1/ingest-jobs/{job['id']}/retry"),
        ("POST", "/v1/sources/source-beta/refresh"),
        ("DELETE", "/v1/sources/source-beta"),
        ("DELETE", "/v1/authors/beta"),
        ("GET", "/v1/models/beta"),
    ]:
        assert (await client.request(method, path)).status_code == 404, path
    messages = [{"role": "user", "content": "How?"}]
    for path, body in [
        ("/v1/ingest-jobs", {"author": "beta", "sources": ["https://example.org"]}),
        ("/v1/sources", {"author": "beta", "address": "https://example.org"}),
        ("/v1/search", {"query": "How?", "filter": {"author": "beta"}}),
        ("/v1/chat/completions", {"model": "twin", "messages": messages, "twin": {"filter": {"author": "beta"}}}),
    ]:
        assert (await client.post(path, json=body)).status_code == 403, path
    assert (await client.get("/v1/documents?author=beta")).status_code == 403
    assert (await client.get("/v1/sources?author=beta")).status_code == 403
    upload = await client.post("/v1/documents", data={"author": "beta"}, files={"file": ("a.md", b"x")})
    assert upload.status_code == 403
    found = (await client.post("/v1/search", json={"query": "How?"})).json()
    assert {each["document"]["author"] for each in found["passages"]} == {"alpha"}
    assert [each["name"] for each in (await client.get("/v1/authors")).json()["data"]] == ["alpha"]
    assert "document-beta" in world.services.documents


async def test_an_author_goes_with_everything(world: World) -> None:
    """Deleting an author redacts each of their documents from the journal, and the model is gone at once."""
    assert (await world.admin.get("/v1/models/alpha")).status_code == 200
    gone = await world.admin.delete("/v1/authors/alpha")
    assert gone.json() == {"id": "alpha", "deleted": True, "documents": 1, "redacted": 2}
    assert set(world.services.redacted) == {"document-alpha"}
    assert (await world.admin.get("/v1/models/alpha")).status_code == 404


async def test_an_ingest_is_accepted(world: World) -> None:
    """202, Location, and the job; sources may be strings or objects, whose options arrive as text."""
    sources = [
        "https://example.org",
        {"address": "https://example.org/r.git", "kind": "git", "options": {"depth": 2, "all": True}},
    ]
    response = await world.admin.post("/v1/ingest-jobs", json={"author": "alpha", "sources": sources})
    job = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"/v1/ingest-jobs/{job['id']}")
    assert [each["address"] for each in job["sources"]] == ["https://example.org", "https://example.org/r.git"]
    assert job["documents"] == {"queued": 1, "indexed": 1, "failed": 1}
    assert (await world.admin.get(response.headers["location"])).json() == job
    assert (await world.admin.get("/v1/ingest-jobs")).json()["data"] == [job]
    assert (await world.admin.delete(response.headers["location"])).json()["state"] == "cancelled"


async def test_an_idempotency_key_is_the_keys_own(world: World) -> None:
    """The same idempotency key of one API key is one job; of another it is another."""
    body = {"author": "alpha", "sources": ["https://example.org"]}
    headers = {"Idempotency-Key": "once"}
    one, other = world.client(await world.key("writer")), world.client(await world.key("writer"))
    ids = [
        (await client.post("/v1/ingest-jobs", json=body, headers=headers)).json()["id"] for client in (one, one, other)
    ]
    assert ids[0] == ids[1] != ids[2]
    assert (await one.post("/v1/ingest-jobs", json=body, headers={"Idempotency-Key": "a b"})).status_code == 400


@pytest.mark.parametrize(
    "address",
    ["/etc", "~/notes", "./x", "file:///etc/passwd", "C:\\notes", "git@example.org:r.git", "ssh://example.org/r"],
)
async def test_a_path_is_an_admins(world: World, address: str) -> None:
    """What is no http(s) address is read with the service's own rights: a writer may not name it, an admin may."""
    writer = world.client(await world.key("writer"))
    body = {"author": "alpha", "sources": ["https://example.org", address]}
    refused = await writer.post("/v1/ingest-jobs", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "sources.1")
    assert (await writer.post("/v1/sources", json={"author": "alpha", "address": address})).status_code == 403
    assert (await world.admin.post("/v1/ingest-jobs", json=body)).status_code == 202


@pytest.mark.parametrize("author", ["twin", "Twin", "", " a", "a/b", "a\n", "x" * 65, "../a"])
async def test_an_authors_name(world: World, author: str) -> None:
    """Names that could not stand in an address, and the one that means everyone, are refused wherever text comes in."""
    bodies: dict[str, dict[str, object]] = {
        "/v1/ingest-jobs": {"sources": ["https://example.org"]},
        "/v1/sources": {"address": "https://example.org"},
    }
    for path, body in bodies.items():
        response = await world.admin.post(path, json={"author": author, **body})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "author")
    response = await world.admin.post("/v1/documents", data={"author": author}, files={"file": ("a.md", b"x")})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "author")


async def test_progress_as_events(world: World) -> None:
    """`progress` for each change and `end` for the last, each with the whole job."""
    job = (
        await world.admin.post("/v1/ingest-jobs", json={"author": "alpha", "sources": ["https://example.org"]})
    ).json()
    response = await world.admin.get(f"/v1/ingest-jobs/{job['id']}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in response.text.strip().split("\n\n")]
    assert [each["event"] for each in events] == ["progress", "progress", "end"]
    assert json.loads(events[0]["data"]) == job
    assert json.loads(events[-1]["data"])["state"] == "done"
    assert (await world.admin.get("/v1/ingest-jobs/none/events")).status_code == 404


async def test_progress_of_a_gateway_that_stops(world: World) -> None:
    """A gateway that is told to stop does not wait for a job's end: the stream ends with the job as it is, and when to
    ask again."""
    world.services.goes_on = True
    body = {"author": "alpha", "sources": ["https://example.org"]}
    job = (await world.admin.post("/v1/ingest-jobs", json=body)).json()
    async with asyncio.timeout(60):
        asking = asyncio.create_task(world.admin.get(f"/v1/ingest-jobs/{job['id']}/events"))
        await world.services.waiting.wait()
        world.gateway.drain.over.set()
        response = await asking
    last = dict(line.split(": ", 1) for line in response.text.strip().split("\n\n")[-1].splitlines())
    assert (last["event"], last["retry"]) == ("progress", "1000")
    assert json.loads(last["data"]) == job


async def test_an_upload_is_passed_on(world: World) -> None:
    """Files arrive whole, in order, with their names below what was sent; an upload repeated under one
    idempotency key is one job."""
    files = [
        ("file", ("notes.md", b"# Notes" * 100_000)),
        ("file", ("..\\dir/plan.txt", b"")),
        ("file", ("ä.md", b"y")),
    ]
    ids = set()
    for _ in range(2):
        response = await world.admin.post(
            "/v1/documents", data={"author": "alpha"}, files=files, headers={"Idempotency-Key": "once"}
        )
        assert response.status_code == 202, response.text
        ids.add(response.json()["id"])
    assert len(ids) == 1
    assert world.services.uploaded[:3] == [("notes.md", 700_000), ("dir/plan.txt", 0), ("ä.md", 1)]


def _multipart(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    return (
        b"".join(
            b"--x\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"
            for head, data in parts
        )
        + end
    )


AUTHOR = ('name="author"', b"alpha")
FILE = ('name="file"; filename="a.md"', b"x" * 500)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (_multipart(FILE, AUTHOR), 400, "author"),
        (_multipart(AUTHOR), 400, "file"),
        (_multipart(AUTHOR, ('name="file"', b"no name")), 400, "file"),
        (_multipart(AUTHOR, ('name="file"; filename=""', b"x")), 400, "file"),
        (_multipart(AUTHOR, FILE, ('name="other"', b"x")), 400, "other"),
        (_multipart(AUTHOR, FILE, end=b""), 400, None),
        (_multipart(AUTHOR, *[FILE] * 3), 413, "file"),
        (_multipart(AUTHOR, ('name="file"; filename="a.md"', b"x" * 9000)), 413, None),
        (_multipart(('name="author"', b"a" * 2000), FILE), 413, "author"),
        (b"nonsense", 400, None),
        (b"", 400, None),
    ],
)
async def test_a_wrong_upload(make_world: Make, body: bytes, status: int, param: str | None) -> None:
    """An upload that is wrong, too large or broken off is refused with what was wrong, even at its end."""
    world = await make_world(gateway_upload_files=2, gateway_upload_bytes=8000)

    async def pieces() -> object:
        for start in range(0, len(body), 700):
            yield body[start : start + 700]

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await world.admin.post("/v1/documents", content=pieces(), headers=headers)  # type: ignore[arg-type]
    assert response.status_code == status, response.text
    if param is not None:
        assert response.json()["error"]["param"] == param
    assert world.services.crawls == {}
    other = await world.admin.post("/v1/documents", json={"author": "alpha"})
    assert other.status_code == 415


async def test_answers_belong_to_their_key(world: World) -> None:
    """A key sees, rates and deletes the answers it was given; an admin's every one."""
    one, other = world.client(await world.key()), world.client(await world.key())
    body = {"model": "twin", "messages": [{"role": "user", "content": "How?"}]}
    id = (await one.post("/v1/chat/completions", json=body)).json()["twin"]["generation_id"]
    rating = {"generation_id": id, "rating": 1, "reasons": ["clear"]}
    assert (await other.get("/v1/generations")).json()["data"] == []
    assert (await other.get(f"/v1/generations/{id}")).status_code == 404
    assert (await other.post("/v1/feedback", json=rating)).status_code == 404
    assert (await other.delete(f"/v1/generations/{id}")).status_code == 404
    assert (await one.post("/v1/feedback", json=rating)).status_code == 201
    assert (await one.get(f"/v1/generations/{id}")).json()["prompt"] == "the prompt"
    assert [each["id"] for each in (await world.admin.get("/v1/generations")).json()["data"]] == [id]
    assert (await one.delete(f"/v1/generations/{id}")).json() == {"id": id, "deleted": True}


async def test_an_answer_of_no_passages_is_for_who_may_see_all_it_was_asked_of(world: World) -> None:
    """Asked of every author it is shown to keys of every author alone, asked within a scope to that scope's."""
    body = {"model": "twin", "messages": [{"role": "user", "content": "How?"}], "twin": {"k": 0}}
    admins = [world.client(await world.key("admin", authors)) for authors in (None, ["alpha", "beta"], ["alpha"])]
    for asking, seen in ((0, [200, 404, 404]), (1, [200, 200, 404]), (2, [200, 200, 200])):
        id = (await admins[asking].post("/v1/chat/completions", json=body)).json()["twin"]["generation_id"]
        assert [(await each.get(f"/v1/generations/{id}")).status_code for each in admins] == seen
    assert [len((await each.get("/v1/generations")).json()["data"]) for each in admins] == [3, 2, 1]
