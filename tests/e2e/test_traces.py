"""One trace from a request to every service, store and engine, and from an ingest to its last chunk (promise 11); no
secret in any trace, metric, log, error or backup. Before a real Jaeger and a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.gateway.auth import secret_hash
from tests.generator import engine
from tests.processes import ROOT, Cluster, Process, cluster, create_key, free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary" + secrets.token_hex(8)
"""In the document, the question and the engine's answer: it may be in the stores, in their backups and in answers."""
ENGINE_KEY, LIMITS_PASSWORD, SITE_PASSWORD, WRONG_KEY = (f"secret{secrets.token_hex(8)}" for _ in range(4))
"""Of the engine, in the URL of the limits' Redis, in an address that is crawled, and what no key is: in none of them."""
SECRETS = (ENGINE_KEY, LIMITS_PASSWORD, SITE_PASSWORD, WRONG_KEY)
TEXT = f"# Bees\n\nBees need fifteen kilograms of honey for the winter, says {CANARY}.\n"
QUESTION = f"How much honey do bees need for the winter, {CANARY}?"


@dataclass
class World:
    made: Cluster
    http: httpx.AsyncClient
    key: str
    jaeger: str
    targets: Path
    prometheus: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory,
    jaeger_server: tuple[str, str],
    prometheus_server: tuple[str, str],
    redis_server: str,
) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("twin")
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(engine.running(engine.saying(f"Fifteen kilograms [1], says {CANARY}.")))
        settings = {
            "TWIN_CRAWLER_FOLDERS": "*",
            "TWIN_LLM_URL": stub.url,
            "TWIN_LLM_API_KEY": ENGINE_KEY,
            # Redis takes any password of a user who needs none.
            "TWIN_LIMITS_URL": f"redis://default:{LIMITS_PASSWORD}@{redis_server.partition('://')[2].rstrip('/')}/9",
            "TWIN_CRAWLER_ALLOWED_NETWORKS": "127.0.0.0/8",
            "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger_server[1],
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        key = await create_key(directory, settings)
        made = await stack.enter_async_context(cluster(directory, settings))
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=made.gateways[0], headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
            )
        )
        yield World(made, http, key, jaeger_server[0], Path(prometheus_server[1]), prometheus_server[0])


async def trace(world: World, id: str, *, wanted: set[str]) -> tuple[list[dict[str, Any]], set[str]]:
    """The spans that Jaeger has of a trace, once all of these services and span names are among them."""
    spans: list[dict[str, Any]] = []
    seen: set[str] = set()
    async with httpx.AsyncClient(trust_env=False) as plain:
        for _ in range(900):
            found = await plain.get(f"{world.jaeger}/api/traces/{id}")
            if found.status_code == 200 and found.json()["data"]:
                data = found.json()["data"][0]
                spans = data["spans"]
                services = {data["processes"][each["processID"]]["serviceName"] for each in spans}
                seen = services | {each["operationName"] for each in spans}
                if wanted <= seen:
                    return spans, seen
            await asyncio.sleep(0.2)
    raise AssertionError(f"missing: {sorted(wanted - seen)} of {sorted(seen)}")


async def ingest(world: World) -> str:
    """The id of the ingest's trace."""
    folder = world.made.directory / "notes"
    folder.mkdir(exist_ok=True)
    (folder / "bees.md").write_text(TEXT)
    accepted = await world.http.post("/v1/ingest-jobs", json={"author": "author", "sources": [str(folder)]})
    assert accepted.status_code == 202, accepted.text
    while (job := (await world.http.get(accepted.headers["location"])).json())["state"] in ("queued", "running"):
        await asyncio.sleep(0.1)
    assert job["state"] == "done", job
    return str(accepted.headers["x-trace-id"])


