"""Jobs in the data directory's one file.

Comes in: `sqlite:///…`. Goes out: the port Jobs. Does not know: what the work is, nor who does it.

Only a running job can be saved, by the token of its claim: neither a late renewal nor a worker that lost its lease
wakes a job that has ended.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import apsw

from services.adapters.records import progress_of, progress_text
from services.adapters.sqlite import Database, Step
from services.domain import CLAIMED, Job, JobKind, JobState, Scope
from services.errors import LeaseLost
from services.ports import Backlog, Jobs

_FIELDS = [field.name for field in fields(Job)]
"""Each is a column: a field added to Job needs a step that adds its column."""
_COLUMNS = ", ".join(_FIELDS)

STEPS: Sequence[Step] = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, author TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
        parent TEXT, version INTEGER NOT NULL, not_before REAL NOT NULL, attempts INTEGER NOT NULL, worker TEXT,
        lease_until REAL NOT NULL, token INTEGER NOT NULL, cancel_requested INTEGER NOT NULL, progress TEXT,
        failure TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL
    );
    CREATE INDEX jobs_queued ON jobs (kind, created_at, number) WHERE state = 'queued';
    CREATE INDEX jobs_running ON jobs (kind, lease_until) WHERE state = 'running';
    CREATE INDEX jobs_of_parent ON jobs (parent, kind, state);
    CREATE INDEX jobs_of_target ON jobs (target);
    CREATE INDEX jobs_newest ON jobs (kind, created_at, number);
    """,
    "ALTER TABLE jobs ADD COLUMN trace TEXT NOT NULL DEFAULT ''",
)


async def open(url: str, data_dir: Path) -> Jobs:
    return SqliteJobs(await Database.open(url, data_dir, "jobs", STEPS))


class SqliteJobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, jobs: Sequence[Job]) -> int:
        rows = [_row(job) for job in jobs]

        def write(connection: apsw.Connection) -> int:
            before = connection.total_changes()
            connection.executemany(_INSERT, rows)
            return connection.total_changes() - before

        return await self._database.write(write) if jobs else 0

    async def claim(self, kind: JobKind, worker: str, now: float, lease: float, limit: int = 1) -> list[Job]:
        values = {"kind": kind, "worker": worker, "now": now, "until": now + lease, "limit": limit}

        def write(connection: apsw.Connection) -> list[Job]:
            return _jobs(connection.execute(_CLAIM, values))

        # RETURNING gives the rows in no order.
        return sorted(await self._database.write(write), key=lambda job: job.created_at)

    async def save(self, jobs: Sequence[Job], now: float) -> dict[str, bool]:
        rows = [{**dict(zip(_FIELDS, _row(job), strict=True)), "updated_at": now} for job in jobs]

        def write(connection: apsw.Connection) -> dict[str, bool]:
            asked = {}
            for row in rows:
                for id, cancel_requested in connection.execute(_SAVE, row):
                    asked[str(id)] = bool(cancel_requested)
            return asked

        asked = await self._database.write(write)
        if len(asked) < len({job.id for job in jobs}):
            raise LeaseLost("Another worker holds the job, or it has ended.")
        return asked

    async def get(self, id: str) -> Job | None:
        def read(connection: apsw.Connection) -> list[Job]:
            return _jobs(connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (id,)))

        return next(iter(await self._database.read(read)), None)

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
        conditions = ["true"]
        if not scope.everyone:
            conditions.append("author IN (SELECT value FROM json_each(:authors))")
        if kind is not None:
            conditions.append("kind = :kind")
        if parent is not None:
            conditions.append("parent = :parent")
        if target is not None:
            conditions.append("target = :target")
        if states:
            conditions.append("state IN (SELECT value FROM json_each(:states))")
        values = {
            "authors": json.dumps(scope.authors),
            "kind": kind,
            "parent": parent,
            "target": target,
            "states": json.dumps(list(states)),
            "limit": limit,
        }
        where = " AND ".join(conditions)

        def read(connection: apsw.Connection) -> list[Job]:
            return _jobs(
                connection.execute(
                    f"SELECT {_COLUMNS} FROM jobs WHERE {where} ORDER BY created_at DESC, number DESC LIMIT :limit",
                    values,
                )
            )

        return await self._database.read(read)

    async def counts(self, parent: str | None = None) -> dict[tuple[JobKind, JobState], int]:
        def read(connection: apsw.Connection) -> list[tuple[str, str, int]]:
            where, values = ("WHERE parent = ?", (parent,)) if parent is not None else ("", ())
            rows = connection.execute(f"SELECT kind, state, count(*) FROM jobs {where} GROUP BY kind, state", values)
            return cast(list[tuple[str, str, int]], rows.fetchall())

        return {(JobKind(kind), JobState(state)): count for kind, state, count in await self._database.read(read)}

    async def backlog(self, now: float) -> dict[JobKind, Backlog]:
        def read(connection: apsw.Connection) -> dict[JobKind, Backlog]:
            found: dict[JobKind, Backlog] = {}
            for kind in CLAIMED:
                values = {"kind": kind, "now": now}
                waiting, running, since = cast(
                    tuple[int, int, float | None], connection.execute(_BACKLOG, values).fetchall()[0]
                )
                found[kind] = Backlog(waiting, running, 0.0 if since is None else max(0.0, now - since))
            return found

        return await self._database.read(read)

    async def cancel(self, id: str, now: float) -> None:
        def write(connection: apsw.Connection) -> None:
            for column in ("id", "parent"):
                connection.execute(
                    f"UPDATE jobs SET state = 'cancelled', updated_at = ? WHERE {column} = ? AND state = 'queued'",
                    (now, id),
                )
                connection.execute(
                    f"UPDATE jobs SET cancel_requested = 1 WHERE {column} = ? AND state = 'running'", (id,)
                )

        await self._database.write(write)

    async def requeue(self, parent: str, now: float) -> int:
        def write(connection: apsw.Connection) -> int:
            connection.execute("UPDATE jobs SET cancel_requested = 0 WHERE parent = ? AND state = 'running'", (parent,))
            connection.execute(f"{_REQUEUE} WHERE id = ? AND kind = 'ingest' AND state = 'cancelled'", (now, parent))
            connection.execute(f"{_REQUEUE} WHERE parent = ? AND state IN ('failed', 'cancelled')", (now, parent))
            return connection.changes()

        return await self._database.write(write)

    async def prune(self, before: float) -> int:
        def write(connection: apsw.Connection) -> int:
            connection.execute(_PRUNE, (before,))
            return connection.changes()

        return await self._database.write(write)

    async def close(self) -> None:
        await self._database.close()


