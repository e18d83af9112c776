"""skaffold.yaml says what the Dockerfile and the chart say: skaffold itself could not be had where it was written."""

from __future__ import annotations

import copy
import re
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import ROOT, Object, Render
from tests.chart.test_chart import containers, pods

CONFIG = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
DOCKERFILE = (ROOT / "services" / "Dockerfile").read_text()
PROFILES = ["", *(each["name"] for each in CONFIG["profiles"])]
with_each_profile = pytest.mark.parametrize("profile", PROFILES)


def _with(profile: str) -> Any:
    """The configuration as skaffold sees it under a profile."""
    made = copy.deepcopy(CONFIG)
    for each in made.pop("profiles"):
        for patch in each["patches"] if each["name"] == profile else []:
            *parents, last = patch["path"].strip("/").split("/")
            at = made
            for part in parents:
                at = at[int(part)] if isinstance(at, list) else at[part]
            assert patch["op"] == "replace"
            assert last in at, patch["path"]
            at[last] = patch["value"]
    return made


def _rendered(render: Render, profile: str) -> list[Object]:
    """The chart as skaffold installs it, with `IMAGE:built` for each image that it builds."""
    (release,) = _with(profile)["deploy"]["helm"]["releases"]
    assert release["chartPath"] == "charts/twin"
    values: dict[str, Any] = {}
    for path, template in release["setValueTemplates"].items():
        named = re.fullmatch(r"\{\{\.IMAGE_FULLY_QUALIFIED_(\w+)\}\}", template)
        assert named is not None
        at = values
        *parents, last = path.split(".")
        for part in parents:
            at = at.setdefault(part, {})
        at[last] = named[1].replace("_", "-") + ":built"
    return render(values, *(ROOT / each for each in release["valuesFiles"]))


def _twins(objects: list[Object]) -> dict[str, dict[str, Any]]:
    """Deployments of Twin's services, by name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] == "Deployment" and "twin-" in each["spec"]["template"]["spec"]["containers"][0]["image"]
    }


def test_images_are_of_the_dockerfile() -> None:
    """Each artifact's Dockerfile is there, has the arguments that it is given, and the service's lock."""
    declared = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    for each in CONFIG["build"]["artifacts"]:
        docker = each["docker"]
        assert (ROOT / docker["dockerfile"]).is_file()
        assert docker["buildArgs"].keys() <= declared
        service = docker["buildArgs"]["SERVICE"]
        assert each["image"] == f"twin-{service}"
        assert (ROOT / "locks" / f"{service}.txt").is_file()
        assert (ROOT / "services" / service / "__main__.py").is_file()


@with_each_profile
def test_what_is_built_is_what_runs(render: Render, profile: str) -> None:
    """Under every profile: all of Twin's pods, jobs included, run built images, and each image runs."""
    built = {f"{each['image']}:built" for each in _with(profile)["build"]["artifacts"]}
    used = {each["image"] for _, spec in pods(_rendered(render, profile)) for each in containers(spec)}
    assert built <= used
    assert not [each for each in used - built if "twin-" in each]


@pytest.mark.parametrize("profile", ["", "laptop", "gpu"])
def test_changed_code_reaches_the_pods(render: Render, profile: str) -> None:
    """What is copied is there, belongs to the image's packages, and lies where the pods can write it and import it."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert "--target /opt/app" in DOCKERFILE
    assert "PYTHONPATH=/opt/app" in DOCKERFILE
    for artifact in CONFIG["build"]["artifacts"]:
        for rule in artifact["sync"]["manual"]:
            assert next(ROOT.glob(rule["src"]), None) is not None, rule
            (package,) = [each for each in packages if rule["src"].startswith(f"{each}/")]
            assert rule.get("strip", "") == package.removesuffix(Path(package).name)
            assert rule["dest"] == "/opt/app"
        (hook,) = artifact["sync"]["hooks"]["after"]
        told = re.search(r"\$\(cat (\S+)\)", hook["container"]["command"][-1])
        assert told is not None
        for name, spec in _twins(_rendered(render, profile)).items():
            (container,) = spec["containers"]
            assert {"name": "code", "mountPath": "/opt/app"} in container["volumeMounts"], name
            assert f"> {told[1]}" in container["command"][-1], name
            assert spec["initContainers"][0]["command"] == ["cp", "-R", "/opt/app/.", "/code"], name


def test_a_debugger_gets_the_services_own_command(render: Render) -> None:
    """skaffold finds `python` in the command and puts debugpy before the rest."""
    for name, spec in _twins(_rendered(render, "debug")).items():
        assert spec["containers"][0]["command"][:2] == ["python", "-m"], name


@with_each_profile
def test_what_is_forwarded_is_there(render: Render, profile: str) -> None:
    """The Service and its port, in the namespace that is installed into."""
    config = _with(profile)
    (release,) = config["deploy"]["helm"]["releases"]
    for each in config["portForward"]:
        (service,) = [
            one
            for one in _rendered(render, profile)
            if (one["kind"], one["metadata"]["name"]) == ("Service", each["resourceName"])
        ]
        assert each["port"] in [port["port"] for port in service["spec"]["ports"]]
        assert each["namespace"] == release["namespace"]


def test_a_service_that_is_ended_starts_anew(render: Render, tmp_path: Path) -> None:
    """The pods' command, tried: the service is ended and comes back; the pod is ended and so is the service."""
    spec = _twins(_rendered(render, ""))["twin-gateway"]
    script = spec["containers"][0]["command"][-1].replace("/tmp/child", str(tmp_path / "child"))
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\necho started >> {tmp_path}/log\nexec sleep 60\n")
    stand_in.chmod(0o755)
    running = subprocess.Popen(["/bin/sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})

    def starts(count: int) -> None:
        for _ in range(100):
            if (tmp_path / "log").exists() and (tmp_path / "log").read_text().count("started") == count:
                return
            time.sleep(0.05)
        raise AssertionError((tmp_path / "log").read_text())

    try:
        starts(1)
        subprocess.run(["/bin/sh", "-c", f'kill "$(cat {tmp_path}/child)"'], check=True)
        starts(2)
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) is not None
        last = (tmp_path / "child").read_text().strip()
        assert subprocess.run(["kill", "-0", last], capture_output=True).returncode != 0
    finally:
        running.kill()
