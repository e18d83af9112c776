"""The chart, scaled by KEDA: `make cluster-test-full`. Each test goes on where the one before stopped."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from services.rpc import CONNECTION_AGE
from tests.cluster import keda
from tests.cluster.images import build_all
from tests.cluster.installed import ASIDE, MONITORING, PAGES, SPACE, VALUES, Cluster, component, is_ready, prometheus
from tests.cluster.pages import OF_A_SITE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("TWIN_TEST_CLUSTER") != "full", reason="takes KEDA: make cluster-test-full"),
]

WORKERS = ("twin-crawler-worker", "twin-feature-worker")
SITES = 24
MOST = 3
LARGE = 1_000_000
"""Jobs that one worker is for: so many that only the queue's age asks for more of them."""
SCALED: dict[str, Any] = {
    **VALUES,
    "mlflow": {"enabled": False},
    "autoscaling": {
        "prometheus": f"http://prometheus.{MONITORING}:9090",
        "crawlerWorker": {"enabled": True, "min": 0, "max": MOST, "targetAge": 10, "targetJobs": LARGE},
        "featureWorker": {"enabled": True, "min": 0, "max": MOST, "targetAge": 10, "targetJobs": LARGE},
        "retriever": {"enabled": True, "min": 2, "max": MOST, "target": 1},
    },
}
RATE = 60
"""Searches a second, which are more calls at once than two retrievers are for."""
SHARING_SECONDS = 60.0


def test_keda_is_there(cluster: Cluster) -> None:
    """Operator, metrics server and admission webhooks run, and the metrics' API answers."""
    start = time.monotonic()
    cluster.cluster.load(*build_all(cluster.cluster.builder, ["keda"]))
    cluster.apply(*prometheus())
    keda.install(cluster)
    print(f"KEDA: {time.monotonic() - start:.0f} s")


def test_without_work_there_is_no_worker(cluster: Cluster) -> None:
    """Installed with autoscaling, each ScaledObject is taken, and workers go to none by themselves."""
    cluster.install(SCALED)
    cluster.kubectl("-n", SPACE, "wait", "--for=condition=Ready", "scaledobject", "--all", "--timeout=120s")
    start = time.monotonic()
    _until(300, lambda: _replicas(cluster, WORKERS) == [0, 0])
    print(f"no worker after {time.monotonic() - start:.0f} s")


def test_workers_come_by_the_queues_age_and_lose_nothing(cluster: Cluster) -> None:
    """From none to as many as there may be, since the oldest source waits; each page of each site is one document, of one
    version, searchable, and no more."""
    sites = [f"{PAGES}/sitemap-{number}.xml" for number in range(SITES)]
    job = cluster.ask("POST", "/v1/ingest-jobs", {"author": "alpha", "sources": sites})
    start = time.monotonic()
    seen: list[tuple[int, list[int], list[int], float]] = []
    while job["state"] in ("queued", "running") and time.monotonic() < start + 900:
        ages = cluster.prometheus("query?query=max(twin_queue_age_seconds{kind='crawl'})")["result"]
        age = float(ages[0]["value"][1]) if ages else 0.0
        line = (_replicas(cluster, WORKERS), _ready(cluster, WORKERS))
        if not seen or seen[-1][1:3] != line:
            seen.append((round(time.monotonic() - start), *line, round(age, 1)))
            print(f"after {seen[-1][0]:4} s: wanted {line[0]}, ready {line[1]}, oldest source waits {age:.0f} s")
        time.sleep(2)
        job = cluster.ask("GET", f"/v1/ingest-jobs/{job['id']}")
    print(f"{SITES} sites of {OF_A_SITE} pages: {time.monotonic() - start:.0f} s, {job['documents']}")
    assert job["state"] == "done", job
    most = [max(each[2][at] for each in seen) for at in (0, 1)]
    assert most[0] == MOST
    assert most[1] >= 1
    pages = {f"{PAGES}/slow-{site}-{page}.html" for site in range(SITES) for page in range(OF_A_SITE)}
    documents = _documents(cluster)
    assert sorted(each["url"] for each in documents) == sorted(pages)
    assert {(each["state"], each["version"], each["indexed_version"]) for each in documents} == {("indexed", 1, 1)}
    index = cluster.ask("GET", "/v1/status")["index"]
    assert (index["documents"], index["chunks"]) == (len(pages), sum(each["chunks"] for each in documents))
    script = "import urllib.request as u; print(u.urlopen('http://localhost:8080/asked').read().decode())"
    asked = json.loads(cluster.kubectl("-n", ASIDE, "exec", "pages", "--", "python", "-c", script))
    print(f"pages asked for twice: {sum(count > 1 for name, count in asked.items() if name.startswith('slow-'))}")


