"""What the chart makes: pods as Pod Security `restricted` wants them, settings that the services take, no secrets."""

from __future__ import annotations

import base64
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.crawler import bootstrap as crawler
from services.feature import bootstrap as feature
from services.gateway import settings as gateway
from services.generator import bootstrap as generator
from services.retriever import bootstrap as retriever
from services.settings import Settings, read
from tests.chart.conftest import CHART, ROOT, VALUES, Object, Render

SERVICES: dict[str, type[Settings]] = {
    "crawler": crawler.Settings,
    "feature": feature.Settings,
    "gateway": gateway.Settings,
    "generator": generator.Settings,
    "retriever": retriever.Settings,
}
EVERYTHING = {
    "ingress": {"enabled": True, "tlsSecret": "twin-tls"},
    "mlflow": {"enabled": True},
    "backup": {"enabled": True},
    "reindex": {"enabled": True},
    "autoscaling": {
        each: {"enabled": True} for each in ("gateway", "retriever", "crawlerWorker", "featureWorker", "tgi")
    },
    "monitoring": {
        "serviceMonitors": True,
        "rules": True,
        "dashboards": True,
        "runbooks": "https://example.com/runbooks",
    },
}
TRIED: dict[str, tuple[object, tuple[Path, ...]]] = {
    "default": ({}, ()),
    "everything": (EVERYTHING, ()),
    "vllm": ({"vllm": {"enabled": True, "shards": 2}}, ()),
    **{each.stem: ({}, (each,)) for each in VALUES},
}
"""Values, and files under them."""
over_all = pytest.mark.parametrize(("values", "files"), TRIED.values(), ids=TRIED.keys())


