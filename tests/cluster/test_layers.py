"""What the images hold: every file of every layer, and what they were built with, searched for secrets."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.images import ROOT, SERVICES, build_service
from tests.cluster.kind import Kind, available
from tests.cluster.node import Node

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("TWIN_TEST_CLUSTER"), reason="takes a builder of images: make cluster-test"),
]

CANARY = "canary-7d1f40c2"
SPILLED = (".env", ".cache/spilled.txt", "services/.env.production", "services/gateway/spilled.db", "spilled.pem")
"""Where secrets lie in checkouts: files of this content are put there while images are built."""
PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*(?:[A-Za-z0-9+/=]{40,}\s+){3,}")
TWIN_KEY = re.compile(rb"\btwin-[A-Za-z0-9_-]{43}\b")
TELLING = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|INDEX_URL", re.IGNORECASE)
NAMES = re.compile(
    r"(^|/)(\.env(\..*)?|\.netrc|\.pypirc|pip\.conf|uv\.toml|id_(rsa|ed25519)|\.git|.*\.gguf|twin\.db.*)$"
)
KNOWN = {("usr/lib/x86_64-linux-gnu/libgnutls", "a private key")}
"""Begins so, and has it for a reason: with these GnuTLS tests itself as it starts."""
BLOCK = 1 << 24
OVERLAP = 1 << 13


searched: set[str] = set()
"""Layers, which are named by their digests, of earlier images."""


def contents(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(name, piece) of each file in each layer that was not seen before, and of the image's own description; pieces
    overlap."""
    with tarfile.open(archive) as image:
        manifest = json.loads(read(image, "manifest.json"))[0]
        yield "configuration", read(image, manifest["Config"])
        for layer in manifest["Layers"]:
            if layer in searched:
                continue
            searched.add(layer)
            found = image.extractfile(layer)
            assert found is not None
            with tarfile.open(fileobj=found) as files:
                for member in files:
                    yield member.name, b""
                    held = files.extractfile(member) if member.isreg() else None
                    piece = b""
                    while held is not None and (more := held.read(BLOCK)):
                        piece = piece[-OVERLAP:] + more
                        yield member.name, piece


def read(image: tarfile.TarFile, name: str) -> bytes:
    found = image.extractfile(name)
    assert found is not None
    return found.read()


def findings(archive: Path, values: list[bytes]) -> set[tuple[str, str]]:
    """(file, what is wrong with it)."""
    wrong = set()
    for name, piece in contents(archive):
        if NAMES.search(name):
            wrong.add((name, "its name"))
        if PRIVATE_KEY.search(piece):
            wrong.add((name, "a private key"))
        if TWIN_KEY.search(piece):
            wrong.add((name, "a key of Twin's"))
        if any(value in piece for value in values):
            wrong.add((name, "a secret of the machine that built it"))
    return {each for each in wrong if not any(each[0].startswith(known) and each[1] == why for known, why in KNOWN)}


FULL = os.environ.get("TWIN_TEST_CLUSTER") == "full"
"""All images take minutes, one a quarter of one."""


@pytest.mark.parametrize("service", SERVICES if FULL else ("gateway",))
def test_no_layer_holds_a_secret(service: str, tmp_path: Path) -> None:
    """No private key, no key of Twin's, no file that secrets lie in, no model and no data; nothing of what a checkout
    and a builder's environment hold beside the code."""
    builder = (Kind() if available() else Node()).builder
    spilled = [ROOT / each for each in SPILLED]
    made = [each for each in spilled if not each.exists()]
    before = os.environ.get("TWIN_LLM_API_KEY")
    os.environ["TWIN_LLM_API_KEY"] = CANARY
    try:
        for each in made:
            each.parent.mkdir(exist_ok=True)
            each.write_text(f"PASSWORD={CANARY}\n")
        builder.export(build_service(builder, service), tmp_path / "image.tar")
    finally:
        for each in made:
            each.unlink(missing_ok=True)
        if before is None:
            del os.environ["TWIN_LLM_API_KEY"]
        else:
            os.environ["TWIN_LLM_API_KEY"] = before
    secrets = [value for name, value in os.environ.items() if TELLING.search(name) and len(value) > 7]
    assert findings(tmp_path / "image.tar", [CANARY.encode(), *(each.encode() for each in secrets)]) == set()


def test_a_secret_in_a_layer_is_found(tmp_path: Path) -> None:
    """Each kind, in a layer made for it: a search that finds nothing must be one that finds something."""
    key = "-----BEGIN PRIVATE KEY-----\n" + ("A" * 64 + "\n") * 4 + "-----END PRIVATE KEY-----\n"
    files = {"opt/a.txt": key, "opt/b.txt": f"key: twin-{'x' * 43}", "opt/.env": "", "opt/c.txt": "x" * 100 + CANARY}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with tarfile.open(tmp_path / "layer.tar", "w") as layer:
        for name in files:
            layer.add(tmp_path / name, name)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "manifest.json").write_text(json.dumps([{"Config": "config.json", "Layers": ["layer.tar"]}]))
    with tarfile.open(tmp_path / "image.tar", "w") as image:
        for name in ("manifest.json", "config.json", "layer.tar"):
            image.add(tmp_path / name, name)
    found = findings(tmp_path / "image.tar", [CANARY.encode()])
    assert {name for name, _ in found} == files.keys()
    assert len(found) == 4
