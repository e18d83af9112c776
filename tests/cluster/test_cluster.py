"""The chart, installed: `make cluster-test`.

Each test goes on where the one before stopped; the cluster is there before the first, and gone after the last unless
TWIN_KEEP_CLUSTER is set.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.test_network import Person, probed, table
from tests.cluster.images import SERVICES, build_service, name_of
from tests.cluster.installed import (
    ASIDE,
    CHART,
    MONITORING,
    PAGES,
    RATE,
    SPACE,
    VALUES,
    Cluster,
    component,
    is_ready,
    pod,
    prometheus,
    within,
)
from tests.cluster.node import ADDRESS, INTERNET, Node

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("TWIN_TEST_CLUSTER"), reason="takes a cluster: make cluster-test"),
]


def test_installs_and_becomes_ready(cluster: Cluster) -> None:
    """From the chart and these values alone, with Pod Security `restricted` enforced, every pod becomes ready."""
    cluster.install(VALUES)


def test_ingests_a_page_and_answers_from_it(cluster: Cluster) -> None:
    """A page that a pod serves is brought in, and the model's answer through the gateway's Service cites it."""
    source = f"{PAGES}/ferry.html"
    job = cluster.ingest(180, source)
    assert job["state"] == "done", job
    body = {
        "model": "alpha",
        "temperature": 0,
        "messages": [{"role": "user", "content": "In which colour was the ferry painted, and why?"}],
    }
    message = cluster.ask("POST", "/v1/chat/completions", body)["choices"][0]["message"]
    print(message["content"])
    print(f"cited answer: {time.monotonic() - cluster.began:.0f} s")
    assert [each["url_citation"]["url"] for each in message["annotations"]][:1] == [source], message


def test_its_own_test_passes(cluster: Cluster) -> None:
    """`helm test` brings in a text, asks, and wants a citation."""
    assert "Succeeded" in cluster.helm("test", "twin", "--timeout", "5m")


def _rules(cluster: Cluster) -> list[tuple[str, str, str]]:
    """Each rule's name, health and state."""
    groups = cluster.prometheus("rules")["groups"]
    return [(rule["name"], rule["health"], rule["state"]) for group in groups for rule in group["rules"]]


def test_metrics_of_each_pod_are_collected(cluster: Cluster) -> None:
    """By their annotations alone each of Twin's pods is found and scraped; the alerts are evaluated on what they say,
    and none has anything to say."""
    cluster.apply(*prometheus())
    cluster.kubectl("-n", MONITORING, "wait", "--for=condition=Ready", "pod/prometheus", "--timeout=120s")
    end = time.monotonic() + 60
    expected = dict.fromkeys(SERVICES, 2) | {"crawler-worker": 1, "feature-worker": 1}
    up: dict[str, int] = {}
    while up != expected and time.monotonic() < end:
        time.sleep(2)
        found = cluster.prometheus("query?query=sum by (component) (up{namespace='twin'})")["result"]
        up = {each["metric"]["component"]: int(each["value"][1]) for each in found}
    assert up == expected
    for query in (
        "sum(twin_http_seconds_count{route='/v1/chat/completions',status='200'})",
        "sum(twin_jobs_total{state='done'})",
        "sum(twin_answers_total)",
        "count(twin_queue_age_seconds)",
    ):
        found = cluster.prometheus(f"query?query={query}")["result"]
        assert [float(each["value"][1]) > 0 for each in found] == [True], query
    # Evaluated for the first time before anything was collected, a rule that misses a metric waits for its next turn.
    end = time.monotonic() + 60
    while (rules := _rules(cluster)) != [(name, "ok", "inactive") for name, *_ in rules] and time.monotonic() < end:
        time.sleep(2)
    assert len(rules) > 5
    assert rules == [(name, "ok", "inactive") for name, *_ in rules]


STANDING_IN = ("migration", "test", "training")
"""Components whose pods come and go; one each stays for as long as is tried who reaches it and whom it reaches."""


