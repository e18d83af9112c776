"""python -m tests.cluster.engine [MODEL.gguf]: a small model on a processor, behind the API of Text Generation Inference.

Comes in: a model's file. Goes out: /info, /health, /metrics, /chat_tokenize and /v1/chat/completions on port 8080. Does
not know: Twin. llama.cpp's own server, out of a Python package, stands behind on loopback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
import xllamacpp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.servers.tgi import Tgi

PLACES = 2
"""Answers written at once; more wait."""
WINDOW = 4096


class Engine(Tgi):
    """Its gauges tell what it really does."""

    running = 0

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse(
            "# TYPE tgi_queue_size gauge\n"
            f"tgi_queue_size {max(0, self.running - PLACES)}\n\n"
            "# TYPE tgi_batch_current_size gauge\n"
            f"tgi_batch_current_size {min(self.running, PLACES)}\n"
        )

    async def _proxied(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        self.running += 1
        try:
            async for part in super()._proxied(body):
                yield part
        finally:
            self.running -= 1


def main() -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1] if len(sys.argv) > 1 else "/model.gguf"
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = WINDOW * PLACES
    parameters.n_parallel = PLACES
    # With all cores it collapses under load.
    threads = max(1, (os.cpu_count() or 2) - 1)
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.ui = False
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    engine = Engine(
        behind=(server.listening_address, {}),
        model_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        max_input_tokens=WINDOW - 512,
        max_total_tokens=WINDOW,
    )
    routes = [
        Route("/info", engine.info),
        Route("/health", engine.health),
        Route("/metrics", engine.metrics),
        Route("/chat_tokenize", engine.tokenize, methods=["POST"]),
        Route("/v1/chat/completions", engine.complete, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=routes), host="0.0.0.0", port=8080, log_level="warning", timeout_graceful_shutdown=30)


if __name__ == "__main__":
    main()
