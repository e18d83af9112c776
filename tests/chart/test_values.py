"""Wrong values are refused by name, before anything is sent to a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.conftest import run_helm

URL = {"name": "", "key": "url"}
WRONG: list[tuple[str, Any]] = [
    ("replicas", 3),
    ("fullnameOverride", "Twin"),
    ("image.registry", "https://ghcr.io/twin"),
    ("image.tag", "a tag"),
    ("image.references.crawler", "twin crawler"),
    ("image.references.mongodb", "docker.io/library/mongo:8.0"),
    ("image.pullPolicy", "Sometimes"),
    ("develop", "yes"),
    ("image.pullSecrets", "registry"),
    ("clusterDomain", "cluster local"),
    ("listen", "127.0.0.1"),
    ("settings.twin_jobs", "1"),
    ("settings.TWIN_LLM_API_KEY", "secret"),
    ("settings.TWIN_DOCUMENTS_URL", "mongodb://host/twin"),
    ("settings.TWIN_DATA_DIR", "/data"),
    ("settings.OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret"),
    ("gateway.settings.TWIN_GATEWAY_PORT", "80"),
    ("gateway.settings.TWIN_GATEWAY_BODY_BYTES", 1024),
    ("settingsSecret", "My Secret"),
    ("secrets.external.kind", "Vault"),
    ("secrets.external.refreshInterval", "often"),
    ("secrets.external.store", {"secrets": {"external": {"enabled": True, "path": "twin"}}}),
    ("documents.bundled", "no"),
    ("documents.urlSecret.name", {"documents": {"bundled": False}}),
    ("index.urlSecret.name", {"index": {"bundled": False}}),
    ("redis.queueUrlSecret.name", {"redis": {"bundled": False}}),
    ("documents.port", 0),
    ("documents.peers", [{"cidr": "10.0.0.0/8"}]),
    ("index.ports", []),
    ("stores.mongodb.image", "mongo"),
    ("stores.mongodb.size", "8GB"),
    ("stores.weaviate.resources.limits.memory", "lots"),
    ("stores.redis.resources.request", {"cpu": "1"}),
    ("llm.url", "https://user:secret@example.com/v1"),
    ("llm.url", "gpt"),
    ("llm.candidateShare", 1.5),
    ("encoder.url", "openai"),
    ("reranker.url", "cohere://model"),
    ("gpu.resource", "gpu"),
    ("gpu.tolerations", [{"effect": "Never"}]),
    ("weights.accessMode", "ReadOnly"),
    ("tgi.model", "llama"),
    ("tgi.revision", "main"),
    ("tgi.shards", 3),
    ("tgi.shm", "1g"),
    ("tgi.quantize", "int3"),
    ("tgi.maxTotalTokens", 10),
    ("vllm.quantize", "eetq"),
    ("tei.encoder.revision", "latest"),
    ("mlflow.artifacts", "/mnt/artifacts"),
    ("mlflow.accountAnnotations", "role"),
    ("gateway.replicas", 0),
    ("gateway.serviceType", "Ingress"),
    ("gateway.servicePort", 70000),
    ("gateway.hosts", ["https://twin.example.com"]),
    ("crawler.allowedNetworks", ["intranet"]),
    ("crawlerWorker.enabled", 1),
    ("pods.topologySpread.whenUnsatisfiable", "Maybe"),
    ("drain.seconds", -1),
    ("networkPolicy.enable", True),
    ("networkPolicy.privateNetworks", ["10.0.0.0"]),
    ("ingress.host", "https://twin.example.com"),
    ("httpRoute.parentRefs", {"httpRoute": {"enabled": True}}),
    ("mtls.issuerKind", "Vault"),
    ("mtls.duration", "1 year"),
    ("oidc.issuer", "http://issuer.example.com"),
    ("oidc.audience", {"oidc": {"issuer": "https://issuer.example.com"}}),
    ("autoscaling.prometheus", "prometheus:9090"),
    ("autoscaling.gateway.min", 0),
    ("autoscaling.featureWorker.targetJobs", 0),
    ("monitoring.runbooks", "runbooks"),
    ("telemetry.endpoint", "collector:4318"),
    ("backup.schedule", "daily"),
    ("backup.keep", 0),
    ("migration.seconds", "10m"),
]


def _nested(path: str, value: Any) -> Any:
    # The last part of `networkPolicy.…` and the like has no dots of its own.
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(
    ("path", "value"), WRONG, ids=lambda each: each if isinstance(each, str) and "." in each else ""
)
def test_a_wrong_value_is_refused_by_name(path: str, value: Any) -> None:
    """Nothing is rendered, and the message names the value."""
    first = path.split(".", maxsplit=1)[0]
    whole = value if isinstance(value, dict) and first in value else _nested(path, value)
    done = run_helm(whole)
    assert done.returncode != 0, "taken"
    assert path.rpartition(".")[2] in done.stderr, done.stderr
    assert done.stdout == ""


def test_two_engines_at_once_are_refused() -> None:
    """One of TGI and vLLM writes the answers."""
    done = run_helm({"tgi": {"enabled": True}, "vllm": {"enabled": True}})
    assert done.returncode != 0
    assert "tgi.enabled and vllm.enabled" in done.stderr
