"""A release of the chart into a cluster, and back where something is wrong.

    python k8s/deploy.py up CHART [--version V] [--values FILE]… [--alerts NAMESPACE/SERVICE:PORT --watch SECONDS]
    python k8s/deploy.py back

Comes in: the chart, by folder, file or oci://. Goes out: 0, and the release is there, has answered with a citation and
set off no critical alert; or 1, one line that says why, and the release of before. Does not know: which cluster
(kubectl's and helm's own configuration says that), or what an alert means. The namespace is there already: who deploys
need not be allowed to make any.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from typing import Any
from urllib.parse import quote

TIMEOUT = "20m"
"""Of helm: longer than the slowest roll-out, which waits for streams to end pod by pod."""
POLL_SECONDS = 15.0
"""How often alerts are looked at: Prometheus itself looks every 15 to 60 seconds."""
PATIENCE = 4
"""How often in a row Prometheus may fail to say."""


class Failed(Exception):
    """The message is one line."""


class Release:
    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace

    def helm(self, *arguments: str) -> None:
        command = ["helm", *arguments, "--namespace", self.namespace]
        if code := subprocess.run(command, check=False).returncode:
            raise Failed(f"`{' '.join(command[:3])}` failed with {code}")

    def history(self) -> list[dict[str, Any]]:
        """Oldest first; empty where there is no such release."""
        command = ["helm", "history", self.name, "--namespace", self.namespace, "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            if "not found" in done.stderr:
                return []
            raise Failed(f"`helm history` failed: {done.stderr.strip()}")
        revisions: list[dict[str, Any]] = json.loads(done.stdout)
        return revisions

    def test(self) -> None:
        self.helm("test", self.name, "--logs", "--timeout", "10m")

    def back_to(self, revision: int) -> None:
        self.helm("rollback", self.name, str(revision), "--wait", "--cleanup-on-fail", "--timeout", TIMEOUT)
        self.test()


def firing(where: str, namespace: str) -> set[str]:
    """Names of critical alerts of this namespace, asked through the API server: no port is forwarded."""
    space, _, service = where.partition("/")
    query = f'ALERTS{{alertstate="firing",severity="critical",namespace="{namespace}"}}'
    path = f"/api/v1/namespaces/{space}/services/{service}/proxy/api/v1/query?query={quote(query)}"
    done = subprocess.run(["kubectl", "get", "--raw", path], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"Prometheus at {where} cannot be asked: {done.stderr.strip()}")
    return {each["metric"]["alertname"] for each in json.loads(done.stdout)["data"]["result"]}


def watch(where: str, namespace: str, seconds: float, known: set[str]) -> set[str]:
    """Alerts that were not firing before; returns with the first."""
    end = time.monotonic() + seconds
    silent = 0
    while time.monotonic() < end:
        try:
            new = firing(where, namespace) - known
            silent = 0
        except Failed:
            silent += 1
            if silent == PATIENCE:
                raise
        else:
            if new:
                return new
        time.sleep(min(POLL_SECONDS, max(end - time.monotonic(), 0)))
    return set()


def up(release: Release, given: argparse.Namespace) -> None:
    known = firing(given.alerts, release.namespace) if given.alerts else set()
    before = [each["revision"] for each in release.history() if each["status"] == "deployed"]
    command = ["upgrade", release.name, given.chart, "--install", "--atomic", "--timeout", TIMEOUT]
    if given.version:
        command += ["--version", given.version]
    for file in given.values:
        command += ["--values", file]
    release.helm(*command)
    wrong = ""
    try:
        release.test()
    except Failed as error:
        wrong = str(error)
    if not wrong and given.alerts and (new := watch(given.alerts, release.namespace, given.watch, known)):
        wrong = f"{', '.join(sorted(new))} since the upgrade"
    if not wrong:
        return
    if not before:
        raise Failed(f"{wrong}; there is no release before to go back to")
    print(f"{wrong}: going back to revision {before[-1]}", file=sys.stderr, flush=True)
    release.back_to(before[-1])
    raise Failed(f"{wrong}; gone back to revision {before[-1]}")


def back(release: Release) -> None:
    history = release.history()
    current = [each for each in history if each["status"] == "deployed"]
    if not current:
        raise Failed(f"there is no release {release.name} in {release.namespace}")
    # Gone back once already: the one that was left is not where to go.
    since = re.fullmatch(r"Rollback to (\d+)", current[-1]["description"])
    newest = int(since[1]) if since else current[-1]["revision"]
    earlier = [each["revision"] for each in history if each["status"] == "superseded" and each["revision"] < newest]
    if not earlier:
        raise Failed(f"there is no revision of {release.name} before {newest}")
    release.back_to(earlier[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("up", "back"))
    parser.add_argument("chart", nargs="?", default="charts/twin")
    parser.add_argument("--version", default="")
    parser.add_argument("--values", action="append", default=[])
    parser.add_argument("--release", default="twin")
    parser.add_argument("--namespace", default="twin")
    parser.add_argument("--alerts", default="", help="where Prometheus is; without, alerts are not looked at")
    parser.add_argument("--watch", type=float, default=600, help="seconds")
    given = parser.parse_args()
    release = Release(given.release, given.namespace)
    try:
        if given.what == "up":
            up(release, given)
        else:
            back(release)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
