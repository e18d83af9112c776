"""How many processor cores this process may use.

Comes in: the process's affinity and the quotas of its control groups. Goes out: a number. Does not know: who asks.

A container with a limit of two cores sees all of its node's; a thread for each of those would wait for the others.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cores() -> int:
    """At least 1. Fractions of a core count as one: Kubernetes' `cpu: 1500m` gives 2."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(each) for each in _quotas())]))


def _quotas() -> list[float]:
    """Cores that each control group above this process allows (cgroup v2's cpu.max, v1's cpu.cfs_quota_us)."""
    try:
        lines = OWN.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / controllers if controllers else CGROUPS
        # In a container the path may be the host's, whose groups cannot be seen: then the root is the container's own.
        group = root / path.strip("/")
        for each in (group, *group.parents):
            found += _quota(each, bool(controllers))
            if each == root:
                break
    return found


def _quota(group: Path, first_version: bool) -> list[float]:
    try:
        if first_version:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (group / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        else:
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return []  # No such file, or "max": no limit.
    return [cores] if cores > 0 else []
