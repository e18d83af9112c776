"""How each server's program is had: from the Go module proxy or from Debian, into .cache/servers, once.

Comes in: a name. Goes out: the program's path. Does not know: how it is started.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import schemas

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache" / "servers"
ENGINE = HERE.parent.parent / "benchmarks" / "engine"
LOAD = HERE.parent.parent / "benchmarks" / "load"
PAUSE = HERE.parent / "cluster" / "pause"
BUILD_SECONDS = 3600
"""The longest, KEDA, takes twenty minutes on two idle cores."""


class Missing(Exception):
    """It cannot be had here; the message is one line that says what is missing."""


@dataclass(frozen=True)
class Program:
    version: str
    file: str
    """Below its directory in the cache."""
    make: Callable[[Path], None]
    """Puts it into that directory."""
    source: Path | None = None
    """Of what is built from files here: made again when they change."""

    def directory(self, name: str) -> Path:
        state = hashlib.sha256()
        if self.source is not None:
            for path in (Path(__file__), *sorted(self.source.rglob("*.*"))):
                state.update(path.read_bytes())
        return CACHE / f"{name}-{self.version}{f'-{state.hexdigest()[:8]}' if self.source else ''}"

    def path(self, name: str) -> Path:
        return self.directory(name) / self.file


def _run(command: list[str], directory: Path, **environment: str) -> str:
    """Its output. Missing with the last line that it wrote to stderr, where it fails."""
    # Builds take minutes: what else runs on the machine comes first.
    done = subprocess.run(
        ["nice", "-n", "10", *command],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise Missing(f"`{' '.join(command)}` failed: {said[-1]}")
    return done.stdout


def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise Missing("it is built with Go, which is not installed (https://go.dev/dl, 1.24 or newer)")
    return found


def _installed(package: str, file: str) -> Callable[[Path], None]:
    """`go install`, for modules without a replace."""

    def make(directory: Path) -> None:
        _run([_go(), "install", "-trimpath", package], directory, GOBIN=str(directory), CGO_ENABLED="0", GOFLAGS="")
        made = directory / package.rpartition("/")[2].partition("@")[0]
        made.rename(directory / file)

    return make


@contextmanager
def _module(path_and_version: str) -> Iterator[Path]:
    """A copy of a module that may be changed."""
    with tempfile.TemporaryDirectory() as copy:
        found = json.loads(_run([_go(), "mod", "download", "-json", path_and_version], Path(copy)))
        source = Path(shutil.copytree(found["Dir"], Path(copy) / "module"))
        for path in (source, *source.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
        yield source


def _ferretdb(directory: Path) -> None:
    with _module("github.com/FerretDB/FerretDB@v1.24.2") as source:
        main = Path(shutil.copytree(HERE / "ferretdb", source.parent / "main"))
        package = source / "internal" / "backends" / "sqlite"
        shutil.copy(main / "sqlite" / "narrowed.go", package)
        for file, old, new in _QUICKER:
            before, found, after = (package / file).read_text().partition(old)
            if not found:
                raise Missing(f"{file} is not what was to be changed")
            (package / file).write_text(before + new + after)
        _run([_go(), "mod", "edit", "-replace", f"github.com/FerretDB/FerretDB={source}"], main)
        command = [_go(), "build", "-trimpath", "-buildvcs=false", "-mod=mod", "-o", str(directory / "ferretdb"), "."]
        _run(command, main, CGO_ENABLED="0", GOFLAGS="")


_QUICKER = (
    (
        "collection.go",
        """\
	if params.Filter.Len() == 1 {
		v, _ := params.Filter.Get("_id")
		switch v.(type) {
		case string, types.ObjectID:
			whereClause = fmt.Sprintf(` WHERE %s = ?`, metadata.IDColumn)
			args = []any{string(must.NotFail(sjson.MarshalSingleValue(v)))}
		}
	}
""",
        """\
	if whereClause, args = narrowed(params.Filter); whereClause != "" {
		whereClause = ` WHERE ` + whereClause
	}
