"""The chart, installed: `make cluster-test`.

Each test goes on where the one before stopped; the cluster is there before the first, and gone after the last unless
TWIN_KEEP_CLUSTER is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.images import SERVICES, STORES, build_all, build_service, name_of
from tests.cluster.kind import Kind, available
from tests.cluster.node import Node
from tests.servers.obtain import obtain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("TWIN_TEST_CLUSTER"), reason="takes a cluster: make cluster-test"),
]

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "charts" / "twin"
SPACE = "twin"
ASIDE = "aside"
"""Where what is not Twin's runs: the engine, the pages, who asks."""
MONITORING = "monitoring"
"""Where the chart's policies expect who collects metrics."""
PAGES = f"http://pages.{ASIDE}.svc.cluster.local:8080"
COMPONENTS = ("gateway", "crawlerWorker", "feature", "featureWorker", "retriever", "generator")
VALUES: dict[str, Any] = {
    "image": {"registry": "localhost", "tag": "test", "pullPolicy": "IfNotPresent"},
    "stores": {
        "mongodb": {"image": name_of("mongodb"), "args": ["0.0.0.0:27017", "/data/db"], "auth": False},
        "weaviate": {"image": name_of("weaviate")},
        "redis": {"image": name_of("redis")},
    },
    "mlflow": {"enabled": True, "image": name_of("mlflow")},
    "llm": {"url": f"tgi+http://engine.{ASIDE}.svc.cluster.local:8080", "port": 8080},
    # Twenty searches a second are more than one key may ask for by default.
    "settings": {"TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000"},
    # One node of two cores has room for old and new pods at once only where none asks for much.
    **{each: {"resources": {"requests": {"cpu": "20m"}}} for each in COMPONENTS},
    # The pages are on the pods' and services' networks.
    "crawler": {"resources": {"requests": {"cpu": "20m"}}, "allowedNetworks": ["10.96.0.0/16", "10.244.0.0/16"]},
}
RATE = 20
"""Searches a second."""
LONGEST = 1500.0
"""Seconds after which a load ends by itself."""
SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


class Cluster:
    def __init__(self, cluster: Node | Kind) -> None:
        self.cluster = cluster
        self.began = time.monotonic()

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        return _run([*self.cluster.kubectl, *arguments], text, check)

    def helm(self, *arguments: str, text: str | None = None) -> str:
        program = [str(obtain("helm")), "--kubeconfig", str(self.cluster.kubeconfig), "-n", SPACE]
        return _run([*program, *arguments], text, True)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def pods(self) -> list[dict[str, Any]]:
        """Of the release, without those that are ending."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("-n", SPACE, "get", "pods", "-o", "json"))["items"]
        return [each for each in items if "deletionTimestamp" not in each["metadata"]]

    def ready(self) -> None:
        for kind in ("deployment", "statefulset"):
            for name in self.kubectl("-n", SPACE, "get", kind, "-o", "name").split():
                self.kubectl("-n", SPACE, "rollout", "status", name, "--timeout=300s")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Over HTTP from a pod, through the gateway's Service."""
        script = (
            "import json,os,sys,urllib.error,urllib.request as u\n"
            "r=u.Request(os.environ['TWIN_URL']+sys.argv[2],method=sys.argv[1],data=sys.argv[3].encode() or None,"
            "headers={'Authorization':'Bearer '+os.environ['TWIN_API_KEY'],'Content-Type':'application/json'})\n"
            "try: print(u.urlopen(r,timeout=120).read().decode())\n"
            "except urllib.error.HTTPError as e: sys.exit(f'{e.code} {e.read().decode()}')"
        )
        data = "" if body is None else json.dumps(body)
        return json.loads(self.kubectl("-n", ASIDE, "exec", "client", "--", "python", "-c", script, method, path, data))

    def prometheus(self, path: str) -> Any:
        proxied = f"/api/v1/namespaces/{MONITORING}/services/prometheus:9090/proxy/api/v1/"
        return json.loads(self.kubectl("get", "--raw", proxied + quote(path, safe="?=/")))["data"]

    def loaded(self, *arguments: str) -> Load:
        """Searches, streams and ingests from a pod, until it is ended."""
        program = ["python", "/files/load.py", str(LONGEST), str(RATE), *arguments]
        return Load([*self.cluster.kubectl, "-n", ASIDE, "exec", "-i", "client", "--", *program])

    def replaced(self, gone: dict[str, Any]) -> None:
        """Wait until another pod stands where this one was, and has been ready for as long as the chart wants."""
        component = _component(gone)
        end = time.monotonic() + 600
        while True:
            others = [each for each in self.pods() if _component(each) == component]
            new = [each for each in others if each["metadata"]["uid"] != gone["metadata"]["uid"]]
            if len(new) == len(others) and sum(map(_is_ready, new)) >= self.wanted(component):
                break
            assert time.monotonic() < end, f"{component} did not come back"
            time.sleep(0.5)
        self.ready()

    def wanted(self, component: str) -> int:
        label = f"app.kubernetes.io/component={component}"
        found = json.loads(self.kubectl("-n", SPACE, "get", "deployment,statefulset", "-l", label, "-o", "json"))[
            "items"
        ]
        return sum(int(each["spec"]["replicas"]) for each in found)


