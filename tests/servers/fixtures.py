"""Servers for tests: session-wide, shared between the workers of one run, ended with it.

Comes in: the variables that `python -m tests.servers up` prints. Goes out: fixtures that name a server. Does not know:
what a test does with it. A server whose variable is not set is started for this run where its program is in the cache,
or where TWIN_REQUIRE_SERVERS=1 says that none may be missing; otherwise tests that need it are skipped.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.servers.obtain import CACHE, Missing, cached
from tests.servers.run import of_session, sweep

SESSION = "TWIN_TEST_SESSION"
"""The process id of the run, which xdist's workers inherit."""


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[SESSION] = str(os.getpid())
        sweep()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and os.environ.get(SESSION) == str(os.getpid()):
        of_session(os.getpid()).stop()
        shutil.rmtree(CACHE / "sessions" / str(os.getpid()), ignore_errors=True)


def server(name: str, variable: str) -> str:
    """What `variable` says of this server, started if need be. Skips the test, or fails it, where it is not to be had."""
    given = os.environ.get(variable)
    if given:
        return given
    required = os.environ.get("TWIN_REQUIRE_SERVERS") == "1"
    if not required and not cached(name):
        pytest.skip(f"needs {name}: `make servers-up SERVERS={name}` builds it, TWIN_REQUIRE_SERVERS=1 too")
    try:
        return of_session(int(os.environ[SESSION])).start(name).variables[variable]
    except Missing as error:
        if required:
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mongodb_server() -> str:
    """mongodb://HOST:PORT, without a database."""
    return server("ferretdb", "TWIN_TEST_MONGODB_URL")


@pytest.fixture
def mongodb_url(mongodb_server: str) -> Iterator[str]:
    """A database of the test's own, taken away after it."""
    from pymongo import MongoClient

    name = f"test_{uuid.uuid4().hex[:12]}"
    base, _, options = mongodb_server.partition("?")
    yield f"{base.rstrip('/')}/{quote(name)}{'?' if options else ''}{options}"
    with MongoClient[dict[str, object]](mongodb_server) as client:
        client.drop_database(name)


@pytest.fixture(scope="session")
def weaviate_server() -> str:
    """weaviate://HOST:PORT?grpc_port=PORT: tests choose names of their own in it."""
    return server("weaviate", "TWIN_TEST_WEAVIATE_URL")


@pytest.fixture
def weaviate_url(weaviate_server: str) -> Iterator[str]:
    """Names of the test's own, whose collections are taken away after it."""
    url, prefix = weaviate_of_its_own(weaviate_server)
    yield url
    drop_collections(weaviate_server, prefix)


def weaviate_of_its_own(base: str) -> tuple[str, str]:
    """(URL, what its collections' names begin with) of an empty index."""
    prefix = f"Test{uuid.uuid4().hex[:12]}"
    address, _, options = base.partition("?")
    return f"{address.rstrip('/')}/{prefix}?{options}", prefix


def drop_collections(base: str, prefix: str) -> None:
    parts = urlsplit(base)
    with httpx.Client(base_url=f"http://{parts.hostname}:{parts.port}/v1/schema", trust_env=False) as client:
        for each in client.get("").raise_for_status().json()["classes"]:
            if each["class"].startswith(prefix):
                client.delete(f"/{each['class']}").raise_for_status()


@pytest.fixture(scope="session")
def redis_server() -> str:
    """redis://HOST:PORT: tests choose names of their own in it."""
    return server("redis", "TWIN_TEST_REDIS_URL")


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """Keys of the test's own, taken away after it."""
    from redis import Redis

    prefix = f"test-{uuid.uuid4().hex[:12]}:"
    yield f"{redis_server.rstrip('/')}/0?prefix={prefix}"
    with Redis.from_url(redis_server) as client:
        keys = list(client.scan_iter(f"{prefix}*", count=1000))
        if keys:
            client.delete(*keys)


@pytest.fixture(scope="session")
def jaeger_server() -> tuple[str, str]:
    """(address of the query API, address that takes OTLP over HTTP)."""
    return server("jaeger", "TWIN_TEST_JAEGER_URL"), server("jaeger", "TWIN_TEST_OTLP_URL")


@pytest.fixture(scope="session")
def prometheus_server() -> tuple[str, str]:
    """(address, directory in which each NAME.json of `[{"targets": ["HOST:PORT"]}]` is scraped every second)."""
    return server("prometheus", "TWIN_TEST_PROMETHEUS_URL"), server("prometheus", "TWIN_TEST_PROMETHEUS_TARGETS")


@pytest.fixture(scope="session")
def toxiproxy_server() -> str:
    """http://HOST:PORT of its API."""
    return server("toxiproxy", "TWIN_TEST_TOXIPROXY_URL")
