"""What the node's enforcer makes of policies, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.policies import chains

SPACES = [{"metadata": {"name": each, "labels": {"name": each}}} for each in ("here", "there")]


def _pod(space: str, address: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": space, "labels": labels},
        "spec": {},
        "status": {"podIP": address, "phase": "Running"},
    }


PODS = [_pod("here", "10.0.0.1", app="a"), _pod("here", "10.0.0.2", app="b"), _pod("there", "10.0.0.3", app="a")]


def _policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "here"}, "spec": spec}


def _made(*policies: dict[str, Any]) -> dict[str, list[str]]:
    return dict(chains(policies, PODS, SPACES))


def test_only_who_is_selected_is_isolated() -> None:
    """By namespace and labels, in the directions named; without a rule it reaches itself alone."""
    assert _made() == {}
    assert _made(_policy(podSelector={"matchLabels": {"app": "a"}}, policyTypes=["Ingress", "Egress"])) == {
        "-s 10.0.0.1": ["-d 10.0.0.1"],
        "-d 10.0.0.1": ["-s 10.0.0.1"],
    }
    assert _made(_policy(podSelector={}, policyTypes=["Egress"])) == {
        "-s 10.0.0.1": ["-d 10.0.0.1"],
        "-s 10.0.0.2": ["-d 10.0.0.2"],
    }


@pytest.mark.parametrize(
    ("peer", "addresses"),
    [
        ({"podSelector": {"matchLabels": {"app": "a"}}}, ["10.0.0.1"]),
        ({"namespaceSelector": {"matchLabels": {"name": "there"}}}, ["10.0.0.3"]),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "a"}}}, ["10.0.0.1", "10.0.0.3"]),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}}, ["10.0.0.2"]),
        ({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/25"]}}, ["192.0.2.128/25"]),
        ({"ipBlock": {"cidr": "::/0"}}, []),
    ],
)
def test_peers_and_ports(peer: dict[str, Any], addresses: list[str]) -> None:
    """Pods near and elsewhere, networks without their exceptions; each with each port."""
    ports = [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 1, "endPort": 9}]
    rules = [{"from": [peer], "ports": ports}]
    made = _made(_policy(podSelector={"matchLabels": {"app": "b"}}, policyTypes=["Ingress"], ingress=rules))
    expected = [f"-s {each} {port}" for each in addresses for port in ("-p tcp --dport 80:80", "-p udp --dport 1:9")]
    assert made == {"-d 10.0.0.2": ["-s 10.0.0.2", *expected]}


def test_a_rule_without_peers_is_for_everybody() -> None:
    """And one without ports for all of them."""
    rules: list[dict[str, Any]] = [{"ports": [{"port": 8000}]}, {}]
    made = _made(_policy(podSelector={"matchLabels": {"app": "b"}}, ingress=rules))
    assert made == {"-d 10.0.0.2": ["-s 10.0.0.2", "-p tcp --dport 8000:8000", ""]}
