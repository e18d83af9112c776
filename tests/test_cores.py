"""A process takes as many cores as its control groups let it have."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import cores as module
from services.cores import cores


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(module, "CGROUPS", tmp_path)
    monkeypatch.setattr(module, "OWN", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    return tmp_path


def test_without_control_groups_the_affinity_counts(groups: Path) -> None:
    assert cores() == 64


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("", 64), ("x y", 64)],
)
def test_the_quota_of_a_container_counts(groups: Path, limit: str, expected: int) -> None:
    (groups / "own").write_text("0::/\n")
    (groups / "cpu.max").write_text(limit)
    assert cores() == expected


def test_the_least_of_the_groups_above_counts(groups: Path) -> None:
    (groups / "own").write_text("0::/pods/one/container\n")
    (groups / "pods" / "one" / "container").mkdir(parents=True)
    (groups / "pods" / "one" / "container" / "cpu.max").write_text("max 100000")
    (groups / "pods" / "one" / "cpu.max").write_text("300000 100000")
    (groups / "pods" / "cpu.max").write_text("800000 100000")
    assert cores() == 3


def test_a_path_of_the_host_that_is_not_seen_leaves_the_containers_own_root(groups: Path) -> None:
    (groups / "own").write_text("0::/kubepods/pod/1\n")
    (groups / "cpu.max").write_text("400000 100000")
    assert cores() == 4


def test_the_first_version_of_control_groups_counts_too(groups: Path) -> None:
    (groups / "own").write_text("3:cpu,cpuacct:/docker/1\n2:memory:/docker/1\n")
    (groups / "cpu,cpuacct" / "docker" / "1").mkdir(parents=True)
    (groups / "cpu,cpuacct" / "docker" / "1" / "cpu.cfs_quota_us").write_text("500000\n")
    (groups / "cpu,cpuacct" / "docker" / "1" / "cpu.cfs_period_us").write_text("100000\n")
    (groups / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("-1\n")
    (groups / "cpu,cpuacct" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores() == 5
