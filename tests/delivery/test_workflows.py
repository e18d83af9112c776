"""The workflows: what actionlint says of them, and that what they name is in this repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import ROOT, program

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
TARGETS = {
    target
    for line in re.findall(r"^([\w .$()/-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in line.replace("$(VENV)", ".venv").split()
}


def _read(file: Path) -> dict[str, Any]:
    # BaseLoader: YAML's `on` would be true.
    read: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return read


def _steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def test_actionlint_finds_nothing() -> None:
    """Syntax, expressions, inputs of actions and of the workflows that call one another."""
    command = [str(program("actionlint")), "-no-color", *map(str, WORKFLOWS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@each_workflow
def test_commands_that_are_run_are_there(file: Path) -> None:
    """Each `make X` is a target, with variables that the Makefile reads; each file that is named is there."""
    makefile = (ROOT / "Makefile").read_text()
    for step in _steps(_read(file)):
        for called in re.findall(r"\bmake ((?:[^\n\\]|\\\n)+)", step.get("run", "")):
            words = called.replace("\\\n", " ").split()
            for word in words:
                variable = re.match(r"([A-Z]+)=", word)
                if variable:
                    assert f"$({variable[1]})" in makefile, word
                elif re.fullmatch(r"[a-z./-]+", word):
                    assert word in TARGETS, word
        if dockerfile := step.get("with", {}).get("file"):
            for folder in ("services", "training") if "matrix" in dockerfile else ("",):
                assert (ROOT / dockerfile.replace("${{ matrix.folder }}", folder)).is_file()


@each_workflow
def test_nobody_may_more_than_they_need(file: Path) -> None:
    """A workflow may read; who may more says so job by job. No credentials stay in the checkout, no secret is named."""
    workflow = _read(file)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        granted = job.get("permissions", {})
        assert set(granted.values()) <= {"read", "write"}
        written = {scope for scope, level in granted.items() if level == "write"}
        assert written <= {"packages", "id-token"}, name
        assert "uses" in job or "timeout-minutes" in job, name
    for step in _steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"
    assert "secrets." not in file.read_text(), "who is who is told by the workflow's identity"
    assert "pull_request_target" not in workflow["on"]


@each_workflow
def test_actions_have_a_version(file: Path) -> None:
    """No action is taken from a branch."""
    workflow = _read(file)
    used = [each["uses"] for each in (*_steps(workflow), *workflow["jobs"].values()) if "uses" in each]
    for each in used:
        if each.startswith("./"):
            assert (ROOT / each).is_file()
        else:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+(\.\d+\.\d+)?|[0-9a-f]{40})", each), each


def test_scripts_do_not_paste_what_others_say() -> None:
    """What comes from outside reaches a script as a variable of its environment."""
    for file in WORKFLOWS:
        for step in _steps(_read(file)):
            assert "${{" not in step.get("run", ""), (file.name, step["run"])


def test_every_image_is_built_scanned_and_signed() -> None:
    """All five services, in the check and in the release, where the scan comes before the signature."""
    services = {"crawler", "feature", "retriever", "generator", "gateway"}
    assert (
        set(_read(ROOT / ".github/workflows/check.yml")["jobs"]["images"]["strategy"]["matrix"]["service"]) == services
    )
    job = _read(ROOT / ".github/workflows/release.yml")["jobs"]["images"]
    made = job["strategy"]["matrix"]["include"]
    assert {each["image"] for each in made} == services | {"feature-torch", "retriever-torch", "training"}
    assert {each["folder"] for each in made if "service" not in each} == {"training"}
    assert {each["folder"] for each in made if "service" in each} == {"services"}
    locks = {f"{each['service']}{'-' + each['extra'] if 'extra' in each else ''}" for each in made if "service" in each}
    assert all((ROOT / "locks" / f"{each}.txt").is_file() for each in locks)
    order = [str(each.get("uses", "")).partition("@")[0] or each.get("run", "") for each in job["steps"]]
    scanned = order.index("anchore/scan-action")
    (signed,) = [at for at, each in enumerate(order) if "cosign sign" in each]
    assert scanned < signed


def test_production_comes_after_staging() -> None:
    """Nothing is deployed that was not checked, installed on a cluster, built and deployed to staging before."""
    jobs = _read(ROOT / ".github/workflows/release.yml")["jobs"]
    needed: list[str] = []
    at = ["production"]
    while at:
        needs = jobs[at.pop()].get("needs", [])
        found = [needs] if isinstance(needs, str) else needs
        needed += found
        at += found
    assert set(needed) == {"staging", "chart", "images", "check", "cluster"}