""",
    ),
    # As the index on _id is made: SQLite does not see that the other way to write it is the same.
    ("metadata/metadata.go", "->'$._id'", "->'_id'"),
)
"""What makes FerretDB walk its indexes: by itself it reads the whole collection for almost everything."""


def _kubernetes(directory: Path) -> None:
    # The last release that takes version 1 of cgroups. Its parts are modules that it replaces by folders of its own
    # repository, and which are published one by one.
    version = "1.34.4"
    with tempfile.TemporaryDirectory() as module:
        found = json.loads(_run([_go(), "mod", "download", "-json", f"k8s.io/kubernetes@v{version}"], Path(module)))
        parts = re.findall(r"^\t(k8s\.io/\S+) v0\.0\.0$", Path(found["GoMod"]).read_text(), re.MULTILINE)
        released = f"v0{version[1:]}"
        replaced = "\n".join(f"replace {each} => {each} {released}" for each in parts)
        (Path(module) / "go.mod").write_text(
            f"module cluster\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v{version}\n\n{replaced}\n"
        )
        programs = ("apiserver", "controller-manager", "scheduler", "proxy")
        names = [*(f"kube-{each}" for each in programs), "kubelet", "kubectl"]
        flags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{version}"
        command = [_go(), "install", "-trimpath", "-buildvcs=false", "-mod=mod", "-ldflags", flags]
        packages = [f"k8s.io/kubernetes/cmd/{each}" for each in names]
        _run([*command, *packages], Path(module), GOBIN=str(directory), CGO_ENABLED="0", GOFLAGS="")


def _replacing(module: str, package: str, file: str) -> Callable[[Path], None]:
    """`go build`, for modules whose go.mod has a replace, which `go install` refuses."""

    def make(directory: Path) -> None:
        with _module(module) as source:
            command = [_go(), "build", "-trimpath", "-buildvcs=false", "-mod=mod", "-o", str(directory / file), package]
            _run(command, source, CGO_ENABLED="0", GOFLAGS="")

    return make


def _keda(directory: Path) -> None:
    """Its three programs, and what it is installed with."""
    with _module("github.com/kedacore/keda/v2@v2.21.0") as source:
        command = [_go(), "build", "-trimpath", "-buildvcs=false", "-mod=mod", "-ldflags", "-s -w"]
        # One after the other: linking one takes more than a gigabyte of memory.
        for package, file in (
            ("operator", "keda"),
            ("adapter", "keda-adapter"),
            ("webhooks", "keda-admission-webhooks"),
        ):
            _run([*command, "-o", str(directory / file), f"./cmd/{package}"], source, CGO_ENABLED="0", GOFLAGS="")
        shutil.copytree(source / "config", directory / "config")


def _schemas(directory: Path) -> None:
    def fetched(module: str) -> Path:
        return Path(json.loads(_run([_go(), "mod", "download", "-json", module], directory))["Dir"])

    modules = [*schemas.DEFINITIONS, schemas.EKSCTL[0]]
    schemas.write(directory, fetched("k8s.io/kubernetes@v1.34.4"), {each: fetched(each) for each in modules})


def _checkov(directory: Path) -> None:
    _run([sys.executable, "-m", "venv", "--without-pip", str(directory)], directory)
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--require-hashes"]
    lock = str(HERE.parent.parent / "locks" / "checkov.txt")
    _run([*command, "--python", str(directory / "bin" / "python"), "-r", lock], directory)


def _built(source: Path) -> Callable[[Path], None]:
    """A program of ours, of Go's standard library alone."""

    def make(directory: Path) -> None:
        command = [_go(), "build", "-trimpath", "-buildvcs=false", "-o", str(directory / source.name), "."]
        _run(command, source, CGO_ENABLED="0", GOFLAGS="")

    return make


def _debian(*packages: str) -> Callable[[Path], None]:
    """Unpacked, not installed: no service of Debian's is set up or started."""

    def make(directory: Path) -> None:
        if shutil.which("apt-get") is None:
            raise Missing(f"it is taken from Debian's package {packages[0]}, and there is no apt-get")
        command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages]
        with tempfile.TemporaryDirectory() as fetched:
            try:
                _run(command, Path(fetched))
            except Missing:
                # A fresh image has no lists of packages.
                _run(["apt-get", "update", "-qq"], Path(fetched))
                _run(command, Path(fetched))
            for package in Path(fetched).glob("*.deb"):
                _run(["dpkg", "-x", str(package), str(directory)], Path(fetched))

    return make


