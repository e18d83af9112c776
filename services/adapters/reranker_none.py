"""No reranker: the order of the fused search stands (`none://`).

Comes in: nothing. Goes out: nothing. Does not know: anything.
"""

from __future__ import annotations

from pathlib import Path

from services.errors import Misconfigured
from services.ports import Reranker


async def open(url: str, data_dir: Path) -> Reranker | None:
    if url != "none://":
        raise Misconfigured("TWIN_RERANKER_URL: none:// takes nothing more.")
    return None
