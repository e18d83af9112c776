"""What a deployment needs of the services beside their work: probes, roles, a first key, jobs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import rpc
from services.adapters import open_adapter
from services.crawler import bootstrap as crawler
from services.errors import Misconfigured
from services.feature import bootstrap as feature
from services.gateway import bootstrap as gateway
from services.gateway.auth import ADMIN_KEY, keep_admin_key, secret_hash
from services.settings import read
from tests.processes import free_port

SECRET = "sk-twin-" + "a" * 40


async def _health(port: int, service: str) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        return int(reply.status)


async def test_alive_is_not_ready() -> None:
    """A service whose stores are away is not ready and yet alive, on its own port and on that of the probes."""
    probed = free_port()
    server = rpc.Server("127.0.0.1:0", [], health_address=f"127.0.0.1:{probed}")
    port = await server.start()
    try:
        await server.set_serving(False)
        for each in (port, probed):
            assert await _health(each, "") == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await _health(each, rpc.ALIVE) == health_pb2.HealthCheckResponse.SERVING
        await server.set_serving(True)
        assert await _health(probed, "") == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(0)


async def test_who_only_answers_has_no_workers(tmp_path: Path) -> None:
    """With TWIN_WORK=false neither the crawler nor the feature service claims jobs."""
    only = {"data_dir": tmp_path, "work": False, "encoder_url": "hashing://32"}
    made = await feature.build(read(feature.Settings, **only))
    crawling = await crawler.build(read(crawler.Settings, **only), made)  # type: ignore[arg-type]
    try:
        assert not made.workers
        assert not crawling.workers
    finally:
        await crawling.stop(0)
        await made.stop(0)


async def test_the_deployments_key(tmp_path: Path) -> None:
    """The key that the settings name is kept as its hash, once, replaced by its successor, and stays revoked."""
    keys = await open_adapter("keys", "sqlite:///", tmp_path)
    try:
        for _ in range(2):
            await keep_admin_key(keys, SECRET)
        (kept,) = await keys.find()
        assert (kept.id, kept.hash, kept.role) == (ADMIN_KEY, secret_hash(SECRET), "admin")
        await keep_admin_key(keys, SECRET + "b")
        (kept,) = await keys.find()
        assert kept.hash == secret_hash(SECRET + "b")
    finally:
        await keys.close()
    made = await gateway.build(
        read(gateway.Settings, data_dir=tmp_path, gateway_admin_key=SECRET, gateway_host="0.0.0.0", gateway_port=0)
    )
    try:
        (await made.bind()).close()  # refused without a key
    finally:
        await made.close()


def test_a_weak_key_is_refused_and_not_repeated() -> None:
    """A chosen key is as long as one that Twin makes, and a refusal does not show it."""
    with pytest.raises(Misconfigured, match=r"TWIN_GATEWAY_ADMIN_KEY: .*sk-twin-") as refused:
        read(gateway.Settings, gateway_admin_key="hunter2")
    assert "hunter2" not in str(refused.value)


async def _module(*arguments: str, data: Path) -> tuple[int, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.backup", *arguments],
        env={**os.environ, "TWIN_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


async def test_backups_from_time_to_time(tmp_path: Path) -> None:
    """The module that a deployment's jobs run migrates, writes a backup and keeps the newest ones only."""
    assert (await _module("migrate", data=tmp_path / "data"))[0] == 0
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("twin-20200101-000000.twin", "twin-20200102-000000.twin", "other.twin"):
        (kept / name).touch()
    assert (await _module("backup", str(kept), "--keep", "2", data=tmp_path / "data"))[0] == 0
    names = sorted(each.name for each in kept.iterdir())
    assert len(names) == 3
    assert names[:2] == ["other.twin", "twin-20200102-000000.twin"]


async def test_a_failed_migration_says_so(tmp_path: Path) -> None:
    """A store that cannot be opened ends the job with its reason and an exit code that stops an upgrade."""
    (tmp_path / "twin.db").write_text("no database")
    code, said = await _module("migrate", data=tmp_path)
    assert code == 1
    assert said.strip()
