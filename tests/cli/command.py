"""The command in a process of its own, as a shell runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path


async def twin(
    *words: str, environment: Mapping[str, str] | None = None, folder: Path | None = None, typed: str = ""
) -> tuple[int, str, str]:
    """Its exit code, and what it wrote on stdout and stderr. `environment`: beside this process's own, whose settings
    of Twin it does not get; `folder`: where it runs; `typed`: what it reads on stdin."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TWIN_")}
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *words, cwd=folder,
        env={**inherited, "COLUMNS": "200", **(environment or {})},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await run.communicate(typed.encode())
    assert run.returncode is not None
    return run.returncode, out.decode(), err.decode()
