"""A deployment that does not work is taken back: k8s/deploy.py with stand-ins for helm and kubectl that write down what is
asked of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chart.conftest import ROOT, program

HELM = """\
import json, sys
from pathlib import Path
file = Path(__file__).with_name("state.json")
state = json.loads(file.read_text())
what = sys.argv[1]
state["asked"].append(sys.argv[1:])
code = 0
revisions = state["history"]
def deployed(description):
    for each in revisions:
        each["status"] = "superseded" if each["status"] == "deployed" else each["status"]
    revisions.append({"revision": len(revisions) + 1, "status": "deployed", "description": description})
if what == "history":
    if revisions:
        print(json.dumps(revisions))
    else:
        print("Error: release: not found", file=sys.stderr)
        code = 1
elif what == "upgrade":
    deployed("Upgrade complete")
elif what == "rollback":
    deployed(f"Rollback to {sys.argv[3]}")
elif what == "test" and revisions[-1]["description"] == "Upgrade complete":
    code = state["test"]
file.write_text(json.dumps(state))
sys.exit(code)
"""
KUBECTL = """\
import json, sys
from pathlib import Path
file = Path(__file__).with_name("state.json")
state = json.loads(file.read_text())
state["paths"].append(sys.argv[3])
file.write_text(json.dumps(state))
upgraded = any(each[0] == "upgrade" for each in state["asked"])
if state["silent"]:
    sys.exit("no endpoints available")
names = state["before"] + (state["after"] if upgraded else [])
print(json.dumps({"data": {"result": [{"metric": {"alertname": each}} for each in names]}}))
"""


class Cluster:
    """State of the stand-ins, in a file beside them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name, text in (("helm", HELM), ("kubectl", KUBECTL)):
            (directory / name).write_text(f"#!{sys.executable}\n{text}")
            (directory / name).chmod(0o755)
        self.say()

    def say(
        self,
        revisions: int = 1,
        test: int = 0,
        before: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
        silent: bool = False,
    ) -> None:
        history = [
            {"revision": at + 1, "status": "superseded" if at + 1 < revisions else "deployed", "description": "Upgrade"}
            for at in range(revisions)
        ]
        state = {
            "asked": [],
            "paths": [],
            "history": history,
            "test": test,
            "before": before,
            "after": after,
            "silent": silent,
        }
        (self.directory / "state.json").write_text(json.dumps(state))

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.directory}:{os.environ['PATH']}"}
        command = [sys.executable, str(ROOT / "k8s" / "deploy.py"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    @property
    def state(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        return read

    @property
    def asked(self) -> list[str]:
        return [each[0] for each in self.state["asked"]]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


WATCHED = ("--alerts", "monitoring/prometheus-operated:9090", "--watch", "0.3")


def test_what_works_stays(cluster: Cluster) -> None:
    """An upgrade by --atomic, a test, and nothing taken back; the chart, its version and values are passed on."""
    done = cluster.deploy("up", "oci://registry/twin", "--version", "1.2.3", "--values", "a.yaml", *WATCHED)
    assert done.returncode == 0, done.stderr
    assert cluster.asked == ["history", "upgrade", "test"]
    upgrade = cluster.state["asked"][1]
    assert upgrade[:3] == ["upgrade", "twin", "oci://registry/twin"]
    assert {"--install", "--atomic", "1.2.3", "a.yaml"} <= set(upgrade)
    assert all("severity%3D%22critical%22" in path for path in cluster.state["paths"])


def test_a_failing_test_goes_back(cluster: Cluster) -> None:
    """To the revision that was deployed before, which is asked too; and the deployment has failed."""
    cluster.say(revisions=3, test=1)
    done = cluster.deploy("up")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("gone back to revision 3")
    assert cluster.asked == ["history", "upgrade", "test", "rollback", "test"]
    assert cluster.state["asked"][3][2] == "3"


def test_a_new_critical_alert_goes_back(cluster: Cluster) -> None:
    """And is named; what fired before the upgrade already is not held against it."""
    cluster.say(before=("TwinSlow",), after=("TwinErrors",))
    done = cluster.deploy("up", *WATCHED)
    assert done.returncode == 1
    assert "TwinErrors since the upgrade" in done.stderr
    assert "TwinSlow" not in done.stderr
    assert cluster.asked[-2:] == ["rollback", "test"]
    cluster.say(before=("TwinErrors",))
    assert cluster.deploy("up", *WATCHED).returncode == 0


def test_blind_nothing_is_deployed(cluster: Cluster) -> None:
    """Where alerts cannot be asked for, nothing is changed."""
    cluster.say(silent=True)
    done = cluster.deploy("up", *WATCHED)
    assert done.returncode == 1
    assert "cannot be asked" in done.stderr
    assert cluster.asked == []


def test_a_first_release_has_nothing_to_go_back_to(cluster: Cluster) -> None:
    """It is left for whoever looks why."""
    cluster.say(revisions=0, test=1)
    done = cluster.deploy("up")
    assert done.returncode == 1
    assert "no release before" in done.stderr
    assert "rollback" not in cluster.asked


def test_back_twice_goes_further_back(cluster: Cluster) -> None:
    """Not to the release that was left the first time."""
    cluster.say(revisions=3)
    assert cluster.deploy("back").returncode == 0
    assert cluster.deploy("back").returncode == 0
    gone = [each[2] for each in cluster.state["asked"] if each[0] == "rollback"]
    assert gone == ["2", "1"]
    done = cluster.deploy("back")
    assert done.returncode == 1
    assert "before 1" in done.stderr


def test_helm_has_every_option_that_is_given(cluster: Cluster) -> None:
    """Of what the stand-in takes, helm itself knows each word that begins with dashes."""
    cluster.say(test=1)
    cluster.deploy("up", "oci://registry/twin", "--version", "1.2.3", "--values", "a.yaml")
    for asked in cluster.state["asked"]:
        done = subprocess.run([str(program("helm")), asked[0], "--help"], capture_output=True, text=True)
        for option in [each for each in asked if each.startswith("--")]:
            assert f"{option} " in done.stdout or f"{option}\n" in done.stdout, (asked[0], option)