def pods(objects: list[Object]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects:
        name = f"{each['kind']}/{each['metadata']['name']}"
        match each["kind"]:
            case "Pod":
                yield name, each["spec"]
            case "CronJob":
                yield name, each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            case "Deployment" | "StatefulSet" | "Job":
                yield name, each["spec"]["template"]["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@over_all
def test_every_pod_is_restricted(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """Non-root, read-only root, no capability, no escalation, the runtime's seccomp, no token, sizes for everything."""
    for name, spec in pods(render(values, *files)):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["serviceAccountName"] != "default", name
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] >= 10000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(spec.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name
        for container in containers(spec):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys(), name
            assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys(), name


@over_all
def test_what_is_named_is_there(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """Names are unique within a kind and in one namespace; accounts, claims and scaled Deployments are of the chart."""
    objects = render(values, *files)
    named = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(named) == len(set(named))
    assert {each["metadata"].get("namespace") for each in objects} == {"twin"}
    for name, spec in pods(objects):
        assert ("ServiceAccount", spec["serviceAccountName"]) in named, name
        for volume in spec["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in named, name
    for each in objects:
        if each["kind"] == "ScaledObject":
            target = ("Deployment", each["spec"]["scaleTargetRef"]["name"])
            assert target in named
            (scaled,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == target]
            assert "replicas" not in scaled["spec"], "the autoscaler's number would be overwritten by each upgrade"


@over_all
def test_services_take_their_settings(render: Render, values: object, files: tuple[Path, ...], tmp_path: Path) -> None:
    """Every setting that a pod is given is one of its service, and its value is taken."""
    file = tmp_path / "file"
    file.touch()
    seen = set()
    for each in render(values, *files):
        if each["kind"] != "Deployment":
            continue
        (container,) = each["spec"]["template"]["spec"]["containers"]
        if (settings := SERVICES.get(container["name"])) is None:
            continue
        seen.add(container["name"])
        given: dict[str, str] = {}
        for one in container["env"]:
            name = one["name"].removeprefix("TWIN_").lower()
            if not one["name"].startswith("TWIN_") or one["name"].endswith(("_PASSWORD", "WEAVIATE_KEY")):
                continue
            assert name in settings.model_fields, (container["name"], one["name"])
            given[name] = one.get("value", "sk-twin-" + "a" * 32)
            if name.startswith("tls_"):
                given[name] = str(file)
        read(settings, **given)
    assert seen == SERVICES.keys()


@over_all
def test_no_secret_is_rendered(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """What the generated Secret holds is in no other object, and what is called a key or password has no literal value."""
    objects = render(values, *files)
    held = [
        base64.b64decode(value).decode()
        for each in objects
        if each["kind"] == "Secret"
        for value in each["data"].values()
    ]
    others = json.dumps([each for each in objects if each["kind"] != "Secret"])
    assert not any(value in others or base64.b64encode(value.encode()).decode() in others for value in held)
    for name, spec in pods(objects):
        for container in containers(spec):
            for variable in container.get("env", []):
                if (
                    re.search(r"(_KEY|PASSWORD|SECRET|TOKEN|ALLOWED_KEYS)$", variable["name"])
                    and variable["name"] != "TWIN_TLS_KEY"
                ):
                    assert "secretKeyRef" in variable["valueFrom"], (name, variable["name"])


@over_all
def test_probes_mean_different_things(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """Liveness asks for what does not depend on stores, readiness for what does; and the end leaves time to drain."""
    for each in render(values, *files):
        if each["kind"] != "Deployment":
            continue
        spec = each["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        if container["name"] not in SERVICES:
            continue
        if container["name"] == "gateway":
            assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        else:
            assert container["livenessProbe"]["grpc"]["service"] == "alive"
            assert not container["readinessProbe"]["grpc"].get("service")
        variables = {one["name"]: one.get("value") for one in container["env"]}
        drain = float(variables["TWIN_DRAIN_SECONDS"]) + float(variables["TWIN_DRAIN_LINGER_SECONDS"])
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] > before + drain


def test_with_mutual_tls_probes_have_a_port_of_their_own(render: Render) -> None:
    """Kubernetes' gRPC probes have no certificate: health alone is served without."""
    for each in render({}, ROOT / "k8s" / "values" / "mtls.yaml"):
        if each["kind"] == "Deployment" and each["metadata"]["name"] != "twin-gateway":
            (container,) = each["spec"]["template"]["spec"]["containers"]
            variables = {one["name"]: one.get("value") for one in container["env"]}
            assert variables["TWIN_HEALTH_ADDRESS"].endswith(":50060")
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[kind]["grpc"]["port"] == 50060
    names = {
        name
        for each in render({}, ROOT / "k8s" / "values" / "mtls.yaml")
        if each["kind"] == "Certificate"
        for name in each["spec"].get("dnsNames", [])
    }
    assert names == {f"twin-{each}.twin.svc.cluster.local" for each in SERVICES}


def test_an_engine_as_its_documentation_asks(render: Render) -> None:
    """TGI gets its GPUs, shared memory, weights that are not pulled, and time to load, to be busy and to end."""
    objects = render({"tgi": {"enabled": True, "shards": 4, "shm": "4Gi", "quantize": "awq"}})
    (engine,) = [each for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "twin-tgi"]
    spec = engine["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert container["resources"]["requests"]["nvidia.com/gpu"] == 4
    arguments = container["args"]
    assert arguments[arguments.index("--num-shard") + 1] == "4"
    assert arguments[arguments.index("--quantize") + 1] == "awq"
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["HF_HUB_OFFLINE"] == "1"
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 900
    assert container["livenessProbe"]["httpGet"]["path"] != container["readinessProbe"]["httpGet"]["path"]
    assert spec["terminationGracePeriodSeconds"] >= 120
    (job,) = [each for each in objects if each["kind"] == "Job" and "weights" in each["metadata"]["name"]]
    model = next(
        each
        for each in job["spec"]["template"]["spec"]["containers"][0]["command"]
        if "@" in each and "/" in each and "\n" not in each
    )
    assert model.split("@")[0] in arguments
    assert model.split("@")[1] in arguments


def test_the_test_clusters_values_are_taken(render: Render) -> None:
    """The values that `make cluster-test` installs with."""
    from tests.cluster.installed import VALUES as INSTALLED

    assert render(INSTALLED)


def test_the_readme_is_up_to_date() -> None:
    """README.md is what `make chart-docs` makes of values.yaml, where every value has its comment."""
    assert (CHART / "README.md").read_text() == runpy.run_path(str(ROOT / "charts" / "readme.py"))["page"]()


def test_one_version() -> None:
    """The chart's appVersion is the project's."""
    project = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert str(chart["appVersion"]) == project[1]
    assert "dependencies" not in chart
