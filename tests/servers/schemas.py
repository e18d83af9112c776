"""JSON schemas of what a cluster takes, for kubeconform: strict, a field that is not known is refused.

Comes in: the modules' directories, which hold Kubernetes' own OpenAPI and the operators' definitions. Goes out:
GROUP/KIND_VERSION.json each (a core kind's group is its version, as kubeconform names it). Does not know: what is
checked with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]
DEFINITIONS = {
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/*.yaml",
    "github.com/cert-manager/cert-manager@v1.21.2": "deploy/crds/*.yaml",
    "sigs.k8s.io/gateway-api@v1.6.3": "config/crd/standard/*.yaml",
    "github.com/external-secrets/external-secrets@v1.3.2": "config/crds/bases/external-secrets.io_*.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/*.yaml",
    "github.com/mongodb/mongodb-kubernetes-operator@v0.9.0": "config/crd/bases/*.yaml",
}
"""Module → where its CustomResourceDefinitions are."""
EKSCTL = ("github.com/weaveworks/eksctl@v0.215.0", "pkg/apis/eksctl.io/v1alpha5/assets/schema.json")
"""eksctl's cluster files have a schema of its own."""


class _Loader(yaml.CSafeLoader):
    """YAML as Go reads it: `=` is a string."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def write(directory: Path, kubernetes: Path, modules: dict[str, Path]) -> None:
    for group, kind, version, schema in (*_built_in(kubernetes), *_custom(modules)):
        file = directory / (group or version) / f"{kind.lower()}_{version}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(schema), encoding="utf-8")
    module, path = EKSCTL
    file = directory / "eksctl.io" / "clusterconfig_v1alpha5.json"
    file.parent.mkdir()
    file.write_text((modules[module] / path).read_text(encoding="utf-8"), encoding="utf-8")


def _built_in(kubernetes: Path) -> Iterator[tuple[str, str, str, Schema]]:
    text = (kubernetes / "api" / "openapi-spec" / "swagger.json").read_text(encoding="utf-8")
    all_of_them: dict[str, Schema] = json.loads(text)["definitions"]
    closed = {name: _strict(each) for name, each in all_of_them.items()}
    # The document says of both that they are strings.
    closed["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
    closed["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    for name, each in all_of_them.items():
        kinds = each.get("x-kubernetes-group-version-kind", [])
        # What has several is of the machinery (DeleteOptions), not an object that is applied.
        if len(kinds) == 1 and "metadata" in each.get("properties", {}):
            used = _used(name, closed)
            schema = {**closed[name], "definitions": {one: closed[one] for one in used}}
            yield kinds[0]["group"], kinds[0]["kind"], kinds[0]["version"], schema


def _used(name: str, schemas: dict[str, Schema]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        text = json.dumps(schemas[waiting.pop()])
        for part in text.split('"#/definitions/')[1:]:
            one = part.partition('"')[0]
            if one not in found:
                found.add(one)
                waiting.append(one)
    return found


def _custom(modules: dict[str, Path]) -> Iterator[tuple[str, str, str, Schema]]:
    for module, pattern in DEFINITIONS.items():
        for file in sorted(modules[module].glob(pattern)):
            for each in yaml.load_all(file.read_text(encoding="utf-8"), Loader=_Loader):
                if not each or each["kind"] != "CustomResourceDefinition":
                    continue
                spec = each["spec"]
                for version in spec["versions"]:
                    schema = _strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    yield spec["group"], spec["names"]["kind"], version["name"], schema


def _strict(schema: Any) -> Any:
    """Objects whose fields are known have no others."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if isinstance(schema.get("properties"), dict):
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
        # A field that happens to be called so is a field.
        made["properties"] = {key: _strict(value) for key, value in schema["properties"].items()}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["type"] = ["string", "integer"]
    return made
