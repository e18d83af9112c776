"""python -m tests.crashing SERVICE PORT.METHOD BEFORE|AFTER NUMBER: a service that kills itself at one step of its work.

Comes in: the name of an adapter's call, such as `index.publish`, and which one it is. Goes out: a process that ends by
SIGKILL just before or just after that call. Does not know: what the call does. Only tests run it.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from pathlib import Path
from typing import Any

from services import adapters


class Crashing:
    """An adapter whose calls are counted, and one of them is the last."""

    def __init__(self, port: str, adapter: Any, step: Step) -> None:
        self._port = port
        self._adapter = adapter
        self._step = step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def called(*args: Any, **kwargs: Any) -> Any:
            fatal = self._step.is_it(f"{self._port}.{name}")
            if fatal and self._step.before:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await found(*args, **kwargs)
            if fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return Crashing(self._port, answer, self._step) if self._port == "index" and name == "open" else answer

        return called


class Step:
    def __init__(self, name: str, *, before: bool, number: int) -> None:
        self.before = before
        self._name = name
        self._left = number

    def is_it(self, name: str) -> bool:
        if name != self._name:
            return False
        self._left -= 1
        return self._left == 0


def main() -> None:
    service, name, when, number = sys.argv[1:]
    step = Step(name, before=when == "before", number=int(number))
    open_adapter = adapters.open_adapter

    async def opened(port: str, url: str, data_dir: Path, *, setting: str = "") -> Any:
        adapter = await open_adapter(port, url, data_dir, setting=setting)
        return Crashing(port, adapter, step) if adapter is not None else None

    from importlib import import_module

    bootstrap = import_module(f"services.{service}.bootstrap")
    bootstrap.open_adapter = opened  # type: ignore[attr-defined]
    bootstrap.main()


if __name__ == "__main__":
    main()
