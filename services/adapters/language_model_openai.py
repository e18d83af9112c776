"""Any engine that speaks OpenAI's chat completions: Ollama, llama.cpp's server, vLLM, a service on the net.

Comes in: `openai+http://host:port/v1?model=NAME` or `openai+https://…`, and the key from TWIN_LLM_API_KEY (never part
of the address, so that it is in no log). Goes out: pieces of text and the usage; errors of services.errors. Does not
know: prompts, passages. `window=TOKENS` in the address says what the engine holds; 8192 where it doesn't.

Nothing is sent but the fields of OpenAI's that every such engine knows. A redirect is not followed: the conversation
goes to the named host and no other.
"""

from __future__ import annotations

import asyncio
import os
import re
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import structlog
from pydantic_core import from_json, to_json

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
FAULTS = (aiohttp.ClientError, TimeoutError)
"""Of an engine that was asked and did not answer."""
MESSAGE_TOKENS = 8
"""What a chat template adds to a message, from above."""

log = structlog.get_logger(__name__)


async def open(url: str, data_dir: Path) -> LanguageModel:
    """The engine need not be up yet: it is asked for its model when that is first needed."""
    base, options = address.parse(url, "TWIN_LLM", "HOST:PORT/v1?model=NAME", ("model", "window"))
    model = OpenAIModel(
        base if urlsplit(base).path else f"{base}/v1",
        options.get("model", ""),
        address.window(options, "TWIN_LLM", WINDOW),
        key=os.environ.get("TWIN_LLM_API_KEY", ""),
    )
    if not model.name:
        await model.look()
    return model


class OpenAIModel:
    def __init__(self, base: str, name: str, window: int, *, key: str = "", silence: float = SILENCE) -> None:
        """`base`: the address that the routes are below; made while an event loop runs. `silence`: seconds that it may
        say nothing."""
        tls = base.startswith("https")
        # aiohttp and not httpx: a request and its answer take it a quarter of the processor's time.
        self._client = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=silence),
            # How many may be asked at once is the generator's to say.
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=30, ssl=httpx.create_ssl_context() if tls else True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # The proxies of the environment are for the internet; an engine on this machine is not behind one.
            proxy=_proxy(base) if tls else None,
        )
        self._base = base.rstrip("/")
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
            async with self._get(f"{self._base}/models", CONNECT) as answer:
                answer.raise_for_status()
                self._name = next(iter(_served(await answer.read())), "")
        except (*FAULTS, ValueError, KeyError, TypeError):
            self._name = ""

    async def prove(self) -> None:
        try:
            async with self._get(f"{self._base}/models", CONNECT) as answer:
                content = await answer.read()
        except FAULTS as error:
            raise away() from error
        if answer.status >= 300:
            raise _refused(answer, content)
        try:
            served = _served(content)
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
        parts = urlsplit(self._base)
        try:
            async with self._get(f"{parts.scheme}://{parts.netloc}/metrics", 1.0) as answer:
                return queued(await answer.text()) if answer.status == 200 else None
        except (*FAULTS, UnicodeError):
            return None

    def _get(self, url: str, seconds: float) -> Any:
        return self._client.get(
            url,
            timeout=aiohttp.ClientTimeout(total=seconds),
            headers=telemetry.headers(),
            allow_redirects=False,
        )

    async def count(self, messages: Sequence[Message]) -> int:
        """From above: the engine's tokenizer is not at hand."""
        return estimate(messages)

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Usage, None]:
        if not self._name:
            await self.look()
        if not self._name:
            raise away()
        body = to_json(_body(self._name, messages, sampling))
        read = _Read()
        try:
            async with await self._asked(body) as answer:
                if answer.status >= 300:
                    raise _refused(answer, await answer.read())
                if not answer.content_type.startswith("text/event-stream"):
                    raise Unavailable(
                        "What TWIN_LLM_URL names does not stream as OpenAI does: check its address, which ends in /v1."
                    )
                received = _events(answer.content)
                async for events in received:
                    # What has come at once goes on at once: each piece costs something on every way that it goes.
                    if text := read.take(events):
                        yield text
                    if read.failed is not None:
                        raise read.failed
                    if read.done:
                        await ended(received, aiohttp.ClientError)
                        break
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise away() from error
        except TimeoutError as error:
            raise silent() from error
        except aiohttp.ClientError as error:
            raise broken() from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise strange() from error
        if not read.finished:
            raise broken()
        yield read.usage or Usage(await self.count(messages), read.written)

    async def _asked(self, body: bytes) -> aiohttp.ClientResponse:
        """The answer to a request; made again once where its connection ends before any of it: an engine may close a
        kept connection in the very moment that it is used again, and a request has no effect but its answer."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **telemetry.headers()}
        for last in (False, True):
            try:
                return await self._client.post(
                    f"{self._base}/chat/completions", data=body, headers=headers, allow_redirects=False
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if last or isinstance(error, aiohttp.ClientConnectorError):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        await self._client.close()


class _Read:
    """What an answer has told by now."""

    def __init__(self) -> None:
        self.written = 0
        """Pieces of text."""
        self.finished = False
        self.done = False
        """[DONE] has come."""
        self.usage: Usage | None = None
        self.failed: Exception | None = None
        """An event was none: the text before it was the engine's."""

    def take(self, events: Sequence[str]) -> str:
        """The text of some events."""
        texts: list[str] = []
        try:
            for data in events:
                if self.done:
                    _more()
                    break
                self._event(data, texts)
        except (TwinError, ValueError, TypeError, KeyError, AttributeError) as error:
            self.failed = error
        return "".join(texts)

    def _event(self, data: str, texts: list[str]) -> None:
        if data.strip() == "[DONE]":
            self.finished = self.done = True
            return
        chunk = _chunk(data)
        if reported := chunk.get("usage"):
            self.usage = Usage(int(reported.get("prompt_tokens") or 0), int(reported.get("completion_tokens") or 0))
        for choice in chunk.get("choices") or ():
            self.finished = self.finished or bool(choice.get("finish_reason"))
            text = (choice.get("delta") or {}).get("content")
            if text:
                self.written += 1
                texts.append(str(text))


