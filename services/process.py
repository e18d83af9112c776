"""One service as a process of its own: from its settings to its last drained call.

Comes in: the parts that a bootstrap has put together. Goes out: a served address, a metrics port, and health that tells
the truth. Does not know: which service it is.

    SIGTERM ─▶ not serving (callers go elsewhere) ─▶ linger ─▶ no new calls, running ones end ─▶ parts closed
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import structlog
from google.protobuf.descriptor import ServiceDescriptor

from services import rpc, telemetry
from services.adapters import all_or_none
from services.errors import TwinError, Unavailable
from services.settings import Settings

if sys.platform != "win32":  # for which there is none
    import uvloop

T = TypeVar("T")

START_SECONDS = 1.0
"""Between two tries to put a service together."""
START_PATIENCE = 60.0
"""Seconds for which it is tried; then the process ends, with what is missing in its log."""
HEALTH_SECONDS = 1.0
"""Between two looks at a service's stores."""
HEALTH_PATIENCE = 2.0
"""Seconds that the stores have to answer one look."""

log = structlog.get_logger()


class Service(Protocol):
    """What a bootstrap builds."""

    @property
    def services(self) -> Sequence[tuple[ServiceDescriptor, object]]: ...

    async def start(self) -> None: ...

    async def ask(self) -> None:
        """Ask each store something cheap. Unavailable where one is away."""
        ...

    async def rest(self, grace: float) -> None:
        """Take on no more work; what runs ends within `grace` seconds or is given back."""
        ...

    async def stop(self, grace: float = ...) -> None: ...


def run(work: Coroutine[Any, Any, T]) -> T:
    """The process's work, from its first to its last moment, on the event loop that costs least."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.platform != "win32" else None) as runner:
        return runner.run(work)


async def patiently(build: Callable[[], Awaitable[T]]) -> T:
    """What a bootstrap builds, also where a store is away or slow just when the process starts: what was opened by then
    is closed, and all of it is opened anew. Unavailable."""
    end = asyncio.get_running_loop().time() + START_PATIENCE
    while True:
        try:
            async with all_or_none():
                return await build()
        except Unavailable as error:
            if asyncio.get_running_loop().time() > end:
                raise
            log.warning("not started yet: a part is away", error=error.message)
            await asyncio.sleep(START_SECONDS)


async def serve(name: str, address: str, metrics: str, made: Service, given: Settings) -> None:
    """Serve and work until SIGTERM or SIGINT. `metrics`: HOST:PORT, or empty for none."""
    server = rpc.Server(
        address,
        made.services,
        concurrent=given.concurrent_calls,
        identity=given.identity,
        health_address=given.health_address,
    )
    asked = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, asked.set)
    watching: asyncio.Task[None] | None = None
    try:
        await server.start()
        telemetry.serve_metrics(metrics)
        watching = asyncio.create_task(watch(made.ask, server.set_serving))
        await made.start()
        settle()
        log.info("serving", service=name, address=address)
        await asked.wait()
        log.info("draining", service=name)
        watching.cancel()
        await server.set_serving(False)
        await asyncio.sleep(given.drain_linger_seconds)
    finally:
        if watching is not None:
            watching.cancel()
        # Calls and jobs end side by side.
        await asyncio.gather(server.stop(given.drain_seconds), made.rest(given.drain_seconds))
        await made.stop(0)
        telemetry.flush_traces()


def settle() -> None:
    """Take what the start has made out of the garbage collector's sight, for it stays until the end: to look through it
    all holds up every call for .05 to .1 s, every few seconds of load. What calls make goes with its last reference,
    nearly all of it, so cycles are looked for less often than by default."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


async def watch(ask: Callable[[], Awaitable[None]], tell: Callable[[bool], Awaitable[None]]) -> None:
    """Tell for ever whether the stores answer; a service whose store is away is not ready, and is again by itself."""
    serving = True
    while True:
        try:
            async with asyncio.timeout(HEALTH_PATIENCE):
                await ask()
            answers, why = True, ""
        except (TwinError, TimeoutError) as error:
            answers, why = False, error.message if isinstance(error, TwinError) else "no answer in time"
        except Exception as error:
            # Whatever it is, it is no answer; and who watches must not stop.
            log.exception("the stores could not be asked")
            answers, why = False, type(error).__name__
        if answers is not serving:
            log.warning("not serving: a store is away", error=why) if serving else log.info("serving again")
            serving = answers
            await tell(serving)
        await asyncio.sleep(HEALTH_SECONDS)
