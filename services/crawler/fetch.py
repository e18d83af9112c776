"""One document over HTTP: redirects, retries, conditional requests, and a limit on everything a server can send.

Comes in: a URL, the validators of the last time, and `visit`, a context that every single request is made in: there
stand robots.txt and politeness, so they hold for each redirect too. Goes out: the decoded bytes as they came, or an
error that says why not. Does not know: what the bytes mean, jobs, documents.

No cookies are kept, no proxy of the environment is used (it would connect where the guard does not look), and the
charset is left to the extractor.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urljoin

import httpcore
import httpx
import stamina

from services.crawler.address import parse_url, resolve_link, without_credentials
from services.crawler.guard import Guard, GuardedBackend, Refused
from services.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    NotFound,
    TooLarge,
    TwinError,
    Unavailable,
    Unprocessable,
    UnsupportedMedia,
)

Visit = Callable[[str], AbstractAsyncContextManager[None]]

ANYTHING = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may be gone at the next try."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    bytes: int = 64 * 1024 * 1024
    """Of a body, as it came and decoded: both. Large PDFs fit; what the extractor takes is its own limit."""
    seconds: float = 60.0
    """For one request to its last byte: a server that drips bytes is left."""
    read_seconds: float = 20.0
    """Between two pieces of it."""
    redirects: int = 8
    attempts: int = 3
    wait: float = 0.5
    """Before the second try; doubled for each further one."""
    longest_wait: float = 60.0
    """A Retry-After beyond this is not waited for: the document fails, and the next crawl tries again."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A response that says what the document is now: 200, 304 (not changed, no body) or 410 (gone, no body)."""

    url: str
    """Where it was in the end."""
    status: int
    body: bytes = b""
    media_type: str = ""
    """The whole Content-Type header."""
    etag: str = ""
    last_modified: str = ""
    canonical: str | None = None
    """Of a Link header with rel=canonical."""
    path: tuple[str, ...] = ()
    """Addresses that redirected here."""
    truncated: bool = False
    """Cut off at the limit, as was asked."""


