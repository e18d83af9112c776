"""kube-score has no critical finding on the chart but those that have a reason here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.conftest import Render, program
from tests.chart.test_chart import over_all

pytestmark = pytest.mark.slow

REASONS = {
    "networkpolicy-targets-pod": "pods that train and write to MLflow are Jobs that others start",
    "container-image-pull-policy": "tags are never moved, and a node that has an image needs no registry to restart a pod",
    "pod-probes-identical": "MongoDB and Redis are asked whether they listen, by whatever image stands in for them; patience differs",
    "statefulset-has-servicename": "a store of one pod is reached by a Service that answers only while it is ready",
}
CRITICAL = 1


@over_all
def test_no_critical_finding_without_a_reason(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """Every check of kube-score, on every object that it knows."""
    text = yaml.dump_all(render(values, *files), Dumper=yaml.CSafeDumper)
    # No limit of the CPU: it only slows down what has room, and requests share out what there is.
    score = [str(program("kube-score")), "score", "--ignore-container-cpu-limit"]
    command = [*score, "--output-format", "json", "--output-version", "v2", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    found = {
        (check["check"]["id"], each["object_name"])
        for each in json.loads(done.stdout)
        for check in each["checks"] or []
        if check["grade"] == CRITICAL and not check["skipped"] and check["check"]["id"] not in REASONS
    }
    assert found == set()
