"""python -m tests.servers build|up|down|status [--only weaviate,ferretdb,redis,jaeger,prometheus,toxiproxy]
python -m tests.servers path NAME    made first where it is missing

`up` prints `export NAME=value` lines on stdout, and what it does on stderr: eval "$(python -m tests.servers up)".
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.servers.obtain import PROGRAMS, Missing, obtain
from tests.servers.run import PLANS, started_by_hand, sweep

CHECKS = ("helm", "kube-score", "kubeconform", "schemas", "helm-unittest", "cyclonus", "actionlint", "checkov")
BUILT = (*PLANS, *CHECKS, "load", "engine")
"""What the tests run, the programs that are no servers included: built beforehand, no test waits for them."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers")
    parser.add_argument("what", choices=("build", "up", "down", "status", "path"))
    parser.add_argument("name", nargs="?", choices=PROGRAMS, help="path: of which program")
    parser.add_argument("--only", default="", help=f"some of {','.join(PLANS)}; all where left out")
    given = parser.parse_args()
    if given.what == "path":
        if given.name is None:
            parser.error("path of which program?")
        try:
            print(obtain(given.name))
        except Missing as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    building = given.what == "build"
    there = PROGRAMS if building else PLANS
    names = [each for each in given.only.replace(" ", ",").split(",") if each] or list(BUILT if building else PLANS)
    unknown = [each for each in names if each not in there]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: there are {', '.join(there)}")
    servers = started_by_hand()
    if given.what == "down":
        sweep()
        print(f"Stopped: {', '.join(servers.stop(names)) or 'nothing was running'}", file=sys.stderr)
        return 0
    if given.what == "status":
        running = servers.running()
        for name in names:
            print(f"{name:11}", f"pid {running[name].pid}  {running[name].directory}" if name in running else "-")
        return 0

    missing = []

    def start(name: str) -> None:
        try:
            if building:
                print(f"{name}: {obtain(name)}", file=sys.stderr, flush=True)
                return
            found = name in servers.running()
            made = servers.start(name)
        except Missing as error:
            missing.append(str(error))
        else:
            print(f"{name}: {'runs already' if found else 'started'} (pid {made.pid})", file=sys.stderr, flush=True)
            for variable, value in made.variables.items():
                print(f"export {variable}='{value}'", flush=True)

    # Two at once: one compiles while the other fetches or waits to be ready.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(start, names))
    for message in missing:
        print(message, file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
