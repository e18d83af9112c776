"""Starts servers and ends them, by a file that says which run.

Comes in: names and a directory for that file. Goes out: the environment variables that name what runs. Does not know:
how a program was had. A process is ended only where its id and its start time are those written down.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from tests.servers.obtain import CACHE, Missing, locked, obtain

READY_SECONDS = 90.0
"""Weaviate takes ten on an idle machine."""
STOP_SECONDS = 20.0
ATTEMPTS = 3
"""A free port may be taken by another process before the server binds it."""


@dataclass(frozen=True)
class Plan:
    """One start of one server."""

    arguments: list[str]
    variables: dict[str, str]
    """What tests find it by."""
    ready: str
    """http://…: answers with 200; redis://…: answers a PING; tcp://…: listens."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    name: str
    pid: int
    started: float
    """By the system's clock, as psutil tells it: with the id it names one process for good."""
    arguments: list[str]
    environment: dict[str, str]
    ready: str
    directory: str
    variables: dict[str, str]

    def process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) < 0.1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None


FIRST_PORT, PORTS = 12_000, 20_000
_turn = itertools.count(random.SystemRandom().randrange(PORTS))
"""Test processes that work side by side begin somewhere else."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different, and others each time.

    Below those that the system gives to who asks for any (from 32768 on Linux): between the look and the moment that a
    process listens there, a connection to somewhere else could be given one of these.
    """
    found: list[int] = []
    while len(found) < count:
        port = FIRST_PORT + next(_turn) % PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def _answers(ready: str) -> bool:
    """Whether what a plan calls ready is so."""
    scheme, _, address = ready.partition("://")
    try:
        if scheme == "http":
            # A proxy that the environment names has no business here.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(ready, timeout=2) as response:
                return bool(response.status == 200)
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=2) as connection:
            if scheme == "redis":
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
            return True
    except (urllib.error.URLError, OSError):
        return False


def _weaviate(program: Path, directory: Path) -> Plan:
    port, grpc, raft, raft_rpc, gossip = free_ports(5)
    environment = {
        "PERSISTENCE_DATA_PATH": str(directory / "data"),
        "DEFAULT_VECTORIZER_MODULE": "none",
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
        "DISABLE_TELEMETRY": "true",
        "GO_PROFILING_DISABLE": "true",
        "LOG_LEVEL": "warning",
        "GRPC_PORT": str(grpc),
        "CLUSTER_HOSTNAME": "node",
        "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
        "CLUSTER_BIND_ADDR": "127.0.0.1",
        "CLUSTER_GOSSIP_BIND_PORT": str(gossip),
        # It insists on the next one.
        "CLUSTER_DATA_BIND_PORT": str(gossip + 1),
        "RAFT_PORT": str(raft),
        "RAFT_INTERNAL_RPC_PORT": str(raft_rpc),
        "RAFT_JOIN": f"node:{raft}",
        "RAFT_BOOTSTRAP_EXPECT": "1",
    }
    return Plan(
        [str(program), "--scheme", "http", "--host", "127.0.0.1", "--port", str(port)],
        {"TWIN_TEST_WEAVIATE_URL": f"weaviate://127.0.0.1:{port}?grpc_port={grpc}"},
        f"http://127.0.0.1:{port}/v1/.well-known/ready",
        environment,
    )


def _ferretdb(program: Path, directory: Path) -> Plan:
    (port,) = free_ports(1)
    return Plan(
        [str(program), f"127.0.0.1:{port}", str(directory)],
        {"TWIN_TEST_MONGODB_URL": f"mongodb://127.0.0.1:{port}"},
        f"tcp://127.0.0.1:{port}",
    )


