"""What could be trained with here: `python -m training.environment [--gpus N]`.

Comes in: this machine and what is installed. Goes out: versions, graphics processors and compiled operators, as lines
for a person; 0, or 1 where something is missing. Does not know: models, data.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "deepspeed", "mlflow")
OPERATORS = ("fused_adam", "cpu_adam")
"""Of DeepSpeed's, those that its ZeRO stages use: on the GPU, and offloaded to the processor."""


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    value: str
    missing: bool = False


def packages() -> Iterator[Line]:
    for name in PACKAGES:
        try:
            yield Line(name, version(name))
        except PackageNotFoundError:
            yield Line(name, "not installed: it is part of the image of training/Dockerfile", missing=True)


def gpus(wanted: int) -> Iterator[Line]:
    """Each that torch sees, or why there is none. `wanted`: fewer are missing ones."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(found):
        each = torch.cuda.get_device_properties(number)
        yield Line(f"gpu {number}", f"{each.name}, {each.total_memory / 2**30:.0f} GiB, {each.major}.{each.minor}")
    if found < max(1, wanted):
        cuda = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        seen = f"{found} of the {wanted} wanted" if wanted else "none"
        yield Line("gpus", f"{seen}; torch is made {cuda}", missing=found < wanted)


def operators() -> Iterator[Line]:
    """Whether they were compiled, and load here."""
    if all(each.missing for each in packages() if each.name == "deepspeed"):
        return
    for name in OPERATORS:
        try:
            importlib.import_module(f"deepspeed.ops.adam.{name}_op")
        except ImportError as error:
            yield Line(name, f"not compiled, or does not load: {error}", missing=True)
        else:
            yield Line(name, "compiled")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.environment")
    parser.add_argument("--gpus", type=int, default=0, help="fewer than so many is an error")
    given = parser.parse_args()
    lines = [*packages(), *gpus(given.gpus), *operators()]
    for each in lines:
        print(f"{'✗' if each.missing else ' '} {each.name:14} {each.value}")
    return int(any(each.missing for each in lines))


if __name__ == "__main__":
    sys.exit(main())
