"""Who may reach whom: the rendered policies, worked out as Kubernetes does, against the table of docs/kubernetes.md."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import ROOT, Object, Render, program
from tests.chart.test_chart import TRIED

COMPONENT = "app.kubernetes.io/component"


def _policies(objects: list[Object]) -> dict[str, dict[str, Any]]:
    return {
        each["spec"]["podSelector"]["matchLabels"][COMPONENT]: each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy" and COMPONENT in each["spec"]["podSelector"]["matchLabels"]
    }


def _allows(rules: list[dict[str, Any]], side: str, other: str, port: int) -> bool:
    for rule in rules:
        peers = rule.get(side)
        reached = peers is None or any(
            peer.get("podSelector", {}).get("matchLabels", {}).get(COMPONENT) == other
            for peer in peers
            if "namespaceSelector" not in peer
        )
        ports = rule.get("ports")
        if reached and (
            ports is None or any(each["port"] <= port <= each.get("endPort", each["port"]) for each in ports)
        ):
            return True
    return False


def _graph(objects: list[Object]) -> set[tuple[str, str, int]]:
    policies = _policies(objects)
    ports = {port["port"] for spec in policies.values() for rule in spec["ingress"] for port in rule["ports"]}
    return {
        (caller, called, port)
        for caller, out in policies.items()
        for called, into in policies.items()
        for port in ports
        if _allows(out["egress"], "to", called, port) and _allows(into["ingress"], "from", caller, port)
    }


def table() -> set[tuple[str, str, int]]:
    """The documented one: caller, called, port."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w-]+)` \| ([\d, ]+) \|", page, re.MULTILINE)
    return {(caller, called, int(port)) for caller, called, ports in rows for port in ports.split(",")}


def test_the_graph_is_the_table(render: Render) -> None:
    """With the default values: the flows of the documented table, each, and no other."""
    assert _graph(render()) == table()


DESIGN = {
    "gateway": {"crawler", "generator", "retriever", "feature"},
    "crawler": {"feature"},
    "feature": set(),
    "retriever": set(),
    "generator": {"retriever"},
}
HOLDS = {
    "gateway": {"mongodb", "redis"},  # keys, audit; limits
    "crawler": {"mongodb", "redis"},  # documents, jobs, sources; queue
    "feature": {"mongodb", "weaviate", "redis"},  # documents; index; queue
    "retriever": {"weaviate"},
    "generator": {"mongodb"},  # journal
}


def test_services_reach_what_the_design_says(render: Render) -> None:
    """A service and its workers together reach the services that it calls, the stores that it holds, and nothing else."""
    reached: dict[str, set[str]] = {each: set() for each in DESIGN}
    for caller, called, _ in _graph(render()):
        if (service := caller.removesuffix("-worker")) in reached:
            reached[service].add(called)
    assert reached == {each: DESIGN[each] | HOLDS[each] for each in DESIGN}


@pytest.mark.parametrize("apart", [True, False])
def test_only_who_fetches_reaches_the_internet(render: Render, apart: bool) -> None:
    """One component has an address block of the internet, without what is private, local or reserved."""
    objects = render({"crawlerWorker": {"enabled": apart}})
    blocks = {
        component: [peer["ipBlock"] for rule in spec["egress"] for peer in rule.get("to", []) if "ipBlock" in peer]
        for component, spec in _policies(objects).items()
    }
    (who,) = [component for component, found in blocks.items() if found]
    assert who == ("crawler-worker" if apart else "crawler")
    for address in (
        "10.1.2.3",
        "172.20.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "127.0.0.1",
        "100.64.0.1",
        "fd00::1",
        "fe80::1",
        "::1",
        "224.0.0.1",
    ):
        for block in blocks[who]:
            inside = ipaddress.ip_address(address) in ipaddress.ip_network(block["cidr"])
            excepted = any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in block["except"])
            assert not inside or excepted, address
    for rule in [rule for spec in _policies(objects).values() for rule in spec["egress"]]:
        assert rule.get("to"), "an egress rule without peers is one to everywhere"


