"""python -m tests.cluster able|up|load|status|down|kubectl [ARGUMENTS]"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.cluster import able
from tests.cluster.images import SERVICES, STORES, build_all
from tests.cluster.kind import Kind, available
from tests.cluster.node import Node
from tests.servers.obtain import Missing


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("what", choices=("able", "up", "load", "status", "down", "kubectl"))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="load: which images; kubectl: its arguments")
    given = parser.parse_args()
    cluster: Node | Kind = Kind() if available() else Node()
    start = time.monotonic()
    try:
        if given.what == "kubectl":
            os.execv(cluster.kubectl[0], [*cluster.kubectl, *given.rest])
        if given.what == "able" and isinstance(cluster, Node):
            able.check()
        if given.what == "up":
            cluster.up()
            print(f"export KUBECONFIG='{cluster.kubeconfig}'")
        if given.what == "load":
            cluster.load(*build_all(cluster.builder, given.rest or (*SERVICES, *STORES)))
        if given.what == "down":
            cluster.down()
        if given.what == "status":
            for name, pid in cluster.running().items():
                print(f"{name:24} pid {pid}")
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{given.what}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