def connected(spans: list[dict[str, Any]]) -> bool:
    """Every span but one has its parent among them."""
    ids = {each["spanID"] for each in spans}
    parents = [[ref["spanID"] for ref in each["references"] if ref["refType"] == "CHILD_OF"] for each in spans]
    return sum(1 for each in parents if not set(each) & ids) == 1


async def test_an_ingest_is_one_trace(world: World) -> None:
    """From the request over the crawl job and the featurize job to the index, across three processes and the queue."""
    spans, _ = await trace(
        world,
        await ingest(world),
        wanted={
            "twin-gateway", "twin-crawler", "twin-feature", "POST /v1/ingest-jobs", "twin.v1.CrawlerService/StartCrawl",
            "jobs.put", "queue.ring", "crawl process", "twin.v1.FeatureService/Featurize", "featurize process",
            "encoder.encode", "index.stage", "index.publish", "documents.save",
        },
    )  # fmt: skip
    assert connected(spans)


async def test_an_answer_is_one_trace(world: World) -> None:
    """Found by the id in the answer's header, with spans of every service, store and the engine, which took the trace
    over too; by the semantic conventions."""
    await ingest(world)
    answer = await world.http.post(
        "/v1/chat/completions", json={"model": "author", "messages": [{"role": "user", "content": QUESTION}]}
    )
    assert answer.status_code == 200, answer.text
    spans, _ = await trace(
        world,
        answer.headers["x-trace-id"],
        wanted={
            "twin-gateway", "twin-generator", "twin-retriever", "POST /v1/chat/completions",
            "twin.v1.GeneratorService/Answer", "twin.v1.RetrieverService/Search", "index.dense", "index.text",
            "encoder.encode", "chat stub", "journal.save",
        },
    )  # fmt: skip
    assert connected(spans)
    tags = {each["operationName"]: {tag["key"]: tag["value"] for tag in each["tags"]} for each in spans}
    assert tags["POST /v1/chat/completions"]["http.response.status_code"] == 200
    assert tags["chat stub"]["gen_ai.usage.output_tokens"] > 0
    assert tags["index.dense"]["db.system.name"] == "sqlite"
    assert tags["twin.v1.RetrieverService/Search"]["rpc.system"] == "grpc"
    kept = await world.http.get("/v1/generations", params={"trace": answer.headers["x-trace-id"]})
    assert [each["id"] for each in kept.json()["data"]] == [answer.json()["twin"]["generation_id"]]


async def test_metrics_are_scraped(world: World) -> None:
    """Prometheus takes the metrics of every process as they are."""
    targets = [{"targets": [f"127.0.0.1:{each.metrics}" for each in world.made.processes]}]
    (world.targets / f"{CANARY}.json").write_text(json.dumps(targets))
    try:
        async with httpx.AsyncClient(trust_env=False) as plain:
            for _ in range(400):
                query = {"query": "sum by (instance) (twin_rpc_running)"}
                found = (await plain.get(f"{world.prometheus}/api/v1/query", params=query)).json()["data"]["result"]
                here = {each["metric"]["instance"] for each in found} & set(targets[0]["targets"])
                if len(here) == len(world.made.processes):
                    break
                await asyncio.sleep(0.3)
            assert len(here) == len(world.made.processes)
    finally:
        (world.targets / f"{CANARY}.json").unlink()


