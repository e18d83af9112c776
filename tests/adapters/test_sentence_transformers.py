"""Models in the process through sentence-transformers: where their files come from, and what they are held to."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from services.adapters import open_adapter
from services.errors import Misconfigured, TwinError, Unavailable
from services.ports import Encoder
from tests import models

# The first to load torch pays for all.
pytestmark = pytest.mark.timeout(300)

LINES = [
    "The lighthouse keeper wrote letters to the harbour master.",
    "Set max_tokens in the request body; fooBar() returns it.",
    "naïve café 🙂 東京 Миру мир",
    "plain words " * 60,
]


async def encoder(url: str, data: Path) -> Encoder:
    opened: Encoder = await open_adapter("encoder", url, data)
    return opened


async def test_the_same_vectors_as_the_embedded_encoder(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 in float32 and the embedded one in int8 agree to a cosine of .99, and cut alike."""
    torch = await encoder(f"sentence-transformers://{models.minilm()}", tmp_path)
    onnx = await encoder("onnx://", tmp_path)
    alike = np.sum(await torch.encode(LINES) * await onnx.encode(LINES), axis=1)
    assert (alike >= 0.99).all(), alike
    assert torch.count(LINES) == onnx.count(LINES)
    assert [torch.token_spans(line) for line in LINES] == [onnx.token_spans(line) for line in LINES]
    assert (torch.identity.pooling, torch.identity.window, torch.identity.dimensions) == ("mean", 256, 384)
    assert torch.identity.precision == "float32"


async def test_identity_is_of_files_and_precision(tmp_path: Path) -> None:
    """The same files are the same revision wherever they lie and on whatever device; other weights or another
    precision are not."""
    source = models.minilm()
    copy = tmp_path / "model"
    shutil.copytree(source, copy, copy_function=lambda a, b: Path(b).symlink_to(a))
    first = await encoder(f"sentence-transformers://{copy}", tmp_path)
    again = await encoder(f"sentence-transformers://{copy}?device=cpu", tmp_path)
    assert again.identity == first.identity
    half = await encoder(f"sentence-transformers://{copy}?dtype=bfloat16", tmp_path)
    assert half.identity.precision == "bfloat16"
    assert half.identity.url.endswith("?dtype=bfloat16")
    assert (np.sum(await half.encode(LINES) * await first.encode(LINES), axis=1) > 0.99).all()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").unlink()
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-11}))
    other = await encoder(f"sentence-transformers://{copy}", tmp_path)
    assert other.identity.revision != first.identity.revision


async def test_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name whose model is not on this machine, with no hub to ask: Unavailable, and what to do."""
    models.torch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(Unavailable, match="three slashes"):
        await encoder("sentence-transformers://some/model", tmp_path)
    with pytest.raises(Unavailable, match="TWIN_RERANKER_URL"):
        await open_adapter("reranker", "cross-encoder://some/model", tmp_path)


async def test_a_name_of_the_hub_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came from the hub is opened again as the commit that it was, though the name has moved on since."""
    source = models.minilm()
    cache = tmp_path / "hub"
    commit = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    model = cache / "models--some--model"
    (model / "refs").mkdir(parents=True)
    (model / "snapshots").mkdir()
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots" / commit).symlink_to(source)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    opened = await encoder("sentence-transformers://some/model", tmp_path)
    assert opened.identity.url == f"sentence-transformers://some/model?revision={commit}"
    assert opened.identity.revision == f"some/model {commit}"
    (model / "refs" / "main").write_text("f" * 40)
    assert (await encoder(opened.identity.url, tmp_path)).identity == opened.identity


@pytest.mark.parametrize(
    ("port", "url"),
    [
        ("encoder", "sentence-transformers://"),
        ("encoder", "sentence-transformers:///"),
        ("encoder", "sentence-transformers:///no/such/folder"),
        ("encoder", "sentence-transformers://org/name?model=x"),
        ("encoder", "sentence-transformers://org/name?dtype=int3"),
        ("encoder", "sentence-transformers://user:pass@org/name"),
        ("encoder", "sentence-transformers:///tmp?revision=x"),
        ("reranker", "cross-encoder://"),
        ("reranker", "cross-encoder:///no/such/folder"),
        ("reranker", "cross-encoder://org/name?window=3"),
    ],
)
async def test_wrong_addresses(port: str, url: str, tmp_path: Path) -> None:
    """Refused at start with the setting's name, before torch is loaded."""
    with pytest.raises(Misconfigured, match=f"TWIN_{port.upper()}_URL") as error:
        await open_adapter(port, url, tmp_path)
    assert "pass@" not in error.value.message


async def test_folders_that_are_no_models(tmp_path: Path) -> None:
    """Weights that are no safetensors, a folder that is no model, a device that is not there: said at start."""
    source = models.minilm()
    older = tmp_path / "older"
    older.mkdir()
    (older / "config.json").write_text("{}")
    (older / "pytorch_model.bin").write_bytes(b"code")
    with pytest.raises(Misconfigured, match="safetensors"):
        await encoder(f"sentence-transformers://{older}", tmp_path)
    (older / "vocabulary.json").mkdir()
    with pytest.raises(Misconfigured, match="the files of older cannot be read"):
        await encoder(f"sentence-transformers://{older}", tmp_path)
    (older / "vocabulary.json").rmdir()
    (older / "model.safetensors").write_bytes(b"none")
    with pytest.raises(Misconfigured, match="cannot be loaded"):
        await encoder(f"sentence-transformers://{older}", tmp_path)
    with pytest.raises(TwinError, match="nonsense"):
        await encoder(f"sentence-transformers://{source}?device=nonsense", tmp_path)


@pytest.mark.parametrize(("port", "scheme"), [("encoder", "sentence-transformers"), ("reranker", "cross-encoder")])
async def test_without_the_packages(port: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is not installed, the extra that brings it is named."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(Misconfigured, match="extra `torch`"):
        await open_adapter(port, f"{scheme}://{tmp_path}", tmp_path)


async def test_a_classifier_is_no_reranker(tmp_path: Path) -> None:
    """A model that gives several numbers a text is refused as a reranker."""
    folder = models.cross_encoder(tmp_path / "classifier", labels=3)
    with pytest.raises(Misconfigured, match="3 numbers"):
        await open_adapter("reranker", f"cross-encoder://{folder}", tmp_path)
