"""A web server on loopback that says what a test tells it to, byte for byte where it must."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Writer = asyncio.StreamWriter


@dataclass(slots=True)
class Request:
    path: str
    headers: dict[str, str]


Answer = Callable[[Request, Writer], Awaitable[None]]


@dataclass(slots=True)
class Reply:
    body: bytes | str = b""
    status: int = 200
    media_type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """Paths and their answers; counts requests for each path."""

    def __init__(self) -> None:
        self.answers: dict[str, Reply | Answer | Callable[[Request], Reply]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        """A path's answer waits until its gate is set."""
        self.requests: Counter[str] = Counter()
        self.hosts: list[str] = []
        self.bodies = 0
        """Answers with a body that was downloaded, robots.txt apart."""
        self._server: asyncio.Server | None = None
        self._writers: set[Writer] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def page(self, path: str, text: str, *, head: str = "", etag: str = "") -> None:
        """An article; with an etag it answers conditional requests."""
        body = article(text, head=head)

        def answer(request: Request) -> Reply:
            if etag and request.headers.get("if-none-match") == etag:
                return Reply(status=304, headers={"ETag": etag})
            return Reply(body, headers={"ETag": etag} if etag else {})

        self.answers[path] = answer

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                request = Request(lines[0].split(" ")[1], headers)
                self.requests[request.path] += 1
                self.hosts.append(headers.get("host", ""))
                if gate := self.gates.get(request.path):
                    await gate.wait()
                answer = self.answers.get(request.path) or self.answers.get("*") or Reply(status=404)
                if not isinstance(answer, Reply):
                    made = answer(request, writer) if _takes_writer(answer) else answer(request)  # type: ignore[call-arg]
                    if not isinstance(made, Reply):
                        await made
                        await writer.drain()
                        return
                    answer = made
                body = answer.body.encode() if isinstance(answer.body, str) else answer.body
                if body and answer.status == 200 and request.path != "/robots.txt":
                    self.bodies += 1
                sent = {"Content-Type": answer.media_type, "Content-Length": str(len(body)), **answer.headers}
                writer.write(f"HTTP/1.1 {answer.status} X\r\n".encode())
                writer.write("".join(f"{name}: {value}\r\n" for name, value in sent.items()).encode() + b"\r\n" + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def _takes_writer(answer: object) -> bool:
    return asyncio.iscoroutinefunction(answer)


def article(text: str, *, head: str = "", title: str = "A page") -> str:
    return (
        f"<!DOCTYPE html><html lang=en><head><title>{title}</title>{head}</head><body><nav><a href='/'>Home</a></nav>"
        f"<main><article><h1>{title}</h1>{text}</article></main></body></html>"
    )


def prose(seed: int, words: int = 120) -> str:
    """Paragraphs that no other seed's resemble."""
    made = [f"word{(seed * 7919 + number * number * 31 + number) % 50021}" for number in range(words)]
    return "".join(f"<p>{' '.join(made[start : start + 30])}.</p>" for start in range(0, words, 30))