def test_retrievers_share_the_load(cluster: Cluster) -> None:
    """Calls at once bring a third retriever; once the callers have found it, each answers as many searches."""
    assert cluster.ingest(180, f"{PAGES}/ferry.html")["state"] == "done"
    load = cluster.loaded("--searches", rate=RATE)
    start = time.monotonic()
    _until(300, lambda: _ready(cluster, ["twin-retriever"]) == [MOST])
    print(f"third retriever: {time.monotonic() - start:.0f} s")
    # It stays while it is measured: how many calls run at once depends on how fast the machine is.
    paused = "autoscaling.keda.sh/paused"
    cluster.kubectl("-n", SPACE, "annotate", "scaledobject", "twin-retriever", f"{paused}=true")
    _until(CONNECTION_AGE * 2, lambda: min(_served(cluster).values()) > 0)
    print(f"asked: {time.monotonic() - start:.0f} s")
    # Until each caller's connection has ended once.
    time.sleep(CONNECTION_AGE * 1.2)
    before = _served(cluster)
    time.sleep(SHARING_SECONDS)
    after = _served(cluster)
    told = load.end()
    assert before.keys() == after.keys()
    shares = {name: after[name] - before[name] for name in after}
    print(f"{shares}, max/min {max(shares.values()) / min(shares.values()):.3f}")
    assert len(shares) == MOST
    assert min(shares.values()) > 100
    assert max(shares.values()) / min(shares.values()) <= 1.2
    assert told["failed"] == 0, told
    cluster.kubectl("-n", SPACE, "annotate", "scaledobject", "twin-retriever", f"{paused}-")


def test_workers_go_again(cluster: Cluster) -> None:
    """Nothing waits: in some minutes there is no worker, and the documents are still found."""
    start = time.monotonic()
    _until(420, lambda: _replicas(cluster, WORKERS) == [0, 0])
    print(f"no worker after a further {time.monotonic() - start:.0f} s")
    assert len(_documents(cluster)) == SITES * OF_A_SITE + 1
    found = cluster.ask("POST", "/v1/search", {"query": "Who lit the lamp of the buoy slow-7-3?", "k": 3})
    assert found["passages"]


def test_uninstall_leaves_nothing_scaled(cluster: Cluster) -> None:
    """KEDA lets go of what it scaled: no ScaledObject and no autoscaler stays."""
    cluster.helm("uninstall", "twin", "--wait", "--timeout", "5m")

    def left() -> list[str]:
        kinds = "scaledobject,horizontalpodautoscaler,deployment"
        return cluster.kubectl("-n", SPACE, "get", kinds, "-o", "name").split()

    # The autoscalers are KEDA's own, which Kubernetes collects when the ScaledObject that they belong to is gone.
    _until(60, lambda: left() == [])


def _until(seconds: float, so: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end, f"not so after {seconds:.0f} s"
        time.sleep(2)


def _deployments(cluster: Cluster) -> dict[str, dict[str, Any]]:
    found = json.loads(cluster.kubectl("-n", SPACE, "get", "deployments", "-o", "json"))["items"]
    return {each["metadata"]["name"]: each for each in found}


def _replicas(cluster: Cluster, names: Any) -> list[int]:
    """Wanted, and where none is wanted, until the last has gone."""
    found = _deployments(cluster)
    return [found[each]["spec"]["replicas"] or found[each]["status"].get("replicas", 0) for each in names]


def _ready(cluster: Cluster, names: Any) -> list[int]:
    found = _deployments(cluster)
    return [found[each]["status"].get("readyReplicas", 0) for each in names]


def _documents(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = cluster.ask("GET", "/v1/documents?author=alpha&limit=100")
    while True:
        found += page["data"]
        if not page["next"]:
            return found
        page = cluster.ask("GET", f"/v1/documents?author=alpha&limit=100&cursor={page['next']}")


def _served(cluster: Cluster) -> dict[str, float]:
    """Searches that each retriever has answered, as it says itself."""
    counted = re.compile(r'^twin_rpc_seconds_count\{code="OK",method="RetrieverService/Search"\} (\S+)', re.MULTILINE)
    found = {}
    for each in cluster.pods():
        if component(each) == "retriever" and is_ready(each):
            name = each["metadata"]["name"]
            told = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{SPACE}/pods/{name}:9053/proxy/metrics")
            line = counted.search(told)
            found[name] = float(line[1]) if line else 0.0
    return found
