"""What the tests do with a cluster and the chart on it.

Comes in: a cluster. Goes out: objects on it, and answers from within. Does not know: what is shown by them.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.cluster.images import name_of
from tests.cluster.kind import Kind
from tests.cluster.node import ADDRESS, Node
from tests.servers.obtain import obtain

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
    "llm": {
        "url": f"tgi+http://engine.{ASIDE}.svc.cluster.local:8080",
        "port": 8080,
        "peers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ASIDE}}}],
    },
    # Twenty searches a second are more than one key may ask for by default.
    "settings": {"TWIN_GATEWAY_REQUESTS_PER_MINUTE": "1000000"},
    # The node's own DNS is no pod; kind's is one.
    "networkPolicy": {
        "dns": [
            {"ipBlock": {"cidr": f"{ADDRESS}/32"}},
            {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}},
        ]
    },
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

    def install(self, values: dict[str, Any]) -> None:
        """The chart, until it is ready; and a pod that asks with the first admin's key."""
        start = time.monotonic()
        arguments = ["install", "twin", str(CHART), "-f", "-", "--wait", "--timeout", "10m"]
        self.helm(*arguments, text=json.dumps(values))
        print(f"installed and ready: {time.monotonic() - start:.0f} s")
        key = self.kubectl("-n", SPACE, "get", "secret", "twin", "-o", "jsonpath={.data.admin-key}")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"key": key}}
        environment = [
            {"name": "TWIN_URL", "value": f"http://twin-gateway.{SPACE}.svc.cluster.local"},
            {"name": "TWIN_PAGES", "value": PAGES},
            {"name": "TWIN_API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}},
        ]
        client = pod(
            "client",
            name_of("gateway"),
            command=["python", "-c", "import signal; signal.pause()"],
            env=environment,
            mounts=[{"name": "files", "mountPath": "/files"}],
            volumes=[{"name": "files", "configMap": {"name": "files"}}],
        )
        self.apply(within(ASIDE, secret), within(ASIDE, client))
        self.kubectl("-n", ASIDE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s")

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

    def ingest(self, seconds: float, *sources: str) -> Any:
        """The job when it has ended, or after so many seconds."""
        job = self.ask("POST", "/v1/ingest-jobs", {"author": "alpha", "sources": sources})
        end = time.monotonic() + seconds
        while job["state"] in ("queued", "running") and time.monotonic() < end:
            time.sleep(1)
            job = self.ask("GET", f"/v1/ingest-jobs/{job['id']}")
        return job

    def prometheus(self, path: str) -> Any:
        proxied = f"/api/v1/namespaces/{MONITORING}/services/prometheus:9090/proxy/api/v1/"
        return json.loads(self.kubectl("get", "--raw", proxied + quote(path, safe="?=/")))["data"]

    def loaded(self, *arguments: str, rate: int = RATE) -> Load:
        """Searches, streams and ingests from a pod, until it is ended."""
        program = ["python", "/files/load.py", str(LONGEST), str(rate), *arguments]
        return Load([*self.cluster.kubectl, "-n", ASIDE, "exec", "-i", "client", "--", *program])

    def replaced(self, gone: dict[str, Any]) -> None:
        """Wait until another pod stands where this one was, and has been ready for as long as the chart wants."""
        gone_from = component(gone)
        end = time.monotonic() + 600
        while True:
            others = [each for each in self.pods() if component(each) == gone_from]
            new = [each for each in others if each["metadata"]["uid"] != gone["metadata"]["uid"]]
            if len(new) == len(others) and sum(map(is_ready, new)) >= self.wanted(gone_from):
                break
            assert time.monotonic() < end, f"{gone_from} did not come back"
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


def component(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/component", ""))


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _run(command: list[str], text: str | None, check: bool) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command[3:9])}: {done.stderr[-2000:]}"
    return done.stdout


def pod(name: str, image: str, **container: Any) -> dict[str, Any]:
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


def prometheus() -> list[dict[str, Any]]:
    """Scrapes the pods that there are, by their annotations, and evaluates the chart's alerts."""
    scraped = {"job_name": "pods", "file_sd_configs": [{"files": ["/tmp/pods.json"], "refresh_interval": "3s"}]}
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["/files/alerts.yaml"],
        "scrape_configs": [scraped],
    }
    files = {
        "prometheus.yml": json.dumps(config),
        "alerts.yaml": (CHART / "files" / "alerts.yaml").read_text(),
        "targets.py": (ROOT / "tests/cluster/targets.py").read_text(),
    }
    made = pod(
        "prometheus",
        name_of("prometheus"),
        args=["--config.file=/files/prometheus.yml", "--storage.tsdb.path=/tmp/data"],
        readinessProbe={"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 2},
        mounts=[{"name": "files", "mountPath": "/files"}],
        volumes=[{"name": "files", "configMap": {"name": "files"}}],
    )
    (server,) = made["spec"]["containers"]
    kept = {each: server[each] for each in ("image", "imagePullPolicy", "securityContext", "volumeMounts")}
    made["spec"]["containers"].append(
        {**kept, "name": "targets", "command": ["python3", "/files/targets.py", SPACE, "/tmp/pods.json"]}
    )
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": files}
    may_look = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "prometheus"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": MONITORING}],
    }
    return [may_look, *(within(MONITORING, each) for each in (config_map, made, service("prometheus", 9090)))]


def within(space: str, made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "metadata": {**made["metadata"], "namespace": space}}


def service(name: str, port: int) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
