"""Helm, and what it makes of the chart."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.obtain import Missing, cached, obtain

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "charts" / "twin"
VALUES = sorted((ROOT / "k8s" / "values").glob("*.yaml"))
Object = dict[str, Any]
Render = Callable[..., list[Object]]


def program(name: str) -> Path:
    """Skips where it is not built yet and TWIN_REQUIRE_SERVERS does not ask for it."""
    if not cached(name) and os.environ.get("TWIN_REQUIRE_SERVERS") != "1":
        pytest.skip(f"{name} is not built yet: make test-servers builds it")
    try:
        return obtain(name)
    except Missing as error:
        if os.environ.get("TWIN_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(str(error))


def run_helm(values: object, *files: Path) -> subprocess.CompletedProcess[str]:
    named = [part for file in files for part in ("-f", str(file))]
    command = [str(program("helm")), "template", "twin", str(CHART), "-n", "twin", "--kube-version", "1.34.0"]
    return subprocess.run([*command, *named, "-f", "-"], input=json.dumps(values), capture_output=True, text=True)


@pytest.fixture(scope="session")
def render() -> Render:
    """The objects of the chart with these values over those files, as dictionaries."""
    made: dict[str, list[Object]] = {}

    def rendered(values: object = None, *files: Path) -> list[Object]:
        key = json.dumps([values, *map(str, files)])
        if key not in made:
            done = run_helm(values or {}, *files)
            assert done.returncode == 0, done.stderr
            made[key] = [each for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each]
        return made[key]

    return rendered
