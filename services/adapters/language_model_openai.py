"""Any engine that speaks OpenAI's chat completions: Ollama, llama.cpp's server, vLLM, a service on the net.

Comes in: `openai+http://host:port/v1?model=NAME` or `openai+https://…`, and the key from TWIN_LLM_API_KEY (never part
of the address, so that it is in no log). Goes out: pieces of text and the usage; errors of services.errors. Does not
know: prompts, passages. `window=TOKENS` in the address says what the engine holds; 8192 where it doesn't.

Nothing is sent but the fields of OpenAI's that every such engine knows. A redirect is not followed: the conversation
goes to the named host and no other.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from httpx_sse import EventSource, SSEError, aconnect_sse

from services import telemetry
from services.adapters import address
from services.domain import Message, Usage
from services.errors import (
    DeadlineExceeded,
    InvalidInput,
    Misconfigured,
    Overloaded,
    TooLarge,
    TwinError,
    Unavailable,
)
from services.ports import LanguageModel, Sampling

WINDOW = 8192
"""Tokens, where the address names none: what today's small models hold at least."""
CONNECT = 5.0
"""Seconds to reach the engine."""
SILENCE = 120.0
"""Seconds between two pieces, the first one included: a cold engine loads its model in that time."""
CLOSING = 1.0
"""Seconds that the answer's end may take after its last event."""
CHARACTERS_A_TOKEN = 3.0
"""From below: English has four, code and other languages fewer. The estimate must not be too small."""
QUEUED = re.compile(
    r"^(?:vllm:num_requests_waiting|tgi_queue_size|llamacpp:requests_deferred)(?:\{[^}]*\})? ([0-9.eE+]+)$",
    re.MULTILINE,
)
MESSAGE_TOKENS = 8
"""What a chat template adds to a message, from above."""

log = structlog.get_logger(__name__)


async def open(url: str, data_dir: Path) -> LanguageModel:
    """The engine need not be up yet: it is asked for its model when that is first needed."""
    base, options = address.parse(url, "TWIN_LLM", "HOST:PORT/v1?model=NAME", ("model", "window"))
    key = os.environ.get("TWIN_LLM_API_KEY", "")
    client = httpx.AsyncClient(
        base_url=base if urlsplit(base).path else f"{base}/v1",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(SILENCE, connect=CONNECT),
        # How many may be asked at once is the generator's to say: httpx's own limit would hold the 101st back.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30),
        # The proxies of the environment are for the internet; an engine on this machine is not behind one.
        trust_env=base.startswith("https"),
    )
    model = OpenAIModel(client, options.get("model", ""), address.window(options, "TWIN_LLM", WINDOW))
    if not model.name:
        await model.look()
    return model


class OpenAIModel:
    def __init__(self, client: httpx.AsyncClient, name: str, window: int, prefix: str = "") -> None:
        """`prefix`: of the routes, below the client's base address."""
        self._client = client
        self._prefix = prefix
        self._name = name
        self._window = window

    @property
    def name(self) -> str:
        return self._name

    @property
    def window(self) -> int:
        return self._window

    async def look(self) -> None:
        """Ask the engine which model it serves, where the address names none."""
        try:
            answer = await self._client.get(f"{self._prefix}models", timeout=CONNECT)
            answer.raise_for_status()
            self._name = next((str(each["id"]) for each in answer.json()["data"]), "")
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            self._name = ""

    async def prove(self) -> None:
        try:
            answer = await self._client.get(f"{self._prefix}models", timeout=CONNECT, headers=telemetry.headers())
        except httpx.HTTPError as error:
            raise away() from error
        if answer.status_code >= 300:
            raise _refused(answer)
        try:
            served = [str(each["id"]) for each in answer.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Misconfigured(
                "What TWIN_LLM_URL names lists no models as OpenAI does: its address ends in /v1."
            ) from error
        # Ollama lists a model under its tag.
        if self._name and not {self._name, f"{self._name}:latest"} & set(served):
            raise Misconfigured(
                f"The engine serves {', '.join(served) or 'no model'}, and not {self._name}: "
                f"check ?model= in TWIN_LLM_URL."
            )
        self._name = self._name or next(iter(served), "")

    async def waiting(self) -> int | None:
        root = self._client.base_url.copy_with(raw_path=b"/metrics")
        try:
            answer = await self._client.get(root, timeout=1.0)
        except httpx.HTTPError:
            return None
        return queued(answer.text) if answer.status_code == 200 else None

    async def count(self, messages: Sequence[Message]) -> int:
        """From above: the engine's tokenizer is not at hand."""
        return estimate(messages)

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Usage, None]:
        if not self._name:
            await self.look()
        if not self._name:
            raise away()
        body = _body(self._name, messages, sampling)
        written = 0
        finished = False
        usage: Usage | None = None
        try:
            async with self._asked(body) as events:
                if events.response.status_code >= 300:
                    await events.response.aread()
                    raise _refused(events.response)
                received = events.aiter_sse()
                async for event in received:
                    if event.data.strip() == "[DONE]":
                        finished = True
                        await ended(received, httpx.HTTPError)
                        break
                    chunk = _chunk(event.data)
                    if reported := chunk.get("usage"):
                        usage = Usage(
                            int(reported.get("prompt_tokens") or 0), int(reported.get("completion_tokens") or 0)
                        )
                    for choice in chunk.get("choices") or ():
                        finished = finished or bool(choice.get("finish_reason"))
                        text = (choice.get("delta") or {}).get("content")
                        if text:
                            written += 1
                            yield str(text)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise away() from error
        except httpx.TimeoutException as error:
            raise silent() from error
        except SSEError as error:
            raise Unavailable(
                "What TWIN_LLM_URL names does not stream as OpenAI does: check its address, which ends in /v1."
            ) from error
        except httpx.HTTPError as error:
            raise broken() from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise strange() from error
        if not finished:
            raise broken()
        yield usage or Usage(await self.count(messages), written)

    @asynccontextmanager
    async def _asked(self, body: Mapping[str, Any]) -> AsyncIterator[EventSource]:
        """The answer to a request; made again once where its connection ends before any of it: an engine may close a
        kept connection in the very moment that it is used again, and a request has no effect but its answer."""
        async with AsyncExitStack() as stack:
            for last in (False, True):
                try:
                    events = await stack.enter_async_context(
                        aconnect_sse(
                            self._client,
                            "POST",
                            f"{self._prefix}chat/completions",
                            json=body,
                            headers=telemetry.headers(),
                        )
                    )
                    break
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    if last:
                        raise
            yield events

    async def close(self) -> None:
        await self._client.aclose()


