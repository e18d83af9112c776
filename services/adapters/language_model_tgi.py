"""Text Generation Inference (TGI), through huggingface_hub's client.

Comes in: `tgi+http://host:port?model=ID` or `tgi+https://…`, with `&window=TOKENS` where less is to be used than the
engine holds, and the key from TWIN_LLM_API_KEY. Goes out: pieces of text and the usage; errors of services.errors. Does
not know: prompts, passages.

The engine is asked by /info what it serves: a chat request names its model "tgi", for any other name is read as an
adapter's, and an unknown one is answered by the base model under the name that was asked for. A redirect is not
followed: the conversation goes to the named host and no other.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import AsyncInferenceClient, ChatCompletionInputStreamOptions
from huggingface_hub.errors import InferenceTimeoutError, OverloadedError, TextGenerationError, ValidationError

from services import telemetry
from services.adapters import address
from services.adapters.language_model_openai import (
    CONNECT,
    SILENCE,
    after,
    away,
    broken,
    ended,
    estimate,
    queued,
    silent,
    strange,
)
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

WINDOW = 4096
"""Tokens, until the engine has said what it holds."""
CHAT = "/v1/chat/completions"
TOO_LONG = re.compile(r"must have less than|tokens \+ `max_new_tokens`|`max_new_tokens` must be <=")
"""In TGI's messages of status 422: the prompt, or prompt and answer together, do not fit."""
BREAKS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""Characters at which the client breaks lines, though in an event they are text: as they come, as JSON escapes them."""


async def open(url: str, data_dir: Path) -> LanguageModel:
    """The engine need not be up yet: it is looked at when it is first needed."""
    base, options = address.parse(url, "TWIN_LLM", "HOST:PORT?model=ID", ("model", "window"))
    window = address.window(options, "TWIN_LLM", 0)
    key = os.environ.get("TWIN_LLM_API_KEY", "")
    return TgiModel(base.removesuffix("/v1"), options.get("model", ""), window, key)


class TgiModel:
    def __init__(self, base: str, name: str, window: int = 0, key: str = "") -> None:
        """`window`: at most so many tokens; 0: as many as the engine holds."""
        self._base = base
        self._wanted = name
        self._served = ""
        self._limit = window
        self._window = window or WINDOW
        self._counts = True
        self._key = key
        # Of our own: the one that huggingface_hub makes refuses every host where HF_HUB_OFFLINE is set.
        self._client = httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(SILENCE, connect=CONNECT),
            # The proxies of the environment are for the internet; an engine on this machine is not behind one.
            trust_env=base.startswith("https"),
            transport=_Transport(
                # Loading the authorities' certificates takes longer than a question to a small engine.
                verify=base.startswith("https"),
                # Who may ask is decided before: here a question would wait for another one's whole answer.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            ),
            event_hooks={"request": [self._asked], "response": [_answered]},
        )

    @property
    def name(self) -> str:
        return self._wanted or self._served

    @property
    def window(self) -> int:
        return self._window

    async def prove(self) -> None:
        try:
            answer = await self._client.get(f"{self._base}/info", timeout=CONNECT, headers=telemetry.headers())
        except httpx2.HTTPError as error:
            raise away() from error
        if answer.status_code >= 300:
            raise _refused(answer)
        try:
            served, holds = str(answer.json()["model_id"]), int(answer.json()["max_total_tokens"])
        except (ValueError, KeyError, TypeError) as error:
            raise Misconfigured(
                "What TWIN_LLM_URL names does not say by /info what it serves, as Text Generation Inference does."
            ) from error
        if self._wanted and served != self._wanted:
            raise Misconfigured(f"The engine serves {served}, and not {self._wanted}: check ?model= in TWIN_LLM_URL.")
        self._served = served
        self._window = min(self._limit or holds, holds)

    async def waiting(self) -> int | None:
        try:
            answer = await self._client.get(f"{self._base}/metrics", timeout=1.0)
        except httpx2.HTTPError:
            return None
        return queued(answer.text) if answer.status_code == 200 else None

    async def count(self, messages: Sequence[Message]) -> int:
        """Exactly, under the model's own template; from above where the engine cannot say."""
        if messages and self._counts:
            try:
                answer = await self._client.post(
                    f"{self._base}/chat_tokenize",
                    json={"model": "tgi", "messages": _messages(messages)},
                    timeout=CONNECT,
                    headers=telemetry.headers(),
                )
                # Older engines have no such route.
                self._counts = answer.status_code not in (404, 405)
                if answer.status_code == 200:
                    return len(answer.json()["tokenize_response"])
            except (httpx2.HTTPError, ValueError, KeyError, TypeError):
                pass
        return estimate(messages)

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Usage, None]:
        if not self._served:
            await self.prove()
        written = 0
        finished = False
        usage: Usage | None = None
        # One client a request, over the connections of all: it lets go of a response only when it is itself closed,
        # and until then the engine would go on writing for nobody.
        client = AsyncInferenceClient(
            base_url=self._base,
            # Any: with none, the hub's token that is saved on this machine would be read for each request.
            token="-",
            timeout=httpx2.Timeout(SILENCE, connect=CONNECT),  # type: ignore[arg-type]  # it is handed on as it is
            headers=telemetry.headers(),
        )
        client._async_client = self._client
        try:
            async with client:
                async for chunk in await client.chat_completion(**_options(messages, sampling)):
                    if chunk.usage is not None:
                        usage = Usage(chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
                    for choice in chunk.choices or ():
                        finished = finished or bool(choice.finish_reason)
                        if choice.delta.content:
                            written += 1
                            yield str(choice.delta.content)
        except InferenceTimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise away() from error
            raise silent() from error
        except TextGenerationError as error:
            raise _failed(error) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise away() from error
        except httpx2.TimeoutException as error:
            raise silent() from error
        except httpx2.HTTPError as error:
            raise broken() from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise strange() from error
        if not finished:
            raise broken()
        yield usage or Usage(await self.count(messages), written)

    async def close(self) -> None:
        await self._client.aclose()

    async def _asked(self, request: httpx2.Request) -> None:
        request.headers.pop("authorization", None)
        if self._key:
            request.headers["authorization"] = f"Bearer {self._key}"


class _Transport(httpx2.AsyncHTTPTransport):
    """A request is made once more where its connection ends before any of its answer: an engine may close a kept
    connection in the very moment that it is used again, and a request has no effect but its answer."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await super().handle_async_request(request)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            return await super().handle_async_request(request)


class _Lines(httpx2.AsyncByteStream):
    """A response whose lines end where the engine's events do, and whose last event is given when the response has
    ended: the client reads no further, and a connection is used again only where nothing is left in it."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held = b""
        parts = aiter(self._stream)
        async for part in parts:
            part = held + part
            for found, written in BREAKS:
                part = part.replace(found, written)
            if part.rstrip().endswith(b"data: [DONE]"):
                await ended(parts, httpx2.HTTPError)
                yield part
                return
            # A character of two or three bytes may go on in the next part.
            held = next((part[-n:] for n in (2, 1) if any(each.startswith(part[-n:]) for each, _ in BREAKS)), b"")
            if part := part.removesuffix(held):
                yield part
        if held:
            yield held

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _answered(response: httpx2.Response) -> None:
    """Judges a chat's answer before the client does: it lets redirects and pages pass as answers without text."""
    if not response.request.url.path.endswith(CHAT):
        return
    if response.status_code >= 300:
        await response.aread()
        raise _refused(response)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise Unavailable("What TWIN_LLM_URL names does not stream as Text Generation Inference does: check it.")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Lines(response.stream)


def _options(messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    """What is None is not sent."""
    # TGI refuses a top_p that is not below 1, which is what every engine does without one.
    nucleus = sampling.top_p if sampling.top_p is not None and sampling.top_p < 1 else None
    return {
        "messages": _messages(messages),
        "model": "tgi",
        "stream": True,
        "stream_options": ChatCompletionInputStreamOptions(include_usage=True),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": nucleus,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"role": each.role, "content": each.content} for each in messages]


# ── Errors ──────────────────────────────────────────────────────────────────────────────────────────


def _refused(response: httpx2.Response) -> TwinError:
    """The engine's message stays here: it may hold paths and prompts."""
    status = response.status_code
    if status in (401, 403):
        return Misconfigured("The language model refused the key: check TWIN_LLM_API_KEY.")
    if status in (404, 405):
        return Misconfigured("What TWIN_LLM_URL names is no Text Generation Inference: check its host and port.")
    if status in (408, 504):
        return DeadlineExceeded("The language model took too long. Ask again, or choose a faster one.")
    return _by_status(status, response.text, after(response.headers))


def _failed(error: TextGenerationError) -> TwinError:
    """An error that came as an event: {"error": text, "error_type": kind}, or with its status in later versions."""
    told = error.args[0] if error.args else ""
    status = told.get("http_status_code") if isinstance(told, dict) else None
    if isinstance(error, ValidationError):
        status = 422
    elif isinstance(error, OverloadedError):
        status = 429
    return _by_status(status if isinstance(status, int) else 500, str(told), 1.0)


def _by_status(status: int, text: str, retry_after: float) -> TwinError:
    if status == 429:
        return Overloaded("The language model has too much to do. Try again later.", retry_after=retry_after)
    if status == 413 or (status in (400, 422) and TOO_LONG.search(text)):
        return TooLarge("The conversation is longer than the language model holds: shorten it.")
    if status in (400, 422) and "template" in text.lower():
        return Misconfigured(
            "The model's chat template takes no such conversation, or there is none: the engine reads it from "
            "tokenizer_config.json or chat_template.json beside the weights."
        )
    if status in (400, 422):
        return InvalidInput("The language model refused the request: leave out temperature, seed, stop and their like.")
    return Unavailable("The language model has a fault. Try again in a moment.", retry_after=retry_after)