async def work(world: World) -> list[str]:
    """Everything in which a secret is given: the ids of the requests' traces. What callers get tells none."""
    await ingest(world)
    page = (
        f"<html><title>Bees</title><body><article><p>{'A page of bees and their keepers. ' * 20}</p></article>".encode()
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = b"/page" in await reader.readuntil(b"\r\n\r\n")
        status = b"200 OK" if found else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (status, len(page)) + page)
        await writer.drain()
        writer.close()

    answers, ends = [], []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as site:
        for port in (site.sockets[0].getsockname()[1], free_port()):
            address = f"http://someone:{SITE_PASSWORD}@127.0.0.1:{port}/page"
            answers.append(
                await world.http.post("/v1/ingest-jobs", json={"author": "author", "sources": [{"address": address}]})
            )
            assert answers[-1].status_code == 202, answers[-1].text
            job = {"state": "queued"}
            async with asyncio.timeout(200):
                while job["state"] in ("queued", "running"):
                    await asyncio.sleep(0.1)
                    answers.append(await world.http.get(answers[-1].headers.get("location", answers[-1].url.path)))
                    job = answers[-1].json()
            ends.append(job["state"])
    assert ends == ["done", "failed"]
    answers += [await world.http.get(f"/v1/{each}") for each in ("sources", "documents", "audit", "status", "api-keys")]
    for body in (
        {"model": "author", "messages": [{"role": "user", "content": QUESTION}]},
        {"model": CANARY, "messages": []},
    ):
        answers.append(await world.http.post("/v1/chat/completions", json=body))
    wrong = await world.http.get("/v1/status", headers={"Authorization": f"Bearer sk-twin-{WRONG_KEY}"})
    assert wrong.status_code == 401
    assert CANARY not in wrong.text
    answers.append(wrong)
    for each in answers:
        assert not [secret for secret in (*SECRETS, world.key) if secret in each.text], each.text
    return [each.headers["x-trace-id"] for each in answers[-3:]]


async def test_no_secret_is_told(world: World) -> None:
    """The key's secret, the engine's key, passwords in addresses, the question, the document and the answer are in no
    log, trace or metric; nor is a secret in what a caller gets."""
    ids = await work(world)
    await asyncio.sleep(1)
    told = [world.made.logs()]
    async with httpx.AsyncClient(trust_env=False) as plain:
        for id in ids:
            told.append((await plain.get(f"{world.jaeger}/api/traces/{id}")).text)
        recent: dict[str, str | int] = {"service": "twin-crawler", "limit": 200}
        told.append((await plain.get(f"{world.jaeger}/api/traces", params=recent)).text)
        for each in world.made.processes:
            told.append((await plain.get(f"http://127.0.0.1:{each.metrics}/metrics")).text)
    assert any("POST /v1/chat/completions" in text for text in told)
    for text in told:
        assert not [secret for secret in (CANARY, *SECRETS, world.key) if secret in text]
    assert ids[0] in told[0], "logs carry the trace's id"


async def test_no_secret_is_in_a_backup(world: World) -> None:
    """A backup holds documents, their bytes and the journal as they are, and of a key its hash; no secret of a key, an
    engine or a store, and no password of an address that was crawled. Nor does what it says while it is made."""
    await work(world)
    revoked = (await world.http.post("/v1/api-keys", json={"name": "revoked", "role": "reader"})).json()
    assert (await world.http.delete(f"/v1/api-keys/{revoked['id']}")).status_code == 200
    place = world.made.directory / "backups"
    place.mkdir()
    gateway: Process = world.made.of("gateway")[0]
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.backup", "backup", str(place), cwd=ROOT, env=gateway.environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await made.communicate()
    assert made.returncode == 0, said.decode()
    (file,) = place.iterdir()
    with zipfile.ZipFile(file) as opened:
        entries = {each: opened.read(each) for each in opened.namelist()}
    entries |= {"what it said": said, "the file as it is": await asyncio.to_thread(file.read_bytes)}
    for kind in ("documents/", "blobs/", "journal/"):
        assert [name for name, data in entries.items() if name.startswith(kind) and CANARY.encode() in data], kind
    keys = b"".join(data for name, data in entries.items() if name.startswith("keys/"))
    for secret in (world.key, revoked["secret"]):
        assert secret_hash(secret).encode() in keys
    for secret in (*SECRETS, world.key, revoked["secret"]):
        bare = secret.removeprefix("sk-twin-").encode()
        assert not [name for name, data in entries.items() if bare in data]
    assert os.stat(file).st_mode & 0o077 == 0
    assert CANARY.encode() not in said
