"""An engine that speaks OpenAI's chat completions at a fixed speed, for `make bench-query`.

Comes in: conversations as Twin sends them. Goes out: after PREFILL seconds the first sentence of the first passage, a
word every TOKEN seconds. A process of its own, so that it takes no time of what is measured; it prints its port.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

PREFILL = 0.1
"""Seconds until the first word."""
TOKEN = 0.01
"""Seconds between two words."""
WORDS = 20
"""Of the sentence."""

asked: list[Any] = []
"""The last conversation."""


def sentence(messages: Any) -> list[str]:
    passage = re.search(r"number=1[^>]*>\n(.*?)\n</", messages[-1]["content"], re.DOTALL)
    words = re.findall(r"\w+", passage[1])[:WORDS] if passage else ["nothing"]
    return [f"{word} " for word in words[:-1]] + [words[-1], " [1].", "\n\n", "More "]


def event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


async def complete(request: Request) -> StreamingResponse:
    body = await request.json()
    asked[:] = body["messages"]

    async def stream() -> AsyncIterator[str]:
        await asyncio.sleep(PREFILL)
        for word in sentence(body["messages"]):
            yield event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            await asyncio.sleep(TOKEN)
        yield event({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": WORDS}})
        yield "data: [DONE]\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def models(request: Request) -> JSONResponse:
    return JSONResponse({"data": [{"id": "stub"}]})


async def last(request: Request) -> JSONResponse:
    return JSONResponse(asked)


def main() -> None:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/last", last),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    asyncio.run(server.serve(sockets=[listening]))


if __name__ == "__main__":
    main()
