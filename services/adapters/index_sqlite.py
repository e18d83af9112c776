"""The index in the data directory's one SQLite file: vectors by sqlite-vec, text by FTS5, both exact.

Comes in: chunks with their vectors, a version of a document at a time. Goes out: hits. Does not know: how texts were
chunked or embedded, what a question means, how the two searches are fused.

Each generation has tables of its own, `index_N_…`:

    documents   attributes to filter by and to show; `version` is the searchable one
    places      which chunk stands where in a version: staged, searchable, nothing else
    chunks      a chunk's id, and its vector as long as it is not searchable
    vectors     vec0: the searchable chunks' vectors, parted by author
    words       FTS5 without content: the searchable chunks' words

Only what is searchable is in `vectors` and `words`: publishing moves a document's chunks there in one transaction, so
that a search, which reads in one transaction, finds one version whole.

sqlite-vec never fills the holes that deletions leave. What a deletion leaves of a block that is at most half full is
therefore moved to the newest block, so storage and search time stay within twice those of an index freshly built.

An index that is searched and does not change is held in memory as one matrix, up to HELD_BYTES: a scan of it takes a
fifth of sqlite-vec's time. Each generation counts its changes, in the row that a search reads in its transaction
anyhow, so what is held is used only for the very state that it was read from, whichever process changes the index.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import apsw
import numpy as np
import numpy.typing as npt
import sqlite_vec

from services.adapters import words
from services.adapters.sqlite import Database
from services.domain import Chunk, EncoderIdentity, Facets, Filter, Hit, Manifest, Scope, Thresholds
from services.errors import Conflict, InvalidInput, NotFound
from services.ports import Index, IndexedDocument, Indexes, Vectors, refuse_odd, refuse_older

T = TypeVar("T")

BLOCK = 8
"""Vectors a block of vec0. An author takes whole blocks, so with many small authors small blocks save space; larger
ones searched no faster (20,000 × 384: 16 ms at 8, 14 ms at 64)."""
NEAREST = 4096
"""sqlite-vec's own limit of k."""
HELD_BYTES = 64 << 20
"""Of vectors held in memory: 43,000 of 384 dimensions. Larger indexes are scanned in their file."""
HELD_AFTER = 5
"""Searches of one state before it is held: reading it takes as long as five scans in the file, so an index that changes
all the time never costs more than twice."""
SPARE = 32
"""Vectors beyond the k nearest that are measured again: float32 may confuse the order of neighbours."""
FREQUENCIES = 20_000
"""Words whose frequency is remembered."""
SLICE = 256
"""Rows handled at once: bounds memory, whatever a document's size."""
WEIGHTS = {"title": 1.0, "heading": 2.0, "body": 1.0, "parts": 0.5}
"""Of the columns in BM25."""
COMMON = 0.25
"""A word in more than this share of the chunks tells little and costs most of a text search's time."""
FEW = 1000
"""Chunks that are searched so fast that no word need be left out."""

CATALOG = """
CREATE TABLE index_generations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    manifest TEXT NOT NULL,
    chunks INTEGER NOT NULL DEFAULT 0
)
"""

CHANGES = "ALTER TABLE index_generations ADD COLUMN changes INTEGER NOT NULL DEFAULT 0"
"""Grows with each change of what is searchable."""

