"""Twin's HTTP API as the command line uses it.

Comes in: the gateway's address and a key, or neither. Goes out: parsed JSON and events, or errors of services.errors.
Does not know: what the commands print.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import aconnect_sse

from services.errors import Internal, TwinError, Unavailable, by_code

_TIMEOUT = httpx.Timeout(30.0, read=650.0)
"""Seconds; an answer of a slow engine may take ten minutes."""
_BY_STATUS = {401: "invalid_api_key", 403: "forbidden", 404: "not_found", 429: "overloaded", 503: "unavailable"}


class Api:
    """One gateway."""

    def __init__(self, client: httpx.AsyncClient, where: str) -> None:
        self._client = client
        self._where = where

    async def get(self, path: str, **query: Any) -> Any:
        return await self._json("GET", path, params={k: v for k, v in query.items() if v is not None})

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return await self._json("POST", path, json=body, **options)

    async def upload(self, path: str, fields: dict[str, str], files: list[tuple[str, Any]]) -> Any:
        """Multipart; files are (name, open file)."""
        return await self._json("POST", path, data=fields, files=[("file", each) for each in files])

    async def delete(self, path: str) -> Any:
        return await self._json("DELETE", path)

    async def events(self, method: str, path: str, body: Any = None) -> AsyncIterator[tuple[str, Any]]:
        """(event name, data) of a stream of server-sent events; OpenAI's [DONE] ends it."""
        try:
            async with aconnect_sse(self._client, method, path, json=body) as source:
                if source.response.status_code >= 400:
                    await source.response.aread()
                    raise _error(source.response)
                async for event in source.aiter_sse():
                    if event.data == "[DONE]":
                        return
                    data = json.loads(event.data)
                    if isinstance(data, dict) and "error" in data:
                        raise _from_body(data, 500)
                    yield event.event, data
        except httpx.TransportError as error:
            raise self._unreachable() from error

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = await self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable() from error
        if response.status_code >= 400:
            raise _error(response)
        return response.json() if response.content else None

    def _unreachable(self) -> Unavailable:
        return Unavailable(f"Cannot reach {self._where}. Is it running (`twin up`), and is --url right?")


def _error(response: httpx.Response) -> TwinError:
    try:
        body = response.json()
    except ValueError:
        body = None
    return _from_body(body, response.status_code)


def _from_body(body: Any, status: int) -> TwinError:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return Internal(f"The gateway answered {status} without saying why. Is the address that of a Twin?")
    kinds = by_code()
    kind = kinds.get(str(error.get("code"))) or kinds.get(_BY_STATUS.get(status, "")) or Internal
    return kind(str(error.get("message")), param=error.get("param"))


@asynccontextmanager
async def connect(url: str | None, key: str | None, *, workers: bool = False) -> AsyncIterator[Api]:
    """The gateway at `url`, or one in this process on the data directory. `workers`: have it also do queued work."""
    if url:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=False) as client:
            yield Api(client, url)
        return
    from services import embedded  # seconds of imports that --url and --help do without

    async with embedded.running(workers=workers) as twin:
        transport = httpx.AsyncHTTPTransport(uds=str(await twin.serve_socket()))
        headers = {"Authorization": f"Bearer {twin.secret}"}
        async with httpx.AsyncClient(
            base_url="http://localhost", transport=transport, headers=headers, timeout=_TIMEOUT
        ) as client:
            yield Api(client, "Twin in this process")
