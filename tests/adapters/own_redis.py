"""A Redis of one test's own, to stop, kill and start again.

Comes in: a directory. Goes out: URLs of a server on a free port of loopback. Does not know: what is kept there.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from redis.exceptions import RedisError

from tests.servers.fixtures import server
from tests.servers.obtain import obtain
from tests.servers.run import PLANS, free_ports


class OwnRedis:
    def __init__(self, directory: Path) -> None:
        self._plan = PLANS["redis"](obtain("redis"), directory)
        self._directory = directory
        self._tls_port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        certify(directory)

    @property
    def url(self) -> str:
        return self._plan.variables["TWIN_TEST_REDIS_URL"]

    @property
    def tls_url(self) -> str:
        return f"rediss://127.0.0.1:{self._tls_port}/0?ssl_ca_certs={self._directory / 'certificate.pem'}"

    def start(self) -> None:
        tls = {"--tls-port": self._tls_port, "--tls-auth-clients": "no"}
        files = {
            f"--tls-{what}-file": self._directory / f"{name}.pem"
            for what, name in (("key", "key"), ("cert", "certificate"))
        }
        files["--tls-ca-cert-file"] = self._directory / "certificate.pem"
        options = [str(each) for pair in (tls | files).items() for each in pair]
        self._process = subprocess.Popen(
            [*self._plan.arguments, *options], env={**os.environ, **self._plan.environment}, stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < end
            assert self._process.poll() is None
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisError:
            return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    # Skips, or fails, where Redis is not to be had.
    server("redis", "TWIN_TEST_REDIS_URL")
    made = OwnRedis(tmp_path)
    made.start()
    yield made
    made.kill()


def certify(directory: Path) -> None:
    """A certificate of 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(private)
