"""The node: Kubernetes' parts as processes of this machine, by a directory that says what was started.

Comes in: programs that tests.servers.obtain has. Goes out: a kubeconfig, and a node that is ready; `down` leaves no
process, mount, link or rule of it. Does not know: what is run on it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.cluster import able, policies
from tests.cluster.images import Builder
from tests.servers.obtain import Missing, obtain

DIRECTORY = Path("/var/lib/twin-cluster")
"""Not below the checkout: sockets' paths must be short."""
ADDRESS = "10.99.0.1"
NAME = "node1"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
READY_SECONDS = 180.0
VOLUMES = 10
INTERNET = "203.0.113.1"
"""An address of the node that policies take for one of the internet: for trying who reaches that."""
SYSTEM = [Path(each) for each in (
    "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/run/containerd", "/usr/libexec/kubernetes",
    "/etc/cni", "/opt/cni", "/opt/containerd",
)]  # fmt: skip
"""Where the parts write whatever they are told: what was not there before is taken away with them."""


class Node:
    def __init__(self) -> None:
        self._state = DIRECTORY / "state.json"
        self.kubeconfig = DIRECTORY / "admin.conf"
        self.builder = Builder()

    @property
    def kubectl(self) -> list[str]:
        return [str(obtain("kubernetes").parent / "kubectl"), "--kubeconfig", str(self.kubeconfig)]

    def running(self) -> dict[str, int]:
        """Names and ids of those that run."""
        return {name: each.pid for name, each in self._processes()}

    def up(self) -> None:
        """Missing where it cannot be had, or a part does not start."""
        if len(self.running()) == len(PARTS):
            return
        able.check()
        self.down()
        for each in ("node", "kubernetes", "coredns", "pause"):
            obtain(each)
        before = [str(each) for each in SYSTEM if not each.exists()]
        for name in ("pki", "logs", "cni", "volumes", "bin", "manifests"):
            (DIRECTORY / name).mkdir(parents=True)
        forward = FORWARD.read_text()
        self._state.write_text(json.dumps({"made": before, "forward": forward, "processes": []}))
        for name in ("iptables", "ip6tables"):
            for suffix in ("", "-save", "-restore"):
                link = DIRECTORY / "bin" / f"{name}{suffix}"
                link.symlink_to(self.builder.tools / "usr/sbin/xtables-nft-multi")
        _run(["ip", "link", "add", "node0", "type", "bridge"])
        for each in (ADDRESS, INTERNET):
            _run(["ip", "addr", "add", f"{each}/32", "dev", "node0"])
        _run(["ip", "link", "set", "node0", "up"])
        FORWARD.write_text("1")
        # What no rule of a Service took (it has no pod yet, or kube-proxy writes its two tables one after the other) must
        # not leave the machine: whoever is out there may answer, and be asked again for as long as the connection lasts.
        for chain in ("FORWARD", "OUTPUT"):
            astray = [chain, "-d", SERVICES, "-m", "comment", "--comment", "TWIN-astray", "-j", "REJECT"]
            _run([str(DIRECTORY / "bin/iptables"), "-A", *astray], environment=self._environment())
        self._certify()
        self._write_files()
        for name in PARTS:
            self._start(name)
            if name == "kube-apiserver":
                self._until("the API server answers", [*self.kubectl, "get", "--raw", "/readyz"])
            if name == "containerd":
                self._until("containerd answers", [*self.ctr, "version"])
                self.builder.build_pause()
                self.load("localhost/pause:1")
        self._until(
            "the node is ready", [*self.kubectl, "wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=2s"]
        )
        _run([*self.kubectl, "apply", "-f", "-"], text=_volumes())
        # Pods are refused before the controller has made it.
        self._until("accounts are made", [*self.kubectl, "get", "serviceaccount", "default"])
        enforced = [str(DIRECTORY / "bin/iptables"), "-t", "mangle", "-C", "FORWARD", "-j", policies.TOP]
        self._until("policies are enforced", enforced)

    @property
    def ctr(self) -> list[str]:
        return [
            str(self.builder.tools / "usr/bin/ctr"),
            "--address",
            str(DIRECTORY / "containerd.sock"),
            "-n",
            "k8s.io",
        ]

    def load(self, *images: str) -> None:
        """From where they were built into the node; what it has already is not brought again."""
        loaded = DIRECTORY / "loaded.json"
        known: dict[str, str] = json.loads(loaded.read_text()) if loaded.exists() else {}
        for image in images:
            if known.get(image) == self.builder.id(image):
                continue
            file = DIRECTORY / "image.tar"
            self.builder.export(image, file)
            _run([*self.ctr, "images", "import", str(file)])
            file.unlink()
            known[image] = self.builder.id(image)
            loaded.write_text(json.dumps(known))

    def down(self) -> None:
        """Whatever of it is there."""
        if not DIRECTORY.exists():
            return
        state = json.loads(self._state.read_text()) if self._state.exists() else {"made": [], "processes": []}
        processes = dict(self._processes())
        for name in ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "policies"):
            if name in processes:
                _end(processes.pop(name))
        self._end_containers()
        for each in reversed(list(processes.values())):
            _end(each)
        for target in sorted(_mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", target], check=False, capture_output=True)
            if target.startswith("/run/netns/cni-"):
                Path(target).unlink(missing_ok=True)
        self._clean_rules()
        subprocess.run(["ip", "link", "del", "node0"], check=False, capture_output=True)
        for controller in Path("/sys/fs/cgroup").iterdir():
            top = controller / "kubepods"
            if top.is_dir():
                for group in sorted((Path(path) for path, _, _ in os.walk(top)), reverse=True):
                    group.rmdir()
        if "forward" in state:
            FORWARD.write_text(state["forward"])
        for made in state["made"]:
            shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(DIRECTORY)

    def _end_containers(self) -> None:
        """Those of the node, by the processes that hold them: each names our containerd's socket."""
        held = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if line and line[0].endswith("containerd-shim-runc-v2") and str(DIRECTORY / "containerd.sock") in line:
                held += [*process.children(recursive=True), process]
        for each in held:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(held, timeout=10)

    def _clean_rules(self) -> None:
        for name in ("iptables", "ip6tables"):
            program = self.builder.tools / "usr/sbin/xtables-nft-multi"
            saved = subprocess.run(
                [program, f"{name}-save"], env=self._environment(), capture_output=True, text=True, check=False
            )
            if re.search(r"KUBE-|CNI-|cali-|TWIN-", saved.stdout):
                kept = [each for each in saved.stdout.splitlines() if not re.search(r"KUBE-|CNI-|TWIN-", each)]
                _run([str(program), f"{name}-restore"], text="\n".join(kept) + "\n", environment=self._environment())

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        if not self._state.exists():
            return
        for name, pid, started in json.loads(self._state.read_text())["processes"]:
            try:
                process = psutil.Process(pid)
                if abs(process.create_time() - started) < 0.1 and process.status() != psutil.STATUS_ZOMBIE:
                    yield name, process
            except psutil.NoSuchProcess:
                continue

    def _environment(self) -> dict[str, str]:
        tools = self.builder.tools
        return {
            "PATH": f"{DIRECTORY / 'bin'}:{tools / 'usr/sbin'}:{tools / 'usr/bin'}:{os.environ['PATH']}",
            "XTABLES_LIBDIR": str(next((tools / "usr/lib").glob("*-linux-gnu/xtables"))),
            "HOME": "/root",
        }

    def _start(self, name: str) -> None:
        with (DIRECTORY / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self._command(name), cwd=DIRECTORY, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        state = json.loads(self._state.read_text())
        state["processes"].append([name, process.pid, psutil.Process(process.pid).create_time()])
        self._state.write_text(json.dumps(state))

    def _until(self, what: str, command: Sequence[str]) -> None:
        end = time.monotonic() + READY_SECONDS
        while subprocess.run(command, env=self._environment(), capture_output=True, check=False).returncode:
            ended = [name for name in json.loads(self._state.read_text())["processes"] if name[0] not in self.running()]
            if ended or time.monotonic() > end:
                name = ended[0][0] if ended else "kubelet"
                log = (DIRECTORY / "logs" / f"{name}.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise Missing(f"the test cluster: waited in vain until {what}; {name} said last: {' / '.join(log)}")
            time.sleep(0.3)

    # ── What each is told ───────────────────────────────────────────────────────────────────────────

    def _command(self, name: str) -> list[str]:
        pki = DIRECTORY / "pki"
        tools = self.builder.tools
        kubernetes = obtain("kubernetes").parent
        conf = f"--kubeconfig={DIRECTORY / f'{name}.conf'}"
        if name == "etcd":
            client, peer = "http://127.0.0.1:23790", "http://127.0.0.1:23800"
            return [
                str(tools / "usr/bin/etcd"), f"--data-dir={DIRECTORY / 'etcd'}", "--unsafe-no-fsync", "--name=default",
                f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}", "--log-level=warn",
            ]  # fmt: skip
        if name == "kube-apiserver":
            return [
                str(kubernetes / name), "--etcd-servers=http://127.0.0.1:23790", f"--bind-address={ADDRESS}",
                f"--advertise-address={ADDRESS}", f"--service-cluster-ip-range={SERVICES}", "--allow-privileged",
                "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
                f"--client-ca-file={pki / 'ca.crt'}", f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
                f"--tls-private-key-file={pki / 'kube-apiserver.key'}", "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki / 'accounts.pub'}", f"--service-account-signing-key-file={pki / 'accounts.key'}",
                f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
                f"--kubelet-client-key={pki / 'kubelet-client.key'}", f"--kubelet-certificate-authority={pki / 'ca.crt'}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--requestheader-client-ca-file={pki / 'ca.crt'}", "--requestheader-allowed-names=front-proxy",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-username-headers=X-Remote-User", f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
                f"--proxy-client-key-file={pki / 'front-proxy.key'}",
            ]  # fmt: skip
        if name == "kube-controller-manager":
            return [
                str(kubernetes / name), conf, f"--authentication-kubeconfig={DIRECTORY / f'{name}.conf'}",
                f"--authorization-kubeconfig={DIRECTORY / f'{name}.conf'}", "--bind-address=127.0.0.1",
                "--leader-elect=false", "--allocate-node-cidrs", f"--cluster-cidr={PODS}",
                f"--service-cluster-ip-range={SERVICES}", f"--root-ca-file={pki / 'ca.crt'}",
                f"--service-account-private-key-file={pki / 'accounts.key'}", "--use-service-account-credentials",
                f"--cluster-signing-cert-file={pki / 'ca.crt'}", f"--cluster-signing-key-file={pki / 'ca.key'}",
            ]  # fmt: skip
        if name == "kube-scheduler":
            return [str(kubernetes / name), conf, "--bind-address=127.0.0.1", "--leader-elect=false"]
        if name == "containerd":
            return [str(tools / "usr/bin/containerd"), "--config", str(DIRECTORY / "containerd.toml")]
        if name == "kubelet":
            return [
                str(kubernetes / name), conf, f"--config={DIRECTORY / 'kubelet.yaml'}", f"--hostname-override={NAME}",
                f"--node-ip={ADDRESS}", f"--root-dir={DIRECTORY / 'kubelet'}",
            ]  # fmt: skip
        if name == "kube-proxy":
            return [str(kubernetes / name), f"--config={DIRECTORY / 'kube-proxy.yaml'}", f"--hostname-override={NAME}"]
        if name == "policies":
            # By its file: it runs without this checkout's path.
            return [sys.executable, policies.__file__, ADDRESS, str(pki)]
        return [
            str(obtain("coredns")),
            "-conf",
            str(DIRECTORY / "Corefile"),
            "-pidfile",
            str(DIRECTORY / "coredns.pid"),
        ]

    def _certify(self) -> None:
        """One authority, and a certificate and a kubeconfig for each that asks the API server."""
        pki = DIRECTORY / "pki"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        authority = [f"-keyout={pki / 'ca.key'}", f"-out={pki / 'ca.crt'}"]
        _run(["openssl", "req", "-x509", *curve, "-days", "30", "-subj", "/CN=twin-cluster", *_pairs(authority)])
        _run(["openssl", "genrsa", "-out", str(pki / "accounts.key"), "2048"])
        _run(["openssl", "rsa", "-in", str(pki / "accounts.key"), "-pubout", "-out", str(pki / "accounts.pub")])
        internal = [f"DNS:kubernetes{each}" for each in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
        api = ",".join([*internal, "DNS:localhost", "IP:127.0.0.1", "IP:10.96.0.1", f"IP:{ADDRESS}"])
        for name, subject, names in (
            ("kube-apiserver", "/CN=kube-apiserver", api),
            ("admin", "/O=system:masters/CN=admin", ""),
            ("kube-controller-manager", "/CN=system:kube-controller-manager", ""),
            ("kube-scheduler", "/CN=system:kube-scheduler", ""),
            ("kube-proxy", "/CN=system:kube-proxy", ""),
            ("kubelet", f"/O=system:nodes/CN=system:node:{NAME}", f"DNS:{NAME},IP:{ADDRESS}"),
            ("kubelet-client", "/O=system:masters/CN=kubelet-client", ""),
            ("front-proxy", "/CN=front-proxy", ""),
        ):
            key, request, made = (pki / f"{name}.{each}" for each in ("key", "csr", "crt"))
            _run(["openssl", "req", "-new", *curve, "-subj", subject, "-keyout", str(key), "-out", str(request)])
            extensions = "extendedKeyUsage=serverAuth,clientAuth\n" + (f"subjectAltName={names}\n" if names else "")
            (pki / "extensions").write_text(extensions)
            signed = [
                f"-in={request}",
                f"-out={made}",
                f"-CA={pki / 'ca.crt'}",
                f"-CAkey={pki / 'ca.key'}",
                f"-extfile={pki / 'extensions'}",
            ]
            _run(["openssl", "x509", "-req", "-CAcreateserial", "-days", "30", *_pairs(signed)])
            (DIRECTORY / f"{name}.conf").write_text(KUBECONFIG.format(pki=pki, name=name, address=ADDRESS))

    def _write_files(self) -> None:
        tools = self.builder.tools
        (DIRECTORY / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
        (DIRECTORY / "Corefile").write_text(
            f".:53 {{\n  bind {ADDRESS}\n  errors\n"
            f"  kubernetes cluster.local in-addr.arpa ip6.arpa {{\n    kubeconfig {self.kubeconfig}\n    pods insecure\n    ttl 1\n  }}\n"
            "  cache 1\n}\n"
        )
        (DIRECTORY / "containerd.toml").write_text(CONTAINERD.format(directory=DIRECTORY, tools=tools))
        # Each pod has a link of its own that the node routes: what goes between two pods passes the node's rules.
        (DIRECTORY / "cni" / "10-pods.conflist").write_text(json.dumps({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "ipMasq": True, "ipam": {
                    "type": "host-local", "dataDir": str(DIRECTORY / "addresses"), "ranges": [[{"subnet": "10.244.0.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }))  # fmt: skip
        (DIRECTORY / "kubelet.yaml").write_text(
            KUBELET.format(directory=DIRECTORY, pki=DIRECTORY / "pki", address=ADDRESS)
        )
        (DIRECTORY / "kube-proxy.yaml").write_text(PROXY.format(directory=DIRECTORY, pods=PODS))


PARTS = (
    "etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "coredns", "kubelet", "kube-proxy",
    "policies",
)  # fmt: skip

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: twin
clusters: [{{name: twin, cluster: {{server: "https://{address}:6443", certificate-authority: {pki}/ca.crt}}}}]
users: [{{name: {name}, user: {{client-certificate: {pki}/{name}.crt, client-key: {pki}/{name}.key}}}}]
contexts: [{{name: twin, context: {{cluster: twin, user: {name}}}}}]
"""

CONTAINERD = """\
version = 2
root = "{directory}/containerd"
state = "{directory}/containerd-state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # Where CAP_SYS_RESOURCE is missing, no process may be made less likely to be killed than its parent.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{tools}/usr/lib/cni"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{tools}/usr/sbin/runc"
        SystemdCgroup = false
"""

KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failSwapOn: false
containerRuntimeEndpoint: unix://{directory}/containerd.sock
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {pki}/ca.crt}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki}/kubelet.crt
tlsPrivateKeyFile: {pki}/kubelet.key
address: {address}
healthzBindAddress: 127.0.0.1
clusterDomain: cluster.local
clusterDNS: [{address}]
resolvConf: {directory}/resolv.conf
enforceNodeAllocatable: [pods]
podLogsDir: {directory}/logs/pods
volumePluginDir: {directory}/plugins
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}}
imageGCHighThresholdPercent: 100
maxPods: 150
serializeImagePulls: false
"""

PROXY = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: {pods}
clientConnection: {{kubeconfig: {directory}/kube-proxy.conf}}
conntrack: {{maxPerCore: 0, min: 0}}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
"""


def _volumes() -> str:
    """A default class of volumes, and some directories of the node to be volumes: nothing here makes them on demand."""
    objects: list[dict[str, object]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "node", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    for number in range(VOLUMES):
        path = DIRECTORY / "volumes" / str(number)
        path.mkdir(exist_ok=True)
        # The group that a pod asks for is not given to such a volume.
        path.chmod(0o777)
        spec = {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": "node",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(path)},
        }
        objects.append(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"node-{number}"}, "spec": spec}
        )
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [
        target
        for target in (line.split()[4] for line in lines)
        if target.startswith((f"{DIRECTORY}/", "/run/netns/cni-"))
    ]


def _end(process: psutil.Process) -> None:
    try:
        process.terminate()
        process.wait(15)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(5)
    except psutil.NoSuchProcess:
        return


def _pairs(options: Sequence[str]) -> list[str]:
    return [part for each in options for part in each.split("=", 1)]


def _run(command: Sequence[str], text: str | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(
            f"`{' '.join(command[:4])} …` failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        )
    return done.stdout
