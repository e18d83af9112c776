"""Images: Twin's by its own Dockerfile, and those of the stores and the engine out of programs that tests.servers has.

Comes in: this checkout. Goes out: images in a store of their own below .cache, and files that a node loads. Does not
know: what runs them. Without Docker, buildah builds; the base image that the Dockerfiles name is then made of Debian's
packages, under the same name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.obtain import CACHE, Missing, locked, obtain

ROOT = Path(__file__).parent.parent.parent
STORE = CACHE.parent / "images"
BASE = "docker.io/library/python:3.11-slim"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
REGISTRY = "localhost"
TAG = "test"
SERVICES = ("crawler", "feature", "retriever", "generator", "gateway")
STORES = ("mongodb", "weaviate", "redis", "engine", "mlflow", "prometheus")
DEBIAN = "http://deb.debian.org/debian"


def name_of(image: str, tag: str = TAG) -> str:
    return f"{REGISTRY}/twin-{image}:{tag}"


class Builder:
    """buildah."""

    def __init__(self, store: Path = STORE) -> None:
        """`store`: where its images and layers are."""
        self.store = store

    @property
    def tools(self) -> Path:
        """Where Debian's packages are unpacked."""
        return obtain("node").parents[2]

    def _buildah(self, *arguments: str) -> str:
        command = [
            str(self.tools / "usr/bin/buildah"),
            "--root",
            str(self.store / "store"),
            "--runroot",
            str(self.store / "run"),
        ]
        environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(self.tools / "etc/containers/registries.conf")}
        return _run([*command, *arguments], environment)

    def id(self, image: str) -> str:
        """Empty: it is not there."""
        return self._buildah("images", "--quiet", "--no-trunc", "--filter", f"reference={image}").strip()

    def build(self, image: str, context: Path, dockerfile: Path, arguments: Sequence[str] = ()) -> None:
        """Layers that are there already are not built again."""
        if image != BASE and "FROM scratch" not in dockerfile.read_text():
            self._base()
        network = ["--isolation", "chroot", "--network", "host", "--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro"]
        given = [part for each in arguments for part in ("--build-arg", each)]
        policy = ["--signature-policy", str(self.tools / "etc/containers/policy.json")]
        command = ["bud", *policy, "--layers", "--pull-never", *(network if AUTHORITIES.exists() else network[:4])]
        self._buildah(*command, *given, "-t", image, "-f", str(dockerfile), str(context))

    def export(self, image: str, file: Path) -> None:
        policy = ["--signature-policy", str(self.tools / "etc/containers/policy.json")]
        # The other kind of archive is compressed: half of the time that it takes.
        self._buildah("push", *policy, "--quiet", image, f"docker-archive:{file}:{image}")

    def run(self, image: str, command: Sequence[str], volumes: Mapping[Path, str] | None = None) -> str:
        """What the command writes, run in the image by its own user. `volumes`: folder of this machine → where the image
        sees it, to read."""
        policy = ["--signature-policy", str(self.tools / "etc/containers/policy.json")]
        container = self._buildah("from", *policy, "--pull-never", image).strip()
        mounts = [part for here, there in (volumes or {}).items() for part in ("--volume", f"{here}:{there}:ro")]
        try:
            return self._buildah("run", "--isolation", "chroot", *mounts, container, "--", *command)
        finally:
            self._buildah("rm", container)

    def drop(self, image: str) -> None:
        """The image, and every layer that no image with a name is made of, those of builds that failed included. For
        stores that nothing else builds in."""
        self._buildah("rm", "--all")
        self._buildah("rmi", image)
        self._buildah("rmi", "--prune")

    def build_pause(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            shutil.copy(obtain("pause"), Path(name) / "pause")
            (Path(name) / "Dockerfile").write_text(
                'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n'
            )
            self.build("localhost/pause:1", Path(name), Path(name) / "Dockerfile")

    def _base(self) -> None:
        with locked(self.store / "base.lock"):
            if self.id(BASE):
                return
            print("the base image: making it, the first time ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=self.store) as name:
                root = Path(name) / "root"
                environment = {**os.environ, "DEBOOTSTRAP_DIR": str(self.tools / "usr/share/debootstrap")}
                packages = "python3,python3-venv,python3-pip,ca-certificates"
                program = str(self.tools / "usr/sbin/debootstrap")
                _run(
                    [program, "--variant=minbase", f"--include={packages}", "bookworm", str(root), DEBIAN], environment
                )
                for each in (
                    "var/cache/apt",
                    "var/lib/apt/lists",
                    "usr/share/doc",
                    "usr/share/man",
                    "usr/share/locale",
                ):
                    shutil.rmtree(root / each)
                    (root / each).mkdir()
                (root / "var/cache/apt/archives/partial").mkdir(parents=True)
                for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
                    marker.unlink()
                (root / "usr/bin/python").symlink_to("python3")
                file = Path(name) / "Dockerfile"
                file.write_text(
                    'FROM scratch\nCOPY . /\nENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\nCMD ["python3"]\n'
                )
                self.build(BASE, root, file)


class Docker(Builder):
    """Docker's own, where its daemon runs."""

    def id(self, image: str) -> str:
        return _run(["docker", "images", "--quiet", "--no-trunc", image], dict(os.environ)).strip()

    def build(self, image: str, context: Path, dockerfile: Path, arguments: Sequence[str] = ()) -> None:
        given = [part for each in arguments for part in ("--build-arg", each)]
        _run(["docker", "build", "--quiet", *given, "-t", image, "-f", str(dockerfile), str(context)], dict(os.environ))

    def run(self, image: str, command: Sequence[str], volumes: Mapping[Path, str] | None = None) -> str:
        mounts = [part for here, there in (volumes or {}).items() for part in ("--volume", f"{here}:{there}:ro")]
        program, *arguments = command
        run = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", *mounts, "--entrypoint", program, image]
        return _run([*run, *arguments], dict(os.environ))

    def drop(self, image: str) -> None:
        _run(["docker", "rmi", image], dict(os.environ))

    def export(self, image: str, file: Path) -> None:
        _run(["docker", "save", "--output", str(file), image], dict(os.environ))


def build_service(builder: Builder, service: str, tag: str = TAG) -> str:
    """One of Twin's. Its name."""
    image = name_of(service, tag)
    builder.build(image, ROOT, ROOT / "services/Dockerfile", [f"SERVICE={service}", f"VERSION={tag}"])
    return image


def build_store(builder: Builder, store: str) -> str:
    """What stands beside Twin in the tests. Its name."""
    image = name_of(store)
    with tempfile.TemporaryDirectory() as name:
        context = Path(name)
        lines = _STAGED[store](context)
        (context / "Dockerfile").write_text(f"FROM {BASE}\n" + "\n".join(lines) + "\nUSER 10001:10001\n")
        builder.build(image, context, context / "Dockerfile")
    return image


def _mongodb(context: Path) -> list[str]:
    shutil.copy(obtain("ferretdb"), context / "ferretdb")
    return ["COPY ferretdb /usr/local/bin/ferretdb", 'ENTRYPOINT ["ferretdb"]', 'CMD ["0.0.0.0:27017", "/data/db"]']


def _weaviate(context: Path) -> list[str]:
    shutil.copy(obtain("weaviate"), context / "weaviate")
    return ["COPY weaviate /bin/weaviate", 'ENTRYPOINT ["/bin/weaviate"]',
            'CMD ["--host", "0.0.0.0", "--port", "8080", "--scheme", "http"]']  # fmt: skip


def _redis(context: Path) -> list[str]:
    shutil.copytree(obtain("redis").parents[1], context / "usr", symlinks=True)
    server = context / "usr/bin/redis-server"
    server.unlink(missing_ok=True)
    # By this name it is the server.
    server.symlink_to("redis-check-rdb")
    return ["COPY usr /usr", 'ENTRYPOINT ["redis-server"]']


def _prometheus(context: Path) -> list[str]:
    shutil.copy(obtain("prometheus"), context / "prometheus")
    return ["COPY prometheus /bin/prometheus", 'ENTRYPOINT ["/bin/prometheus"]']


def _keda(context: Path) -> list[str]:
    for each in ("keda", "keda-adapter", "keda-admission-webhooks"):
        shutil.copy(obtain("keda").with_name(each), context / each)
    return ["COPY keda keda-adapter keda-admission-webhooks /"]


_INSTALL = (
    "RUN python -m venv /opt/venv && /opt/venv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check"
    " --require-hashes --only-binary :all: -r /lock.txt"
)


def _mlflow(context: Path) -> list[str]:
    shutil.copy(ROOT / "locks/mlflow.txt", context / "lock.txt")
    return [
        "COPY lock.txt /lock.txt",
        _INSTALL,
        "ENV PATH=/opt/venv/bin:/usr/bin:/bin HOME=/tmp",
        'ENTRYPOINT ["mlflow"]',
    ]


def _engine(context: Path) -> list[str]:
    model = CACHE.parent / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not model.exists():
        environment = {**os.environ, "TWIN_DATA_DIR": str(CACHE.parent)}
        _run([sys.executable, "-m", "services.cli", "models", "fetch", "smollm2"], environment)
    shutil.copy(model, context / "model.gguf")
    shutil.copytree(obtain("gomp"), context / "lib", symlinks=True)
    shutil.copy(ROOT / "locks/engine.txt", context / "lock.txt")
    for each in ("tests/__init__.py", "tests/servers/__init__.py", "tests/servers/tgi.py", "tests/servers/loopback.py",
                 "tests/cluster/__init__.py", "tests/cluster/engine.py"):  # fmt: skip
        (context / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / each, context / each)
    return ["COPY lock.txt /lock.txt", _INSTALL, "COPY lib /usr/lib", "COPY model.gguf /model.gguf", "COPY tests /app/tests",
            "ENV PATH=/opt/venv/bin:/usr/bin:/bin PYTHONPATH=/app HOME=/tmp PYTHONDONTWRITEBYTECODE=1",
            'ENTRYPOINT ["python", "-m", "tests.cluster.engine"]']  # fmt: skip


_STAGED = {
    "mongodb": _mongodb,
    "weaviate": _weaviate,
    "redis": _redis,
    "engine": _engine,
    "mlflow": _mlflow,
    "prometheus": _prometheus,
    "keda": _keda,
}


def build_all(builder: Builder, images: Sequence[str]) -> list[str]:
    """By their short names, one after the other: each builds with what the machine has. Says how long each took."""
    made = []
    for each in images:
        start = time.monotonic()
        made.append(build_service(builder, each) if each in SERVICES else build_store(builder, each))
        print(f"image {each}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return made


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(["nice", "-n", "10", *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise Missing(f"`{Path(command[0]).name} {' '.join(command[5:8])} …` failed: {' / '.join(said)}")
    return done.stdout
