"""What kubeconform, helm lint, helm-unittest and checkov say of the chart."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import CHART, ROOT, VALUES, Object, Render, program
from tests.chart.test_chart import TRIED, over_all


def conforms(objects: list[Object]) -> list[str]:
    """What kubeconform has against them, by the schemas of the cluster's own OpenAPI and the operators' definitions."""
    schemas = program("schemas").parent / "{{.Group}}" / "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
    command = [str(program("kubeconform")), "-strict", "-output", "json", "-schema-location", str(schemas)]
    done = subprocess.run(
        command, input=yaml.dump_all(objects, Dumper=yaml.CSafeDumper), capture_output=True, text=True
    )
    found = json.loads(done.stdout)["resources"]
    assert done.returncode == bool(found), done.stderr
    return [f"{each['kind']}/{each['name']}: {each['msg']}" for each in found]


@over_all
def test_kubernetes_and_operators_take_every_object(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """Strictly: no kind without a schema, no field that it does not know."""
    assert conforms(render(values, *files)) == []


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "imagePullPolice"), "Always"),
        ("Deployment", ("spec", "replicas"), "two"),
        ("NetworkPolicy", ("spec", "ingres"), []),
        ("ScaledObject", ("spec", "minReplicas"), 1),
        ("Certificate", ("spec", "dnsName"), "twin"),
        ("HTTPRoute", ("spec", "rules", 0, "timeout"), "1s"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "expression"), "up"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "ports"), "metrics"),
        ("ExternalSecret", ("spec", "refresh"), "1h"),
    ],
)
def test_a_wrong_field_is_seen(render: Render, kind: str, path: tuple[Any, ...], wrong: object) -> None:
    """The schemas are strict, of built-in kinds and of each operator's."""
    everything = [each for values, files in TRIED.values() for each in render(values, *files)]
    made = copy.deepcopy(next(each for each in everything if each["kind"] == kind))
    assert conforms([made]) == []
    at: Any = made
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = wrong
    (said,) = conforms([made])
    assert kind in said


@pytest.mark.parametrize("file", [None, *VALUES], ids=lambda file: file.stem if file else "default")
def test_helm_lints(file: Path | None) -> None:
    """`helm lint --strict`, with every values file."""
    command = [str(program("helm")), "lint", "--strict", "--quiet", str(CHART), *(("-f", str(file)) if file else ())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_charts_own_unit_tests_pass() -> None:
    """charts/twin/tests, by helm-unittest."""
    done = subprocess.run([str(program("helm-unittest")), "--strict", str(CHART)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"Tests:\s+(\d+) passed, (\d+) total", done.stdout)
    assert passed is not None
    assert passed[1] == passed[2]
    assert int(passed[2]) >= 20


REASONS = {
    "CKV_K8S_11": "a limit of the CPU only slows down what has room, and requests share out what there is",
    "CKV_K8S_15": "tags are never moved, and a node that has an image needs no registry to restart a pod",
    "CKV_K8S_35": "settings are read from the environment, which only the process itself and root on its node can read",
    "CKV_K8S_43": "a release is deployed by digests (image.references); the default values are for trying it",
}
OF_SOME = {
    ("CKV_K8S_8", "Pod.twin.twin-test"): "it asks once and ends",
    ("CKV_K8S_9", "Pod.twin.twin-test"): "it asks once and ends",
}


@pytest.mark.slow
def test_checkov_finds_nothing_without_a_reason(render: Render, tmp_path: Path) -> None:
    """Every check of Kubernetes manifests, on every values file's objects; each finding has a reason here, and each reason
    a finding."""
    # Most objects are the same under most values.
    different = {json.dumps(each): each for values, files in TRIED.values() for each in render(values, *files)}
    (tmp_path / "objects.yaml").write_text(yaml.dump_all(different.values(), Dumper=yaml.CSafeDumper))
    command = [str(program("checkov")), "-m", "checkov.main", "--directory", str(tmp_path), "--framework", "kubernetes"]
    done = subprocess.run(
        [*command, "--skip-download", "--compact", "--quiet", "--output", "json"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "BC_SKIP_MAPPING": "TRUE", "LOG_LEVEL": "ERROR"},
    )
    said = json.loads(done.stdout)
    assert said["summary"]["passed"] > 1000
    assert said["summary"]["parsing_errors"] == 0
    found = {(each["check_id"], each["resource"]) for each in said["results"]["failed_checks"]}
    assert {each for each in found if each[0] not in REASONS} == OF_SOME.keys()
    assert {check for check, _ in found} == REASONS.keys() | {check for check, _ in OF_SOME}


def test_checkov_is_the_one_that_is_locked() -> None:
    """The environment in the cache is named by the lock's version."""
    from tests.servers.obtain import PROGRAMS

    locked = re.search(r"^checkov==(\S+)", (ROOT / "locks" / "checkov.txt").read_text(), re.MULTILINE)
    assert locked is not None
    assert PROGRAMS["checkov"].version == locked[1]
