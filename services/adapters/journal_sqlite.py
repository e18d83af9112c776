"""The journal of answers in the data directory's one file.

Comes in: `sqlite:///…`. Goes out: the port Journal. Does not know: how an answer is made, nor who asks to see it.

An entry is kept as compressed JSON, with columns beside it for what it is found by.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import apsw

from services.adapters.records import (
    APART,
    STREAMS,
    cited_documents,
    packed_entry,
    quotations,
    redacted,
    unpacked_entry,
    unquoted,
)
from services.adapters.sqlite import Database, Step
from services.domain import Feedback, Generation, Scope
from services.errors import NotFound
from services.ports import Journal

REDACTED_AT_ONCE = 100
"""Entries rewritten in one transaction: some hundredths of a second, in which no one else can write."""

STEPS: Sequence[Step] = (
    """
    CREATE TABLE generations (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key_id TEXT NOT NULL, created_at REAL NOT NULL,
        authors TEXT NOT NULL, entry BLOB NOT NULL
    );
    CREATE INDEX generations_newest ON generations (created_at, number);
    CREATE INDEX generations_of_key ON generations (key_id, created_at, number);
    -- which entries hold text of a document, until it is redacted in them
    CREATE TABLE generation_documents (
        document_id TEXT, number INTEGER REFERENCES generations ON DELETE CASCADE, PRIMARY KEY (document_id, number)
    ) WITHOUT ROWID;
    CREATE INDEX generation_documents_of ON generation_documents (number);
    """,
    """
    ALTER TABLE generations ADD COLUMN trace TEXT NOT NULL DEFAULT '';
    CREATE INDEX generations_of_trace ON generations (trace, created_at, number) WHERE trace <> '';
    """,
    """
    -- which documents were redacted lately: answers that were begun before may still come
    CREATE TABLE redactions (document_id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    """,
)


async def open(url: str, data_dir: Path) -> Journal:
    return SqliteJournal(await Database.open(url, data_dir, "journal", STEPS))


class SqliteJournal:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, generations: Sequence[Generation]) -> None:
        rows = [_row(each) for each in generations]

        def write(connection: apsw.Connection) -> set[str]:
            lately: set[str] = set()
            for row, documents in rows:
                lately |= _saved(connection, row, documents)
            return lately

        for document in await self._database.write(write):
            await self._redact(document)

    async def get(self, id: str) -> Generation | None:
        packed = await self._database.read(
            lambda connection: connection.execute("SELECT entry FROM generations WHERE id = ?", (id,)).get
        )
        return None if packed is None else unpacked_entry(cast(bytes, packed))

    async def find(
        self,
        scope: Scope,
        *,
        key_id: str | None = None,
        limit: int = 50,
        before: float | None = None,
        trace: str | None = None,
    ) -> list[Generation]:
        if not scope.everyone and not scope.authors:
            return []
        conditions = ["created_at < coalesce(:before, 9e999)"]
        if key_id is not None:
            conditions.append("key_id = :key_id")
        if trace is not None:
            conditions.append("trace = :trace AND trace <> ''")
        if not scope.everyone:
            conditions.append(
                """authors <> '[]' AND NOT EXISTS (SELECT 1 FROM json_each(generations.authors)
                   WHERE value NOT IN (SELECT value FROM json_each(:authors)))"""
            )
        authors = json.dumps(scope.authors)
        values = {"before": before, "key_id": key_id, "trace": trace, "authors": authors, "limit": limit}

        def read(connection: apsw.Connection) -> list[Generation]:
            rows = connection.execute(
                f"""SELECT entry FROM generations WHERE {" AND ".join(conditions)}
                    ORDER BY created_at DESC, number DESC LIMIT :limit""",
                values,
            )
            return [unpacked_entry(cast(bytes, packed)) for (packed,) in rows]

        return await self._database.read(read)

    async def feedback(self, feedback: Feedback) -> None:
        def write(connection: apsw.Connection) -> None:
            packed = connection.execute("SELECT entry FROM generations WHERE id = ?", (feedback.generation_id,)).get
            if packed is None:
                raise NotFound("There is no such answer in the journal: it may have been deleted.")
            connection.execute(
                "UPDATE generations SET entry = ? WHERE id = ?",
                (packed_entry(replace(unpacked_entry(cast(bytes, packed)), feedback=feedback)), feedback.generation_id),
            )

        await self._database.write(write)

    async def delete(self, ids: Collection[str] = (), before: float | None = None) -> int:
        gone = json.dumps(list(ids))

        def write(connection: apsw.Connection) -> int:
            connection.execute(
                "DELETE FROM generations WHERE id IN (SELECT value FROM json_each(?)) OR created_at < ?",
                (gone, before),
            )
            return connection.changes()

        return await self._database.write(write)

    async def redact(self, document_id: str) -> int:
        def mark(connection: apsw.Connection) -> None:
            now = time.time()
            connection.execute("DELETE FROM redactions WHERE at < ?", (now - STREAMS,))
            connection.execute("INSERT OR REPLACE INTO redactions VALUES (?, ?)", (document_id, now))

        # First: an answer that is saved from now on finds it, one saved before is found below.
        await self._database.write(mark)
        return await self._redact(document_id)

    async def _redact(self, document_id: str) -> int:
        def write(connection: apsw.Connection) -> int:
            rows = connection.execute(
                """SELECT number, entry FROM generation_documents JOIN generations USING (number)
                   WHERE document_id = ? LIMIT ?""",
                (document_id, REDACTED_AT_ONCE),
            ).fetchall()
            for number, packed in rows:
                connection.execute(
                    "UPDATE generations SET entry = ? WHERE number = ?",
                    (packed_entry(redacted(unpacked_entry(cast(bytes, packed)), document_id)), number),
                )
                connection.execute(
                    "DELETE FROM generation_documents WHERE document_id = ? AND number = ?", (document_id, number)
                )
            return len(rows)

        # First, for what is quoted is known from the entries that name the document.
        count = await self._unquote(document_id)
        while done := await self._database.write(write):
            count += done
        return count

    async def _unquote(self, document_id: str) -> int:
        """Take the document's quotations from the entries of the same keys that hold them without naming it: turns
        that came later in a conversation. How many."""

        def read(connection: apsw.Connection) -> dict[str, set[str]]:
            texts: dict[str, set[str]] = {}
            rows = connection.execute(
                """SELECT key_id, entry FROM generation_documents JOIN generations USING (number)
                   WHERE document_id = ?""",
                (document_id,),
            )
            for key_id, packed in rows:
                texts.setdefault(key_id, set()).update(quotations(unpacked_entry(cast(bytes, packed)), document_id))
            return texts

        count = 0
        for key_id, texts in (await self._database.read(read)).items():
            after = 0 if texts else None
            while after is not None:
                after, changed = await self._database.write(_unquoting(key_id, texts, document_id, after))
                count += changed
        return count

    async def close(self) -> None:
        await self._database.close()


_Row = tuple[str, str, float, str, str, bytes]


def _row(generation: Generation) -> tuple[_Row, set[str]]:
    """Its columns, and the ids of the documents whose text it holds."""
    authors = json.dumps(generation.authors, ensure_ascii=False)
    packed = packed_entry(generation)
    row = (generation.id, generation.key_id, generation.created_at, authors, generation.trace, packed)
    return row, cited_documents(generation)


def _saved(connection: apsw.Connection, row: _Row, documents: Collection[str]) -> set[str]:
    """Which of its documents were redacted since it was begun."""
    number = connection.execute(
        """INSERT INTO generations (id, key_id, created_at, authors, trace, entry) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id, created_at = excluded.created_at,
               authors = excluded.authors, trace = excluded.trace, entry = excluded.entry RETURNING number""",
        row,
    ).get
    connection.execute("DELETE FROM generation_documents WHERE number = ?", (number,))
    if not documents:
        return set()
    connection.executemany(
        "INSERT INTO generation_documents VALUES (?, ?)", [(document, number) for document in documents]
    )
    created_at = row[2]
    rows = connection.execute(
        "SELECT document_id FROM redactions WHERE document_id IN (SELECT value FROM json_each(?)) AND at >= ?",
        (json.dumps(list(documents)), created_at - APART),
    )
    return {cast(str, document) for (document,) in rows}


def _unquoting(
    key_id: str, texts: Collection[str], document_id: str, after: int
) -> Callable[[apsw.Connection], tuple[int | None, int]]:
    """Some of a key's entries: (number of the last of them, None at the end; how many were changed)."""

    def write(connection: apsw.Connection) -> tuple[int | None, int]:
        rows = connection.execute(
            """SELECT number, entry FROM generations WHERE key_id = ? AND number > ? AND number NOT IN
                   (SELECT number FROM generation_documents WHERE document_id = ?) ORDER BY number LIMIT ?""",
            (key_id, after, document_id, REDACTED_AT_ONCE),
        ).fetchall()
        changed = 0
        for number, packed in rows:
            entry = unquoted(unpacked_entry(cast(bytes, packed)), texts)
            if entry is not None:
                connection.execute("UPDATE generations SET entry = ? WHERE number = ?", (packed_entry(entry), number))
                changed += 1
        return (cast(int, rows[-1][0]) if rows else None), changed

    return write