def test_policies_hold_between_all_pods(cluster: Cluster, tmp_path: Path) -> None:
    """From within each pod every other one is tried, on every port that a policy names, and so are the node and an address
    of the internet: what answers is what the policies allow, as cyclonus reads them. Within the release that is the
    documented table, and the gateway, which everybody may reach."""
    start = time.monotonic()
    idle = ["python", "-c", "import signal; signal.pause()"]
    for each in STANDING_IN:
        labels = {"name": "twin", "instance": "twin", "component": each}
        made = within(SPACE, pod(f"standing-in-{each}", name_of("gateway"), command=idle))
        made["metadata"]["labels"] = {f"app.kubernetes.io/{name}": value for name, value in labels.items()}
        cluster.apply(made)
    names = [f"pod/standing-in-{each}" for each in STANDING_IN]
    cluster.kubectl("-n", SPACE, "wait", "--for=condition=Ready", *names, "--timeout=60s")
    try:
        reached, allowed, components = _tried(cluster, tmp_path)
    finally:
        cluster.kubectl("-n", SPACE, "delete", *names, "--now")
    print(f"{len(components)} pods, {len(allowed)} ways open: {time.monotonic() - start:.0f} s")
    assert {"not allowed": reached - allowed, "kept out": allowed - reached} == {
        "not allowed": set(),
        "kept out": set(),
    }
    within_release = {
        (components[caller], components[called], port)
        for caller, called, port in reached
        if components.get(caller) and components.get(called)
    }
    everybody = {(each, "gateway", 8000) for each in components.values() if each}
    assert within_release - everybody == table() - everybody | {("training", "mlflow", 5000)}
    if isinstance(cluster.cluster, Node):
        assert {components[caller] for caller, called, _ in reached if called == "internet" and components[caller]} == {
            "crawler-worker"
        }


def _tried(
    cluster: Cluster, directory: Path
) -> tuple[set[tuple[str, str, int]], set[tuple[str, str, int]], dict[str, str]]:
    """What was reached, what may be (caller, called, port), and which component each pod is of (others': of none)."""
    policies = [
        each
        for each in yaml.safe_load_all(cluster.helm("get", "manifest", "twin"))
        if each and each["kind"] == "NetworkPolicy"
    ]
    rules = [rule for each in policies for side in ("ingress", "egress") for rule in each["spec"].get(side) or []]
    ports = sorted({port["port"] for rule in rules for port in rule.get("ports", []) if "endPort" not in port})
    spaces = {each: {"kubernetes.io/metadata.name": each} for each in (SPACE, ASIDE, MONITORING, "elsewhere")}
    pods = [
        each
        for each in json.loads(cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
        if each["metadata"]["namespace"] in spaces and is_ready(each) and "deletionTimestamp" not in each["metadata"]
    ]
    people = [
        (each["metadata"]["namespace"], each["metadata"]["name"], each["metadata"]["labels"], each["status"]["podIP"])
        for each in pods
    ]
    outside: list[Person] = [("elsewhere", "node", {}, ADDRESS), ("elsewhere", "internet", {}, INTERNET)]
    targets = people + (outside if isinstance(cluster.cluster, Node) else [])
    addresses = {address: name for _, name, _, address in targets}
    script = (Path(__file__).parent / "reaching.py").read_text()

    def answering(space: str, name: str, address: str) -> set[tuple[str, str, int]]:
        tried = [f"{each}:{port}" for each in addresses if each != address for port in ports]
        done = cluster.kubectl("-n", space, "exec", name, "--", "python3", "-c", script, "3", *tried)
        ends = [each.rpartition(":") for each in json.loads(done.splitlines()[-1])]
        return {(name, addresses[host], int(port)) for host, _, port in ends}

    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda one: answering(one[0], one[1], one[3]), people)
        reached = {each for one in found for each in one}
    callers = {name for _, name, _, _ in people}
    print(f"{len(callers) * (len(targets) - 1) * len(ports)} cells, {len(ports)} ports")
    allowed = {each for each in probed(policies, spaces, targets, ports, directory) if each[0] in callers}
    return reached, allowed, {each["metadata"]["name"]: component(each) for each in pods}