async def ended(received: AsyncIterator[object], failures: type[Exception]) -> None:
    """Read the end of an answer that is whole: a connection whose answer was not read to its end is closed, not used
    again. What comes instead of the end takes nothing from the answer, and is told to the log."""
    try:
        async with asyncio.timeout(CLOSING):
            more = await anext(received, None)
    except (TimeoutError, failures) as error:
        log.warning("language_model: no end after [DONE]", error=type(error).__name__)
        return
    if more is not None:
        log.warning("language_model: more came after [DONE]")


def estimate(messages: Sequence[Message]) -> int:
    """Tokens of a prompt, from above."""
    return sum(int(len(each.content.encode()) / CHARACTERS_A_TOKEN) + MESSAGE_TOKENS for each in messages)


def queued(metrics: str) -> int | None:
    """Of an engine's metrics, how many requests wait in it: vLLM's, TGI's and llama.cpp's names."""
    found = QUEUED.findall(metrics)
    return int(sum(float(each) for each in found)) if found else None


def _body(name: str, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    options = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    return {
        "model": name,
        "messages": [{"role": each.role, "content": each.content} for each in messages],
        "max_tokens": sampling.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: value for name, value in options.items() if value is not None},
    }


def _chunk(data: str) -> dict[str, Any]:
    chunk = json.loads(data)
    if not isinstance(chunk, dict):
        raise strange()
    if chunk.get("error"):
        # Once streaming, an engine's errors come as data (TGI, vLLM).
        raise Unavailable("The language model broke off its answer with an error. Ask again.", retry_after=1.0)
    return chunk


# ── Errors, of every engine that is asked over HTTP ─────────────────────────────────────────────────


def _refused(response: httpx.Response) -> TwinError:
    """The engine's message stays here: it may hold paths and prompts."""
    status = response.status_code
    if status == 429:
        return Overloaded(
            "The language model has too much to do. Try again later.", retry_after=after(response.headers)
        )
    if status in (401, 403):
        return Misconfigured("The language model refused the key: check TWIN_LLM_API_KEY.")
    if status == 404:
        return Misconfigured(
            "The language model's server knows no such model or address: check TWIN_LLM_URL, its /v1 and its ?model=."
        )
    if status == 413 or (status in (400, 422) and "context" in response.text.lower()):
        return TooLarge("The conversation is longer than the language model holds: shorten it, or set &window= right.")
    if status in (400, 422):
        return InvalidInput("The language model refused the request: leave out temperature, seed, stop and their like.")
    if status in (408, 504):
        return DeadlineExceeded("The language model took too long. Ask again, or choose a faster one.")
    return Unavailable("The language model has a fault. Try again in a moment.", retry_after=after(response.headers))


def after(headers: Mapping[str, str]) -> float:
    """Seconds, as the engine says."""
    value = headers.get("retry-after", "")
    return min(float(value), 3600.0) if value.isdecimal() else 5.0


def away() -> TwinError:
    return Unavailable(
        "The language model that TWIN_LLM_URL names cannot be reached: start it, or set TWIN_LLM_URL=quotes:// to "
        "answer in quotations. `twin doctor` says what it found.",
        retry_after=5.0,
    )


def broken() -> TwinError:
    return Unavailable("The language model broke off its answer. Ask again.", retry_after=1.0)


def silent() -> TwinError:
    return DeadlineExceeded(f"The language model gave nothing for {SILENCE:.0f} s. Ask again, or choose a faster one.")


def strange() -> TwinError:
    return Unavailable("The language model sent what is no chunk of an answer. Check what TWIN_LLM_URL names.")