def test_nobody_is_left_out(render: Render) -> None:
    """Every pod of the chart is under the policy that denies all, and has one of its own."""
    objects = render({"backup": {"enabled": True}, "reindex": {"enabled": True}, "tgi": {"enabled": True}})
    everyone = [
        each
        for each in objects
        if each["kind"] == "NetworkPolicy" and COMPONENT not in each["spec"]["podSelector"]["matchLabels"]
    ]
    assert [each["spec"].get("ingress", each["spec"].get("egress")) for each in everyone] == [None]
    assert everyone[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    labelled = set()
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            labelled.add(each["spec"]["template"]["metadata"]["labels"][COMPONENT])
        elif each["kind"] == "CronJob":
            labelled.add(each["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"][COMPONENT])
        elif each["kind"] == "Pod":
            labelled.add(each["metadata"]["labels"][COMPONENT])
    assert labelled <= _policies(objects).keys()


def test_external_stores_are_reached_where_they_are(render: Render) -> None:
    """With stores of yours no store is in the chart, and their networks are reached by who holds them."""
    objects = render({}, ROOT / "k8s" / "values" / "external.yaml")
    assert not [each for each in objects if each["kind"] == "StatefulSet"]
    out = str(_policies(objects)["retriever"]["egress"])
    assert "10.20.1.0/24" in out
    assert "10.20.0.0/24" not in out


OUTSIDE = {
    # namespace, its labels, the pod's labels, its address
    "stranger": ("default", {}, {}, "10.244.9.1"),
    "prometheus": ("monitoring", {"kubernetes.io/metadata.name": "monitoring"}, {}, "10.244.9.2"),
    "dns": ("kube-system", {"kubernetes.io/metadata.name": "kube-system"}, {"k8s-app": "kube-dns"}, "10.244.9.3"),
    "internet": ("elsewhere", {}, {}, "93.184.215.14"),
    "metadata": ("elsewhere", {}, {}, "169.254.169.254"),
    "intranet": ("elsewhere", {}, {}, "10.1.2.3"),
}


def _labels(objects: list[Object]) -> dict[str, dict[str, str]]:
    """Of each component's pods, as they are rendered."""
    found = {}
    for each in objects:
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                labels = each["spec"]["template"]["metadata"]["labels"]
            case "CronJob":
                labels = each["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
            case "Pod":
                labels = each["metadata"]["labels"]
            case _:
                continue
        found[labels[COMPONENT]] = labels
    return found


Person = tuple[str, str, dict[str, str], str]
"""Namespace, name, labels, address."""


def _probed(objects: list[Object], ports: set[int], directory: Path) -> set[tuple[str, str, int]]:
    """Of a pod of each component that is rendered, and of those outside."""
    people: list[Person] = [
        ("twin", name, labels, f"10.244.0.{at + 1}") for at, (name, labels) in enumerate(_labels(objects).items())
    ]
    people += [(space, name, labels, address) for name, (space, _, labels, address) in OUTSIDE.items()]
    spaces = {"twin": {"kubernetes.io/metadata.name": "twin"}} | {
        space: labels for space, labels, _, _ in OUTSIDE.values()
    }
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    return probed(policies, spaces, people, sorted(ports), directory)


def probed(
    policies: list[Object], spaces: dict[str, dict[str, str]], people: list[Person], ports: list[int], directory: Path
) -> set[tuple[str, str, int]]:
    """What cyclonus says of pods that all listen everywhere: who reaches whom on which port, itself aside."""
    model = {
        "Probes": [{"Protocol": "TCP", "Port": port} for port in ports],
        "Resources": {
            "Namespaces": spaces,
            "Pods": [
                {
                    "Namespace": space,
                    "Name": name,
                    "Labels": labels,
                    "IP": address,
                    "Containers": [{"Name": f"port-{port}", "Port": port, "Protocol": "TCP"} for port in ports],
                }
                for space, name, labels, address in people
            ],
        },
    }
    (directory / "model.json").write_text(json.dumps(model))
    # It reads one object of each file.
    (directory / "policies").mkdir()
    for each in policies:
        (directory / "policies" / f"{each['metadata']['name']}.yaml").write_text(yaml.safe_dump(each))
    command = [str(program("cyclonus")), "analyze", "--mode", "probe", "--policy-path", str(directory / "policies")]
    done = subprocess.run(
        [*command, "--probe-path", str(directory / "model.json")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = set()
    tables = done.stdout.split("Combined:\n")[1:]
    for port, text in zip(ports, tables[: len(ports)], strict=True):
        lines = [line for line in text.partition("\n\n")[0].splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        # As its table names them: with their namespaces.
        names = [name.lower() for name in rows[0][1:]]
        assert sorted(names) == sorted(f"{space}/{name}" for space, name, _, _ in people)
        for caller, *cells in rows[1:]:
            assert set(cells) <= {".", "X"}, cells
            for name, cell in zip(names, cells, strict=True):
                if cell == "." and name != caller:
                    found.add((caller.partition("/")[2], name.partition("/")[2], port))
    return found


DNS = {
    "crawler",
    "crawler-worker",
    "feature",
    "feature-worker",
    "gateway",
    "generator",
    "migration",
    "retriever",
    "test",
}


def test_cyclonus_finds_the_table(render: Render, tmp_path: Path) -> None:
    """Of the rendered pods and policies, on every port that any of them names: the documented table and no more."""
    ports = {port for _, _, port in table()}
    within = {each for each in _probed(render(), ports, tmp_path) if not {each[0], each[1]} & OUTSIDE.keys()}
    assert within == table()


@pytest.mark.parametrize("name", ["everything", "gpu", "laptop", "aws"])
def test_cyclonus_agrees_with_the_own_evaluation(render: Render, tmp_path: Path, name: str) -> None:
    """Under other values too: among pods that are rendered, on ports that any policy names."""
    values, files = TRIED[name]
    objects = render(values, *files)
    own = {each for each in _graph(objects) if {each[0], each[1]} <= _labels(objects).keys()}
    found = _probed(objects, {port for _, _, port in own}, tmp_path)
    # Not so the own one: an open port is open within the release too.
    open_to_all = {each for each in found if each[1:] == ("gateway", 8000)}
    assert {each for each in found - open_to_all if not {each[0], each[1]} & OUTSIDE.keys()} == own - open_to_all


def test_cyclonus_finds_who_is_outside(render: Render, tmp_path: Path) -> None:
    """The internet is reached by who fetches, what is private by nobody; into Twin come askers, and Prometheus for metrics."""
    found = _probed(render(), {53, 443, 8000, 9050, 9053, 50051}, tmp_path)
    assert {(caller, port) for caller, called, port in found if called == "internet" and caller not in OUTSIDE} == {
        ("crawler-worker", port) for port in (53, 443, 8000, 9050, 9053, 50051)
    }
    assert not {each for each in found if each[1] in ("intranet", "metadata") and each[0] not in OUTSIDE}
    assert {caller for caller, called, _ in found if called == "dns" and caller not in OUTSIDE} == DNS
    into = {each for each in found if each[0] in OUTSIDE and each[1] not in OUTSIDE}
    assert into == {(outsider, "gateway", 8000) for outsider in OUTSIDE} | {
        ("prometheus", "gateway", 9050),
        ("prometheus", "retriever", 9053),
    }
