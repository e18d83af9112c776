"""Ports meet technology here: one file an adapter, `port_technology.py`, opened by the scheme of a URL.

Comes in: the name of a port and a URL. Goes out: an open adapter. Does not know: which service asks.

The scheme names the file: `sqlite:///…` for the port `documents` is documents_sqlite.py, `openai+http://…` for
`language_model` is language_model_openai.py (what follows a + is the adapter's own business), and a - in a scheme is
an _ in the file's name. So an adapter is added by adding its file, which holds

    async def open(url: str, data_dir: Path) -> ThePort

and `ls services/adapters` is the table of what there is. Each is imported only when a URL names it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any

from services import telemetry
from services.adapters.traced import traced
from services.errors import Misconfigured

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_together: ContextVar[Sequence[AsyncExitStack]] = ContextVar("_together", default=())
"""What closes the adapters of the start that is under way, if one is."""


@asynccontextmanager
async def all_or_none() -> AsyncIterator[None]:
    """Adapters that are opened within it are closed again where it ends with an error."""
    async with AsyncExitStack() as opened:
        under_way = [opened]
        before = _together.set(under_way)
        try:
            yield
        finally:
            _together.reset(before)
            # A task that was begun within it has it still, and what that opens is its own.
            under_way.clear()
        opened.pop_all()


def technologies(port: str) -> list[str]:
    """Schemes that the port has an adapter for."""
    found = Path(__file__).parent.glob(f"{port}_*.py")
    return sorted(file.stem.removeprefix(f"{port}_").replace("_", "-") for file in found)


async def open_adapter(port: str, url: str, data_dir: Path, *, setting: str = "") -> Any:
    """The adapter of `port` that `url` names, ready for use.

    Raises Misconfigured with the setting's name and what would be right. The URL's password is in no message.
    """
    name = setting or f"TWIN_{port.upper()}_URL"
    scheme, separator, _ = url.partition("://")
    technology = scheme.partition("+")[0].lower()
    known = technologies(port)
    if technology == "rediss":
        # Redis over TLS has a scheme of its own.
        technology = "redis"
    if not separator or technology not in known:
        # What stands before :// may be more than a scheme, where a password was not encoded.
        shown = f"{scheme}://" if separator and SCHEME.fullmatch(scheme) else "not a URL"
        raise Misconfigured(f"{name} is {shown}; it takes {', '.join(f'{each}://' for each in known)}.")
    try:
        module = import_module(f"{__name__}.{port}_{technology.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(__name__):
            raise
        raise Misconfigured(
            f"{name} is {technology}://, which needs the Python package {error.name}: "
            f"install Twin with the extra that holds it (see docs/settings.md)."
        ) from error
    adapter = await module.open(url, data_dir)
    if adapter is not None:
        for opened in _together.get():
            opened.push_async_callback(adapter.close)
    # A port that may be none (`none://`, `quotes://`) has nothing to trace.
    return traced(port, technology, url, adapter) if adapter is not None and telemetry.exporting() else adapter
