"""Twins for the browser to visit.

Comes in: an empty directory. Goes out: the address of a Twin, a way in, documents in its library, and words in its
engine's mouth. Does not know: browsers' pages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser
from starlette.types import ASGIApp

from tests.browser.stub import Twin, application


class Served:
    """One running Twin."""

    def __init__(self, address: str, link: str, twin: Twin) -> None:
        self.address = address
        self._link = link
        self._cookies: Sequence[Any] = ()
        self.twin = twin

    def cookies(self, browser: Browser) -> Sequence[Any]:
        """What the one-time link sets: it is opened once, and the cookie serves every context after."""
        if not self._cookies:
            context = browser.new_context()
            context.new_page().goto(self._link)
            self._cookies = context.cookies()
            context.close()
        return self._cookies

    def add(self, author: str, name: str, text: str) -> None:
        title = text.splitlines()[0].removeprefix("# ")
        self.twin.add(author, f"upload:{name}", title, text)

    def say(self, text: str, delay: float = 0.0) -> None:
        """What the engine writes from now on, and the seconds between its words."""
        self.twin.text, self.twin.delay = text, delay


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Serve an application on a free port of this machine; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    server.force_exit = True
    thread.join(5)


@contextmanager
def serve_quotes(directory: Path) -> Iterator[Served]:
    twin = Twin()
    with listening(application(twin)) as address:
        yield Served(address, f"{address}/enter", twin)


@contextmanager
def serve_written(directory: Path) -> Iterator[Served]:
    with serve_quotes(directory) as served:
        yield served
