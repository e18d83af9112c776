"""What the trainer's image says of itself, and the locks that it is built from."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from training.environment import OPERATORS, PACKAGES

ROOT = Path(__file__).parent.parent.parent


def said(*arguments: str) -> tuple[int, dict[str, tuple[bool, str]]]:
    """(exit code, name → (whether it is missing, what is said of it))."""
    done = subprocess.run(
        [sys.executable, "-m", "training.environment", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [re.fullmatch(r"([✗ ]) (\w[\w ]*?)  +(.+)", line) for line in done.stdout.splitlines()]
    assert all(lines), done.stdout + done.stderr
    return done.returncode, {each[2]: (each[1] == "✗", each[3]) for each in lines if each}


def locked(name: str) -> dict[str, str]:
    """Package → version."""
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


@pytest.mark.timeout(300)
def test_what_is_missing_is_named() -> None:
    """Each package with the version that is installed, or as missing; then the command fails."""
    code, lines = said("--gpus", "1000")
    assert code == 1
    for name in PACKAGES:
        try:
            assert lines[name] == (False, version(name))
        except PackageNotFoundError:
            missing, why = lines[name]
            assert missing
            assert "training/Dockerfile" in why
    if not lines["torch"][0]:
        assert lines["gpus"][0]
    if lines["deepspeed"][0]:
        assert not set(OPERATORS) & set(lines)


def test_the_locks_of_the_trainer_agree() -> None:
    """DeepSpeed is compiled by the compiler of the CUDA that torch is made for, and what is installed before it stays."""
    training, deepspeed, compiler = locked("training"), locked("deepspeed"), locked("nvcc")
    assert set(PACKAGES) - set(training) == {"deepspeed"}
    assert training.items() <= deepspeed.items()
    of = {name: ".".join(compiler[name].split(".")[:2]) for name in ("cuda-toolkit", "nvidia-cuda-nvcc")}
    assert set(of.values()) == {".".join(training["nvidia-cuda-runtime"].split(".")[:2])}
    shared = set(compiler) & set(deepspeed)
    assert {each: compiler[each] for each in shared} == {each: deepspeed[each] for each in shared}
    for name in ("torch", "transformers", "tokenizers", "numpy"):
        assert training[name] == locked("torch")[name]
