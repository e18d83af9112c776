"""Whether this machine can run the node, told before anything is built: each thing that it takes is tried.

Comes in: nothing. Goes out: nothing, or Missing with the first thing that this machine does not allow. Does not know:
whether the parts can be had; whoever starts the node is told that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.cluster.images import STORE
from tests.servers.obtain import Missing

COMMANDS = ("ip", "openssl", "mount", "unshare", "apt-get", "dpkg", "nice")
GIGABYTES_FREE = 12
GIGABYTES_OF_MEMORY = 6

TRIED = (
    ("make a link of the network", "ip link add twin-able type bridge && ip link del twin-able"),
    ("forward packets", 'it=$(cat /proc/sys/net/ipv4/ip_forward) && echo "$it" > /proc/sys/net/ipv4/ip_forward'),
    ("make a group of processes", "at=/sys/fs/cgroup; [ -d $at/memory ] && at=$at/memory; mkdir $at/twin-able && rmdir $at/twin-able"),
    ("make a device", 'mknod "$DIRECTORY/null" c 1 3'),
    ("mount within namespaces", "unshare --mount --pid --ipc --uts --fork mount -t proc proc /proc"),
    ("lay a directory over another", 'cd "$DIRECTORY" && mkdir -p l u w m && unshare --mount mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m'),
    ("link two networks", "unshare --net ip link add twin-able type veth peer name twin-able2"),
)  # fmt: skip
"""What the node does to the machine, each undone at once or within a namespace that ends with it."""


def check() -> None:
    """Missing where the node cannot run here."""
    if not sys.platform.startswith("linux"):
        raise Missing("the test cluster runs on Linux, or anywhere with Docker and kind")
    for each in COMMANDS:
        if shutil.which(each) is None:
            raise Missing(f"the test cluster needs the command {each}")
    if (shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")) is None:
        raise Missing("the test cluster is built with Go, which is not installed")
    if os.geteuid() != 0:
        raise Missing("the test cluster makes links, mounts and rules of the machine: it needs root")
    memory = psutil.virtual_memory().total / 2**30
    if memory < GIGABYTES_OF_MEMORY:
        raise Missing(f"the test cluster needs {GIGABYTES_OF_MEMORY} GB of memory, and there are {memory:.1f}")
    for place in (Path("/var/lib"), STORE.parent):
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free / 2**30
        if free < GIGABYTES_FREE:
            raise Missing(f"the test cluster needs {GIGABYTES_FREE} GB free in {place}, and there are {free:.1f}")
    STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORE) as directory:
        for what, script in TRIED:
            environment = {**os.environ, "DIRECTORY": directory}
            done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise Missing(f"the test cluster cannot {what} here: {said}")