class Fetcher:
    def __init__(
        self, guard: Guard, *, user_agent: str, limits: FetchLimits | None = None, connections: int = 20
    ) -> None:
        self.limits = limits or FetchLimits()
        self._agent = user_agent
        self._pool = httpcore.AsyncConnectionPool(
            # SSL_CERT_FILE and SSL_CERT_DIR are honoured, else certifi's list is used.
            ssl_context=httpx.create_ssl_context(trust_env=True),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=30.0,
            network_backend=GuardedBackend(guard),
        )

    async def fetch(
        self,
        url: str,
        visit: Visit,
        *,
        etag: str = "",
        last_modified: str = "",
        accept: str = ANYTHING,
        max_bytes: int | None = None,
        truncate: bool = False,
    ) -> Fetched:
        """The document at `url`, of `max_bytes` at most: TooLarge beyond, or cut off there where `truncate` says so.

        Raises NotFound (404), Forbidden (401, 403; a private address, with param `address`), TooLarge, Unavailable
        (after the tries), DeadlineExceeded, InvalidInput (the address is none), Unprocessable.
        """
        headers = {"User-Agent": self._agent, "Accept": accept, "Accept-Encoding": "gzip, deflate"}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        limit = max_bytes or self.limits.bytes
        path: list[str] = []
        current = url
        while True:
            parse_url(current)
            answer = await self._patiently(current, headers, visit, limit, truncate)
            if isinstance(answer, Fetched):
                return replace(answer, path=tuple(path))
            path.append(without_credentials(current))
            if len(path) > self.limits.redirects:
                raise Unprocessable(f"The address redirects more than {self.limits.redirects} times.")
            try:
                current = urljoin(current, answer)
                parse_url(current)
            except InvalidInput as error:
                raise Unprocessable(f"The address redirects to one that is not fetched. {error.message}") from error
            except ValueError as error:
                raise Unprocessable("The address redirects to one that is not a URL.") from error
            if without_credentials(current) in path:
                raise Unprocessable("The address redirects in a circle.")

    async def _patiently(
        self, url: str, headers: dict[str, str], visit: Visit, limit: int, truncate: bool
    ) -> Fetched | str:
        """One hop, tried again where that may help."""
        limits = self.limits
        async for attempt in stamina.retry_context(
            on=self._backoff,
            attempts=limits.attempts,
            timeout=None,
            wait_initial=limits.wait,
            wait_max=limits.longest_wait,
            wait_jitter=limits.wait,
        ):
            with attempt:
                async with visit(url):
                    try:
                        async with asyncio.timeout(limits.seconds):
                            return await self._once(url, headers, limit, truncate)
                    except TimeoutError as error:
                        raise DeadlineExceeded(f"The server took longer than {limits.seconds:.0f} seconds.") from error
        raise AssertionError("stamina raises the last error")

    def _backoff(self, error: Exception) -> bool | float:
        if not isinstance(error, Unavailable):
            return False
        if error.retry_after is None:
            return True
        return error.retry_after if error.retry_after <= self.limits.longest_wait else False

    async def _once(self, url: str, headers: dict[str, str], limit: int, truncate: bool) -> Fetched | str:
        """The response, or the Location of a redirect."""
        try:
            target = httpx.URL(without_credentials(url))
            address = httpcore.URL(
                scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path
            )
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise InvalidInput("The address is not a URL that can be fetched.") from error
        sent = [(b"Host", target.netloc), *((name.encode(), value.encode()) for name, value in headers.items())]
        timeouts = {
            "connect": self.limits.read_seconds,
            "read": self.limits.read_seconds,
            "write": self.limits.read_seconds,
            "pool": self.limits.seconds,
        }
        with _translated():
            async with self._pool.stream("GET", address, headers=sent, extensions={"timeout": timeouts}) as response:
                known = httpx.Headers(response.headers)
                if response.status in REDIRECTS and "location" in known:
                    return known["location"]
                _raise_for_status(response.status, known)
                if response.status == 304 and not ("If-None-Match" in headers or "If-Modified-Since" in headers):
                    raise Unprocessable("The server answers 304 to a question that was not asked.")
                body, truncated = b"", False
                if response.status not in (304, 410):
                    body, truncated = await _body(response.aiter_stream(), known, limit, truncate)
                return Fetched(
                    url=without_credentials(url),
                    status=response.status if response.status in (304, 410) else 200,
                    body=body,
                    truncated=truncated,
                    media_type=known.get("content-type", ""),
                    etag=known.get("etag", "")[:512],
                    last_modified=known.get("last-modified", "")[:64],
                    canonical=_canonical(url, known.get("link", "")),
                )

    async def close(self) -> None:
        await self._pool.aclose()


@asynccontextmanager
async def unhindered(url: str) -> AsyncIterator[None]:
    """The visit that asks nobody."""
    yield


