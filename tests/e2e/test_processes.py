"""Twin as separate processes: several of each, behind a gateway that balances."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.processes import Cluster, cluster, create_key

TEXT = """# Keeping bees

## Winter

Bees need about fifteen kilograms of honey to come through a winter in a cold climate. Feed them sugar syrup before the
first frost if the hive is light.

## Swarms

A colony swarms in May, when the hive becomes too small. Give it a second brood box in April to keep it at home.
"""
QUESTION = "How much honey do bees need for the winter?"
ANSWERED = 10.0
"""Seconds in which answers must flow again once what was hit is ready."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def twin(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Cluster, httpx.AsyncClient]]:
    """Two of each service that only answers, on one data directory, with one document ingested."""
    tmp_path = tmp_path_factory.mktemp("twin")
    settings = {"TWIN_CRAWLER_FOLDERS": "*", "TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000"}
    key = await create_key(tmp_path, settings)
    replicas = {"retriever": 2, "generator": 2, "gateway": 2}
    async with cluster(tmp_path, settings, replicas) as made, client(made.gateways[0], key) as http:
        await ingest(http, tmp_path)
        yield made, http


def client(address: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=100, trust_env=False)


async def ingest(http: httpx.AsyncClient, directory: Path) -> None:
    folder = directory / "notes"
    folder.mkdir()
    (folder / "bees.md").write_text(TEXT)
    accepted = await http.post("/v1/ingest-jobs", json={"author": "author", "sources": [str(folder)]})
    assert accepted.status_code == 202, accepted.text
    for _ in range(1200):
        job = (await http.get(accepted.headers["location"])).json()
        if job["state"] not in ("queued", "running"):
            break
        await asyncio.sleep(0.1)
    assert job["state"] == "done", job


