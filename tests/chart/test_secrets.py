"""No secret can get into a release's values or a rendered object but a Secret: canaries are put wherever somebody might."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.chart.conftest import Object, Render, run_helm
from tests.chart.test_chart import over_all
from tests.chart.test_values import _nested

CANARY = "c4n4ry-7f3e9a1b5d"
PUT: list[tuple[str, Any]] = [
    ("llm.url", f"openai+https://:{CANARY}@engine.example.com/v1"),
    ("llm.candidateUrl", f"openai+https://user:{CANARY}@engine.example.com/v1"),
    ("encoder.url", f"tei+http://user:{CANARY}@encoder.example.com"),
    ("reranker.url", f"tei+http://user:{CANARY}@reranker.example.com"),
    ("telemetry.endpoint", f"http://user:{CANARY}@collector.example.com:4318"),
    ("oidc.issuer", f"https://user:{CANARY}@issuer.example.com"),
    ("autoscaling.prometheus", f"http://user:{CANARY}@prometheus.example.com:9090"),
    ("documents.url", f"mongodb://user:{CANARY}@host/twin"),
    ("index.url", f"weaviate://:{CANARY}@host:8080"),
    ("redis.queueUrl", f"redis://:{CANARY}@host:6379"),
    ("redis.password", CANARY),
    ("secrets.adminKey", f"sk-twin-{CANARY}"),
    ("stores.mongodb.password", CANARY),
    ("weights.token", f"hf_{CANARY}"),
    ("settings.TWIN_LLM_API_KEY", CANARY),
    ("settings.TWIN_LLM_URL", f"openai+https://:{CANARY}@engine.example.com/v1"),
    ("settings.TWIN_ENCODER_API_KEY", CANARY),
    ("settings.TWIN_RERANKER_API_KEY", CANARY),
    ("settings.TWIN_GATEWAY_ADMIN_KEY", f"sk-twin-{CANARY}"),
    ("settings.TWIN_DOCUMENTS_URL", f"mongodb://user:{CANARY}@host/twin"),
    ("settings.TWIN_QUEUE_URL", f"redis://:{CANARY}@host:6379"),
    ("settings.TWIN_TLS_KEY", CANARY),
    ("settings.OTEL_EXPORTER_OTLP_HEADERS", f"authorization={CANARY}"),
    ("gateway.settings.TWIN_GATEWAY_ADMIN_KEY", f"sk-twin-{CANARY}"),
    ("generator.settings.TWIN_LLM_API_KEY", CANARY),
    ("mlflow.artifacts", f"s3://key:{CANARY}@bucket/mlflow"),
]


@pytest.mark.parametrize(("path", "value"), PUT, ids=[path for path, _ in PUT])
def test_a_secret_is_refused_as_a_value(path: str, value: str) -> None:
    """So that neither `helm get values` nor a ConfigMap nor a pod's description ever shows it."""
    done = run_helm(_nested(path, value))
    assert done.returncode != 0, "taken"
    assert done.stdout == ""


@over_all
def test_nothing_that_looks_like_a_secret(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """In no object but a Secret: no key, no password in an address, no token, no private key."""
    shapes = {
        "Twin's or a provider's key": r"\bsk-[A-Za-z0-9-]{16,}",
        "a hub's token": r"\bhf_[A-Za-z0-9]{16,}",
        "a cloud's key": r"\bAKIA[0-9A-Z]{16}\b",
        "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
        # $(NAME) is filled in by Kubernetes from a Secret.
        "a password in an address": r"[a-z+]+://[^\s/:@\"]*:(?!\$\()[^\s/@\"$]+@",
    }
    for each in render(values, *files):
        if each["kind"] != "Secret":
            text = json.dumps(each)
            for what, shape in shapes.items():
                found = re.search(shape, text)
                assert found is None, (each["kind"], each["metadata"]["name"], what, found)


@over_all
def test_secrets_are_of_others_or_generated(render: Render, values: object, files: tuple[Path, ...]) -> None:
    """At most one Secret is rendered, whose entries differ from one rendering to the next; none with a Secret of yours."""
    objects = render(values, *files)
    made = [each for each in objects if each["kind"] == "Secret"]
    if any(each["kind"] == "ExternalSecret" for each in objects):
        assert made == []
        return
    (secret,) = made
    entries = [base64.b64decode(value) for value in secret["data"].values()]
    assert len(entries) == len(set(entries)) == 4
    assert all(len(each) >= 32 for each in entries)


def test_two_installations_share_no_secret(render: Render) -> None:
    """What is generated is generated each time."""

    def generated(objects: list[Object]) -> set[str]:
        return {value for each in objects if each["kind"] == "Secret" for value in each["data"].values()}

    first = generated(render({}))
    second = generated(render({"listen": "0.0.0.0"}))
    assert not first & second
    assert not [each for each in render({"secrets": {"existing": "mine"}}) if each["kind"] == "Secret"]
