"""The images that are too large for every run, built and tried: `make images-full`.

Comes in: this checkout. Goes out: lines that say how long each took, how large it is and what it did. Does not know:
clusters. Models are those of the tests, read from this machine; the images are gone at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.images import BASE, ROOT, TAG, Builder, Docker, name_of
from tests.cluster.kind import available
from tests.models import cross_encoder, minilm
from tests.servers.obtain import CACHE, Missing

_READ = """
import asyncio
from pathlib import Path
from services.adapters import open_adapter

async def main():
    encoder = await open_adapter("encoder", "sentence-transformers:///models/encoder", Path("/tmp"))
    near = await encoder.encode(["How do I knead dough?", "Fold it, let it rest, fold again.", "The harbour master wrote."])
    close, far = near[0] @ near[1], near[0] @ near[2]
    assert close > far, (close, far)
    ranker = await open_adapter("reranker", "cross-encoder:///models/reranker", Path("/tmp"))
    scores = await ranker.score("who wrote letters", ["the keeper wrote letters", "dough can rise"])
    assert scores[0] > scores[1], scores
    print(f"encoded: {near.shape}, {close:.2f} and {far:.2f}; ranked: {scores[0]:.4f} and {scores[1]:.4f}")

asyncio.run(main())
"""
_TRAIN = """
import os
os.environ["DS_ACCELERATOR"] = "cuda"  # what was compiled is for it; the processor's share of it runs without a GPU
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam

torch.manual_seed(0)
weights = torch.nn.Parameter(torch.randn(4096))
wanted, optimizer = torch.randn(4096), DeepSpeedCPUAdam([weights], lr=0.1)
losses = []
for _ in range(200):
    loss = (weights - wanted).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
assert losses[-1] < losses[0] / 100, losses
print(f"stepped with the compiled cpu_adam: {losses[0]:.3f} to {losses[-1]:.5f}")
"""


def _encoders(builder: Builder, models: Path) -> None:
    minilm_folder = minilm()
    for file in cross_encoder(models / "reranker").iterdir():
        file.chmod(0o644)
    for service in ("feature", "retriever"):
        image = name_of(f"{service}-torch")
        given = [f"SERVICE={service}", "EXTRA=torch", f"VERSION={TAG}"]
        _timed(image, lambda image=image, given=given: builder.build(image, ROOT, ROOT / "services/Dockerfile", given))  # type: ignore[misc]
        volumes = {minilm_folder: "/models/encoder", models / "reranker": "/models/reranker"}
        print(f"  {builder.run(image, ['python', '-c', _READ], volumes).strip()}", flush=True)
        # One alone takes 12 GB while it is built.
        builder.drop(image)


def _trainer(builder: Builder) -> None:
    base = BASE
    if not isinstance(builder, Docker):
        # The base that is made of Debian's packages lacks the headers that the real one has.
        base = "localhost/python-headers:1"
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "Dockerfile"
            file.write_text(
                f"FROM {BASE}\nRUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-dev\n"
            )
            builder.build(base, Path(name), file)
    image = name_of("training")
    given = [f"BASE={base}", f"VERSION={TAG}"]
    _timed(image, lambda: builder.build(image, ROOT, ROOT / "training/Dockerfile", given))
    print(builder.run(image, ["python", "-m", "training.environment"]), flush=True)
    print(f"  {builder.run(image, ['python', '-c', _TRAIN]).strip().splitlines()[-1]}", flush=True)
    builder.drop(image)


def _timed(image: str, build: Callable[[], None]) -> None:
    start = time.monotonic()
    build()
    print(f"{image}: {time.monotonic() - start:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.large")
    parser.add_argument("which", nargs="*", default=["encoders", "trainer"], help="encoders, trainer")
    given = parser.parse_args()
    builder = Docker() if available() else Builder(CACHE.parent / "images-large")
    try:
        if "encoders" in given.which:
            with tempfile.TemporaryDirectory() as name:
                Path(name).chmod(0o755)
                _encoders(builder, Path(name))
        if "trainer" in given.which:
            _trainer(builder)
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
