"""What stands around the chart, k8s/: objects that a cluster takes, and values that fit one another."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import ROOT, Object, Render
from tests.chart.test_tools import conforms

K8S = ROOT / "k8s"
AWS = (K8S / "values" / "production.yaml", K8S / "values" / "aws.yaml")
MANIFESTS = [*sorted((K8S / "aws").glob("*.yaml")), K8S / "production" / "mongodb.yaml"]


def _read(path: str) -> Any:
    return yaml.safe_load((K8S / path).read_text(encoding="utf-8"))


def _one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def _engine(objects: list[Object]) -> dict[str, Any]:
    spec: dict[str, Any] = _one(objects, "Deployment", "twin-tgi")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_clusters_and_operators_take_these(file: Path) -> None:
    """Strictly, by eksctl's own schema, the storage classes' of Kubernetes, and the operators' of External Secrets and
    MongoDB; and no key is written twice."""
    text = file.read_text(encoding="utf-8")
    assert conforms(list(yaml.safe_load_all(text))) == []
    assert "<<:" not in text, "eksctl refuses what is merged and said again"


def test_production_on_aws_is_taken(render: Render) -> None:
    """Both values files together: objects that conform, none of them a bundled store."""
    objects = render({}, *AWS)
    assert conforms(objects) == []
    assert not [each for each in objects if each["kind"] == "StatefulSet"]


def test_aws_fits_its_cluster(render: Render) -> None:
    """Classes, node labels, taints, roles, buckets, networks and secrets that the values name are what k8s/aws makes."""
    objects = render({}, *AWS)
    cluster = _read("aws/cluster.yaml")
    groups = {each["name"]: each for each in cluster["managedNodeGroups"]}
    labels = [each["labels"] for each in groups.values()]
    classes = {each["metadata"]["name"] for each in yaml.safe_load_all((K8S / "aws" / "storage.yaml").read_text())}
    for each in objects:
        if each["kind"] == "PersistentVolumeClaim":
            assert each["spec"]["storageClassName"] in classes, each["metadata"]["name"]
            many = each["spec"]["accessModes"] == ["ReadWriteMany"]
            assert (each["spec"]["storageClassName"] == "efs") == many
        elif each["kind"] in ("Deployment", "Job") and "nodeSelector" in each["spec"]["template"]["spec"]:
            assert each["spec"]["template"]["spec"]["nodeSelector"] in labels

    gpu = groups["gpu-spot"]
    spec = _engine(objects)
    assert spec["nodeSelector"] == gpu["labels"]
    (taint,) = gpu["taints"]
    assert {"key": taint["key"], "operator": "Exists", "effect": taint["effect"]} in spec["tolerations"]
    assert gpu["spot"] is True
    assert spec["terminationGracePeriodSeconds"] <= 130, "a spot node is gone two minutes after it says so"

    role = next(each for each in cluster["iam"]["serviceAccounts"] if each["metadata"]["name"] == "twin-mlflow")
    account = _one(objects, "ServiceAccount", "twin-mlflow")
    assert role["roleOnly"] is True
    assert role["metadata"]["namespace"] == "twin"
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].endswith(f":role/{role['roleName']}")
    (container,) = _one(objects, "Deployment", "twin-mlflow")["spec"]["template"]["spec"]["containers"]
    destination = container["args"][container["args"].index("--artifacts-destination") + 1]
    allowed = json.dumps(role["attachPolicy"])
    assert destination.replace("s3://", "arn:aws:s3:::") + "/*" in allowed
    policy = _one(objects, "NetworkPolicy", "twin-mlflow")["spec"]
    assert {"ports": [{"protocol": "TCP", "port": 443}]} in policy["egress"]

    gateway = _one(objects, "NetworkPolicy", "twin-gateway")["spec"]["ingress"]
    (open_to,) = [each["from"] for each in gateway if each["ports"][0]["port"] == 8000 and "ipBlock" in each["from"][0]]
    assert open_to == [{"ipBlock": {"cidr": cluster["vpc"]["cidr"]}}]

    store = _one(list(yaml.safe_load_all((K8S / "aws" / "secrets.yaml").read_text())), "ClusterSecretStore", "aws")
    secret = _one(objects, "ExternalSecret", "twin")
    assert secret["spec"]["secretStoreRef"] == {"name": "aws", "kind": "ClusterSecretStore"}
    account_of_store = store["spec"]["provider"]["aws"]["auth"]["jwt"]["serviceAccountRef"]
    assert account_of_store in [each["metadata"] for each in cluster["iam"]["serviceAccounts"]]


def test_nodes_give_nothing_away() -> None:
    """Every node group: private, encrypted, the metadata service in its second version and not for pods; policies are
    enforced."""
    cluster = _read("aws/cluster.yaml")
    for each in cluster["managedNodeGroups"]:
        for setting in ("privateNetworking", "volumeEncrypted", "disableIMDSv1", "disablePodIMDS"):
            assert each[setting] is True, (each["name"], setting)
    (network,) = [each for each in cluster["addons"] if each["name"] == "vpc-cni"]
    assert json.loads(network["configurationValues"]) == {"enableNetworkPolicy": "true"}
    for each in cluster["iam"]["serviceAccounts"]:
        for statement in each.get("attachPolicy", {}).get("Statement", []):
            assert "*" not in statement["Action"]
            assert statement["Resource"] != "*"


def test_a_load_balancer_waits_as_long_as_an_answer_takes(render: Render) -> None:
    """The ALB's idle time is the ingress' read timeout; it forgets a pod before the pod stops; nothing of nginx is left."""
    annotations = _one(render({}, *AWS), "Ingress", "twin-gateway")["metadata"]["annotations"]
    assert "idle_timeout.timeout_seconds=620" in annotations["alb.ingress.kubernetes.io/load-balancer-attributes"]
    assert not [each for each in annotations if each.startswith("nginx")]
    drain = re.search(r"=(\d+)", annotations["alb.ingress.kubernetes.io/target-group-attributes"])
    assert drain is not None
    (gateway,) = [
        each["spec"]["template"]["spec"]
        for each in render({}, *AWS)
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "twin-gateway"
    ]
    assert int(drain[1]) < gateway["terminationGracePeriodSeconds"]


def test_stores_of_production_fit_the_chart(render: Render) -> None:
    """Versions are those the chart bundles; passwords are only named; the policies lead to their namespace."""
    bundled = yaml.safe_load((ROOT / "charts" / "twin" / "values.yaml").read_text())["stores"]
    mongodb, weaviate, redis = (_read(f"production/{each}.yaml") for each in ("mongodb", "weaviate", "redis"))
    assert bundled["mongodb"]["image"].endswith(f":{mongodb['spec']['version']}")
    assert bundled["weaviate"]["image"].endswith(f":{weaviate['image']['tag']}")
    assert weaviate["env"]["RAFT_BOOTSTRAP_EXPECT"] == weaviate["replicas"]
    assert weaviate["authentication"]["anonymous_access"]["enabled"] is False
    assert weaviate["envSecrets"].keys() == {"AUTHENTICATION_APIKEY_ALLOWED_KEYS"}
    assert f"&replicas={weaviate['replicas']}" in (K8S / "production" / "weaviate.yaml").read_text()
    assert redis["auth"]["enabled"] is True
    assert redis["auth"]["aclUsers"]["default"].keys() == {"permissions"}
    assert mongodb["spec"]["users"][0]["passwordSecretRef"]["name"] == "twin-mongodb"
    space = mongodb["metadata"]["namespace"]
    for each in render({}, K8S / "values" / "production.yaml"):
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] in ("twin-feature", "twin-generator"):
            assert space in json.dumps(each["spec"]["egress"])


@pytest.mark.parametrize(
    ("file", "resource"),
    [
        ("gpu", "nvidia.com/gpu"),
        ("gpu-sharded", "nvidia.com/gpu"),
        ("gpu-mig", "nvidia.com/mig-1g.10gb"),
        ("gpu-time-sliced", "nvidia.com/gpu.shared"),
    ],
)
def test_gpu_values_ask_for_what_the_device_plugin_offers(render: Render, file: str, resource: str) -> None:
    """The engine asks for its shards of the resource that the plugin's configuration of that name makes, and each part of
    TGI's documentation is there: shards, shared memory, the weights' volume, patience."""
    objects = render({}, K8S / "values" / f"{file}.yaml")
    values = _read(f"values/{file}.yaml")
    spec = _engine(objects)
    (container,) = spec["containers"]
    shards = values["tgi"].get("shards", 1)
    for side in ("requests", "limits"):
        assert container["resources"][side][resource] == shards
    arguments = container["args"]
    assert arguments[arguments.index("--num-shard") + 1] == str(shards)
    assert arguments[arguments.index("--revision") + 1] == values["tgi"].get(
        "revision", arguments[arguments.index("--revision") + 1]
    )
    (memory,) = [each["emptyDir"] for each in spec["volumes"] if each["name"] == "shm"]
    assert memory["medium"] == "Memory"
    # Documented for NCCL: a gibibyte at least.
    assert int(memory["sizeLimit"].removesuffix("Gi")) >= 1
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert {"name": "weights", "mountPath": "/data", "readOnly": True} in container["volumeMounts"]
    ready = container["readinessProbe"]
    assert ready["timeoutSeconds"] * ready["failureThreshold"] >= 60, "a full queue keeps /health waiting"
    assert container["livenessProbe"]["httpGet"]["path"] == "/info", "which no queue stands before"
    assert spec["terminationGracePeriodSeconds"] > values["tgi"].get("drainSeconds", 120)
    plugin = {name: yaml.safe_load(text) for name, text in _read("gpu/device-plugin.yaml")["config"]["map"].items()}
    assert set(plugin) == {"whole", "mixed", "shared"}
    if resource.endswith(".shared"):
        sharing = plugin["shared"]["sharing"]["timeSlicing"]
        assert sharing["renameByDefault"] is True
        assert sharing["resources"][0]["name"] + ".shared" == resource
        asking = [each for each in objects if each["kind"] == "Deployment" and resource in json.dumps(each)]
        assert len(asking) <= sharing["resources"][0]["replicas"]
    elif "/mig-" in resource:
        assert plugin["mixed"]["flags"]["migStrategy"] == "mixed"
    else:
        assert plugin["whole"]["flags"]["migStrategy"] == "none"
