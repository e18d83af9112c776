"""KEDA on the cluster, as its own module has it installed: operator, metrics server, admission webhooks, definitions.

Comes in: the module's folder of manifests. Goes out: objects to be applied. Does not know: what is scaled.
"""

from __future__ import annotations

from typing import Any

import yaml

from tests.cluster.images import name_of
from tests.cluster.installed import Cluster
from tests.servers.obtain import obtain

SPACE = "keda"
METRICS = "apiservice/v1beta1.external.metrics.k8s.io"


def install(cluster: Cluster) -> None:
    """Until it answers; its image has to be there."""
    text = cluster.kubectl("kustomize", str(obtain("keda").with_name("config") / "default"))
    objects: list[dict[str, Any]] = [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]
    for each in objects:
        if each["kind"] == "Deployment":
            for container in each["spec"]["template"]["spec"]["containers"]:
                container |= {"image": name_of("keda"), "imagePullPolicy": "IfNotPresent"}
    # The definition of ScaledJobs is too large to be kept in an annotation beside itself.
    cluster.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(objects))
    cluster.kubectl("-n", SPACE, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=300s")
    cluster.kubectl("wait", "--for=condition=Available", METRICS, "--timeout=120s")
