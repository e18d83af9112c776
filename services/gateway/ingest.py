"""Bringing text in: sources to crawl, and files.

Comes in: addresses, or a multipart body that is passed on piece by piece and never held. Goes out: a job.
Does not know: what becomes of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header
from pydantic import Field, TypeAdapter, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.responses import Response

from services.clients import UploadedFile
from services.errors import InvalidInput, TooLarge, TwinError, UnsupportedMedia
from services.gateway import jobs, sources
from services.gateway.call import Call, TheCall
from services.gateway.shapes import Address, Asked, AuthorName
from services.gateway.sources import SourceBody

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$"),
]
_AUTHOR: TypeAdapter[str] = TypeAdapter(AuthorName)
_FIELD_BYTES = 1000
"""Of a form field that is no file."""


class IngestBody(Asked):
    author: AuthorName
    sources: Annotated[list[Address | SourceBody], Field(min_length=1, max_length=1000)]


async def start(call: TheCall, body: IngestBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Crawl sources of an author. The job is accepted at once; workers do it."""
    sources.may_write(call, body.author)
    asked = [SourceBody(address=each) if isinstance(each, str) else each for each in body.sources]
    for number, each in enumerate(asked):
        sources.may_read(call, each, f"sources.{number}")
    crawl = await call.parts.crawler.start_crawl(
        body.author, [each.spec() for each in asked], call.scope, _scoped(call, idempotency_key)
    )
    return jobs.accepted(crawl)


async def upload(call: TheCall, idempotency_key: IdempotencyKey = None) -> Response:
    """Files of an author, as multipart/form-data: the field `author` first, then one or more `file`."""
    form = _Form(call.request.headers.get("content-type", ""), call.request.stream())
    parts = form.parts()
    author = await _author(parts)
    sources.may_write(call, author)
    opened = await _next_file(parts)
    if opened is None:
        raise InvalidInput("No file was sent: add one or more parts named file.", param="file")
    broken: list[Exception] = []
    files = _files(opened, parts, call.parts.settings.gateway_upload_files, broken)
    try:
        crawl = await call.parts.crawler.upload(author, files, call.scope, _scoped(call, idempotency_key))
    except (asyncio.CancelledError, TwinError):
        # gRPC cancels a call whose requests fail, and keeps the reason to itself.
        if broken:
            raise broken[0] from None
        raise
    call.parts.names.forget()
    return jobs.accepted(crawl)


def _scoped(call: Call, idempotency_key: str | None) -> str:
    """Another key's idempotency keys are not this one's."""
    return f"{call.key.id}:{idempotency_key}" if idempotency_key else ""


async def _author(parts: AsyncIterator[_Event]) -> str:
    value = b""
    name = None
    async for event in parts:
        if isinstance(event, _Part):
            name = event.name
            if event.filename is not None or name != "author":
                break
        elif isinstance(event, bytes):
            value += event
            if len(value) > _FIELD_BYTES:
                raise TooLarge("The field author is too long.", param="author")
        else:
            try:
                return _AUTHOR.validate_python(value.decode())
            except (ValidationError, UnicodeDecodeError):
                raise InvalidInput(
                    "author: a name has up to 64 letters, digits, spaces, '.', '_' or '-', and starts with a letter "
                    "or digit.",
                    param="author",
                ) from None
    raise InvalidInput("Send the field author first, then the files.", param="author")


async def _next_file(parts: AsyncIterator[_Event]) -> _Part | None:
    async for event in parts:
        if isinstance(event, _Part):
            if event.name != "file" or event.filename is None:
                raise InvalidInput(
                    f"Unknown part {event.name[:100]!r}: after author come parts named file.", param=event.name
                )
            return event
    return None


async def _files(
    opened: _Part | None, parts: AsyncIterator[_Event], most: int, broken: list[Exception]
) -> AsyncIterator[UploadedFile]:
    try:
        count = 0
        while opened is not None:
            count += 1
            if count > most:
                raise TooLarge(f"More than {most} files: send fewer at once.", param="file")
            yield UploadedFile(_file_name(opened), opened.media_type, _data(parts, broken))
            opened = await _next_file(parts)
    except Exception as error:
        broken.append(error)
        raise


async def _data(parts: AsyncIterator[_Event], broken: list[Exception]) -> AsyncIterator[bytes]:
    try:
        async for event in parts:
            if not isinstance(event, bytes):
                return
            yield event
    except Exception as error:
        broken.append(error)
        raise


def _file_name(part: _Part) -> str:
    """With its folders: one that is sent whole has many a README.md. What would lead out of them is left out."""
    steps = [each.strip() for each in (part.filename or "").replace("\\", "/").split("/")]
    steps = [each for each in steps if each not in ("", ".", "..")]
    name = "/".join(steps)
    if not steps or len(steps[-1]) > 255 or len(name) > 1000 or any(ord(each) < 32 for each in name):
        raise InvalidInput("A file needs a name of up to 255 characters, 1,000 with its folders.", param="file")
    return name


# ── Multipart, as it comes ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Part:
    """The beginning of a part."""

    name: str
    filename: str | None
    media_type: str | None


class _End:
    """The end of a part."""


_Event = _Part | bytes | _End


class _Form:
    """A multipart body's parts, parsed as they come: what is held is one piece of the network's."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type.encode("latin-1"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise UnsupportedMedia("Send multipart/form-data: the field author, then one or more parts named file.")
        self._body = body
        self._events: deque[_Event] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                "on_part_end": lambda: self._events.append(_End()),
                "on_end": self._on_end,
            },
        )

    async def parts(self) -> AsyncIterator[_Event]:
        try:
            async for data in self._body:
                if data:
                    self._parser.write(data)
                while self._events:
                    yield self._events.popleft()
        except (FormParserError, UnicodeDecodeError):
            raise InvalidInput("The body is not well-formed multipart/form-data.") from None
        if not self._ended:
            raise InvalidInput("The upload broke off before its end: send it again.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        filename = options.get(b"filename")
        media_type = self._headers.get(b"content-type")
        self._events.append(
            _Part(
                name=options.get(b"name", b"").decode(),
                filename=None if filename is None else filename.decode(),
                media_type=None if media_type is None else media_type.decode("latin-1")[:200],
            )
        )

    def _on_end(self) -> None:
        self._ended = True
