"""No engine: the answer is made of the author's own sentences.

Comes in: `quotes://`. Goes out: nothing, which the generator takes as its sign to quote. Does not know: anything.
"""

from __future__ import annotations

from pathlib import Path

from services.errors import Misconfigured


async def open(url: str, data_dir: Path) -> None:
    """`quotes://` and nothing after it."""
    if url != "quotes://":
        raise Misconfigured("TWIN_LLM_URL: quotes:// takes nothing after it.")
