"""Ingest jobs: their state, their progress as it happens, their end.

Comes in: ids. Goes out: a job as JSON, or server-sent events. Does not know: what a job does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import structlog
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from services import rpc
from services.domain import Crawl
from services.errors import TwinError
from services.gateway import shapes
from services.gateway.call import TheCall, answer, first, while_connected
from services.gateway.shapes import Given, Limit, State, Time

AGAIN = 1000
"""Milliseconds after which who follows a job asks again where its events broke off."""

log = structlog.get_logger()


class Documents(Given):
    queued: int
    indexed: int
    failed: int


class ProgressShape(Given):
    total: int | None
    seen: int
    new: int
    changed: int
    unchanged: int
    skipped: int
    failed: int
    current: str


class JobSource(Given):
    source_id: str
    address: str
    kind: str | None
    state: State
    seconds_left: float | None
    failure: str | None
    progress: ProgressShape


class FailureShape(Given):
    address: str
    code: str
    message: str


class Job(Given):
    id: str
    author: str
    state: State
    seconds_left: float | None
    created_at: Time
    updated_at: Time
    documents: Documents
    sources: list[JobSource]
    failures: list[FailureShape]


class JobList(Given):
    data: list[Job]


def job(crawl: Crawl) -> dict[str, Any]:
    return {
        "id": crawl.id,
        "author": crawl.author,
        "state": crawl.state,
        "seconds_left": crawl.seconds_left,
        "created_at": shapes.time(crawl.created_at),
        "updated_at": shapes.time(crawl.updated_at),
        "documents": {
            "queued": crawl.documents_queued,
            "indexed": crawl.documents_indexed,
            "failed": crawl.documents_failed,
        },
        "sources": [
            {
                "source_id": each.source_id,
                "address": each.address,
                "kind": each.kind,
                "state": each.state,
                "seconds_left": each.seconds_left,
                "failure": each.failure,
                "progress": {
                    "total": each.progress.total,
                    "seen": each.progress.seen,
                    "new": each.progress.new,
                    "changed": each.progress.changed,
                    "unchanged": each.progress.unchanged,
                    "skipped": each.progress.skipped,
                    "failed": each.progress.failed,
                    "current": each.progress.current,
                },
            }
            for each in crawl.sources
        ],
        "failures": [{"address": each.address, "code": each.code, "message": each.message} for each in crawl.failures],
    }


def accepted(crawl: Crawl) -> Response:
    return answer(job(crawl), 202, {"Location": f"/v1/ingest-jobs/{crawl.id}"})


async def find(call: TheCall, limit: Limit = 20) -> Response:
    """List jobs, the newest first."""
    return answer({"data": [job(each) for each in await call.parts.crawler.list_crawls(call.scope, limit)]})


async def get(call: TheCall, id: str) -> Response:
    """One job."""
    return answer(job(await call.parts.crawler.get_crawl(id, call.scope)))


async def watch(call: TheCall, id: str) -> Response:
    """The job after each change, as server-sent events: `progress`, and `end` as the last one. A stream that ends
    without it is to be asked for again."""
    crawls = call.parts.crawler.watch_crawl(id, call.scope)
    now = await while_connected(call.request, first(crawls))
    return EventSourceResponse(_events(now, crawls, call.parts.drain.over), sep="\n")


async def _events(now: Crawl, crawls: AsyncGenerator[Crawl, None], over: asyncio.Event) -> AsyncIterator[bytes]:
    async with aclosing(rpc.until(crawls, over)) as changes:
        last = now
        try:
            if not now.state.ended:
                yield _event("progress", now)
                async for last in changes:
                    if last.state.ended:
                        break
                    yield _event("progress", last)
        except TwinError as error:
            log.info("a job's events break off", job=now.id, error=error.message)
        # This gateway stops, or nobody says how the job goes on: the same again, with when to come back.
        yield _event("end", last) if last.state.ended else _event("progress", last, AGAIN)


def _event(name: str, crawl: Crawl, retry: int | None = None) -> bytes:
    again = "" if retry is None else f"retry: {retry}\n"
    return f"event: {name}\n{again}data: {json.dumps(job(crawl), separators=(',', ':'))}\n\n".encode()


async def cancel(call: TheCall, id: str) -> Response:
    """Cancel a job: what is done stays, what waits ends."""
    return answer(job(await call.parts.crawler.cancel_crawl(id, call.scope)))


async def retry(call: TheCall, id: str) -> Response:
    """Take up again what failed or was cancelled."""
    return accepted(await call.parts.crawler.retry_crawl(id, call.scope))
