"""Jobs in MongoDB.

Comes in: `mongodb://…`. Goes out: the port Jobs. Does not know: what the work is, nor who does it.

A job is one record, and whoever changes it names the state and the token that they expect. What concerns a family of
jobs goes job by job, in an order that a crash may end anywhere: the same call again does the rest.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import BulkWriteError

from services.adapters.mongodb import ATTEMPTS, Adapter, Database, Record, Step, busy, moment, translating
from services.adapters.records import progress_of, progress_text
from services.domain import CLAIMED, Job, JobKind, JobState, Scope
from services.errors import LeaseLost
from services.ports import Backlog, Jobs

_FIELDS = [field.name for field in fields(Job)]
"""As they are, but for `id`, which is `_id`, and `progress`, which is JSON. A field added to Job is read as its default
until it is written."""
_HIDDEN: Record = {"number": 0, "family": 0, "delayed_until": 0, "claim": 0}
FAMILIES_AT_ONCE = 500
"""Looked at together by `prune`."""
_DUPLICATE = 11000
_ASKED: Record = {"cancel_requested": True}
_UNASKED: Record = {"cancel_requested": False}

_OLDEST = [("created_at", ASCENDING), ("number", ASCENDING)]
_NEWEST = [("created_at", DESCENDING), ("number", DESCENDING)]

STEPS: Sequence[Step] = (
    {
        "jobs": (
            IndexModel([("kind", ASCENDING), ("state", ASCENDING), *_OLDEST]),
            IndexModel([("kind", ASCENDING), ("state", ASCENDING), ("lease_until", ASCENDING)]),
            IndexModel([("kind", ASCENDING), ("state", ASCENDING), ("delayed_until", ASCENDING)]),
            IndexModel([("parent", ASCENDING), ("kind", ASCENDING), ("state", ASCENDING)]),
            IndexModel([("target", ASCENDING), *_NEWEST]),
            IndexModel([("kind", ASCENDING), *_NEWEST]),
            IndexModel([("family", ASCENDING), ("updated_at", ASCENDING)]),
            IndexModel([("updated_at", ASCENDING)]),
            IndexModel(_NEWEST),
        ),
    },
)


async def open(url: str, data_dir: Path) -> Jobs:
    return MongodbJobs(await Database.open(url, "jobs", STEPS))


class MongodbJobs(Adapter):
    """A record, beside the job's fields:

    number          the order in which jobs of one time were put
    family          the parent, or itself: what `prune` takes together
    delayed_until   not_before where that is after created_at, else 0: the oldest that waits is the first of an index
    claim           whose claim gave out the newest token
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._jobs = database.collection("jobs")

    @translating
    async def put(self, jobs: Sequence[Job]) -> int:
        if not jobs:
            return 0
        try:
            result = await self._jobs.insert_many([_record(job) for job in jobs], ordered=False)
        except BulkWriteError as error:
            if any(each["code"] != _DUPLICATE for each in error.details["writeErrors"]) or error.details.get(
                "writeConcernErrors"
            ):
                raise
            return int(error.details["nInserted"])
        return len(result.inserted_ids)

    @translating
    async def claim(self, kind: JobKind, worker: str, now: float, lease: float, limit: int = 1) -> list[Job]:
        free: Record = {
            "$or": [
                {"kind": kind.value, "state": "queued", "not_before": {"$lte": now}},
                {"kind": kind.value, "state": "running", "lease_until": {"$lte": now}},
            ]
        }
        own = uuid.uuid4().hex
        change: Record = {
            "$set": {"state": "running", "worker": worker, "lease_until": now + lease, "updated_at": now, "claim": own},
            "$inc": {"attempts": 1, "token": 1},
        }
        if limit == 1:
            found = await self._jobs.find_one_and_update(
                free, change, sort=_OLDEST, return_document=ReturnDocument.AFTER
            )
            return [] if found is None else [_job(found)]
        claimed: list[Job] = []
        # Each is claimed by itself; of those that others were quicker to claim, the next ones take the place.
        more = True
        while more and len(claimed) < limit:
            wanted = limit - len(claimed)
            cursor = self._jobs.find(free, {"_id": 1}).sort(_OLDEST).limit(wanted)
            ids = [record["_id"] async for record in cursor]
            more = len(ids) == wanted
            if not ids:
                break
            await self._jobs.update_many({"_id": {"$in": ids}, **free}, change)
            ours = self._jobs.find({"_id": {"$in": ids}, "claim": own}, _HIDDEN)
            claimed.extend([_job(record) async for record in ours])
        return sorted(claimed, key=lambda job: job.created_at)

    @translating
    async def save(self, jobs: Sequence[Job], now: float) -> dict[str, bool]:
        of: dict[str, list[Job]] = {}
        for job in jobs:
            of.setdefault(job.id, []).append(job)
        # Side by side, since each waits for the journal of a majority.
        results = await asyncio.gather(*(self._saved(each, now) for each in of.values()), return_exceptions=True)
        asked: dict[str, bool] = {}
        for id, result in zip(of, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if result is not None:
                asked[id] = result
        if len(asked) < len(of):
            raise LeaseLost("Another worker holds the job, or it has ended.")
        return asked

    async def _saved(self, same: Sequence[Job], now: float) -> bool | None:
        """Whether it was asked to cancel; None where it is not this worker's. `same`: one job, as it is to be written
        one after the other."""
        asked = None
        for job in same:
            held: Record = {"_id": job.id, "token": job.token, "state": "running"}
            change = {
                "progress": progress_text(job.progress),
                "failure": job.failure,
                "attempts": job.attempts,
                "not_before": job.not_before,
                "delayed_until": _delayed_until(job),
                "lease_until": job.lease_until,
                "updated_at": now,
            }
            # One that goes back to the queue while a person has asked to cancel it ends here: nobody would look at it
            # for a while. One whose worker obeys a cancellation after the person has asked for another try has that
            # try.
            ways: list[tuple[Record, Record]] = [({}, {"state": job.state.value})]
            if job.state is JobState.QUEUED:
                ways = [(_UNASKED, {"state": "queued"}), (_ASKED, {"state": "cancelled"})]
            elif job.state is JobState.CANCELLED:
                ways = [(_ASKED, {"state": "cancelled"}), (_UNASKED, {"state": "queued", "attempts": 0})]
            for _ in range(ATTEMPTS):
                saved = await self._either(held, change, ways)
                # A person may cancel or retry between the two: then neither has found it, and it is there.
                if saved is not None or len(ways) == 1 or await self._jobs.find_one(held, {"_id": 1}) is None:
                    break
            else:
                raise busy()
            if saved is not None:
                asked = bool(saved["cancel_requested"])
        return asked

    async def _either(self, held: Record, change: Record, ways: Sequence[tuple[Record, Record]]) -> Record | None:
        """The record as it was written by the first of these ways whose condition holds."""
        for condition, further in ways:
            saved = await self._jobs.find_one_and_update(
                {**held, **condition}, {"$set": {**change, **further}}, return_document=ReturnDocument.AFTER
            )
            if saved is not None:
                return saved
        return None

    @translating
    async def get(self, id: str) -> Job | None:
        found = await self._jobs.find_one({"_id": id}, _HIDDEN)
        return None if found is None else _job(found)

    @translating
    async def find(
        self,
        scope: Scope,
        *,
        kind: JobKind | None = None,
        parent: str | None = None,
        target: str | None = None,
        states: Collection[JobState] = (),
        limit: int = 100,
    ) -> list[Job]:
        query: Record = {}
        if not scope.everyone:
            query["author"] = {"$in": list(scope.authors)}
        if kind is not None:
            query["kind"] = kind.value
        if parent is not None:
            query["parent"] = parent
        if target is not None:
            query["target"] = target
        if states:
            query["state"] = {"$in": [state.value for state in states]}
        if limit < 1:
            return []
        return [_job(record) async for record in self._jobs.find(query, _HIDDEN).sort(_NEWEST).limit(limit)]

    @translating
    async def counts(self, parent: str | None = None) -> dict[tuple[JobKind, JobState], int]:
        return await self._counted({} if parent is None else {"parent": parent})

    async def _counted(self, query: Record) -> dict[tuple[JobKind, JobState], int]:
        group = {"_id": {"kind": "$kind", "state": "$state"}, "count": {"$sum": 1}}
        grouped = await self._jobs.aggregate([{"$match": query}, {"$group": group}])
        return {
            (JobKind(each["_id"]["kind"]), JobState(each["_id"]["state"])): int(each["count"]) async for each in grouped
        }

    @translating
    async def backlog(self, now: float) -> dict[JobKind, Backlog]:
        counts = await self._counted({"state": {"$in": ["queued", "running"]}})
        found: dict[JobKind, Backlog] = {}
        for kind in CLAIMED:
            waiting, running = counts.get((kind, JobState.QUEUED), 0), counts.get((kind, JobState.RUNNING), 0)
            due = await self._waiting_since(kind, now) if waiting or running else []
            found[kind] = Backlog(waiting, running, max(0.0, now - min(due)) if due else 0.0)
        return found

    async def _waiting_since(self, kind: JobKind, now: float) -> list[float]:
        """Of each sort of job that waits, from when the oldest does: made, tried again, or left by a worker whose
        lease ran out."""
        queued = {"kind": kind.value, "state": "queued"}
        sorts: list[tuple[str, Record]] = [
            ("created_at", {**queued, "delayed_until": 0, "not_before": {"$lte": now}}),
            ("delayed_until", {**queued, "delayed_until": {"$gt": 0, "$lte": now}}),
            ("lease_until", {"kind": kind.value, "state": "running", "lease_until": {"$lte": now}}),
        ]
        oldest = await asyncio.gather(
            *(self._jobs.find_one(query, {field: 1}, sort=[(field, ASCENDING)]) for field, query in sorts)
        )
        return [float(found[field]) for found, (field, _) in zip(oldest, sorts, strict=True) if found is not None]

    @translating
    async def cancel(self, id: str, now: float) -> None:
        family = {"$or": [{"_id": id}, {"parent": id}]}
        # All are asked first, so that one which changes between queued and running meanwhile is not missed.
        await self._jobs.update_many(
            {**family, "state": {"$in": ["queued", "running"]}}, {"$set": {"cancel_requested": True}}
        )
        await self._jobs.update_many(
            {**family, "state": "queued", "cancel_requested": True},
            {"$set": {"state": "cancelled", "cancel_requested": False, "updated_at": now}},
        )

    @translating
    async def requeue(self, parent: str, now: float) -> int:
        change: Record = {
            "$set": {
                "state": "queued",
                "attempts": 0,
                "not_before": 0.0,
                "delayed_until": 0.0,
                "lease_until": 0.0,
                "worker": None,
                "failure": None,
                "cancel_requested": False,
                "updated_at": now,
            }
        }
        # First those that were asked and have not ended: one that ends as cancelled before this is queued again below,
        # one that does after it goes back to the queue by itself.
        await self._jobs.update_many(
            {"parent": parent, "state": {"$in": ["queued", "running"]}, **_ASKED}, {"$set": _UNASKED}
        )
        await self._jobs.update_many({"_id": parent, "kind": "ingest", "state": "cancelled"}, change)
        result = await self._jobs.update_many({"parent": parent, "state": {"$in": ["failed", "cancelled"]}}, change)
        return result.modified_count

    @translating
    async def prune(self, before: float) -> int:
        # An ingest's own row never runs: its state is its children's.
        at_work = {"kind": {"$ne": "ingest"}, "state": {"$in": ["queued", "running"]}}
        ended = {"$or": [{"kind": "ingest"}, {"state": {"$in": ["done", "failed", "cancelled"]}}]}
        old = await self._jobs.aggregate([{"$match": {"updated_at": {"$lt": before}}}, {"$group": {"_id": "$family"}}])
        families = [each["_id"] async for each in old]
        count = 0
        for at in range(0, len(families), FAMILIES_AT_ONCE):
            among = families[at : at + FAMILIES_AT_ONCE]
            kept_by = {"family": {"$in": among}, "$or": [{"updated_at": {"$gte": before}}, at_work]}
            found = await self._jobs.aggregate([{"$match": kept_by}, {"$group": {"_id": "$family"}}])
            kept = {each["_id"] async for each in found}
            going = [family for family in among if family not in kept]
            # Conditions again: one that was queued anew meanwhile stays.
            result = await self._jobs.delete_many({"family": {"$in": going}, "updated_at": {"$lt": before}, **ended})
            count += result.deleted_count
        return count


def _delayed_until(job: Job) -> float:
    return job.not_before if job.not_before > job.created_at else 0.0


def _record(job: Job) -> Record:
    return {
        "_id": job.id,
        **{name: getattr(job, name) for name in _FIELDS if name != "id"},
        "kind": job.kind.value,
        "state": job.state.value,
        "progress": progress_text(job.progress),
        "number": moment(),
        "family": job.parent if job.parent is not None else job.id,
        "delayed_until": _delayed_until(job),
        "claim": "",
    }


def _job(record: Record) -> Job:
    values: dict[str, Any] = {name: record[name] for name in _FIELDS if name in record}
    return Job(
        **{
            **values,
            "id": record["_id"],
            "kind": JobKind(record["kind"]),
            "state": JobState(record["state"]),
            "progress": progress_of(record["progress"]),
        }
    )