class Load:
    """What load.py does in a pod, from its first answer on."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "begun"

    def end(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=600)
        told: dict[str, Any] = json.loads(out)
        print(json.dumps(told))
        return told


def _component(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/component", ""))


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _run(command: list[str], text: str | None, check: bool) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command[3:9])}: {done.stderr[-2000:]}"
    return done.stdout


def _pod(name: str, image: str, **container: Any) -> dict[str, Any]:
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, *container.pop("mounts", [])]
    volumes = [{"name": "tmp", "emptyDir": {}}, *container.pop("volumes", [])]
    made = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": SECURE,
        "volumeMounts": mounts,
    }
    spec = {
        "securityContext": security,
        "terminationGracePeriodSeconds": 2,
        # Names are asked for as they stand, and not in five places first.
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "volumes": volumes,
        "containers": [made | container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def _prometheus(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Scrapes pods by their annotations, and evaluates the chart's alerts. (Debian's cannot ask Kubernetes for them.)"""
    scraped = [
        {
            "targets": [f"{each['status']['podIP']}:{each['metadata']['annotations']['prometheus.io/port']}"],
            "labels": {"namespace": SPACE, "component": _component(each)},
        }
        for each in pods
        if each["metadata"].get("annotations", {}).get("prometheus.io/scrape") == "true"
    ]
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["/files/alerts.yaml"],
        "scrape_configs": [{"job_name": "pods", "static_configs": scraped}],
    }
    files = {"prometheus.yml": json.dumps(config), "alerts.yaml": (CHART / "files" / "alerts.yaml").read_text()}
    pod = _pod(
        "prometheus",
        name_of("prometheus"),
        args=["--config.file=/files/prometheus.yml", "--storage.tsdb.path=/tmp/data"],
        readinessProbe={"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 2},
        mounts=[{"name": "files", "mountPath": "/files"}],
        volumes=[{"name": "files", "configMap": {"name": "files"}}],
    )
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": files}
    return [_in(MONITORING, each) for each in (config_map, pod, _service("prometheus", 9090))]


def _in(space: str, made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "metadata": {**made["metadata"], "namespace": space}}


def _service(name: str, port: int) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Kind() if available() else Node()
    it = Cluster(made)
    made.up()
    print(f"cluster: {time.monotonic() - it.began:.0f} s")
    made.load(*build_all(made.builder, (*SERVICES, *STORES)))
    print(f"with images: {time.monotonic() - it.began:.0f} s")
    try:
        for space in (SPACE, ASIDE, MONITORING):
            labels = {"pod-security.kubernetes.io/enforce": "restricted"}
            it.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": labels}})
        files = {each: (ROOT / "tests/cluster" / each).read_text() for each in ("load.py", "pages.py")}
        it.apply(
            *(
                _in(ASIDE, each)
                for each in (
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": files},
                    _pod("engine", name_of("engine"), ports=[{"containerPort": 8080}]),
                    _service("engine", 8080),
                    _pod(
                        "pages",
                        name_of("gateway"),
                        command=["python", "/files/pages.py"],
                        mounts=[{"name": "files", "mountPath": "/files"}],
                        volumes=[{"name": "files", "configMap": {"name": "files"}}],
                    ),
                    _service("pages", 8080),
                )
            )
        )
        yield it
    finally:
        if not os.environ.get("TWIN_KEEP_CLUSTER"):
            made.down()


def test_installs_and_becomes_ready(cluster: Cluster) -> None:
    """From the chart and these values alone, with Pod Security `restricted` enforced, every pod becomes ready."""
    start = time.monotonic()
    arguments = ["install", "twin", str(CHART), "-f", "-", "--wait", "--timeout", "10m"]
    cluster.helm(*arguments, text=json.dumps(VALUES))
    print(f"installed and ready: {time.monotonic() - start:.0f} s")
    key = cluster.kubectl("-n", SPACE, "get", "secret", "twin", "-o", "jsonpath={.data.admin-key}")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"key": key}}
    environment = [
        {"name": "TWIN_URL", "value": f"http://twin-gateway.{SPACE}.svc.cluster.local"},
        {"name": "TWIN_PAGES", "value": PAGES},
        {"name": "TWIN_API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}},
    ]
    client = _pod(
        "client",
        name_of("gateway"),
        command=["python", "-c", "import signal; signal.pause()"],
        env=environment,
        mounts=[{"name": "files", "mountPath": "/files"}],
        volumes=[{"name": "files", "configMap": {"name": "files"}}],
    )
    cluster.apply(_in(ASIDE, secret), _in(ASIDE, client))
    cluster.kubectl("-n", ASIDE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s")


def test_ingests_a_page_and_answers_from_it(cluster: Cluster) -> None:
    """A page that a pod serves is brought in, and the model's answer through the gateway's Service cites it."""
    source = f"{PAGES}/ferry.html"
    job = cluster.ask("POST", "/v1/ingest-jobs", {"author": "alpha", "sources": [source]})
    end = time.monotonic() + 180
    while job["state"] in ("queued", "running") and time.monotonic() < end:
        time.sleep(1)
        job = cluster.ask("GET", f"/v1/ingest-jobs/{job['id']}")
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


def test_metrics_of_each_pod_are_collected(cluster: Cluster) -> None:
    """By their annotations alone each of Twin's pods is found and scraped; the alerts are evaluated on what they say,
    and none has anything to say."""
    cluster.apply(*_prometheus(cluster.pods()))
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
    rules = [rule for group in cluster.prometheus("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 5
    assert {(each["name"], each["health"], each["state"]) for each in rules} == {
        (each["name"], "ok", "inactive") for each in rules
    }


def test_nothing_broke_unseen(cluster: Cluster) -> None:
    """No pod was restarted, and none has a traceback in its log: what an image lacks is not worked around in silence."""
    restarted = {
        each["metadata"]["name"]: state["restartCount"]
        for each in cluster.pods()
        for state in each["status"].get("containerStatuses", [])
        if state["restartCount"]
    }
    assert restarted == {}
    names = [
        each["metadata"]["name"] for each in cluster.pods() if _component(each).removesuffix("-worker") in SERVICES
    ]
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
    images = {each["image"] for pod in cluster.pods() for each in pod["spec"]["containers"]}
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
    for pod in cluster.pods():
        if _component(pod).removesuffix("-worker") in SERVICES:
            _delete(cluster, pod)
    told = load.end()
    assert told["failed"] == 0, told
    assert told["ingests"] > 5


def test_deleting_each_store_loses_nothing(cluster: Cluster) -> None:
    """Each store has one pod. While it is replaced requests are refused with 503; who repeats them as told gets every
    answer, and every ingest is completed."""
    load = cluster.loaded("--patient")
    for pod in cluster.pods():
        if _component(pod) in ("mongodb", "weaviate", "redis"):
            _delete(cluster, pod)
    told = load.end()
    assert told["failed"] == 0, told
    assert told["ingests"] > 2


def _delete(cluster: Cluster, pod: dict[str, Any]) -> None:
    start = time.monotonic()
    cluster.kubectl("-n", SPACE, "delete", "pod", pod["metadata"]["name"], "--wait=false")
    cluster.replaced(pod)
    print(f"{pod['metadata']['name']}: replaced after {time.monotonic() - start:.0f} s")


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