def _redis(program: Path, directory: Path) -> Plan:
    (port,) = free_ports(1)
    # A symbolic link, for the program is told by its name what it is.
    server = directory / "redis-server"
    if not server.exists():
        server.symlink_to(program)
    libraries = ":".join(str(each) for each in (program.parents[1] / "lib").glob("*-linux-gnu"))
    return Plan(
        [str(server), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", ""],
        {"TWIN_TEST_REDIS_URL": f"redis://127.0.0.1:{port}"},
        f"redis://127.0.0.1:{port}",
        {"LD_LIBRARY_PATH": libraries},
    )


def _jaeger(program: Path, directory: Path) -> Plan:
    query, otlp, *others = free_ports(7)
    names = (
        "admin.http.host-port", "collector.otlp.grpc.host-port", "query.grpc-server.host-port",
        "collector.grpc-server.host-port", "collector.http-server.host-port",
    )  # fmt: skip
    chosen = {"query.http-server.host-port": query, "collector.otlp.http.host-port": otlp}
    chosen |= dict(zip(names, others, strict=True))
    return Plan(
        [str(program), "--log-level", "warn", *(f"--{name}=127.0.0.1:{port}" for name, port in chosen.items())],
        {
            "TWIN_TEST_JAEGER_URL": f"http://127.0.0.1:{query}",
            "TWIN_TEST_OTLP_URL": f"http://127.0.0.1:{otlp}",
        },
        f"http://127.0.0.1:{query}/api/services",
        {"SPAN_STORAGE_TYPE": "memory"},
    )


def _prometheus(program: Path, directory: Path) -> Plan:
    (port,) = free_ports(1)
    targets = directory / "targets"
    targets.mkdir(exist_ok=True)
    (directory / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        "- job_name: twin\n"
        f"  file_sd_configs: [{{files: ['{targets}/*.json'], refresh_interval: 1s}}]\n"
    )
    return Plan(
        [
            str(program), f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--enable-feature=exemplar-storage",
        ],
        {"TWIN_TEST_PROMETHEUS_URL": f"http://127.0.0.1:{port}", "TWIN_TEST_PROMETHEUS_TARGETS": str(targets)},
        f"http://127.0.0.1:{port}/-/ready",
    )  # fmt: skip


def _toxiproxy(program: Path, directory: Path) -> Plan:
    (port,) = free_ports(1)
    return Plan(
        [str(program), "-host", "127.0.0.1", "-port", str(port)],
        {"TWIN_TEST_TOXIPROXY_URL": f"http://127.0.0.1:{port}"},
        f"http://127.0.0.1:{port}/version",
    )


PLANS: dict[str, Callable[[Path, Path], Plan]] = {
    "weaviate": _weaviate,
    "ferretdb": _ferretdb,
    "redis": _redis,
    "jaeger": _jaeger,
    "prometheus": _prometheus,
    "toxiproxy": _toxiproxy,
}


class Servers:
    """Those that one file knows of. Processes may share it: each change holds a lock."""

    def __init__(self, state: Path) -> None:
        self._file = state / "running.json"
        self._lock = state / "running.lock"

    def running(self) -> dict[str, Running]:
        """Those that run: one that was killed is not among them."""
        return {each.name: each for each in self._written() if each.process() is not None}

    def start(self, name: str) -> Running:
        """The server, started first where it does not run. Missing."""
        program = obtain(name)
        with locked(self._lock):
            written = {each.name: each for each in self._written()}
            found = written.get(name)
            if found is not None and found.process() is not None:
                return found
            if found is not None:
                shutil.rmtree(found.directory, ignore_errors=True)
            written[name] = _started(name, program)
            self._write(list(written.values()))
            return written[name]

    def restart(self, name: str) -> Running:
        """The server again, on its ports and its data, after it was killed; ended first where it runs. Missing."""
        with locked(self._lock):
            written = {each.name: each for each in self._written()}
            _stopped(written[name])
            written[name] = _launched(written[name])
            self._write(list(written.values()))
            return written[name]

    def stop(self, names: Sequence[str] = tuple(PLANS)) -> list[str]:
        """End these and take their data; which were ended."""
        with locked(self._lock):
            written = self._written()
            ended = [each for each in written if each.name in names]
            alive = [each for each in ended if each.process() is not None]
            for each in ended:
                _stopped(each)
                shutil.rmtree(each.directory, ignore_errors=True)
            self._write([each for each in written if each.name not in names])
            return [each.name for each in alive]

    def _written(self) -> list[Running]:
        if not self._file.exists():
            return []
        return [Running(**each) for each in json.loads(self._file.read_text())]

    def _write(self, running: list[Running]) -> None:
        if not running:
            self._file.unlink(missing_ok=True)
            return
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps([asdict(each) for each in running], indent=2))
        new.rename(self._file)


def _started(name: str, program: Path) -> Running:
    for _ in range(ATTEMPTS - 1):
        try:
            return _planned(name, program)
        except Missing:
            continue
    return _planned(name, program)


def _planned(name: str, program: Path) -> Running:
    directory = Path(tempfile.mkdtemp(prefix=f"twin-{name}-"))
    plan = PLANS[name](program, directory)
    planned = Running(name, 0, 0.0, plan.arguments, plan.environment, plan.ready, str(directory), plan.variables)
    try:
        return _launched(planned)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _launched(planned: Running) -> Running:
    """As planned, and ready. Missing, with what it said last, and ended where it is not."""
    log = Path(planned.directory) / "log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TWIN_", "OTEL_"))}
    with log.open("ab") as output:
        process = subprocess.Popen(
            planned.arguments,
            cwd=planned.directory,
            env={**inherited, **planned.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Interrupting the tests is not to take it away under them.
            start_new_session=True,
        )
    running = replace(planned, pid=process.pid, started=psutil.Process(process.pid).create_time())
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if _answers(planned.ready):
            return running
        time.sleep(0.05)
    _stopped(running)
    process.wait()
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise Missing(f"{planned.name} did not start: {' / '.join(said) or 'it said nothing'}")


def _stopped(running: Running) -> None:
    end = time.monotonic() + STOP_SECONDS
    process = running.process()
    if process is not None:
        process.terminate()
    # Not process.wait: one that its parent has not yet taken note of would count as running.
    while running.process() is not None and time.monotonic() < end:
        time.sleep(0.02)
    process = running.process()
    if process is not None:
        process.kill()
        while running.process() is not None:
            time.sleep(0.02)


def started_by_hand() -> Servers:
    """Those of `python -m tests.servers up`."""
    return Servers(CACHE)


def of_session(pid: int) -> Servers:
    """Those that a run of the tests has started for itself; `pid` is its first process."""
    return Servers(CACHE / "sessions" / str(pid))


def sweep() -> None:
    """End what runs of the tests left that were killed."""
    for directory in (CACHE / "sessions").glob("*"):
        if not psutil.pid_exists(int(directory.name)):
            Servers(directory).stop()
            shutil.rmtree(directory, ignore_errors=True)
