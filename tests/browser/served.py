"""Twins for the browser to visit: the real one, everything that `twin up` runs, in a thread of its own.

Comes in: an empty directory, settings, and the words of an engine. Goes out: the address of a Twin, a way in, documents
in its library. Does not know: browsers' pages.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser

from services import embedded
from tests.generator import engine

Prepare = Callable[[httpx.AsyncClient, AsyncExitStack], Awaitable[None]]


@dataclass
class Served:
    """One running Twin."""

    address: str
    link: str
    secret: str
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    engine: engine.Engine | None
    _cookies: Sequence[Any] = field(default=())

    def cookies(self, browser: Browser) -> Sequence[Any]:
        """What the one-time link sets: it is opened once, and the cookie serves every context after."""
        if not self._cookies:
            context = browser.new_context()
            context.new_page().goto(self.link)
            self._cookies = context.cookies()
            context.close()
        return self._cookies

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.secret}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=60, trust_env=False)

    def add(self, author: str, name: str, text: str) -> None:
        """A document, searchable when this returns."""
        with self.client() as client:
            job = client.post("/v1/documents", data={"author": author}, files={"file": (name, text.encode())}).json()
            with client.stream("GET", f"/v1/ingest-jobs/{job['id']}/events") as events:
                for _ in events.iter_lines():
                    pass
            assert client.get(f"/v1/ingest-jobs/{job['id']}").json()["state"] == "done"

    def say(self, text: str, pause: float = 0.0) -> None:
        """What the engine writes from now on, and the seconds between two of its pieces."""
        assert self.engine is not None
        self.engine.script, self.engine.pause = engine.saying(text), pause


@contextmanager
def serve(
    directory: Path, *, script: engine.Script | None = None, prepare: Prepare | None = None, **given: Any
) -> Iterator[Served]:
    """A whole Twin; with `script`, behind an engine that writes by it. `prepare` runs in its loop before it is visited."""
    ready = threading.Event()
    made: list[Served] = []

    async def main() -> None:
        async with AsyncExitStack() as stack:
            stub = None if script is None else await stack.enter_async_context(engine.running(script))
            settings = {"llm_url": "quotes://" if stub is None else stub.url, "gateway_port": 0, **given}
            twin = await stack.enter_async_context(embedded.running(data_dir=directory, **settings))
            address = await twin.serve()
            if prepare is not None:
                headers = {"Authorization": f"Bearer {twin.secret}"}
                client = httpx.AsyncClient(base_url=address, headers=headers, timeout=60, trust_env=False)
                await prepare(await stack.enter_async_context(client), stack)
            loop, stop = asyncio.get_running_loop(), asyncio.Event()
            made.append(Served(address, twin.page_link(), twin.secret, loop, stop, stub))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(90)
    assert made, "Twin did not start; the log says why"
    yield made[0]
    made[0].loop.call_soon_threadsafe(made[0].stop.set)
    thread.join(30)
