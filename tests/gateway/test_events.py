"""Server-sent events of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from services.gateway import events
from services.gateway.events import COMMENT, Events

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


class Client:
    """What a server calls an application with. `leave`: from then on the caller is gone."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.leave = asyncio.Event()

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [each["body"] for each in self.sent if each["type"] == "http.response.body"]


async def test_gives_events_as_they_come() -> None:
    """Each event is sent when it is made, and the end when there are no more."""
    client, more = Client(), asyncio.Event()

    async def made() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        await more.wait()
        yield b"data: 2\n\n"

    answering = asyncio.create_task(Events(made())(SCOPE, client.receive, client.send))
    async with asyncio.timeout(60):
        while not client.bodies:
            await asyncio.sleep(0)
        assert client.bodies == [b"data: 1\n\n"]
        more.set()
        await answering
    assert client.bodies == [b"data: 1\n\n", b"data: 2\n\n", b""]
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert b"content-length" not in headers
    assert [each.get("more_body") for each in client.sent[1:]] == [True, True, False]


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing comes a comment does, so that no proxy takes the stream for dead; none comes after the end."""
    monkeypatch.setattr(events, "SILENCE", 0.02)
    client = Client()

    async def made() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        while client.bodies.count(COMMENT) < 3:
            await asyncio.sleep(0.005)
        yield b"data: 2\n\n"

    async with asyncio.timeout(60):
        await Events(made())(SCOPE, client.receive, client.send)
    assert client.bodies[0] == b"data: 1\n\n"
    assert client.bodies[-2:] == [b"data: 2\n\n", b""]
    await asyncio.sleep(0.05)
    assert client.bodies[-1] == b""


@pytest.mark.parametrize("blocked", [False, True])
async def test_a_caller_that_leaves_stops_the_work(blocked: bool) -> None:
    """The generator is closed at once, whether it was waited for or had given something that nobody took."""
    client, closed = Client(), asyncio.Event()

    async def made() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            await asyncio.sleep(600)
        finally:
            closed.set()

    async def send(message: Message) -> None:
        await client.send(message)
        if blocked and message["type"] == "http.response.body":
            await asyncio.sleep(600)

    answering = asyncio.create_task(Events(made())(SCOPE, client.receive, send))
    async with asyncio.timeout(60):
        while not client.bodies:
            await asyncio.sleep(0)
        client.leave.set()
        await answering
    assert closed.is_set()
    assert client.bodies == [b"data: 1\n\n"]


async def test_cancelling_is_not_taken_for_leaving() -> None:
    """A server that stops cancels the answer, and the generator is closed."""
    client, closed = Client(), asyncio.Event()

    async def made() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            await asyncio.sleep(600)
        finally:
            closed.set()

    answering = asyncio.create_task(Events(made())(SCOPE, client.receive, client.send))
    async with asyncio.timeout(60):
        while not client.bodies:
            await asyncio.sleep(0)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
    assert closed.is_set()
