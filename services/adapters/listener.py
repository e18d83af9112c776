"""What a queue's ring is answered by.

Comes in: a topic, an answer, the loop it runs in. Goes out: the answer run, never twice at once. Does not know: how a
ring came here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

log = structlog.get_logger(__name__)


class Listener:
    """One answer, run in its own loop, never twice at once."""

    def __init__(self, topic: str, answer: Callable[[], Awaitable[None]], loop: asyncio.AbstractEventLoop) -> None:
        self.topic = topic
        self.loop = loop
        self._answer = answer
        self._rung = False
        self._task: asyncio.Task[None] | None = None

    async def ring(self) -> None:
        self._rung = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._rung:
            self._rung = False
            try:
                await self._answer()
            except Exception:
                log.exception("queue.answer", topic=self.topic)


def wake(listeners: Iterable[Listener]) -> None:
    """Have each answer, in its own loop; from any thread."""
    for listener in listeners:
        ringing = listener.ring()
        try:
            asyncio.run_coroutine_threadsafe(ringing, listener.loop)
        except RuntimeError:
            # Its loop is closed: nobody is there any more.
            ringing.close()
