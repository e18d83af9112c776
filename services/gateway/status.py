"""How Twin is: for people (status), for orchestrators (healthz, readyz), for Prometheus (metrics).

Comes in: nothing but the question. Goes out: short facts. Does not know: why something is away.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any, Literal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.requests import Request
from starlette.responses import Response

from services import telemetry
from services.errors import Unavailable
from services.gateway.call import TheCall, answer
from services.gateway.shapes import Given

_PROBE = 2.0
"""Seconds that a service has to say that it serves."""


class IndexStatus(Given):
    name: str
    encoder: str
    documents: int
    chunks: int
    """Of the authors that the key may see."""
    calibrated: str
    """Where the thresholds come from; empty: there are none, and nothing is declined by score."""


class KeyStatus(Given):
    id: str
    name: str
    role: Literal["reader", "writer", "admin"]
    authors: list[str] | None


class Status(Given):
    version: str
    answers: str
    """`quotes`, or the model that writes."""
    answers_hint: str
    index: IndexStatus
    key: KeyStatus


class Health(Given):
    status: Literal["ok", "ready"]


async def status(call: TheCall) -> Response:
    """What answers here, what the index holds, and what the key may do."""
    generator, index = await asyncio.gather(call.parts.generator.describe(), call.parts.retriever.describe(call.scope))
    thresholds = index.manifest.thresholds
    return answer(
        {
            "version": version("twin"),
            "answers": generator.answers,
            "answers_hint": generator.hint,
            "index": {
                "name": index.manifest.name,
                "encoder": index.manifest.encoder.url,
                "documents": index.documents,
                "chunks": index.chunks,
                "calibrated": "" if thresholds is None else thresholds.origin,
            },
            "key": {
                "id": call.key.id,
                "name": call.key.name,
                "role": call.key.role,
                "authors": None if call.key.authors is None else list(call.key.authors),
            },
        }
    )


async def healthz() -> Response:
    """The process answers."""
    return answer({"status": "ok"})


async def readyz(call: TheCall) -> Response:
    """Every service behind the gateway serves, its store answers, and it was not told to stop."""
    if call.parts.drain.asked:
        raise Unavailable("Not ready: this gateway is stopping. Another one answers.")
    await call.parts.keys.by_hash("-")
    names = list(call.parts.channels)
    serving = await asyncio.gather(*(_serves(call.parts.channels[name]) for name in names))
    away = [name for name, serves in zip(names, serving, strict=True) if not serves]
    if away:
        raise Unavailable(f"Not ready: {', '.join(away)} does not serve yet. Try again in a moment.")
    return answer({"status": "ready"})


async def _serves(channel: Any) -> bool:
    try:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_PROBE)
    except grpc.aio.AioRpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' format. For an admin's key, or from this machine."""
    body, media_type = telemetry.metrics(request.headers.get("accept", ""))
    return Response(body, media_type=media_type)
