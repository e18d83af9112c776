"""A server of Text Embeddings Inference (TEI), for the encoder and the reranker that it may be.

Comes in: `tei+http://host:port` or `tei+https://…`. Goes out: what it says of itself, answers of its routes, and errors
of services.errors. Does not know: what an answer means. A redirect is not followed: texts go to the named host only.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import httpx

from services import telemetry
from services.errors import DeadlineExceeded, InvalidInput, Misconfigured, Overloaded, TooLarge, TwinError, Unavailable

CONNECT = 5.0
"""Seconds to reach it."""
ANSWER = 60.0
"""Seconds for one answer: a batch on a CPU, behind those of others."""


@dataclass(frozen=True, slots=True)
class Info:
    """What /info says."""

    model: str
    sha: str
    dtype: str
    kind: str
    """embedding, reranker or classifier."""
    pooling: str
    window: int
    batch_tokens: int
    client_batch: int
    """Texts in one request."""


class Tei:
    def __init__(self, base: str, setting: str, key: str) -> None:
        """`setting`: what its messages name, TWIN_ENCODER or TWIN_RERANKER."""
        self._setting = setting
        options: dict[str, Any] = {
            "base_url": base,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(ANSWER, connect=CONNECT),
            # The proxies of the environment are for the internet; a server on this machine is not behind one.
            "trust_env": base.startswith("https"),
            # Loading the authorities' certificates takes longer than a question.
            "verify": base.startswith("https"),
        }
        self._client = httpx.AsyncClient(**options)
        self._options = options
        self._blocking: httpx.Client | None = None
        self._making = threading.Lock()

    async def info(self) -> Info:
        """Unavailable where it is away, Misconfigured where it is something else."""
        answer = await self.ask("GET", "/info", timeout=CONNECT)
        try:
            told = answer.json()
            kind, details = next(iter(told["model_type"].items()))
            return Info(
                model=str(told["model_id"]),
                sha=str(told.get("model_sha") or ""),
                dtype=str(told["model_dtype"]),
                kind=str(kind).lower(),
                pooling=str(details.get("pooling") or ""),
                window=int(told["max_input_length"]),
                batch_tokens=int(told["max_batch_tokens"]),
                client_batch=int(told["max_client_batch_size"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise self.strange() from error

    async def ask(self, method: str, route: str, body: Any = None, timeout: float = ANSWER) -> httpx.Response:
        try:
            answer = await self._client.request(
                method, route, json=body, headers=telemetry.headers(), timeout=httpx.Timeout(timeout, connect=CONNECT)
            )
        except httpx.HTTPError as error:
            raise self._failed(error) from error
        if answer.status_code >= 300:
            raise self._refused(answer)
        return answer

    def ask_blocking(self, route: str, body: Any) -> httpx.Response:
        """The same, for who runs in a thread of its own. The client is made for the first who asks: a reranker, and an
        encoder whose tokenizer is here, never do."""
        with self._making:
            client = self._blocking = self._blocking or httpx.Client(**self._options)
        try:
            answer = client.post(route, json=body, headers=telemetry.headers())
        except httpx.HTTPError as error:
            raise self._failed(error) from error
        if answer.status_code >= 300:
            raise self._refused(answer)
        return answer

    def strange(self) -> TwinError:
        return Misconfigured(
            f"What {self._setting}_URL names does not answer as Text Embeddings Inference does: check its host, port."
        )

    async def close(self) -> None:
        await self._client.aclose()
        if self._blocking is not None:
            self._blocking.close()

    def _failed(self, error: httpx.HTTPError) -> TwinError:
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return DeadlineExceeded(f"What {self._setting}_URL names took longer than {ANSWER:.0f} s. Try again later.")
        return Unavailable(
            f"The server that {self._setting}_URL names cannot be reached: start it. `twin doctor` says what it found.",
            retry_after=5.0,
        )

    def _refused(self, answer: httpx.Response) -> TwinError:
        """The server's message stays here: it may hold texts and paths."""
        status = answer.status_code
        value = answer.headers.get("retry-after", "")
        after = min(float(value), 3600.0) if value.isdecimal() else 2.0
        if status == 429:
            return Overloaded(f"The server that {self._setting}_URL names has too much to do.", retry_after=after)
        if status == 413:
            return TooLarge("A text does not fit the model's window, or there are too many at once: nothing is cut.")
        if status in (400, 422):
            return InvalidInput("The model's tokenizer refused a text: it holds what the model cannot read.")
        if status in (401, 403):
            return Misconfigured(
                f"The server that {self._setting}_URL names refused the key: check {self._setting}_API_KEY."
            )
        if status in (404, 405) or 300 <= status < 400:
            return self.strange()
        return Unavailable(
            f"The server that {self._setting}_URL names has a fault. Try again in a moment.", retry_after=after
        )


def key(setting: str) -> str:
    return os.environ.get(f"{setting}_API_KEY", "")
