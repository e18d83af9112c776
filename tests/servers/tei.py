"""python -m tests.servers.tei [--port 8080] [--reranker]

Text Embeddings Inference's HTTP API on loopback: its routes, its limits, its errors, over the embedded encoder.

Comes in: how it is to be set up. Goes out: an address for TWIN_ENCODER_URL or TWIN_RERANKER_URL, and what was asked.
Does not know: Twin's adapters for it. TEI itself comes as a container image only; what is imitated is its router, by its
documentation and source (version 1.8): /info, /health, /tokenize, /embed, /rerank.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.adapters import encoder_onnx
from tests.servers.loopback import served

STATUS = {"Unhealthy": 503, "Backend": 424, "Overloaded": 429, "Tokenizer": 422, "Validation": 413, "Empty": 400}


@cache
def _loaded() -> encoder_onnx.OnnxEncoder:
    return encoder_onnx._load()


class Refused(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass
class Tei:
    reranker: bool = False
    model_id: str = "sentence-transformers/all-MiniLM-L6-v2"
    model_dtype: str = "float32"
    pooling: str = "mean"
    max_client_batch_size: int = 32
    max_batch_tokens: int = 16384
    payload_limit: int = 2_000_000
    in_bytes: bool = True
    """Whether /tokenize counts places in bytes, as it does, or in code points, as it says it does."""
    api_key: str = ""
    fault: Callable[[str], Response | None] = lambda path: None
    """An answer to give instead, by path."""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    base: str = ""

    def __post_init__(self) -> None:
        loaded = _loaded()
        self._tokenizer = loaded._tokenizer
        # An encoder belongs to the event loop that uses it.
        self._encoder = encoder_onnx.OnnxEncoder(self._tokenizer, loaded.identity.revision)
        self.window = self._encoder.identity.window

    @property
    def url(self) -> str:
        return f"tei+{self.base}"

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        self.headers.append(dict(request.headers))
        if self.api_key and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return Response(status_code=401)
        if (instead := self.fault(path)) is not None:
            return instead
        if path == "/info":
            return JSONResponse(self._info())
        if path == "/health":
            return Response()
        body = await request.body()
        if len(body) > self.payload_limit:
            return PlainTextResponse("length limit exceeded", 413)
        given = json.loads(body)
        self.requests.append((path, given))
        try:
            return JSONResponse(
                await {"/tokenize": self._tokenize, "/embed": self._embed, "/rerank": self._rerank}[path](given)
            )
        except Refused as refused:
            return JSONResponse({"error": refused.message, "error_type": refused.kind}, STATUS[refused.kind])

    def _info(self) -> dict[str, Any]:
        labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        return {
            "model_id": self.model_id,
            "model_sha": None,
            "model_dtype": self.model_dtype,
            "model_type": {"reranker": labels} if self.reranker else {"embedding": {"pooling": self.pooling}},
            "max_concurrent_requests": 512,
            "max_input_length": self.window,
            "max_batch_tokens": self.max_batch_tokens,
            "max_batch_requests": None,
            "max_client_batch_size": self.max_client_batch_size,
            "auto_truncate": True,
            "tokenization_workers": 2,
            "version": "1.8.2",
            "sha": None,
            "docker_label": None,
        }

    def _inputs(self, inputs: str | list[str]) -> list[str]:
        texts = [inputs] if isinstance(inputs, str) else inputs
        if not texts or not all(texts):
            raise Refused("Validation", "`inputs` cannot be empty")
        if len(texts) > self.max_client_batch_size:
            raise Refused(
                "Validation", f"batch size {len(texts)} > maximum allowed batch size {self.max_client_batch_size}"
            )
        return texts

    async def _tokenize(self, given: dict[str, Any]) -> list[list[dict[str, Any]]]:
        return [self._tokens(text, given.get("add_special_tokens", True)) for text in self._inputs(given["inputs"])]

    def _tokens(self, text: str, special: bool) -> list[dict[str, Any]]:
        found = self._tokenizer.encode(text, add_special_tokens=special)
        tokens = []
        for id, token, (start, stop), mask in zip(
            found.ids, found.tokens, found.offsets, found.special_tokens_mask, strict=True
        ):
            if mask:
                tokens.append({"id": id, "text": token, "special": True, "start": None, "stop": None})
                continue
            if self.in_bytes:
                start, stop = len(text[:start].encode()), len(text[:stop].encode())
            # Its own slip: places in bytes, looked up as if they were of characters.
            tokens.append({"id": id, "text": text[start:stop], "special": False, "start": start, "stop": stop})
        return tokens

    def _fitting(self, text: str, truncate: bool) -> str:
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) + 2 <= self.window:
            return text
        if not truncate:
            raise Refused("Validation", f"`inputs` must have less than {self.window} tokens. Given: {len(offsets) + 2}")
        return text[: offsets[self.window - 3][1]]

    async def _embed(self, given: dict[str, Any]) -> list[list[float]]:
        if self.reranker:
            raise Refused("Backend", "Model is not an embedding model")
        truncate = given.get("truncate", True)
        texts = [self._fitting(text, truncate) for text in self._inputs(given["inputs"])]
        vectors: list[list[float]] = (await self._encoder.encode(texts)).tolist()
        return vectors

    async def _rerank(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        """Likeness and shared words: no cross-encoder, but an order that a test can foresee."""
        if not self.reranker:
            raise Refused("Backend", "model is not a re-ranker model")
        texts, truncate = self._inputs(given["texts"]), given.get("truncate", True)
        query = self._fitting(given["query"] or " ", truncate)
        vectors = await self._encoder.encode([query, *(self._fitting(text, truncate) for text in texts)])
        words = set(re.findall(r"\w+", query.lower()))
        shared = [len(words & set(re.findall(r"\w+", text.lower()))) / max(len(words), 1) for text in texts]
        raw = 6 * (vectors[1:] @ vectors[0]) + 4 * np.array(shared) - 4
        scores = raw if given.get("raw_scores") else 1 / (1 + np.exp(-raw))
        ranks = [{"index": index, "score": float(score)} for index, score in enumerate(scores)]
        return sorted(ranks, key=lambda each: -each["score"])


def application(tei: Tei) -> Starlette:
    routes = [Route(path, tei.answer, methods=["GET"]) for path in ("/info", "/health")]
    routes += [Route(path, tei.answer, methods=["POST"]) for path in ("/tokenize", "/embed", "/rerank")]
    return Starlette(routes=routes)


@contextmanager
def running(tei: Tei) -> Iterator[Tei]:
    with served(application(tei)) as tei.base:
        yield tei


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.servers.tei")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--reranker", action="store_true", help="serve /rerank instead of /embed")
    options = parser.parse_args()
    print(f"tei+http://127.0.0.1:{options.port}", flush=True)
    uvicorn.run(application(Tei(reranker=options.reranker)), host="127.0.0.1", port=options.port, log_level="error")
