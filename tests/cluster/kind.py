"""The same cluster where Docker runs and kind is installed: kind's.

Comes in: nothing. Goes out: a kubeconfig of a ready cluster. Does not know: what is run on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.images import STORE, Docker
from tests.servers.obtain import Missing

NAME = "twin"


def available() -> bool:
    if not (shutil.which("kind") and shutil.which("kubectl") and shutil.which("docker")):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


class Kind:
    def __init__(self) -> None:
        self.kubeconfig = STORE.parent / "kind.conf"
        self.builder = Docker()

    @property
    def kubectl(self) -> list[str]:
        return [str(shutil.which("kubectl")), "--kubeconfig", str(self.kubeconfig)]

    def running(self) -> dict[str, int]:
        return dict.fromkeys(self._nodes(), 0)

    def up(self) -> None:
        if not self._nodes():
            self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
            self._kind("create", "cluster", "--name", NAME, "--kubeconfig", str(self.kubeconfig), "--wait", "180s")

    def load(self, *images: str) -> None:
        for image in images:
            self._kind("load", "docker-image", "--name", NAME, image)

    def down(self) -> None:
        if self._nodes():
            self._kind("delete", "cluster", "--name", NAME, "--kubeconfig", str(self.kubeconfig))
        Path(self.kubeconfig).unlink(missing_ok=True)

    def _nodes(self) -> list[str]:
        done = subprocess.run(["kind", "get", "nodes", "--name", NAME], capture_output=True, text=True, check=False)
        return done.stdout.split() if done.returncode == 0 else []

    def _kind(self, *arguments: str) -> None:
        done = subprocess.run(["kind", *arguments], env=dict(os.environ), stdout=sys.stderr, check=False)
        if done.returncode:
            raise Missing(f"`kind {' '.join(arguments[:2])}` failed with {done.returncode}")
