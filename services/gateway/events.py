"""Server-sent events of an answer, as they are made.

Comes in: a generator of events, encoded. Goes out: a response that streams them, with a comment now and then where
nothing comes; the generator is closed when the caller goes away. Does not know: what the events say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.errors import Cancelled
from services.gateway.call import while_connected

SILENCE = 15.0
"""Seconds after which a comment keeps proxies from closing a stream."""
COMMENT = b": still here\n\n"


class Events(Response):
    """Of plain ASGI, as edge.py is: a group of tasks for each answer costs more than all else that is done for it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(Request(scope, receive), self._give(send))
        except Cancelled:
            pass  # nobody is there to be told

    async def _give(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        given = loop.time()
        commenting: asyncio.Task[None] | None = None
        timer = loop.call_later(SILENCE, lambda: comment())

        def comment() -> None:
            nonlocal timer, commenting
            left = given + SILENCE - loop.time()
            if left <= 0:
                left = SILENCE
                # Who has not read the last one yet needs no other.
                if commenting is None or commenting.done():
                    commenting = loop.create_task(_send(send, COMMENT))
            timer = loop.call_later(left, comment)

        try:
            async with aclosing(self._events) as events:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for event in events:
                    given = loop.time()
                    await _send(send, event)
        finally:
            timer.cancel()
            if commenting is not None:
                commenting.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, event: bytes) -> None:
    await send({"type": "http.response.body", "body": event, "more_body": True})