def test_nothing_broke_unseen(cluster: Cluster) -> None:
    """No pod was restarted, and none has a traceback in its log: what an image lacks is not worked around in silence."""
    restarted = {
        each["metadata"]["name"]: state["restartCount"]
        for each in cluster.pods()
        for state in each["status"].get("containerStatuses", [])
        if state["restartCount"]
    }
    assert restarted == {}
    names = [each["metadata"]["name"] for each in cluster.pods() if component(each).removesuffix("-worker") in SERVICES]
    logs = {name: cluster.kubectl("-n", SPACE, "logs", name) for name in names}
    assert len(logs) == 12
    assert {name: log[-2000:] for name, log in logs.items() if "Traceback" in log} == {}


def test_memory_at_rest(cluster: Cluster) -> None:
    """What each pod holds is told by the node, and none is near its limit."""
    node = cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    told = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    held = {
        each["podRef"]["name"]: each["memory"]["workingSetBytes"] // 2**20
        for each in told["pods"]
        if each["podRef"]["namespace"] in (SPACE, ASIDE)
    }
    for name, size in sorted(held.items()):
        print(f"{name:44} {size:5} MiB")
    assert len(held) >= 15


def test_upgrade_and_rollback_fail_no_request(cluster: Cluster) -> None:
    """Another image and other values are rolled out and taken back under load: no search and no stream fails."""
    builder = cluster.cluster.builder
    cluster.cluster.load(*(build_service(builder, each, "next") for each in SERVICES))
    values = {
        **VALUES,
        "image": {**VALUES["image"], "tag": "next"},
        "retriever": {**VALUES["retriever"], "settings": {"TWIN_CONCURRENT_CALLS": "900"}},
    }
    load = cluster.loaded()
    start = time.monotonic()
    cluster.helm("upgrade", "twin", str(CHART), "-f", "-", "--wait", "--timeout", "10m", text=json.dumps(values))
    cluster.ready()
    upgraded = time.monotonic()
    print(f"upgraded: {upgraded - start:.0f} s")
    images = {each["image"] for one in cluster.pods() for each in one["spec"]["containers"]}
    assert {name_of(each, "next") for each in SERVICES} <= images
    cluster.helm("rollback", "twin", "1", "--wait", "--timeout", "10m")
    cluster.ready()
    print(f"and back: {time.monotonic() - upgraded:.0f} s")
    told = load.end()
    assert told["failed"] == 0, told
    assert told["searches"] / told["seconds"] >= RATE * 0.95
    assert told["streams"] >= 3
    assert told["ingests"] > 5


def test_deleting_each_pod_fails_no_request(cluster: Cluster) -> None:
    """Each pod of Twin is deleted in turn under load: no search, no stream and no ingest fails, and none is repeated."""
    load = cluster.loaded()
    for each in cluster.pods():
        if component(each).removesuffix("-worker") in SERVICES:
            _delete(cluster, each)
    told = load.end()
    assert told["failed"] == 0, told
    assert told["ingests"] > 5


def test_deleting_each_store_loses_nothing(cluster: Cluster) -> None:
    """Each store has one pod. While it is replaced requests are refused with 503; who repeats them as told gets every
    answer, and every ingest is completed."""
    load = cluster.loaded("--patient")
    for each in cluster.pods():
        if component(each) in ("mongodb", "weaviate", "redis"):
            _delete(cluster, each)
    told = load.end()
    assert told["failed"] == 0, told
    assert told["ingests"] > 2


def _delete(cluster: Cluster, gone: dict[str, Any]) -> None:
    start = time.monotonic()
    cluster.kubectl("-n", SPACE, "delete", "pod", gone["metadata"]["name"], "--wait=false")
    cluster.replaced(gone)
    print(f"{gone['metadata']['name']}: replaced after {time.monotonic() - start:.0f} s")


def test_uninstall_leaves_nothing(cluster: Cluster) -> None:
    """Nothing of the release is left: not even its volumes and its secret, for nothing was asked to stay."""
    cluster.helm("uninstall", "twin", "--wait", "--timeout", "5m")
    end = time.monotonic() + 120
    kinds = "all,configmap,secret,pvc,serviceaccount,networkpolicy,pdb,role,rolebinding"
    left = ["?"]
    while left and time.monotonic() < end:
        names = cluster.kubectl("-n", SPACE, "get", kinds, "-o", "name").split()
        left = [each for each in names if each not in ("configmap/kube-root-ca.crt", "serviceaccount/default")]
        time.sleep(2)
    assert left == []
