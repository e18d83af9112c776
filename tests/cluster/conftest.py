"""A cluster for each module's tests, and beside Twin's place on it an engine and pages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.cluster.images import SERVICES, STORES, build_all, name_of
from tests.cluster.installed import ASIDE, MONITORING, ROOT, SPACE, Cluster, pod, service, within
from tests.cluster.kind import Kind, available
from tests.cluster.node import Node


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Kind() if available() else Node()
    it = Cluster(made)
    made.up()
    print(f"cluster: {time.monotonic() - it.began:.0f} s")
    made.load(*build_all(made.builder, (*SERVICES, *STORES)))
    print(f"with images: {time.monotonic() - it.began:.0f} s")
    try:
        for space in (SPACE, ASIDE, MONITORING):
            labels = {"pod-security.kubernetes.io/enforce": "restricted"}
            it.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": labels}})
        files = {each: (ROOT / "tests/cluster" / each).read_text() for each in ("load.py", "pages.py")}
        it.apply(
            *(
                within(ASIDE, each)
                for each in (
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": files},
                    pod("engine", name_of("engine"), ports=[{"containerPort": 8080}]),
                    service("engine", 8080),
                    pod(
                        "pages",
                        name_of("gateway"),
                        command=["python", "/files/pages.py"],
                        mounts=[{"name": "files", "mountPath": "/files"}],
                        volumes=[{"name": "files", "configMap": {"name": "files"}}],
                    ),
                    service("pages", 8080),
                )
            )
        )
        yield it
    finally:
        if not os.environ.get("TWIN_KEEP_CLUSTER"):
            made.down()
