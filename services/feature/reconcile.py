"""The sweep that finds what a crash or a lost call left undone.

Comes in: the store's records. Goes out: jobs for versions that nobody asked to index, no chunks of deleted documents,
a reason in documents whose job failed. Does not know: how documents come, how they are indexed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from services.domain import EVERYONE, Document, JobKind, JobState
from services.errors import Conflict
from services.feature.featurize import Featurizer, give_up
from services.feature.generations import Generations
from services.feature.withdraw import take_away
from services.ports import DocumentQuery, Documents, Jobs

_log = structlog.get_logger(__name__)

PAGE = 200
SETTLED = 60.0
"""Seconds since a record's last change before it is looked after: who wrote it asks for its job in the next moment."""


async def sweep(
    documents: Documents,
    jobs: Jobs,
    generations: Generations,
    featurizer: Featurizer,
    now: float | None = None,
    settled: float = SETTLED,
) -> int:
    """One pass; how many documents it did something about."""
    before = (time.time() if now is None else now) - settled
    if await jobs.find(EVERYONE, kind=JobKind.REINDEX, states=(JobState.QUEUED, JobState.RUNNING), limit=1):
        return 0  # it passes over all documents itself, and writes their fingerprints last
    fingerprint = (await generations.current())[0].manifest.fingerprint
    mended = 0
    after = ""
    while page := await documents.unindexed(fingerprint, PAGE, after):
        after = page[-1].id
        settled_ones = [each for each in page if each.updated_at <= before]
        buried = [each.id for each in settled_ones if each.deleted_at is not None]
        if buried:
            await take_away(documents, generations, buried)
        mended += len(buried) + await _request(documents, jobs, featurizer, settled_ones, fingerprint)
    if mended:
        _log.info("reconcile.mended", documents=mended)
    return mended


async def forget(documents: Documents) -> None:
    """Have every record say that it is not in the index: for one that is made anew where documents are there already,
    because the old one is lost or the setting names another. The sweep has them indexed again."""
    cursor = ""
    while True:
        page = await documents.find(DocumentQuery(scope=EVERYONE, limit=PAGE, cursor=cursor))
        for each in page.documents:
            if each.indexed_version is not None:
                try:
                    await documents.save(replace(each, indexed_version=None, fingerprint="", chunks=0))
                except Conflict:
                    continue  # written just now: asked for again by who wrote it
        if not (cursor := page.next):
            return


async def _request(
    documents: Documents, jobs: Jobs, featurizer: Featurizer, page: Sequence[Document], fingerprint: str
) -> int:
    """Have versions indexed that have no job, and end the waiting of those whose job has failed."""
    wanted = []
    ended = 0
    for each in page:
        if each.deleted_at is not None:
            continue
        last = [
            job
            for job in await jobs.find(EVERYONE, kind=JobKind.FEATURIZE, target=each.id, limit=5)
            if job.version == each.version
        ]
        if any(not job.state.ended for job in last):
            continue
        if last and last[0].state in (JobState.FAILED, JobState.CANCELLED) and each.indexed_version != each.version:
            await give_up(documents, last[0], last[0].failure or "The ingest was cancelled: bring it in again.")
            ended += 1
        else:
            wanted.append((each.id, each.version, each.author))
    if wanted:
        await featurizer.request(wanted)
    return ended + len(wanted)
