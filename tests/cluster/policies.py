"""Enforces NetworkPolicies on the test node, as one of its parts: python policies.py ADDRESS PKI

Comes in: policies, pods and namespaces, watched at the API server of that address with the admin's certificate. Goes
out: rules of iptables. They stand in the table `mangle`: after kube-proxy has turned a Service's address into a pod's, and
before its own rules, which accept. Does not know: other nodes, IPv6, ports by name (which it refuses).

What is not allowed is dropped without a word, as the enforcers of real clusters do; so whoever tries tells it from a port
where nobody listens. From the node each pod is reached, as Kubernetes has it; to the node a pod goes as its policies say.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Object = dict[str, Any]
WATCHED = ("/apis/networking.k8s.io/v1/networkpolicies", "/api/v1/pods", "/api/v1/namespaces")
TOP = "TWIN-POLICIES"
SECONDS = 300
"""That one watch goes on; what was missed is seen with the next list."""


def chains(
    policies: Sequence[Object], pods: Sequence[Object], namespaces: Sequence[Object]
) -> list[tuple[str, list[str]]]:
    """For each pod and direction that a policy isolates: what picks its packets, and what is let through of them."""
    labels = {each["metadata"]["name"]: each["metadata"].get("labels", {}) for each in namespaces}
    running = sorted((each for each in pods if _has_address(each)), key=lambda each: str(each["status"]["podIP"]))
    made = []
    for pod in running:
        space, own = pod["metadata"]["namespace"], pod["metadata"].get("labels", {})
        chosen = [
            each["spec"]
            for each in policies
            if each["metadata"]["namespace"] == space and _selects(each["spec"]["podSelector"], own)
        ]
        for direction, side, pod_is, other_is in (("Egress", "to", "-s", "-d"), ("Ingress", "from", "-d", "-s")):
            isolating = [each for each in chosen if direction in _directions(each)]
            if not isolating:
                continue
            address = pod["status"]["podIP"]
            # Nobody is kept from itself.
            allowed = {f"{other_is} {address}": None}
            for rule in (rule for spec in isolating for rule in spec.get(direction.lower()) or []):
                for peer in _peers(rule.get(side), space, running, labels):
                    for port in _ports(rule.get("ports")):
                        allowed[" ".join(filter(None, (peer and f"{other_is} {peer}", port)))] = None
            made.append((f"{pod_is} {address}", list(allowed)))
    return made


def _has_address(pod: Object) -> bool:
    ended = pod["status"].get("phase") in ("Succeeded", "Failed")
    return bool(pod["status"].get("podIP")) and not pod["spec"].get("hostNetwork") and not ended


def _directions(spec: Object) -> Sequence[str]:
    return spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", []):
        has, among = each["key"] in labels, labels.get(each["key"]) in each.get("values", [])
        if not {"In": among, "NotIn": not among, "Exists": has, "DoesNotExist": not has}[each["operator"]]:
            return False
    return True


def _peers(
    peers: Sequence[Object] | None, space: str, pods: Sequence[Object], labels: dict[str, dict[str, str]]
) -> Iterator[str]:
    """Addresses and networks; an empty one: anybody."""
    if not peers:
        yield ""
    for peer in peers or []:
        if "ipBlock" in peer:
            yield from _networks(peer["ipBlock"])
            continue
        for pod in pods:
            where = pod["metadata"]["namespace"]
            near = (
                _selects(peer["namespaceSelector"], labels.get(where, {}))
                if "namespaceSelector" in peer
                else where == space
            )
            if near and _selects(peer.get("podSelector", {}), pod["metadata"].get("labels", {})):
                yield pod["status"]["podIP"]


def _networks(block: Object) -> Iterator[str]:
    whole = ipaddress.ip_network(block["cidr"])
    if isinstance(whole, ipaddress.IPv6Network):
        return
    left = [whole]
    for each in block.get("except", []):
        hole = ipaddress.IPv4Network(each)
        left = [part for one in left for part in (one.address_exclude(hole) if hole.subnet_of(one) else [one])]
    yield from map(str, sorted(left))


def _ports(ports: Sequence[Object] | None) -> Iterator[str]:
    if not ports:
        yield ""
    for each in ports or []:
        protocol = f"-p {each.get('protocol', 'TCP').lower()}"
        if "port" not in each:
            yield protocol
        else:
            first = int(each["port"])
            yield f"{protocol} --dport {first}:{each.get('endPort', first)}"


class Enforcer:
    def __init__(self, address: str, pki: Path) -> None:
        self._address = address
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._known: dict[str, dict[str, Object]] = {}
        self._most = 0

    def run(self) -> None:
        for path in WATCHED:
            threading.Thread(target=self._follow, args=(path,), daemon=True).start()
        self._restore([f"-A {chain} -j {TOP}" for chain in ("FORWARD", "INPUT")], [])
        enforced = None
        while True:
            self._changed.wait()
            self._changed.clear()
            with self._lock:
                if len(self._known) < len(WATCHED):
                    continue
                made = chains(*(list(self._known[path].values()) for path in WATCHED))
            if made != enforced:
                start = time.monotonic()
                self._restore([], made)
                enforced = made
                took = f"{time.monotonic() - start:.3f} s"
                print(f"{time.strftime('%H:%M:%S')} {len(made)} chains, {took}", flush=True)

    def _restore(self, hooks: list[str], made: Sequence[tuple[str, list[str]]]) -> None:
        """All in one step. Chains that are no longer needed stay, empty, for the next pods."""
        self._most = max(self._most, len(made))
        names = [f"TWIN-{number}" for number in range(self._most)]
        lines = ["*mangle", f":{TOP} - [0:0]", *(f":{name} - [0:0]" for name in names), *hooks]
        lines.append(f"-A {TOP} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")
        for name, (picked, allowed) in zip(names, made, strict=False):
            lines.append(f"-A {TOP} {picked} -j {name}")
            lines += [f"-A {name} {each} -j RETURN" for each in allowed]
            lines.append(f"-A {name} -j DROP")
        text = "\n".join([*lines, "COMMIT", ""])
        subprocess.run(["iptables-restore", "--noflush", "--wait", "5"], input=text, text=True, check=True)

    def _follow(self, path: str) -> None:
        while True:
            try:
                listed = json.loads(self._get(path).read())
                with self._lock:
                    self._known[path] = {each["metadata"]["uid"]: each for each in listed["items"]}
                self._changed.set()
                version = listed["metadata"]["resourceVersion"]
                for line in self._get(f"{path}?watch=1&resourceVersion={version}&timeoutSeconds={SECONDS}"):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    uid = event["object"]["metadata"]["uid"]
                    with self._lock:
                        if event["type"] == "DELETED":
                            self._known[path].pop(uid, None)
                        else:
                            self._known[path][uid] = event["object"]
                    self._changed.set()
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                print(f"{path}: {error!r}", file=sys.stderr, flush=True)
                time.sleep(0.5)

    def _get(self, path: str) -> http.client.HTTPResponse:
        asked = http.client.HTTPSConnection(self._address, 6443, context=self._context, timeout=SECONDS + 30)
        asked.request("GET", path)
        answer = asked.getresponse()
        if answer.status != 200:
            raise OSError(f"{answer.status} {answer.read()[:200]!r}")
        return answer


if __name__ == "__main__":
    Enforcer(sys.argv[1], Path(sys.argv[2])).run()
