"""Documents in the data directory's one file.

Comes in: `sqlite:///…`. Goes out: the port Documents. Does not know: what is done with a document.

A sketch's bands are two integers a band.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import apsw

from services.adapters.records import (
    LARGE_TEXT,
    band_hash,
    cursor_after,
    cursor_place,
    packed_text,
    unpacked_text,
)
from services.adapters.sqlite import Database, Step
from services.domain import Author, Document, Scope, SourceKind
from services.errors import Conflict, NotFound
from services.ports import DocumentPage, DocumentQuery, Documents

_FIELDS = [field.name for field in fields(Document)]
"""Each is a column: a field added to Document needs a step that adds its column."""
_COLUMNS = ", ".join(_FIELDS)

_PENDING = """deleted_at IS NULL AND duplicate_of IS NULL AND failure IS NULL
    AND (indexed_version IS NULL OR indexed_version <> version)"""
_CURRENT = "deleted_at IS NULL AND duplicate_of IS NULL AND failure IS NULL AND indexed_version = version"
_BURIED = "deleted_at IS NOT NULL AND indexed_version IS NOT NULL"

STEPS: Sequence[Step] = (
    f"""
    CREATE TABLE documents (
        id TEXT NOT NULL UNIQUE, author TEXT NOT NULL, url TEXT NOT NULL, source_id TEXT NOT NULL, kind TEXT NOT NULL,
        title TEXT NOT NULL, byline TEXT NOT NULL, language TEXT, published TEXT, modified TEXT,
        media_type TEXT NOT NULL, version INTEGER NOT NULL, indexed_version INTEGER, fingerprint TEXT NOT NULL,
        raw_hash TEXT NOT NULL, text_hash TEXT NOT NULL, etag TEXT NOT NULL, last_modified TEXT NOT NULL,
        duplicate_of TEXT, characters INTEGER NOT NULL, chunks INTEGER NOT NULL, failure TEXT, deleted_at REAL,
        created_at REAL NOT NULL, updated_at REAL NOT NULL, revision INTEGER NOT NULL,
        -- Document.state, for filtering by it
        state TEXT NOT NULL AS (CASE
            WHEN deleted_at IS NOT NULL THEN 'deleted' WHEN failure IS NOT NULL THEN 'failed'
            WHEN duplicate_of IS NOT NULL THEN 'duplicate' WHEN indexed_version = version THEN 'indexed'
            WHEN indexed_version IS NULL THEN 'queued' ELSE 'updating' END)
    );
    CREATE INDEX documents_newest ON documents (updated_at, id);
    CREATE INDEX documents_of_author ON documents (author, updated_at, id);
    CREATE INDEX documents_by_state ON documents (author, state, updated_at, id, source_id);
    CREATE INDEX documents_of_source ON documents (source_id, updated_at, id);
    CREATE INDEX documents_pending ON documents (id) WHERE {_PENDING};
    CREATE INDEX documents_current ON documents (fingerprint, id) WHERE {_CURRENT};
    CREATE INDEX documents_buried ON documents (id) WHERE {_BURIED};

    CREATE TABLE texts (
        document_id TEXT NOT NULL, version INTEGER NOT NULL, cleaner TEXT NOT NULL, text BLOB NOT NULL,
        UNIQUE (document_id, version)
    );
    CREATE TABLE aliases (
        author TEXT, address TEXT, document_id TEXT NOT NULL, PRIMARY KEY (author, address)
    ) WITHOUT ROWID;
    CREATE TABLE bands (band INTEGER, document INTEGER, PRIMARY KEY (band, document)) WITHOUT ROWID;
    CREATE TABLE sketches (document INTEGER PRIMARY KEY, bands BLOB NOT NULL);
    """,
    "CREATE INDEX aliases_of_document ON aliases (document_id)",
)


async def open(url: str, data_dir: Path) -> Documents:
    return SqliteDocuments(await Database.open(url, data_dir, "documents", STEPS))


class SqliteDocuments:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, ids: Collection[str]) -> dict[str, Document]:
        wanted = json.dumps(list(ids))

        def read(connection: apsw.Connection) -> list[Document]:
            return _documents(
                connection.execute(
                    f"SELECT {_COLUMNS} FROM documents WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
                )
            )

        return {document.id: document for document in await self._database.read(read)} if ids else {}

    async def resolve(self, author: str, addresses: Collection[str]) -> dict[str, str]:
        wanted = json.dumps(list(addresses))

        def read(connection: apsw.Connection) -> list[tuple[str, str]]:
            rows = connection.execute(
                "SELECT address, document_id FROM json_each(?) CROSS JOIN aliases ON author = ? AND address = value",
                (wanted, author),
            )
            return cast(list[tuple[str, str]], rows.fetchall())

        return dict(await self._database.read(read)) if addresses else {}

    async def addresses(self, id: str) -> frozenset[str]:
        def read(connection: apsw.Connection) -> frozenset[str]:
            rows = connection.execute("SELECT address FROM aliases WHERE document_id = ?", (id,))
            return frozenset(str(address) for (address,) in rows)

        return await self._database.read(read)

    async def save(
        self, document: Document, *, text: str | None = None, cleaner: str = "", aliases: Collection[str] = ()
    ) -> Document:
        new = replace(document, revision=document.revision + 1)
        # Not in the writer's thread, where others wait; a large one not in the event loop either.
        packed = None
        if text is not None:
            packed = packed_text(text) if len(text) < LARGE_TEXT else await asyncio.to_thread(packed_text, text)
        leading = set(aliases)
        if document.revision == 0:
            leading.add(document.url)

        def write(connection: apsw.Connection) -> Document:
            values = [getattr(new, name) for name in _FIELDS]
            if document.revision == 0:
                connection.execute(_INSERT, values)
            else:
                connection.execute(_UPDATE, [*values, document.id, document.revision])
            if connection.changes() == 0:
                raise Conflict("The document was changed meanwhile: read it again.")
            connection.executemany(
                "INSERT INTO aliases VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET document_id = excluded.document_id",
                [(new.author, address, new.id) for address in leading],
            )
            if packed is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO texts (document_id, version, cleaner, text) VALUES (?, ?, ?, ?)",
                    (new.id, new.version, cleaner, packed),
                )
            return new

        return await self._database.write(write)

    async def text(self, id: str, version: int) -> tuple[str, str]:
        def read(connection: apsw.Connection) -> tuple[str, str]:
            for packed, cleaner in connection.execute(
                "SELECT text, cleaner FROM texts WHERE document_id = ? AND version = ?", (id, version)
            ):
                return unpacked_text(cast(bytes, packed)), str(cleaner)
            raise NotFound("There is no such version of the document, or its text is no longer kept.")

        return await self._database.read(read)

    async def find(self, query: DocumentQuery) -> DocumentPage:
        conditions = ["state <> 'deleted'" if query.state is None else "state = :state"]
        if not query.scope.everyone:
            conditions.append("author IN (SELECT value FROM json_each(:authors))")
        if query.author is not None:
            conditions.append("author = :author")
        if query.source_id is not None:
            conditions.append("source_id = :source_id")
        if query.text:
            conditions.append("(title LIKE :text ESCAPE '\\' OR url LIKE :text ESCAPE '\\')")
        values: dict[str, Any] = {
            "state": query.state,
            "authors": json.dumps(query.scope.authors),
            "author": query.author,
            "source_id": query.source_id,
            "text": "%" + query.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%",
            "limit": query.limit + 1,
        }
        if query.cursor:
            conditions.append("(updated_at, id) < (:updated_at, :id)")
            values["updated_at"], values["id"] = cursor_place(query.cursor)
        where = " AND ".join(conditions)

        def read(connection: apsw.Connection) -> list[Document]:
            return _documents(
                connection.execute(
                    f"SELECT {_COLUMNS} FROM documents WHERE {where} ORDER BY updated_at DESC, id DESC LIMIT :limit",
                    values,
                )
            )

        found = await self._database.read(read)
        more = len(found) > query.limit
        page = found[: query.limit]
        return DocumentPage(tuple(page), cursor_after(page[-1]) if more and page else "")

    async def unindexed(self, fingerprint: str, limit: int, after: str = "") -> list[Document]:
        def read(connection: apsw.Connection) -> list[Document]:
            return _documents(connection.execute(_UNINDEXED, {"f": fingerprint, "after": after, "limit": limit}))

        return await self._database.read(read)

    async def near(self, author: str, bands: Collection[str]) -> list[tuple[str, str]]:
        hashes = {band_hash(author, band): band for band in bands}
        wanted = json.dumps(list(hashes))

        def read(connection: apsw.Connection) -> list[tuple[str, int]]:
            rows = connection.execute(
                """SELECT documents.id, band FROM json_each(?) CROSS JOIN bands ON band = value
                   CROSS JOIN documents ON documents.rowid = document WHERE deleted_at IS NULL AND author = ?""",
                (wanted, author),
            )
            return cast(list[tuple[str, int]], rows.fetchall())

        return [(id, hashes[band]) for id, band in await self._database.read(read)] if bands else []

    async def sketch(self, id: str, author: str, bands: Collection[str]) -> None:
        hashes = sorted({band_hash(author, band) for band in bands})

        def write(connection: apsw.Connection) -> None:
            row = connection.execute("SELECT rowid FROM documents WHERE id = ?", (id,)).get
            if row is None:
                raise NotFound("There is no such document.")
            _forget_sketch(connection, row)
            if hashes:
                connection.executemany("INSERT INTO bands VALUES (?, ?)", [(each, row) for each in hashes])
                packed = b"".join(each.to_bytes(8, "big", signed=True) for each in hashes)
                connection.execute("INSERT INTO sketches VALUES (?, ?)", (row, packed))

        await self._database.write(write)

    async def authors(self, scope: Scope) -> list[Author]:
        def read(connection: apsw.Connection) -> list[tuple[str, int, int]]:
            rows = connection.execute(
                """SELECT author, count(*), sum(state IN ('indexed', 'updating'))
                   FROM documents WHERE state <> 'deleted' GROUP BY author ORDER BY author"""
            )
            return cast(list[tuple[str, int, int]], rows.fetchall())

        return [Author(*row) for row in await self._database.read(read) if scope.allows(row[0])]

    async def purge(self, id: str) -> None:
        def write(connection: apsw.Connection) -> None:
            row = connection.execute("SELECT rowid FROM documents WHERE id = ? AND deleted_at IS NOT NULL", (id,)).get
            if row is not None:
                _forget_sketch(connection, row)
                connection.execute("DELETE FROM texts WHERE document_id = ?", (id,))

        await self._database.write(write)

    async def close(self) -> None:
        await self._database.close()


_INSERT = f"INSERT INTO documents ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))}) ON CONFLICT DO NOTHING"
_UPDATE = f"UPDATE documents SET {', '.join(f'{name} = ?' for name in _FIELDS)} WHERE id = ? AND revision = ?"

# Each part walks an index made for it, the last two by order: without statistics SQLite would walk all documents. A
# changed fingerprint makes one of them large: its ids are sorted, and no record beyond the page is read.
_UNINDEXED = f"""
    SELECT {_COLUMNS} FROM documents WHERE id IN (
        SELECT id FROM (
            SELECT * FROM (SELECT id FROM documents WHERE {_PENDING} AND id > :after ORDER BY id LIMIT :limit)
            UNION ALL
            SELECT * FROM (SELECT id FROM documents WHERE {_BURIED} AND id > :after ORDER BY id LIMIT :limit)
            UNION ALL
            SELECT * FROM (SELECT id FROM documents INDEXED BY documents_current
                           WHERE {_CURRENT} AND fingerprint < :f AND id > :after ORDER BY id LIMIT :limit)
            UNION ALL
            SELECT * FROM (SELECT id FROM documents INDEXED BY documents_current
                           WHERE {_CURRENT} AND fingerprint > :f AND id > :after ORDER BY id LIMIT :limit)
        ) ORDER BY id LIMIT :limit
    ) ORDER BY id"""


def _documents(rows: Iterable[tuple[Any, ...]]) -> list[Document]:
    found = []
    for row in rows:
        values = dict(zip(_FIELDS, row, strict=True))
        values["kind"] = SourceKind(values["kind"])
        found.append(Document(**values))
    return found


def _forget_sketch(connection: apsw.Connection, row: int) -> None:
    packed = connection.execute("DELETE FROM sketches WHERE document = ? RETURNING bands", (row,)).get
    if packed is not None:
        earlier = [int.from_bytes(packed[at : at + 8], "big", signed=True) for at in range(0, len(packed), 8)]
        connection.executemany("DELETE FROM bands WHERE band = ? AND document = ?", [(each, row) for each in earlier])
