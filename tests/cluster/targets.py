"""python targets.py NAMESPACE FILE: which pods Prometheus is to scrape, by their annotations, written again and again.

Comes in: what Kubernetes says to the pod's account. Goes out: a file for Prometheus, which takes up each change. Does not
know: Prometheus. (Debian's has no discovery of Kubernetes in it.)
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
EVERY = 3.0


def scraped(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One group of targets for each pod, with the labels that an operator's ServiceMonitor would give it."""
    return [
        {
            "targets": [f"{each['status']['podIP']}:{each['metadata']['annotations']['prometheus.io/port']}"],
            "labels": {
                "namespace": each["metadata"]["namespace"],
                "pod": each["metadata"]["name"],
                "component": each["metadata"]["labels"].get("app.kubernetes.io/component", ""),
            },
        }
        for each in pods
        if each["metadata"].get("annotations", {}).get("prometheus.io/scrape") == "true"
        and each["status"].get("podIP")
        and each["status"]["phase"] == "Running"
    ]


def main(namespace: str, file: Path) -> None:
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    while True:
        asked = urllib.request.Request(
            f"https://kubernetes.default.svc/api/v1/namespaces/{namespace}/pods",
            headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
        )
        try:
            with urllib.request.urlopen(asked, context=context, timeout=10) as answer:
                found = json.loads(answer.read())["items"]
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
        else:
            whole = file.with_suffix(".new")
            whole.write_text(json.dumps(scraped(found)))
            whole.rename(file)
        time.sleep(EVERY)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
