"""What concerns the whole of Twin: a new index, thresholds, who did what.

Comes in: an admin's wish. Goes out: jobs, thresholds, the audit. Does not know: encoders.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from services.clients import ReindexJob
from services.domain import Manifest
from services.gateway import shapes
from services.gateway.call import TheCall, answer
from services.gateway.generations import moment
from services.gateway.jobs import ProgressShape
from services.gateway.shapes import Given, Limit, Moment, State, Time


class EncoderShape(Given):
    url: str
    revision: str
    precision: str
    pooling: str
    dimensions: int
    window: int


class ThresholdsShape(Given):
    decline: float
    answer: float
    origin: str


class ManifestShape(Given):
    name: str
    encoder: EncoderShape
    cleaner: str
    chunker: str
    state: str
    thresholds: ThresholdsShape | None
    created_at: Time


class ReindexShape(Given):
    id: str
    state: State
    seconds_left: float | None
    failure: str | None
    index: ManifestShape
    progress: ProgressShape


class AuditShape(Given):
    id: str
    at: Time
    key_id: str
    action: str
    target: str
    detail: str


class AuditList(Given):
    data: list[AuditShape]


async def reindex(call: TheCall) -> Response:
    """Build a second index with the encoder that the settings name, then switch to it."""
    job = await call.parts.feature.reindex()
    await call.audit("index.rebuild", job.manifest.name)
    return answer(_reindex(job), 202, {"Location": f"/v1/reindex-jobs/{job.id}"})


async def get_reindex(call: TheCall, id: str) -> Response:
    """How far a rebuilding is."""
    return answer(_reindex(await call.parts.feature.get_reindex(id)))


async def calibrate(call: TheCall) -> Response:
    """Fit the live index's thresholds to its own corpus. Takes minutes."""
    manifest = await call.parts.feature.calibrate()
    await call.audit("index.calibrate", manifest.name)
    return answer(_manifest(manifest), 201)


async def audit(call: TheCall, limit: Limit = 100, before: Moment | None = None) -> Response:
    """Who did what, the newest first. `before`: a time."""
    entries = await call.parts.audit.find(limit, moment(before))
    return answer(
        {
            "data": [
                {
                    "id": each.id,
                    "at": shapes.time(each.at),
                    "key_id": each.key_id,
                    "action": each.action,
                    "target": each.target,
                    "detail": each.detail,
                }
                for each in entries
            ]
        }
    )


def _reindex(job: ReindexJob) -> dict[str, Any]:
    progress = job.progress
    return {
        "id": job.id,
        "state": job.state,
        "seconds_left": job.seconds_left,
        "failure": job.failure,
        "index": _manifest(job.manifest),
        "progress": {
            "total": progress.total,
            "seen": progress.seen,
            "new": progress.new,
            "changed": progress.changed,
            "unchanged": progress.unchanged,
            "skipped": progress.skipped,
            "failed": progress.failed,
            "current": progress.current,
        },
    }


def _manifest(each: Manifest) -> dict[str, Any]:
    encoder, thresholds = each.encoder, each.thresholds
    return {
        "name": each.name,
        "encoder": {
            "url": encoder.url,
            "revision": encoder.revision,
            "precision": encoder.precision,
            "pooling": encoder.pooling,
            "dimensions": encoder.dimensions,
            "window": encoder.window,
        },
        "cleaner": each.cleaner,
        "chunker": each.chunker,
        "state": each.state,
        "thresholds": thresholds
        and {"decline": thresholds.decline, "answer": thresholds.answer, "origin": thresholds.origin},
        "created_at": shapes.time(each.created_at),
    }