def _node(directory: Path) -> None:
    _debian(
        "containerd", "runc", "etcd-server", "containernetworking-plugins", "iptables", "conntrack", "buildah", "debootstrap",
        "patchelf", "golang-github-containers-common", "golang-github-containers-image", "libxtables12", "libip4tc2",
        "libip6tc2", "libmnl0", "libnftnl11", "libnfnetlink0", "libnetfilter-conntrack3", "libseccomp2", "libgpgme11",
        "libassuan0", "libdevmapper1.02.1",
    )(directory)  # fmt: skip
    # They start themselves again, in other roots and with an environment of their own: only what stands in the file holds.
    libraries = [*(directory / "usr/lib").glob("*-linux-gnu"), *(directory / "lib").glob("*-linux-gnu")]
    places = ":".join(str(CACHE / "node-debian" / each.relative_to(directory)) for each in libraries)
    for program in ("bin/buildah", "sbin/runc", "sbin/xtables-nft-multi", "sbin/conntrack"):
        command = [str(directory / "usr/bin/patchelf"), "--force-rpath", "--set-rpath", places]
        _run([*command, str(directory / "usr" / program)], directory)


def _pause(directory: Path) -> None:
    command = [_go(), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(directory / "pause"), "."]
    _run(command, PAUSE, CGO_ENABLED="0", GOFLAGS="")


PROGRAMS = {
    "weaviate": Program(
        "1.35.2",
        "weaviate",
        _installed("github.com/weaviate/weaviate/cmd/weaviate-server@v1.35.2", "weaviate"),
    ),
    "ferretdb": Program("1.24.2", "ferretdb", _ferretdb, HERE / "ferretdb"),
    # Debian's redis-server is one file under several names.
    "redis": Program(
        "debian", "usr/bin/redis-check-rdb", _debian("redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
    ),
    "wrk": Program("debian", "usr/bin/wrk", _debian("wrk", "libluajit-5.1-2")),
    "engine": Program("1", "engine", _built(ENGINE), ENGINE),
    "load": Program("1", "load", _built(LOAD), LOAD),
    "jaeger": Program("1.76.0", "jaeger", _replacing("github.com/jaegertracing/jaeger@v1.76.0", "./cmd/all-in-one", "jaeger")),
    "prometheus": Program("debian", "usr/bin/prometheus", _debian("prometheus")),
    "toxiproxy": Program("2.5.0", "toxiproxy", _installed("github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0", "toxiproxy")),
    "kube-score": Program("1.20.0", "kube-score", _installed("github.com/zegl/kube-score/cmd/kube-score@v1.20.0", "kube-score")),
    "kubeconform": Program(
        "0.8.0", "kubeconform", _installed("github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0", "kubeconform")
    ),
    "schemas": Program("1.34.4", "v1", _schemas),
    "helm-unittest": Program(
        "1.1.2", "untt", _replacing("github.com/helm-unittest/helm-unittest@v1.1.2", "./cmd/helm-unittest", "untt")
    ),
    "cyclonus": Program("0.5.6", "cyclonus", _installed("github.com/mattfenwick/cyclonus/cmd/cyclonus@v0.5.6", "cyclonus")),
    "actionlint": Program("1.7.12", "actionlint", _installed("github.com/rhysd/actionlint/cmd/actionlint@v1.7.12", "actionlint")),
    "checkov": Program("3.3.30", "bin/python", _checkov),
    "helm": Program("3.22.0", "helm", _installed("helm.sh/helm/v3/cmd/helm@v3.22.0", "helm")),
    "keda": Program("2.21.0", "keda", _keda),
    # What tests/cluster makes a Kubernetes of.
    "kubernetes": Program("1.34.4", "kube-apiserver", _kubernetes),
    # What xllamacpp wants of an image that has no compiler.
    "gomp": Program("debian", "usr/lib", _debian("libgomp1")),
    "node": Program("debian", "usr/bin/containerd", _node),
    "pause": Program("1", "pause", _pause, PAUSE),
    "coredns": Program("1.12.4", "coredns", _installed("github.com/coredns/coredns@v1.12.4", "coredns")),
}  # fmt: skip


def cached(name: str) -> bool:
    return PROGRAMS[name].path(name).exists()


def obtain(name: str) -> Path:
    """The program, made first where the cache has it not. Missing."""
    program = PROGRAMS[name]
    path = program.path(name)
    if path.exists():
        return path
    directory = program.directory(name)
    with locked(CACHE / f"{name}.lock"):
        if not path.exists():
            print(f"{name} {program.version}: making it, the first time ...", file=sys.stderr, flush=True)
            # Beside its place and moved there whole: a build that broke off leaves nothing that looks finished.
            with tempfile.TemporaryDirectory(dir=CACHE) as building:
                made = Path(building) / "made"
                made.mkdir()
                try:
                    program.make(made)
                except Missing as error:
                    raise Missing(f"{name}: {error}") from error
                shutil.rmtree(directory, ignore_errors=True)
                made.rename(directory)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