_INSERT = f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))}) ON CONFLICT DO NOTHING"

_CLAIM = f"""
    UPDATE jobs SET state = 'running', worker = :worker, lease_until = :until, attempts = attempts + 1,
        token = token + 1, updated_at = :now
    WHERE number IN (
        SELECT number FROM (
            SELECT * FROM (SELECT number, created_at FROM jobs WHERE kind = :kind AND state = 'queued'
                           AND not_before <= :now ORDER BY created_at, number LIMIT :limit)
            UNION ALL
            SELECT * FROM (SELECT number, created_at FROM jobs WHERE kind = :kind AND state = 'running'
                           AND lease_until <= :now ORDER BY created_at, number LIMIT :limit)
        ) ORDER BY created_at, number LIMIT :limit
    ) RETURNING {_COLUMNS}"""

# One that goes back to the queue while a person has asked to cancel it ends here: nobody would look at it for a while.
# One whose worker obeys a cancellation after the person has asked for another try has that try.
_SAVE = """
    UPDATE jobs SET state = CASE WHEN :state = 'queued' AND cancel_requested THEN 'cancelled'
                                 WHEN :state = 'cancelled' AND NOT cancel_requested THEN 'queued' ELSE :state END,
        attempts = CASE WHEN :state = 'cancelled' AND NOT cancel_requested THEN 0 ELSE :attempts END,
        progress = :progress, failure = :failure, not_before = :not_before,
        lease_until = :lease_until, updated_at = :updated_at
    WHERE id = :id AND token = :token AND state = 'running' RETURNING id, cancel_requested"""

# A job waits from when it is due: made, tried again, or left by a worker whose lease ran out.
_BACKLOG = """
    SELECT count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'running'),
        min(CASE WHEN state = 'queued' AND not_before <= :now THEN max(created_at, not_before)
                 WHEN state = 'running' AND lease_until <= :now THEN lease_until END)
    FROM (SELECT state, created_at, not_before, lease_until FROM jobs WHERE kind = :kind AND state = 'queued'
          UNION ALL
          SELECT state, created_at, not_before, lease_until FROM jobs WHERE kind = :kind AND state = 'running')"""

_REQUEUE = """
    UPDATE jobs SET state = 'queued', attempts = 0, not_before = 0, lease_until = 0, worker = NULL, failure = NULL,
        cancel_requested = 0, updated_at = ?"""

# An ingest's own row never runs: its state is its children's.
_PRUNE = """
    DELETE FROM jobs WHERE coalesce(parent, id) IN (
        SELECT coalesce(parent, id) FROM jobs GROUP BY 1
        HAVING max(updated_at) < ? AND NOT max(state IN ('queued', 'running') AND kind <> 'ingest'))"""


def _row(job: Job) -> tuple[Any, ...]:
    return tuple(progress_text(job.progress) if name == "progress" else getattr(job, name) for name in _FIELDS)


def _jobs(rows: Iterable[tuple[Any, ...]]) -> list[Job]:
    found = []
    for row in rows:
        values = dict(zip(_FIELDS, row, strict=True))
        values["kind"] = JobKind(values["kind"])
        values["state"] = JobState(values["state"])
        values["cancel_requested"] = bool(values["cancel_requested"])
        values["progress"] = progress_of(values["progress"])
        found.append(Job(**values))
    return found
