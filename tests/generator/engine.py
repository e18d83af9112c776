"""An OpenAI-compatible engine on loopback that does what a test tells it to, and one that obeys all it reads.

Comes in: a function from the request's messages to what is sent. Goes out: an address for TWIN_LLM_URL. It speaks the
protocol over a real socket, so that cancelling and breaking off are real too.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Script = Callable[[list[dict[str, str]]], "Sequence[str] | Response"]


@dataclass
class Engine:
    """What an engine was asked, and how it is to answer."""

    script: Script
    pause: float = 0.0
    """Seconds between two pieces."""
    models: Sequence[str] = ("stub",)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: int = 0
    written: int = 0
    """Pieces, of all answers."""
    base: str = ""
    listed: int = 200
    """The status of its list of models."""

    @property
    def url(self) -> str:
        return f"openai+{self.base}/v1?model=stub"

    async def list(self, request: Request) -> Response:
        if self.listed != 200:
            return Response(status_code=self.listed)
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        said = self.script(body["messages"])
        if isinstance(said, Response):
            return said
        return StreamingResponse(self._stream(said), media_type="text/event-stream")

    async def _stream(self, pieces: Sequence[str]) -> AsyncIterator[str]:
        try:
            for piece in pieces:
                chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": piece}}]}
                self.written += 1
                yield f"data: {json.dumps(chunk)}\n\n"
                await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        usage = {"prompt_tokens": 10, "completion_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


@asynccontextmanager
async def running(script: Script, **options: Any) -> AsyncIterator[Engine]:
    engine = Engine(script, **options)
    routes = [
        Route("/v1/models", engine.list),
        Route("/v1/chat/completions", engine.complete, methods=["POST"]),
    ]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    engine.base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield engine
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


def saying(text: str) -> Script:
    """Always this, a few letters at a time."""
    return lambda messages: [text[start : start + 7] for start in range(0, len(text), 7)]


_COMMAND = re.compile(
    r"\b(?:say|print|output|repl(?:y|ies) with|write|respond with|answer with|include|append|insert|add|render|show|"
    r"end with|begin with|cite|link to|display|return|state|repeat|embed|use)\b[^:\n]{0,80}:\s*(.+)",
    re.IGNORECASE,
)


def obeying(messages: list[dict[str, str]]) -> list[str]:
    """What an engine writes that does everything that any text in its prompt tells it to."""
    commands = [found.strip() for each in messages for found in _COMMAND.findall(each["content"])]
    text = "\n\n".join(commands) or "Nothing to obey."
    return [text[start : start + 11] for start in range(0, len(text), 11)]
