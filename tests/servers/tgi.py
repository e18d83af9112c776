"""Text Generation Inference's HTTP API on loopback: its routes, its validation, its errors.

Comes in: what to answer, or a real engine that speaks OpenAI's dialect and stands behind. Goes out: an address for
TWIN_LLM_URL; what was asked, how many streams were cut off. Does not know: models. TGI itself needs a GPU machine; what
is imitated here is its router (version 3): /info, /health, /metrics, /chat_tokenize, /v1/chat/completions.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.servers.loopback import served

Script = Callable[[list[dict[str, str]]], "Sequence[str] | Response"]


@dataclass
class Tgi:
    script: Script | None = None
    behind: tuple[str, dict[str, str]] | None = None
    """Address and headers of a real engine, instead of a script: llama.cpp's server."""
    model_id: str = "stub/instruct"
    max_input_tokens: int = 2048
    max_total_tokens: int = 4096
    pause: float = 0.0
    """Seconds between two pieces."""
    queue: int = 0
    """What the gauge says."""
    chat_tokenize: bool = True
    """Whether there is such a route: before version 2.2 there is none."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    clients: list[tuple[str, int]] = field(default_factory=list)
    cancelled: int = 0
    base: str = ""

    @property
    def url(self) -> str:
        return f"tgi+{self.base}?model={self.model_id}"

    async def info(self, request: Request) -> Response:
        return JSONResponse(
            {
                "model_id": self.model_id,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": 128,
                "max_best_of": 2,
                "max_stop_sequences": 4,
                "max_input_tokens": self.max_input_tokens,
                "max_total_tokens": self.max_total_tokens,
                "validation_workers": 2,
                "max_client_batch_size": 4,
                "router": "text-generation-router",
                "version": "3.3.6",
                "sha": None,
                "docker_label": None,
            }
        )

    async def health(self, request: Request) -> Response:
        return Response()

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse(
            "# TYPE tgi_queue_size gauge\n"
            f"tgi_queue_size {self.queue}\n\n"
            "# TYPE tgi_batch_current_size gauge\n"
            "tgi_batch_current_size 3\n"
        )

    async def tokenize(self, request: Request) -> Response:
        messages = json.loads(await request.body())["messages"]
        tokens = await self._tokens(messages)
        return JSONResponse(
            {
                "tokenize_response": [{"id": 1, "text": each, "start": 0, "stop": len(each)} for each in tokens],
                "templated_text": " ".join(tokens),
            }
        )

    async def _tokens(self, messages: list[dict[str, str]]) -> list[str]:
        if self.behind is None:
            return [word for each in messages for word in ("<|im_start|>", each["role"], *each["content"].split())]
        async with self._engine() as engine:
            shown = await engine.post("/apply-template", json={"messages": messages})
            body = {"content": shown.json()["prompt"], "add_special": True, "parse_special": True}
            answer = await engine.post("/tokenize", json=body)
        return [str(each) for each in answer.json()["tokens"]]

    def _engine(self) -> httpx.AsyncClient:
        assert self.behind is not None
        base, headers = self.behind
        return httpx.AsyncClient(base_url=base, headers=headers, timeout=120, trust_env=False)

    async def complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.clients.append((request.client.host, request.client.port) if request.client else ("", 0))
        tokens = await self._tokens(body["messages"])
        if (top_p := body.get("top_p")) is not None and not 0 < top_p < 1:
            return invalid("`top_p` must be > 0.0 and < 1.0")
        if len(tokens) + body.get("max_tokens", 100) > self.max_total_tokens:
            return invalid(
                f"`inputs` tokens + `max_new_tokens` must be <= {self.max_total_tokens}. "
                f"Given: {len(tokens)} `inputs` tokens and {body.get('max_tokens')} `max_new_tokens`"
            )
        if self.behind is not None:
            return StreamingResponse(self._proxied(body), media_type="text/event-stream")
        assert self.script is not None
        said = self.script(body["messages"])
        if isinstance(said, Response):
            return said
        return StreamingResponse(self._stream(said, len(tokens), body), media_type="text/event-stream")

    async def _stream(self, pieces: Sequence[str], prompt: int, body: dict[str, Any]) -> AsyncIterator[str]:
        try:
            for place, piece in enumerate(pieces):
                last = place == len(pieces) - 1
                yield event(piece, body["model"], "stop" if last else None)
                await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        usage = {"prompt_tokens": prompt, "completion_tokens": len(pieces), "total_tokens": prompt + len(pieces)}
        chunk = {"object": "chat.completion.chunk", "id": "", "created": 1, "model": body["model"], "choices": []}
        yield f"data:{json.dumps({**chunk, 'system_fingerprint': '3.3.6', 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    async def _proxied(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        """The engine behind knows its model by another name."""
        known = {name: value for name, value in body.items() if name != "model"}
        try:
            async with (
                self._engine() as engine,
                engine.stream("POST", "/v1/chat/completions", json=known) as answer,
            ):
                async for part in answer.aiter_raw():
                    yield part
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@contextmanager
def running(tgi: Tgi) -> Iterator[Tgi]:
    routes = [
        Route("/info", tgi.info),
        Route("/health", tgi.health),
        Route("/metrics", tgi.metrics),
        Route("/v1/chat/completions", tgi.complete, methods=["POST"]),
    ]
    if tgi.chat_tokenize:
        routes.append(Route("/chat_tokenize", tgi.tokenize, methods=["POST"]))
    with served(Starlette(routes=routes)) as tgi.base:
        yield tgi


def event(piece: str, model: str = "tgi", finish_reason: str | None = None) -> str:
    """Characters beyond ASCII are sent as they are, as TGI's JSON has them."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": finish_reason}
    chunk = {"object": "chat.completion.chunk", "id": "", "created": 1, "model": model}
    return f"data: {json.dumps({**chunk, 'choices': [choice], 'usage': None}, ensure_ascii=False)}\n\n"


def invalid(message: str) -> Response:
    return JSONResponse({"error": f"Input validation error: {message}", "error_type": "validation"}, 422)