async def ask(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post(
        "/v1/chat/completions", json={"model": "twin", "messages": [{"role": "user", "content": QUESTION}]}
    )


async def test_answers_across_processes(twin: tuple[Cluster, httpx.AsyncClient]) -> None:
    """A question goes through gateway, generator and retriever and comes back cited, from either gateway; every
    process serves its metrics on a port of its own, without author labels."""
    made, http = twin
    for address in made.gateways:
        answer = await http.post(
            f"{address}/v1/chat/completions",
            json={"model": "author", "messages": [{"role": "user", "content": QUESTION}]},
        )
        assert answer.status_code == 200, answer.text
        assert "fifteen kilograms" in answer.json()["choices"][0]["message"]["content"]
        assert answer.json()["twin"]["citations"]
    async with httpx.AsyncClient(trust_env=False) as plain:
        for each in made.processes:
            text = (await plain.get(f"http://127.0.0.1:{each.metrics}/metrics")).text
            assert "twin_rpc_seconds" in text
            assert "author" not in text.replace("authors", "")
    crawler = made.of("crawler")[0]
    async with httpx.AsyncClient(trust_env=False) as plain:
        text = (await plain.get(f"http://127.0.0.1:{crawler.metrics}/metrics")).text
    assert 'twin_queue_age_seconds{kind="crawl"} 0.0' in text


async def test_calls_are_balanced(twin: tuple[Cluster, httpx.AsyncClient]) -> None:
    """Both replicas of a service get their share."""
    made, http = twin

    async def served() -> list[float]:
        found = []
        async with httpx.AsyncClient(trust_env=False, timeout=100) as plain:
            for each in made.of("retriever"):
                text = (await plain.get(f"http://127.0.0.1:{each.metrics}/metrics")).text
                counted = 'twin_rpc_seconds_count{code="OK",method="RetrieverService/Search"} '
                lines = [line for line in text.splitlines() if line.startswith(counted)]
                found.append(sum(float(line.rpartition(" ")[2]) for line in lines))
        return found

    # A replica that was slow to say that it serves has no share until it does.
    for _ in range(10):
        before = await served()
        for _ in range(10):
            assert (await http.post("/v1/search", json={"query": QUESTION})).status_code == 200
        shares = [now - then for now, then in zip(await served(), before, strict=True)]
        if min(shares) >= 4:
            break
    assert min(shares) >= 4


async def test_a_killed_replica_is_left_out(twin: tuple[Cluster, httpx.AsyncClient]) -> None:
    """While one of two retrievers is dead, questions are answered by the other; it comes back by itself."""
    made, http = twin
    await made.of("retriever")[0].kill()
    for _ in range(6):
        assert (await ask(http)).status_code == 200
    made.of("retriever")[0].start()
    await made.of("retriever")[0].ready()
    for _ in range(4):
        assert (await ask(http)).status_code == 200


async def test_rolling_restart_fails_nothing(twin: tuple[Cluster, httpx.AsyncClient]) -> None:
    """Each replica of the answering services is stopped by SIGTERM and started again, while questions are asked without
    pause: none fails."""
    made, http = twin
    statuses: list[int] = []
    going = True

    async def load() -> None:
        while going:
            statuses.append((await ask(http)).status_code)

    asking = [asyncio.create_task(load()) for _ in range(3)]
    for service in ("retriever", "generator"):
        for each in made.of(service):
            assert await each.stop(120) == 0, each.tail()
            each.start()
            await each.ready()
    going = False
    await asyncio.gather(*asking)
    assert len(statuses) > 20
    assert set(statuses) == {200}


async def test_a_gateway_drains(twin: tuple[Cluster, httpx.AsyncClient]) -> None:
    """A gateway that is told to stop says so to readiness checks, still answers meanwhile and asks its callers to
    connect anew, and ends well."""
    made, http = twin
    gateway = made.of("gateway")[1]
    asked = {"model": "twin", "messages": [{"role": "user", "content": QUESTION}]}
    # On a slow machine it has left before it was asked.
    for linger in ("2", "10", "40"):
        assert await gateway.stop(120) == 0
        gateway.environment["TWIN_DRAIN_LINGER_SECONDS"] = linger
        gateway.start()
        await gateway.ready()
        gateway.signal(signal.SIGTERM)
        try:
            while (await http.get(f"{made.gateways[1]}/readyz")).status_code != 503:
                pass
            answer = await http.post(f"{made.gateways[1]}/v1/chat/completions", json=asked)
        except httpx.TransportError:
            continue
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        break
    else:
        raise AssertionError("it lets nobody in while it lingers")
    assert await gateway.stop(120) == 0


def authority(directory: Path) -> dict[str, str]:
    """An authority and one certificate of it for 127.0.0.1, as settings."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("authority", "twin")]

    def certificate(subject: int, *, is_authority: bool) -> bytes:
        made = (
            x509.CertificateBuilder()
            .subject_name(names[subject])
            .issuer_name(names[0])
            .public_key(keys[subject].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .sign(keys[0], hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    plain = serialization.NoEncryption()
    files = {
        "TWIN_TLS_AUTHORITY": certificate(0, is_authority=True),
        "TWIN_TLS_CERTIFICATE": certificate(1, is_authority=False),
        "TWIN_TLS_KEY": keys[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    }
    for name, data in files.items():
        (directory / f"{name}.pem").write_bytes(data)
    return {name: str(directory / f"{name}.pem") for name in files}


async def test_services_prove_who_they_are(tmp_path: Path) -> None:
    """With certificates, services answer each other over mutual TLS, and nobody who has none."""
    settings = {"TWIN_CRAWLER_FOLDERS": "*", **authority(tmp_path)}
    key = await create_key(tmp_path, settings)
    async with cluster(tmp_path, settings) as made, client(made.gateways[0], key) as http:
        await ingest(http, tmp_path)
        assert "fifteen kilograms" in (await ask(http)).text
        retriever = made.of("retriever")[0]
        assert not await retriever.serves(identity=None)