async def _events(content: aiohttp.StreamReader) -> AsyncGenerator[list[str], None]:
    """The data of server-sent events, those together that have come together (the HTML standard's section 9.2.6).
    Where the stream ends within an event, that is none."""
    rest, data, returned = b"", list[bytes](), False
    async for piece in content.iter_any():
        # A line ends with a carriage return, a line feed or both, and both may come in two pieces.
        text = piece.removeprefix(b"\n") if returned else piece
        returned = piece.endswith(b"\r")
        text = rest + (text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text)
        *lines, rest = text.split(b"\n")
        events: list[str] = []
        for line in lines:
            if not line:
                if data:
                    events.append(b"\n".join(data).decode("utf-8", "replace"))
                    data.clear()
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        if events:
            yield events


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
        _more()


def _more() -> None:
    log.warning("language_model: more came after [DONE]")


def estimate(messages: Sequence[Message]) -> int:
    """Tokens of a prompt, from above."""
    return sum(int(len(each.content.encode()) / CHARACTERS_A_TOKEN) + MESSAGE_TOKENS for each in messages)


def queued(metrics: str) -> int | None:
    """Of an engine's metrics, how many requests wait in it: vLLM's, TGI's and llama.cpp's names."""
    found = QUEUED.findall(metrics)
    return int(sum(float(each) for each in found)) if found else None


def _served(content: bytes) -> list[str]:
    """Names of models, of the answer that lists them."""
    return [str(each["id"]) for each in from_json(content)["data"]]


def _proxy(base: str) -> str | None:
    """Of the environment, for this address."""
    if urllib.request.proxy_bypass(urlsplit(base).hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get("https") or proxies.get("all")


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
    chunk = from_json(data)
    if not isinstance(chunk, dict):
        raise strange()
    if chunk.get("error"):
        # Once streaming, an engine's errors come as data (TGI, vLLM).
        raise Unavailable("The language model broke off its answer with an error. Ask again.", retry_after=1.0)
    return chunk


# ── Errors, of every engine that is asked over HTTP ─────────────────────────────────────────────────


def _refused(response: aiohttp.ClientResponse, content: bytes) -> TwinError:
    """The engine's message stays here: it may hold paths and prompts."""
    status = response.status
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
    if status == 413 or (status in (400, 422) and b"context" in content.lower()):
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
