"""Whether a machine can run the test cluster is told at once, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.kind import available

ROOT = Path(__file__).parent.parent.parent
pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the node runs on Linux"),
    pytest.mark.skipif(available(), reason="kind runs the cluster here"),
]


def _asked(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cluster", "able"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_missing_command_is_named() -> None:
    """Without ip no cluster: it says so, and nothing else."""
    done = _asked({**os.environ, "PATH": "/nowhere"})
    assert (done.returncode, done.stderr) == (1, "the test cluster needs the command ip\n")


def test_what_is_asked_leaves_nothing_behind() -> None:
    """Able or not, in a line or none; and no link, group or mount is left."""
    done = _asked(dict(os.environ))
    assert done.returncode in (0, 1)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    left = [*Path("/sys/class/net").glob("twin-able*"), *Path("/sys/fs/cgroup").glob("**/twin-able")]
    assert left == []
