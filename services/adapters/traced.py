"""A span around every call of an adapter, by OpenTelemetry's semantic conventions.

Comes in: an open adapter. Goes out: the same port, each of its coroutines and streams in a span of its own. Does not
know: what any port does, beyond the three that need more: jobs take the trace along in their rows, opened indexes are
wrapped too, and a language model's span tells its tokens. Used only where spans are exported.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import context as contexts

from services import telemetry
from services.domain import Job, Message, Usage
from services.ports import Sampling

_MODELS = ("encoder", "reranker", "language_model")
_STORED = "db.system.name"
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""What is read and written by a model goes into its span only where this is `true`."""


class Traced:
    """Everything else is the adapter's own."""

    def __init__(self, port: str, technology: str, url: str, adapter: Any) -> None:
        self._port = port
        self._adapter = adapter
        parts = urlsplit(url.partition("+")[2] or url if "+" in url.partition("://")[0] else url)
        self._attributes: dict[str, Any] = {}
        if port == "queue":
            self._attributes["messaging.system"] = technology
        elif port in _MODELS:
            self._attributes["gen_ai.provider.name"] = technology
        else:
            self._attributes |= {_STORED: technology, "db.collection.name": port}
        if parts.hostname:
            self._attributes["server.address"] = parts.hostname
        self._calls: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        called = self._calls.get(name)
        if called is not None:
            return called
        found = getattr(self._adapter, name)
        if inspect.iscoroutinefunction(found) and name not in ("close", "listen"):
            found = self._calls[name] = self._coroutine(name, found)
        return found

    def _coroutine(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        kind = telemetry.SpanKind.PRODUCER if self._port == "queue" else telemetry.SpanKind.CLIENT
        attributes = dict(self._attributes)
        attributes["messaging.operation.name" if self._port == "queue" else "db.operation.name"] = name
        if self._port in _MODELS:
            del attributes["db.operation.name"]
            attributes["gen_ai.operation.name"] = "embeddings" if self._port == "encoder" else name

        async def traced(*args: Any, **kwargs: Any) -> Any:
            with telemetry.span(f"{self._port}.{name}", kind, attributes):
                return await call(*args, **kwargs)

        return traced


class TracedJobs(Traced):
    """Puts the current trace into each new job's row: who works on it goes on with it."""

    async def put(self, jobs: Sequence[Job]) -> int:
        with telemetry.span("jobs.put", telemetry.SpanKind.CLIENT, {**self._attributes, "db.operation.name": "put"}):
            trace = telemetry.traceparent()
            return int(await self._adapter.put([job if job.trace else replace(job, trace=trace) for job in jobs]))


class TracedIndexes(Traced):
    def __init__(self, port: str, technology: str, url: str, adapter: Any) -> None:
        super().__init__(port, technology, url, adapter)
        self._given = (port, technology, url)

    async def open(self, name: str) -> Any:
        return Traced(*self._given, await self._adapter.open(name))


class TracedModel(Traced):
    """The engine's stream is one span; it is current while the engine is asked, and not for who reads the answer."""

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Usage, None]:
        model = self._adapter.name
        attributes = {
            **self._attributes,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": sampling.max_tokens,
        }
        made = telemetry.begin(f"chat {model}", telemetry.SpanKind.CLIENT, attributes)
        telling = os.environ.get(CONTENT, "").lower() == "true"
        if telling:
            made.set_attribute("gen_ai.input.messages", json.dumps([[each.role, each.content] for each in messages]))
        pieces: AsyncGenerator[str | Usage, None] = self._adapter.stream(messages, sampling)
        written: list[str] = []
        try:
            while True:
                token = contexts.attach(telemetry.within(made))
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                finally:
                    contexts.detach(token)
                if isinstance(piece, Usage):
                    made.set_attribute("gen_ai.usage.input_tokens", piece.prompt_tokens)
                    made.set_attribute("gen_ai.usage.output_tokens", piece.completion_tokens)
                else:
                    if not written:
                        made.add_event("gen_ai.first_token")
                    written.append(piece if telling else "")
                yield piece
        except BaseException as error:
            telemetry.failed(made, error)
            raise
        finally:
            if telling:
                made.set_attribute("gen_ai.output.messages", "".join(written))
            made.end()
            await pieces.aclose()


_SPECIAL = {"jobs": TracedJobs, "index": TracedIndexes, "language_model": TracedModel}


def traced(port: str, technology: str, url: str, adapter: Any) -> Any:
    """The adapter, each call of it a span."""
    return _SPECIAL.get(port, Traced)(port, technology, url, adapter)
