"""The command line asked wrongly, and asked what it is: one line, and an exit code for scripts."""

from __future__ import annotations

import asyncio
import sys

import pytest


async def twin(*arguments: str) -> tuple[int | None, str, str]:
    """Exit code, stdout, stderr."""
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await run.communicate()
    return run.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["search"], "query"), (["nonsense"], "nonsense"), (["search", "--colour", "x"], "--colour")],
)
async def test_wrong_usage_is_one_line(arguments: list[str], named: str) -> None:
    """It names what is wrong, says where help is, and exits with 2."""
    code, out, err = await twin(*arguments)
    assert (code, out) == (2, "")
    assert named in err
    assert "--help" in err
    assert len(err.splitlines()) == 1


async def test_the_version() -> None:
    """--version needs no command."""
    code, out, err = await twin("--version")
    assert (code, err) == (0, "")
    assert out.startswith("twin ")
