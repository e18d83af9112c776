"""Twin as separate processes on loopback, for tests and for a person to try (`make up-servers`).

Comes in: settings that all of them share, and how many of each. Goes out: their addresses; they end with the block.
Each writes its log into the directory. Does not know: which stores the settings name.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import rpc
from tests.servers.run import free_ports

ROOT = Path(__file__).parent.parent
ORDER = ("feature", "retriever", "crawler", "generator", "gateway")
"""Who is called is started first."""
READY_SECONDS = 120.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that nobody is given who asks the system for any."""
    return free_ports(1)[0]


@dataclass
class Process:
    """One service. `port` stays the same over restarts."""

    service: str
    number: int
    port: int
    metrics: int
    environment: dict[str, str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str] = ()) -> None:
        """`arguments`: of Python, where it is to be started otherwise."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, *(arguments or ("-m", f"services.{self.service}"))], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )  # fmt: skip

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Until it says that it serves. AssertionError with the log's end where it doesn't."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            assert self.running is not None
            if self.running.poll() is not None:
                break
            if await self.serves():
                return
            await asyncio.sleep(0.1)
        if self.running is not None and self.running.poll() is None:
            # It says where it is (PYTHONFAULTHANDLER).
            self.signal(signal.SIGABRT)
            await asyncio.to_thread(self.running.wait)
        raise AssertionError(f"{self.service} {self.number} is not ready:\n{self.tail(80)}")

    async def serves(self, *, identity: rpc.Identity | str | None = "own") -> bool:
        """Whether it says so, to who proves this identity (None: to anybody)."""
        if isinstance(identity, str):
            identity = self._identity()
        try:
            if self.service == "gateway":
                async with httpx.AsyncClient(trust_env=False) as client:
                    return (await client.get(f"http://127.0.0.1:{self.port}/readyz", timeout=3)).status_code == 200
            async with rpc.connect(f"127.0.0.1:{self.port}", identity) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
                return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
        except (httpx.HTTPError, grpc.aio.AioRpcError):
            return False

    def _identity(self) -> rpc.Identity | None:
        files = [self.environment.get(f"TWIN_TLS_{each}") for each in ("CERTIFICATE", "KEY", "AUTHORITY")]
        return rpc.Identity(*(Path(each) for each in files if each)) if all(files) else None

    def signal(self, number: int) -> None:
        if self.running is not None and self.running.poll() is None:
            self.running.send_signal(number)

    async def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and wait; SIGKILL where it takes longer. Its exit code."""
        if self.running is None:
            return 0
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self.running.wait, seconds)
        except subprocess.TimeoutExpired:
            self.running.kill()
            return await asyncio.to_thread(self.running.wait)

    async def kill(self) -> None:
        """SIGKILL."""
        if self.running is not None:
            self.running.kill()
            await asyncio.to_thread(self.running.wait)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class Cluster:
    directory: Path
    processes: list[Process] = field(default_factory=list)

    def of(self, service: str) -> list[Process]:
        return [each for each in self.processes if each.service == service]

    @property
    def gateways(self) -> list[str]:
        return [f"http://127.0.0.1:{each.port}" for each in self.of("gateway")]

    def logs(self) -> str:
        return "\n".join(each.log.read_text(errors="replace") for each in self.processes)


def plain_environment() -> dict[str, str]:
    """This process's, without what would point at a Twin or a collector of somebody's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TWIN_", "OTEL_"))}
    return {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"}


@asynccontextmanager
async def cluster(
    directory: Path, settings: Mapping[str, str], replicas: Mapping[str, int] | None = None
) -> AsyncIterator[Cluster]:
    """As many processes of each service as `replicas` says (one where it says nothing), ready."""
    made = Cluster(directory)
    counts = {name: (replicas or {}).get(name, 1) for name in ORDER}
    ports = {name: [free_port() for _ in range(count)] for name, count in counts.items()}
    # gRPC's ipv4: scheme lists addresses as a headless Service's name would.
    addresses = {
        f"TWIN_{name.upper()}_ADDRESS": "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports[name])
        for name in ORDER
        if name != "gateway"
    }
    inherited = plain_environment()
    for name in ORDER:
        for number, port in enumerate(ports[name]):
            metrics = free_port()
            own = {f"TWIN_{name.upper()}_METRICS": f"127.0.0.1:{metrics}"}
            if name == "gateway":
                own |= {"TWIN_GATEWAY_PORT": str(port)}
            else:
                own |= {f"TWIN_{name.upper()}_ADDRESS": f"127.0.0.1:{port}"}
            environment = {**inherited, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}", "TWIN_DATA_DIR":
                           str(directory), "TWIN_DRAIN_LINGER_SECONDS": "0.5", "PYTHONFAULTHANDLER": "1",
                           **addresses, **settings, **own}  # fmt: skip
            log = directory / f"{name}-{number}.log"
            made.processes.append(Process(name, number, port, metrics, environment, log))
    try:
        for name in ORDER[:-1]:
            for each in made.of(name):
                each.start()
        await asyncio.gather(*(each.ready() for each in made.processes if each.service != "gateway"))
        for each in made.of("gateway"):
            each.start()
        await asyncio.gather(*(each.ready() for each in made.of("gateway")))
        yield made
    finally:
        for name in reversed(ORDER):
            await asyncio.gather(*(each.stop() for each in made.of(name)))


async def create_key(directory: Path, settings: Mapping[str, str], name: str = "test", role: str = "admin") -> str:
    """The secret of a new key, made by the command line on the stores."""
    environment = {**plain_environment(), "TWIN_DATA_DIR": str(directory), **settings}
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "keys", "create", name, "--role", role, "--json",
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await made.communicate()
    assert made.returncode == 0, err.decode()
    return str(json.loads(out)["secret"])