GENERATION = (
    """
    CREATE TABLE {t}_documents (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER, author TEXT NOT NULL, url TEXT NOT NULL,
        title TEXT NOT NULL, source_id TEXT NOT NULL, source_address TEXT NOT NULL, host TEXT NOT NULL,
        byline TEXT NOT NULL, language TEXT, published TEXT
    )
    """,
    "CREATE INDEX {t}_documents_author ON {t}_documents (author)",
    """
    CREATE TABLE {t}_chunks (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document INTEGER NOT NULL, live INTEGER NOT NULL,
        vector BLOB
    )
    """,
    "CREATE INDEX {t}_chunks_document ON {t}_chunks (document)",
    """
    CREATE TABLE {t}_places (
        document INTEGER NOT NULL, version INTEGER NOT NULL, ordinal INTEGER NOT NULL, chunk INTEGER NOT NULL,
        start INTEGER NOT NULL, "end" INTEGER NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL, kind TEXT NOT NULL,
        tokens INTEGER NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX {t}_places_at ON {t}_places (document, version, ordinal)",
    "CREATE INDEX {t}_places_chunk ON {t}_places (chunk)",
    """
    CREATE VIRTUAL TABLE {t}_vectors USING vec0(
        author TEXT PARTITION KEY, vector float[{dimensions}] distance_metric=cosine, chunk_size={block}
    )
    """,
    """
    CREATE VIRTUAL TABLE {t}_words USING fts5(
        title, heading, body, parts, content='', contentless_delete=1, tokenize='{tokenizer}'
    )
    """,
    "CREATE VIRTUAL TABLE {t}_terms USING fts5vocab({t}_words, row)",
    "INSERT INTO {t}_words ({t}_words, rank) VALUES ('rank', 'bm25({weights})')",
)

HIT = """
SELECT c.number, c.id, d.id, p.ordinal, p.start, p."end", p.text, p.heading, p.kind, p.tokens,
       d.author, d.url, d.title, d.source_id, d.version, d.language, d.published
FROM {t}_places p JOIN {t}_documents d ON d.number = p.document AND d.version = p.version
JOIN {t}_chunks c ON c.number = p.chunk
"""


class SqliteIndexes:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def manifests(self) -> list[Manifest]:
        def read(connection: apsw.Connection) -> list[Manifest]:
            rows = connection.execute(
                "SELECT manifest FROM index_generations "
                "ORDER BY CASE state WHEN 'live' THEN 0 WHEN 'building' THEN 1 ELSE 2 END, number DESC"
            )
            return [_manifest(text) for (text,) in rows]

        return await self._database.read(read)

    async def create(self, manifest: Manifest) -> None:
        def write(connection: apsw.Connection) -> None:
            fingerprint = connection.execute(
                "SELECT fingerprint FROM index_generations WHERE name = ?", (manifest.name,)
            ).get
            if fingerprint == manifest.fingerprint:
                return
            if fingerprint is not None:
                raise Conflict(f"An index named {manifest.name} exists with another encoder or chunker: take another.")
            number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM index_generations").get
            if manifest.state == "live":
                _retire(connection, manifest.name)
            # Changes are counted from anywhere: a generation that takes the number of a dropped one is no state of it.
            connection.execute(
                "INSERT INTO index_generations (number, name, state, fingerprint, manifest, changes) "
                "VALUES (?, ?, ?, ?, ?, random() / 2)",
                (number, manifest.name, manifest.state, manifest.fingerprint, json.dumps(asdict(manifest))),
            )
            for statement in GENERATION:
                connection.execute(
                    statement.format(
                        t=f"index_{number}",
                        dimensions=int(manifest.encoder.dimensions),
                        block=BLOCK,
                        tokenizer=" ".join(words.TOKENIZER),
                        weights=", ".join(map(str, WEIGHTS.values())),
                    )
                )

        await self._database.write(write)

    async def update(self, manifest: Manifest) -> None:
        def write(connection: apsw.Connection) -> None:
            number = _number(connection, manifest.name)
            if manifest.state == "live":
                state = connection.execute("SELECT state FROM index_generations WHERE number = ?", (number,)).get
                if state == "retired":
                    raise Conflict(f"{manifest.name} is not live any more: another index has taken its place.")
                _retire(connection, manifest.name)
            connection.execute(
                "UPDATE index_generations SET state = ?, manifest = ? WHERE name = ?",
                (manifest.state, json.dumps(asdict(manifest)), manifest.name),
            )

        await self._database.write(write)

    async def drop(self, name: str) -> None:
        def write(connection: apsw.Connection) -> None:
            found = connection.execute("SELECT number, state FROM index_generations WHERE name = ?", (name,)).fetchone()
            if found is None:
                return
            number, state = found
            if state == "live":
                raise Conflict(f"{name} is the live index: make another one live first.")
            for table in ("terms", "words", "vectors", "places", "chunks", "documents"):
                connection.execute(f"DROP TABLE index_{number}_{table}")
            connection.execute("DELETE FROM index_generations WHERE number = ?", (number,))

        await self._database.write(write)

    async def open(self, name: str) -> Index:
        def read(connection: apsw.Connection) -> tuple[int, Manifest]:
            number = _number(connection, name)
            text = connection.execute("SELECT manifest FROM index_generations WHERE number = ?", (number,)).get
            return number, _manifest(text)

        number, manifest = await self._database.read(read)
        return SqliteIndex(self._database, number, name, manifest.encoder.dimensions)

    async def close(self) -> None:
        await self._database.close()


class SqliteIndex:
    def __init__(self, database: Database, number: int, name: str, dimensions: int) -> None:
        self._database = database
        self._number = number
        self._name = name
        self._dimensions = dimensions
        self._t = f"index_{number}"
        self._hit = HIT.format(t=self._t)
        self._held: _Held | None = None
        self._holding = threading.Lock()
        self._searched = (0, 0)
        """A state by its changes, and how often it was searched in the file."""
        self._frequencies: tuple[int, dict[str, int]] = (0, {})

    async def known(self, document_id: str) -> frozenset[str]:
        def read(connection: apsw.Connection) -> frozenset[str]:
            rows = connection.execute(
                f"SELECT c.id FROM {self._t}_chunks c JOIN {self._t}_documents d ON d.number = c.document "
                "WHERE d.id = ?",
                (document_id,),
            )
            return frozenset(id for (id,) in rows)

        return await self._read(read)

    async def stage(self, document: IndexedDocument, chunks: Sequence[Chunk], vectors: Mapping[str, Vectors]) -> None:
        def write(connection: apsw.Connection) -> None:
            number, searchable = self._document(connection, document)
            if searchable == document.version:
                return
            refuse_older(document, searchable)
            for chunk in chunks:
                connection.execute(
                    f"INSERT INTO {self._t}_places VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET chunk = excluded.chunk, start = excluded.start, "
                    '"end" = excluded."end", heading = excluded.heading, text = excluded.text, '
                    "kind = excluded.kind, tokens = excluded.tokens",
                    (
                        number,
                        document.version,
                        chunk.ordinal,
                        self._chunk(connection, number, chunk, vectors.get(chunk.id)),
                        chunk.start,
                        chunk.end,
                        words.storable(chunk.heading),
                        words.storable(chunk.text),
                        chunk.kind,
                        chunk.tokens,
                    ),
                )

        await self._write(write)

    async def publish(self, document: IndexedDocument, chunks: int) -> None:
        def write(connection: apsw.Connection) -> None:
            number, searchable = self._document(connection, document)
            if searchable == document.version:
                return
            refuse_older(document, searchable)
            staged = connection.execute(
                f"SELECT count(*) FROM {self._t}_places WHERE document = ? AND version = ?", (number, document.version)
            ).get
            if staged != chunks:
                raise Conflict(
                    f"{staged} of the {chunks} chunks of version {document.version} are staged: stage the rest first."
                )
            title = connection.execute(f"SELECT title FROM {self._t}_documents WHERE number = ?", (number,)).get
            self._write_attributes(connection, number, document)
            here = f"SELECT chunk FROM {self._t}_places WHERE document = :document AND version = :version"
            at = {"document": number, "version": document.version}
            gone = f"SELECT number FROM {self._t}_chunks WHERE document = :document AND live AND number NOT IN ({here})"
            self._withdraw(connection, _numbers(connection, gone, at))
            if title != document.title:
                self._changed(connection, 0)
                kept = f"SELECT number FROM {self._t}_chunks WHERE live AND number IN ({here})"
                for some in _slices(_numbers(connection, kept, at)):
                    connection.executemany(f"DELETE FROM {self._t}_words WHERE rowid = ?", ((each,) for each in some))
                    self._write_words(connection, some, document)
            fresh = f"SELECT number FROM {self._t}_chunks WHERE NOT live AND number IN ({here})"
            self._release(connection, _numbers(connection, fresh, at), document)
            connection.execute(
                f"DELETE FROM {self._t}_places WHERE document = ? AND version < ?", (number, document.version)
            )
            connection.execute(
                f"DELETE FROM {self._t}_chunks WHERE document = ? "
                f"AND number NOT IN (SELECT chunk FROM {self._t}_places WHERE document = ?)",
                (number, number),
            )

        await self._write(write)

    async def delete(self, document_ids: Collection[str]) -> None:
        def write(connection: apsw.Connection) -> None:
            for id in document_ids:
                number = connection.execute(f"SELECT number FROM {self._t}_documents WHERE id = ?", (id,)).get
                if number is None:
                    continue
                live = f"SELECT number FROM {self._t}_chunks WHERE document = :document AND live"
                self._withdraw(connection, _numbers(connection, live, {"document": number}))
                for table, column in (("places", "document"), ("chunks", "document"), ("documents", "number")):
                    connection.execute(f"DELETE FROM {self._t}_{table} WHERE {column} = ?", (number,))

        await self._write(write)

    async def dense(self, vector: Vectors, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        wanted = _Wanted(scope, filter, self._t)
        query = self._bytes(vector)

        def read(connection: apsw.Connection) -> list[Hit]:
            held = None if wanted.narrow else self._hold(connection)
            if held is not None:
                return self._hits(connection, held.nearest(vector, k, wanted.allowed))
            where, values = wanted.authors("author")
            if wanted.narrow:
                narrowed, more = wanted.documents()
                where += (
                    f" AND rowid IN (SELECT c.number FROM {self._t}_chunks c "
                    f"JOIN {self._t}_documents d ON d.number = c.document WHERE c.live AND {narrowed})"
                )
                values += more
            found: list[Any] = connection.execute(
                f"SELECT rowid, distance FROM {self._t}_vectors WHERE vector MATCH ? AND k = ? AND {where} "
                "ORDER BY distance",
                (query, min(k, NEAREST), *values),
            ).fetchall()
            # Of several authors sqlite-vec gives the k nearest of each.
            return self._hits(connection, [(number, 1.0 - distance) for number, distance in found[:k]])

        return [] if wanted.nothing or k < 1 else await self._read(read)

    async def text(self, query: str, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        wanted = _Wanted(scope, filter, self._t)

        def read(connection: apsw.Connection) -> list[Hit]:
            match = self._match(connection, query)
            if not match:
                return []
            where, values = wanted.authors("d.author")
            if wanted.narrow:
                narrowed, more = wanted.documents()
                where += f" AND {narrowed}"
                values += more
            # CROSS JOIN holds SQLite to this order: by rank out of FTS5, and no further than the limit.
            joins = (
                ""
                if where == "true"
                else f"CROSS JOIN {self._t}_chunks c ON c.number = w.rowid "
                f"CROSS JOIN {self._t}_documents d ON d.number = c.document"
            )
            found: list[Any] = connection.execute(
                f"SELECT w.rowid, w.rank FROM {self._t}_words w {joins} WHERE w.{self._t}_words MATCH ? AND {where} "
                "ORDER BY w.rank LIMIT ?",
                (match, *values, k),
            ).fetchall()
            return self._hits(connection, [(number, -rank) for number, rank in found])

        return [] if wanted.nothing or k < 1 else await self._read(read)

    async def neighbours(self, places: Mapping[str, Collection[int]]) -> list[Hit]:
        def read(connection: apsw.Connection) -> list[Hit]:
            return [
                _hit(row, 0.0)
                for document_id, ordinals in places.items()
                for row in connection.execute(
                    f"{self._hit} WHERE d.id = ? AND p.ordinal IN (SELECT value FROM json_each(?)) ORDER BY p.ordinal",
                    (document_id, json.dumps(sorted(set(ordinals)))),
                )
            ]

        return await self._read(read)

    async def vectors(self, chunk_ids: Sequence[str]) -> dict[str, Vectors]:
        def read(connection: apsw.Connection) -> dict[str, Vectors]:
            rows = connection.execute(
                f"SELECT c.id, coalesce(c.vector, v.vector) FROM {self._t}_chunks c "
                f"LEFT JOIN {self._t}_vectors v ON v.rowid = c.number "
                "WHERE c.id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(chunk_ids)),),
            )
            return {id: np.frombuffer(data, dtype="<f4").astype(np.float32) for id, data in rows}

        return await self._read(read)

    async def document_frequencies(self, terms: Collection[str]) -> tuple[dict[str, int], int]:
        def read(connection: apsw.Connection) -> tuple[dict[str, int], int]:
            tokenizer = words.tokenizer(connection)
            frequencies = {}
            for term in terms:
                tokens = words.tokens(tokenizer, term)
                if len(tokens) == 1:
                    count = self._frequency(connection, tokens[0][0])
                elif tokens:
                    phrase = _quoted(" ".join(word for _, word in tokens))
                    count = connection.execute(
                        f"SELECT count(*) FROM {self._t}_words WHERE {self._t}_words MATCH ?", (phrase,)
                    ).get
                else:
                    count = 0
                frequencies[term] = count
            return frequencies, self._size(connection)

        return await self._read(read)

    async def facets(self, scope: Scope) -> Facets:
        wanted = _Wanted(scope, Filter(), self._t)

        def read(connection: apsw.Connection) -> Facets:
            where, values = wanted.authors("d.author")
            table = f"{self._t}_documents d WHERE d.version IS NOT NULL AND {where}"

            def each(column: str) -> tuple[str, ...]:
                rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} ORDER BY 1", values)
                return tuple(value for (value,) in rows if value)

            dates: list[Any] = connection.execute(
                f"SELECT min(substr(d.published, 1, 10)), max(substr(d.published, 1, 10)) FROM {table}", values
            ).fetchall()
            ((earliest, latest),) = dates
            return Facets(
                authors=each("d.author"),
                sources=tuple(sorted({*each("d.host"), *each("d.source_address")})),
                languages=each("d.language"),
                bylines=each("d.byline"),
                documents=connection.execute(f"SELECT count(*) FROM {table}", values).get,
                chunks=connection.execute(
                    f"SELECT count(*) FROM {self._t}_documents d JOIN {self._t}_chunks c ON c.document = d.number "
                    f"WHERE c.live AND {where}",
                    values,
                ).get,
                earliest=earliest,
                latest=latest,
            )

        return Facets() if wanted.nothing else await self._read(read)

    async def versions(self, document_ids: Collection[str]) -> dict[str, int]:
        def read(connection: apsw.Connection) -> dict[str, int]:
            rows: Any = connection.execute(
                f"SELECT id, version FROM {self._t}_documents "
                "WHERE version IS NOT NULL AND id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(document_ids)),),
            )
            return dict(rows.fetchall())

        return await self._read(read)

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, fn: Callable[[apsw.Connection], T]) -> T:
        def present(connection: apsw.Connection) -> T:
            _number(connection, self._name, self._number)
            return fn(connection)

        return await self._database.read(present)

    def _hits(self, connection: apsw.Connection, scored: Sequence[tuple[int, float]]) -> list[Hit]:
        rows = connection.execute(
            f"{self._hit} WHERE p.chunk IN (SELECT value FROM json_each(?))",
            (json.dumps([number for number, _ in scored]),),
        )
        scores = dict(scored)
        hits = [_hit(row, scores[row[0]]) for row in rows]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk.document_id, hit.chunk.ordinal))

    def _match(self, connection: apsw.Connection, query: str) -> str:
        """The query as FTS5's expression: its words, the telling ones, any of them; identifiers also as phrases."""
        tokenizer = words.tokenizer(connection)
        found: dict[str, str] = {}
        phrases: list[str] = []
        for piece in query.split():
            tokens = words.tokens(tokenizer, piece)
            unspaced = [word for _, word in tokens if words.UNSPACED.fullmatch(word)]
            if len(unspaced) > 1:
                phrases += [_quoted(f"{one} {two}") for one, two in pairwise(unspaced)]
                tokens = [each for each in tokens if not words.UNSPACED.fullmatch(each[1])]
            elif len(tokens) > 1:
                phrases.append(_quoted(piece))
            phrases += [_quoted(parts) for parts in words.parts(piece)]
            for token, word in tokens:
                found.setdefault(token, word)
        telling = {each: word for each, word in found.items() if word.lower() not in words.STOP_WORDS} or found
        limit = max(COMMON * self._size(connection), FEW)
        rare = {each: word for each, word in telling.items() if self._frequency(connection, each) <= limit}
        return " OR ".join(dict.fromkeys([*map(_quoted, (rare or telling).values()), *phrases]))

    def _frequency(self, connection: apsw.Connection, token: str) -> int:
        changes, known = self._frequencies
        if changes != (now := self._changes(connection)) or len(known) >= FREQUENCIES:
            known = {}
            self._frequencies = (now, known)
        found = known.get(token)
        if found is None:
            found = connection.execute(f"SELECT doc FROM {self._t}_terms WHERE term = ?", (token,)).get or 0
            known[token] = found
        return found

    def _hold(self, connection: apsw.Connection) -> _Held | None:
        """All vectors as the connection's transaction sees them, where they are held or shall be from now on."""
        changes = self._changes(connection)
        # Once: another thread that reads anew sets it to None meanwhile.
        held = self._held
        if held is not None and held.changes == changes:
            return held
        state, times = self._searched
        self._searched = (changes, times + 1 if state == changes else 1)
        if self._searched[1] <= HELD_AFTER or self._size(connection) * self._dimensions * 4 > HELD_BYTES:
            return None
        if not self._holding.acquire(blocking=False):
            return None
        try:
            # Let go before: both at once would be twice the memory.
            held = self._held = None
            held = self._held = self._read_all(connection, changes)
            return held
        finally:
            self._holding.release()

    def _read_all(self, connection: apsw.Connection, changes: int) -> _Held:
        numbers: list[int] = []
        places: dict[str, list[int]] = {}
        data = bytearray()
        rows: Any = connection.execute(f"SELECT rowid, author, vector FROM {self._t}_vectors")
        for place, (number, author, vector) in enumerate(rows):
            numbers.append(number)
            places.setdefault(author, []).append(place)
            data += vector
        vectors = np.frombuffer(data, dtype="<f4").reshape(-1, self._dimensions)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return _Held(changes, numbers, vectors, {author: np.array(each) for author, each in places.items()})

    def _changes(self, connection: apsw.Connection) -> int:
        return int(connection.execute("SELECT changes FROM index_generations WHERE number = ?", (self._number,)).get)

    def _size(self, connection: apsw.Connection) -> int:
        """Searchable chunks."""
        return int(connection.execute("SELECT chunks FROM index_generations WHERE number = ?", (self._number,)).get)

    def _changed(self, connection: apsw.Connection, by: int) -> None:
        """What is searchable changes, by so many chunks."""
        connection.execute(
            "UPDATE index_generations SET chunks = chunks + ?, changes = changes + 1 WHERE number = ?",
            (by, self._number),
        )

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, fn: Callable[[apsw.Connection], T]) -> T:
        def present(connection: apsw.Connection) -> T:
            _number(connection, self._name, self._number)
            return fn(connection)

        return await self._database.write(present)

    def _bytes(self, vector: Vectors) -> bytes:
        refuse_odd(vector, self._dimensions)
        return np.ascontiguousarray(vector, dtype="<f4").tobytes()

    def _document(self, connection: apsw.Connection, document: IndexedDocument) -> tuple[int, int | None]:
        """(number, searchable version) of the document, whose row is made where there is none."""
        found = connection.execute(
            f"SELECT number, version FROM {self._t}_documents WHERE id = ?", (document.id,)
        ).fetchone()
        if found is not None:
            number, version = found
            return number, version
        connection.execute(
            f"INSERT INTO {self._t}_documents (id, author, url, title, source_id, source_address, host, byline) "
            "VALUES (?, ?, '', '', '', '', '', '')",
            (document.id, document.author),
        )
        return connection.last_insert_rowid(), None

    def _write_attributes(self, connection: apsw.Connection, number: int, document: IndexedDocument) -> None:
        connection.execute(
            f"UPDATE {self._t}_documents SET version = ?, url = ?, title = ?, source_id = ?, source_address = ?, "
            "host = ?, byline = ?, language = ?, published = ? WHERE number = ?",
            (
                document.version,
                document.url,
                words.storable(document.title),
                document.source_id,
                document.source_address,
                words.host(document.url),
                words.storable(document.byline),
                document.language,
                document.published,
                number,
            ),
        )

    def _chunk(self, connection: apsw.Connection, document: int, chunk: Chunk, vector: Vectors | None) -> int:
        """The number of a chunk, which is added with its vector where it is new."""
        found = connection.execute(f"SELECT number FROM {self._t}_chunks WHERE id = ?", (chunk.id,)).get
        if found is not None:
            return int(found)
        if vector is None:
            raise InvalidInput(f"Chunk {chunk.id} is new to the index and came without its vector.")
        connection.execute(
            f"INSERT INTO {self._t}_chunks (id, document, live, vector) VALUES (?, ?, 0, ?)",
            (chunk.id, document, self._bytes(vector)),
        )
        return connection.last_insert_rowid()

    def _release(self, connection: apsw.Connection, numbers: Sequence[int], document: IndexedDocument) -> None:
        """Make chunks searchable: their vectors and words go into the tables that are searched."""
        self._changed(connection, len(numbers))
        for some in _slices(numbers):
            vectors: list[Any] = connection.execute(
                f"SELECT number, vector FROM {self._t}_chunks WHERE number IN (SELECT value FROM json_each(?))",
                (json.dumps(some),),
            ).fetchall()
            self._insert_vectors(connection, document.author, vectors)
            self._write_words(connection, some, document)
            connection.executemany(
                f"UPDATE {self._t}_chunks SET live = 1, vector = NULL WHERE number = ?", ((each,) for each in some)
            )

    def _write_words(self, connection: apsw.Connection, numbers: Sequence[int], document: IndexedDocument) -> None:
        rows: list[Any] = connection.execute(
            f"SELECT p.chunk, p.heading, p.text FROM {self._t}_places p "
            "WHERE p.version = ? AND p.chunk IN (SELECT value FROM json_each(?))",
            (document.version, json.dumps(list(numbers))),
        ).fetchall()
        connection.executemany(
            f"INSERT INTO {self._t}_words (rowid, title, heading, body, parts) VALUES (?, ?, ?, ?, ?)",
            (
                (
                    number,
                    "" if document.title in heading else words.spaced(words.storable(document.title)),
                    words.spaced(heading),
                    words.spaced(text),
                    # Held apart by a word that is in no query, so that no phrase reaches across two identifiers.
                    " \ue000 ".join(words.parts(f"{heading}\n{text}")),
                )
                for number, heading, text in rows
            ),
        )

    def _withdraw(self, connection: apsw.Connection, numbers: Sequence[int]) -> None:
        """Take chunks out of search; those that a newer version has staged get their vectors back to wait with."""
        self._changed(connection, -len(numbers))
        for some in _slices(numbers):
            which = (json.dumps(some),)
            connection.execute(
                f"UPDATE {self._t}_chunks SET live = 0, "
                f"vector = (SELECT v.vector FROM {self._t}_vectors v WHERE v.rowid = number) "
                "WHERE number IN (SELECT value FROM json_each(?))",
                which,
            )
            blocks: list[Any] = connection.execute(
                f"SELECT DISTINCT chunk_id FROM {self._t}_vectors_rowids "
                "WHERE rowid IN (SELECT value FROM json_each(?))",
                which,
            ).fetchall()
            for table in ("vectors", "words"):
                connection.executemany(f"DELETE FROM {self._t}_{table} WHERE rowid = ?", ((each,) for each in some))
            for (block,) in blocks:
                self._compact(connection, block)

    def _compact(self, connection: apsw.Connection, block: int) -> None:
        """Move what is left of a block that is at most half full into the author's newest one."""
        found = connection.execute(
            f"SELECT partition00, validity, (SELECT max(o.chunk_id) FROM {self._t}_vectors_chunks o "
            f"WHERE o.partition00 = c.partition00) FROM {self._t}_vectors_chunks c WHERE chunk_id = ?",
            (block,),
        ).fetchone()
        if found is None:
            return
        author, validity, newest = found
        left = int.from_bytes(validity).bit_count()
        if block == newest or left == 0 or left > BLOCK // 2:
            return
        vectors: list[Any] = connection.execute(
            f"SELECT r.rowid, v.vector FROM {self._t}_vectors_rowids r "
            f"JOIN {self._t}_vectors v ON v.rowid = r.rowid WHERE r.chunk_id = ?",
            (block,),
        ).fetchall()
        connection.executemany(f"DELETE FROM {self._t}_vectors WHERE rowid = ?", ((number,) for number, _ in vectors))
        self._insert_vectors(connection, author, vectors)

    def _insert_vectors(self, connection: apsw.Connection, author: str, vectors: Iterable[tuple[int, bytes]]) -> None:
        connection.executemany(
            f"INSERT INTO {self._t}_vectors (rowid, author, vector) VALUES (?, ?, ?)",
            ((number, author, vector) for number, vector in vectors),
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """All searchable vectors of one state of the index."""

    changes: int
    numbers: Sequence[int]
    vectors: Vectors
    """(n, dimensions), rows of length 1."""
    places: Mapping[str, npt.NDArray[np.int64]]
    """Of each author's rows."""

    def nearest(self, vector: Vectors, k: int, authors: Sequence[str] | None) -> list[tuple[int, float]]:
        """Numbers and cosines of the k nearest, of these authors or of all."""
        if authors is None:
            among, vectors = None, self.vectors
        else:
            among = np.concatenate(
                [np.empty(0, np.int64), *(self.places[each] for each in authors if each in self.places)]
            )
            vectors = self.vectors[among]
        cosines = vectors @ vector.astype(np.float32)
        wanted = min(k, NEAREST) + SPARE
        best = np.argpartition(-cosines, wanted)[:wanted] if len(cosines) > wanted else np.arange(len(cosines))
        if among is not None:
            best = among[best]
        # By sums whose order does not depend on a row's place: equal vectors get equal scores.
        query = vector.astype(np.float64)
        query /= np.maximum(np.linalg.norm(query), np.finfo(np.float32).tiny)
        exact = (self.vectors[best].astype(np.float64) * query).sum(axis=1)
        order = np.argsort(-exact, kind="stable")[: min(k, NEAREST)]
        return [(self.numbers[best[each]], float(exact[each])) for each in order]


class _Wanted:
    """Scope and filter as conditions of SQL."""

    def __init__(self, scope: Scope, filter: Filter, tables: str) -> None:
        allowed = None if scope.everyone else set(scope.authors)
        if filter.authors:
            allowed = set(filter.authors) if allowed is None else allowed & set(filter.authors)
        self.allowed = None if allowed is None else sorted(allowed)
        """Authors; None: all."""
        self._filter = filter
        self._tables = tables

    @property
    def nothing(self) -> bool:
        return self.allowed is not None and not self.allowed

    @property
    def narrow(self) -> bool:
        """Whether there is more to it than authors."""
        each = self._filter
        return any((each.sources, each.languages, each.since, each.until, each.documents))

    def authors(self, column: str) -> tuple[str, list[str]]:
        if self.allowed is None:
            return "true", []
        if len(self.allowed) == 1:
            return f"{column} = ?", [self.allowed[0]]
        return f"{column} IN ({', '.join('?' * len(self.allowed))})", list(self.allowed)

    def documents(self) -> tuple[str, list[str]]:
        """Over the documents table as `d`."""
        conditions: list[str] = []
        values: list[str] = []
        if self._filter.sources:
            conditions.append("(d.source_id IN {0} OR d.source_address IN {0} OR d.host IN {0})")
            names = [each for name in self._filter.sources for each in (name, name.lower().removeprefix("www."))]
            values += [json.dumps(names)] * 3
        if self._filter.languages:
            conditions.append("d.language IN {0}")
            values.append(json.dumps(self._filter.languages))
        if self._filter.documents:
            conditions.append("d.id IN {0}")
            values.append(json.dumps(self._filter.documents))
        if self._filter.since:
            conditions.append("substr(d.published, 1, 10) >= ?")
            values.append(self._filter.since)
        if self._filter.until:
            conditions.append("substr(d.published, 1, 10) <= ?")
            values.append(self._filter.until)
        return " AND ".join(conditions).format("(SELECT value FROM json_each(?))"), values


def _number(connection: apsw.Connection, name: str, number: int | None = None) -> int:
    """The generation of this name (and of this number: another may have taken the name since). NotFound."""
    found = connection.execute("SELECT number FROM index_generations WHERE name = ?", (name,)).get
    if found is None or (number is not None and found != number):
        raise NotFound(f"There is no index named {name}: it may have been replaced; open the live one.")
    return int(found)


def _retire(connection: apsw.Connection, unless: str) -> None:
    connection.execute(
        "UPDATE index_generations SET state = 'retired', manifest = json_set(manifest, '$.state', 'retired') "
        "WHERE state = 'live' AND name <> ?",
        (unless,),
    )


def _manifest(text: str) -> Manifest:
    values = json.loads(text)
    thresholds = values.pop("thresholds")
    return Manifest(
        encoder=EncoderIdentity(**values.pop("encoder")),
        thresholds=None if thresholds is None else Thresholds(**thresholds),
        **values,
    )


def _hit(row: tuple[apsw.SQLiteValue, ...], score: float) -> Hit:
    (_, id, document, ordinal, start, end, text, heading, kind, tokens, *attributes) = row
    author, url, title, source_id, version, language, published = attributes
    return Hit(
        chunk=Chunk(id, document, ordinal, start, end, text, heading, kind, tokens),  # type: ignore[arg-type]
        score=score,
        author=author,  # type: ignore[arg-type]
        url=url,  # type: ignore[arg-type]
        title=title,  # type: ignore[arg-type]
        source_id=source_id,  # type: ignore[arg-type]
        version=version,  # type: ignore[arg-type]
        language=language,  # type: ignore[arg-type]
        published=published,  # type: ignore[arg-type]
    )


def _numbers(connection: apsw.Connection, query: str, values: Mapping[str, int]) -> list[int]:
    return [number for (number,) in connection.execute(query, values)]


def _slices(numbers: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), SLICE):
        yield list(numbers[start : start + SLICE])


# ── Words ───────────────────────────────────────────────────────────────────────────────────────────


def _quoted(text: str) -> str:
    """A string of FTS5's query language: its words as a phrase."""
    return '"' + text.replace('"', " ").replace("\0", " ") + '"'


def _prepare(connection: apsw.Connection) -> None:
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)


async def open(url: str, data_dir: Path) -> Indexes:
    return SqliteIndexes(await Database.open(url, data_dir, "index", [CATALOG, CHANGES], _prepare))