class _translated:
    """httpcore's errors in Twin's words, in one place."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        match error:
            case Refused():
                raise error.error from error
            case httpcore.TimeoutException():
                raise Unavailable("The server did not answer in time.") from error
            case httpcore.ConnectError():
                reason = "its certificate is not valid" if "certificate" in str(error).lower() else "no connection"
                raise Unavailable(f"The server cannot be reached: {reason}.") from error
            case httpcore.RemoteProtocolError():
                raise Unavailable("The server broke off, or sent what is not HTTP.") from error
            case httpcore.LocalProtocolError() | httpcore.UnsupportedProtocol():
                raise InvalidInput("The address cannot be asked for over HTTP.") from error
            case httpcore.NetworkError() | OSError():
                raise Unavailable("The connection to the server broke.") from error


def _raise_for_status(status: int, headers: httpx.Headers) -> None:
    error: TwinError
    if status in (200, 203, 304, 410):
        return
    if status == 404:
        error = NotFound("The server answers 404: there is nothing at this address.")
    elif status in (401, 403, 407, 451):
        error = Forbidden(f"The server answers {status}: it does not give this to everybody.")
    elif status in PASSING:
        error = Unavailable(f"The server answers {status}.", retry_after=_retry_after(headers.get("retry-after", "")))
    elif status >= 500:
        error = Unavailable(f"The server answers {status}.")
    else:
        error = Unprocessable(f"The server answers {status}, which brings no document.")
    raise error


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, at.timestamp() - time.time())


def _canonical(base: str, link: str) -> str | None:
    for found in re.finditer(r"<([^<>]*)>((?:\s*;[^,<]*)*)", link[:8192]):
        if re.search(r";\s*rel\s*=\s*\"?[^\";]*\bcanonical\b", found[2], re.IGNORECASE):
            return resolve_link(base, found[1])
    return None


# ── Bodies ──────────────────────────────────────────────────────────────────────────────────────────


async def _body(pieces: AsyncIterator[bytes], headers: httpx.Headers, limit: int, truncate: bool) -> tuple[bytes, bool]:
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit and not truncate:
        raise TooLarge(f"The document has {int(length):,} bytes; {limit:,} are read at most.")
    encodings = [each.strip().lower() for each in headers.get("content-encoding", "").split(",") if each.strip()]
    encodings = [each for each in encodings if each != "identity"]
    if len(encodings) > 2:
        raise UnsupportedMedia("The document is compressed more than twice.")
    inflating = [Inflater(each, limit) for each in reversed(encodings)]
    kept = bytearray()
    came = 0
    async for piece in pieces:
        came += len(piece)
        try:
            if came > limit:
                raise TooLarge(f"The document has more than {limit:,} bytes, which is the limit.")
            for each in inflating:
                piece = each.feed(piece)
        except TooLarge:
            if truncate:
                return bytes(kept), True
            raise
        kept += piece
    for each in inflating:
        each.end()
    return bytes(kept), False


class Inflater:
    """Undoes gzip or deflate, never holding more than `limit` bytes of the result."""

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise UnsupportedMedia(f"The document is compressed with {encoding[:20]}, which was not asked for.")
        self._gzip = encoding != "deflate"
        self._limit = limit
        self._stream: zlib._Decompress | None = None
        self._given = 0

    def feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        if self._stream is None:
            # deflate means zlib's format, but some servers send the bare stream (RFC 9110, 8.4.1.2).
            bare = not self._gzip and (data[0] & 0x0F != 8 or (len(data) > 1 and (data[0] << 8 | data[1]) % 31))
            self._stream = zlib.decompressobj(31 if self._gzip else -15 if bare else 15)
        out = bytearray()
        while data:
            if self._stream.eof:
                # gzip may have several members; what follows the last one and is none is padding.
                if not self._gzip or not data.startswith(b"\x1f\x8b"):
                    break
                self._stream = zlib.decompressobj(31)
            try:
                out += self._stream.decompress(data, self._limit - self._given - len(out) + 1)
            except zlib.error as error:
                raise Unprocessable("The document's compression is broken.") from error
            if self._given + len(out) > self._limit:
                raise TooLarge(f"Decompressed, the document has more than {self._limit:,} bytes, which is the limit.")
            data = self._stream.unconsumed_tail or self._stream.unused_data
        self._given += len(out)
        return bytes(out)

    def end(self) -> None:
        if self._stream is not None and not self._stream.eof:
            raise Unavailable("The document broke off before its end.")


def inflate(data: bytes, limit: int) -> bytes:
    """A gzip file's content. TooLarge beyond `limit` bytes, Unprocessable where it is broken."""
    inflater = Inflater("gzip", limit)
    content = inflater.feed(data)
    inflater.end()
    return content
