"""The index in Weaviate, over gRPC.

Comes in: chunks with their vectors, a version of a document at a time. Goes out: hits. Does not know: how texts were
chunked or embedded, what a question means, how the two searches are fused.

    weaviate://[:KEY@]HOST:8080[/Prefix]?grpc_port=50051&grpc_host=HOST&consistency=ALL&replicas=1
    weaviate+https://…                        both ports over TLS

The path is what the collections' names begin with (Twin), so that several Twins, or tests, share one server. There are

    PrefixManifests     an object a generation, and one object that names the live one: writing it is the switch
    PrefixChunks_…      of one generation: an object for each place of a chunk in a version, with vector and words
    PrefixVersions_…    of one generation: an object for each version that was published, and one for each that is
                        being staged

Without transactions, what is written is never changed. A place's id is made of document, version and ordinal; to
publish is to write one object, the version's, that was not there. A search finds chunks first, then asks for the
versions that these are of, and drops what is of none. It searches once more where it cannot rule out that a version
was published or dropped between the two steps, so that it finds the old version whole or the new one. An unchanged
chunk's vector is copied to its new place.

Versions that were published are remembered, for asking for a hundred at each search takes longer than the search.
What is dropped is dropped in this order: the versions, then one object of the versions' collection is written anew
(`drops`), then the chunks. A search reads that object after it has found its chunks: as long as it is the same, no
chunk of a version that is remembered had gone by then.

Authors are a filter and not tenants: searches span authors (a scope holds any number), which costs a query a tenant,
and a tenant costs memory whether it is searched or not. 20,000 chunks of 384 dimensions, nearest 50, p50 (1.35.2
on a busy machine of 2 cores, so the ratios count):

                               20 authors: filter    tenants    1,000 authors: filter    tenants
    one author                            3.4 ms     4.2 ms                   8.2 ms      15 ms
    all authors                           9.7 ms      62 ms                    21 ms   4,850 ms
    Weaviate's memory                     360 MB   1,230 MB                   380 MB   2,500 MB

The vector index is HNSW. Each search carries a filter, and below EXACT candidates (Weaviate's flatSearchCutoff)
Weaviate then compares with every one of them: exact, for every smaller corpus and for every such author of a larger
one. Beyond, the graph is faster, and of 20,000 finds 99.9 % of the nearest 100 and 99.5 % of the nearest 10. A
collection keeps the bound that it was made with: Weaviate's own 40,000, where an earlier Twin made it.

Words are folded here (words.py) and are tokens parted by spaces to Weaviate. How often a term occurs is counted
exactly up to COUNTED chunks, beyond that estimated from a sample. Weaviate reads each object that it counts, so counts
are kept: a word that is in many chunks is in many questions.

Every write goes to all replicas (consistency=ALL), so that one may be asked; with QUORUM reads ask a quorum too.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import grpc
import httpx
import numpy as np
import structlog
import weaviate
from weaviate.classes.config import (
    Configure,
    ConsistencyLevel,
    DataType,
    Property,
    StopwordsPreset,
    Tokenization,
    VectorDistances,
)
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.classes.query import Filter as Where
from weaviate.classes.query import Metrics
from weaviate.config import GrpcConfig
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateBaseError

from services.adapters import address, words
from services.adapters.weaviate_reads import (
    Filters,
    Reads,
    Result,
    among,
    below,
    either,
    equal,
    every,
    least,
    most,
    number,
    text,
)
from services.domain import Chunk, EncoderIdentity, Facets, Filter, Hit, Manifest, Scope, Thresholds, digest
from services.errors import Conflict, InvalidInput, Misconfigured, NotFound, Unavailable
from services.ports import Index, IndexedDocument, Indexes, Vectors, refuse_odd, refuse_older

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds that Weaviate has for a read, tries again included: the client by itself would go on for half a minute."""
PATIENCE_WRITING = 60.0
"""Seconds for a batch: a cold HNSW index of a large corpus takes its time."""
PATIENCE_CONNECTING = 3.0
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]
"""gRPC's own two minutes between tries to connect again would outlast a restart by far."""
MOST = 10_000
"""Objects that Weaviate gives or deletes at once (QUERY_MAXIMUM_RESULTS)."""
NEAREST = 4096
"""Most hits of one search, as many as the index in SQLite gives."""
BATCH = 200
"""Objects a batch: of 384 dimensions and 1,000 characters, a megabyte."""
IDS = 200
"""Ids asked for at once."""
PAGE = 1000
"""Ordinals read at once of a document that has more than MOST places."""
SKEW = 60.0
"""Seconds by which clocks of two processes may differ: a version published longer ago than that was there when the
search began."""
ROUNDS = 10
"""Searches of one question, each because versions were published or dropped during the one before."""
UNFLUSHED = 90.0
"""Seconds after which what was written is on Weaviate's disk (PERSISTENCE_MEMTABLES_FLUSH_DIRTY_AFTER_SECONDS is 60).
Before, the text search of 1.35 stops at the first objects that fill the limit, whatever their scores (weaviate/weaviate
pull request 11780; wrong for 100 of 100 questions): so what is younger is searched once more, by itself, with a limit
that it does not fill."""
RECENT = 500
"""That limit: with more young hits than that, the best of them may be missing for that time."""
LEAST = 50
"""Hits that are asked for at least: of 1.35's newly written segments some bounds are too low (pull request 12022; wrong
for 3 of 100 questions with a limit of 10, for 2 with 20, for none with 50)."""
SAME_QUESTION = 1.0
"""Seconds in which neighbours are asked for after the search that found the document: its version is known by then."""
REMEMBERED = 50_000
"""Versions that are known to have been published."""
UNSEEN = 30.0
"""Seconds after which a version that is remembered is asked for again, whatever `drops` says: a process that died
between the two steps, or is of a Twin that had no such object, has not written it."""
EXACT = 10_000
"""Candidates: to compare with every one takes .33 ms for 1,000 of 384 dimensions, by the graph 4.4 ms for 20,000."""
COUNTED = 4096
"""Chunks up to which words are counted exactly: Weaviate counts by reading each object that has the word (5 µs)."""
SAMPLES = 64
"""Beyond, it is counted in a sample first: each chunk is in one of so many parts."""
SHARES = (1, 8)
"""Parts that are a sample: the smaller one first, where the corpus is large enough for it,"""
SAMPLED = 300
"""which then is of so many chunks at least. (From 2,000 on, a question of 10 new words cost 20,000 chunks' server 43 ms
instead of 12.)"""
ENOUGH = 32
"""Chunks of the sample that make a good estimate (within 18 %, and idf is its logarithm); fewer: all are counted."""
KEPT_EXACT = 30.0
"""Seconds that a count is kept, while there are as many chunks as there were;"""
KEPT, DRIFT = 600.0, 0.02
"""and an estimate, while there are nearly as many, of which so large a share may have come or gone."""
KEPT_TOTAL = 1.0
"""Seconds that it is kept how many chunks there are, in an index whose words are estimated."""
TERMS = 20_000
"""Estimates that are kept."""
SCHEMA = 1
"""Of the objects, told in each of them."""
NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,39}")
COUNT = re.compile(r"[1-9][0-9]{0,4}")
EXAMPLE = "weaviate://:KEY@HOST:8080?grpc_port=50051, or weaviate+https:// for TLS"
DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?(?!\d)")
SHOWN = ["shown"]
"""What is read of a hit is one property."""
SPARE = 16
"""Hits asked for beyond those wanted: in place of such as are of a version that is no more, or not yet, searchable."""
STAGED, PUBLISHED, DROPS = "staged", "published", "drops"

log = structlog.get_logger(__name__)


# ── The server ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Address:
    """What the URL says."""

    host: str
    port: int
    grpc_host: str
    grpc_port: int
    secure: bool
    key: str | None = field(repr=False)
    prefix: str
    consistency: ConsistencyLevel
    replicas: int

    @property
    def reading(self) -> ConsistencyLevel:
        return ConsistencyLevel.ONE if self.consistency is ConsistencyLevel.ALL else self.consistency


class _Server:
    """The one client, connected when it is first needed, and the one translator of its errors."""

    def __init__(self, address: _Address) -> None:
        self.address = address
        self._lock = asyncio.Lock()
        self._client: Any = None
        self._reads: Reads | None = None
        self._closed = False

    async def read(self, work: Callable[[Reads], Awaitable[T]]) -> T:
        """As `call`, for what reads chunks and versions."""

        async def ask(_: Any) -> T:
            if self._reads is None:
                raise Unavailable("The index is closed.")
            return await work(self._reads)

        return await self.call(ask)

    async def call(self, work: Callable[[Any], Awaitable[T]], patience: float = PATIENCE) -> T:
        """What `work` makes of the client. Unavailable where it does not answer, or has not read its collection yet."""
        try:
            async with asyncio.timeout(patience):
                return await work(self._client or await self._connected())
        except TimeoutError as error:
            raise Unavailable(
                f"The index did not answer within {patience:.0f} s: try again later.", retry_after=1
            ) from error
        except (WeaviateBaseError, httpx.HTTPError, grpc.aio.AioRpcError) as error:
            raise _translated(error) from error

    async def close(self) -> None:
        self._closed = True
        async with self._lock:
            client, self._client = self._client, None
            if client is not None:
                await client.close()
            reads, self._reads = self._reads, None
            if reads is not None:
                await reads.close()

    async def _connected(self) -> Any:
        async with self._lock:
            if self._closed:
                raise Unavailable("The index is closed.")
            if self._client is None:
                client = self._made()
                try:
                    await client.connect()
                    await self._prepare(client)
                except BaseException:
                    await asyncio.shield(client.close())
                    raise
                to = self.address
                self._reads = Reads(to.grpc_host, to.grpc_port, to.secure, to.key, CHANNEL, to.reading)
                self._client = client
            return self._client

    def _made(self) -> Any:
        to = self.address
        return weaviate.use_async_with_custom(
            http_host=to.host,
            http_port=to.port,
            http_secure=to.secure,
            grpc_host=to.grpc_host,
            grpc_port=to.grpc_port,
            grpc_secure=to.secure,
            auth_credentials=Auth.api_key(to.key) if to.key else None,
            # It would ask a package registry for newer versions of itself; the first call says whether gRPC answers.
            skip_init_checks=True,
            additional_config=AdditionalConfig(
                timeout=Timeout(init=PATIENCE_CONNECTING, query=PATIENCE, insert=PATIENCE_WRITING),
                grpc_config=GrpcConfig(channel_options=CHANNEL),
            ),
        )

    async def _prepare(self, client: Any) -> None:
        await create(
            client,
            self.manifests,
            [_exact("name"), _exact("state"), _kept("fingerprint"), _kept("manifest"), _number("number")],
            self.address.replicas,
        )

    @property
    def manifests(self) -> str:
        return f"{self.address.prefix}Manifests"


class _Missing(Unavailable):
    """A collection is not there: dropped, or not read yet by a server that is starting."""

    def __init__(self) -> None:
        super().__init__("The index is just being started or replaced: try again in a moment.", retry_after=1)


def _missing(text: str) -> bool:
    """Whether Weaviate says so. `non-existing index`: it knows the collection and has not opened it yet."""
    return any(
        each in text.lower() for each in ("could not find class", "class not found", "browse non-existing index")
    )


def _translated(error: Exception) -> Exception:
    text = str(error)
    if _missing(text):
        return _Missing()
    if isinstance(error, UnexpectedStatusCodeError) and error.status_code in (401, 403):
        return Misconfigured("TWIN_INDEX_URL: Weaviate refuses the key. Give one that may read and write collections.")
    log.warning("index.weaviate", kind=type(error).__name__, error=text[:200])
    return Unavailable("The index does not answer as it should: try again later.", retry_after=1)


async def create(client: Any, name: str, properties: Sequence[Property], replicas: int, vectors: bool = False) -> None:
    """A collection, where it is not there yet."""
    if await client.collections.exists(name):
        return
    index = Configure.VectorIndex.hnsw(distance_metric=VectorDistances.COSINE, flat_search_cutoff=EXACT)
    try:
        await client.collections.create(
            name,
            properties=[*properties, _number("schema")],
            vector_config=Configure.Vectors.self_provided(vector_index_config=index) if vectors else None,
            inverted_index_config=Configure.inverted_index(
                stopwords_preset=StopwordsPreset.NONE, bm25_k1=1.2, bm25_b=0.75
            ),
            replication_config=Configure.replication(factor=replicas) if replicas > 1 else None,
        )
    except UnexpectedStatusCodeError:
        # Another process was faster.
        if not await client.collections.exists(name):
            raise


def _exact(name: str) -> Property:
    """Text to filter by as a whole."""
    return Property(name=name, data_type=DataType.TEXT, tokenization=Tokenization.FIELD, index_searchable=False)


def _kept(name: str) -> Property:
    """Text that is only given back."""
    return Property(name=name, data_type=DataType.TEXT, index_filterable=False, index_searchable=False)


def _number(name: str, ranges: bool = False) -> Property:
    return Property(name=name, data_type=DataType.INT, index_range_filters=ranges)


CHUNKS = (
    _exact("document"), _number("version", ranges=True), _number("ordinal", ranges=True), _exact("chunk"),
    _kept("shown"), _exact("author"), _exact("source"), _exact("source_address"), _exact("host"), _exact("language"),
    _number("day", ranges=True), _number("sample"), _number("staged", ranges=True),
    Property(name="words", data_type=DataType.TEXT, tokenization=Tokenization.WHITESPACE),
)  # fmt: skip
VERSIONS = (
    _exact("document"), _number("version", ranges=True), _exact("state"), _exact("author"),
    _kept("shown"), _kept("author_name"), _kept("source_address"), _kept("host"), _kept("byline"), _kept("language"),
    _number("day"), _number("chunks"),
)  # fmt: skip


# ── Generations ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Generation:
    manifest: Manifest
    number: int
    live: bool


class WeaviateIndexes:
    def __init__(self, server: _Server) -> None:
        self._server = server

    async def manifests(self) -> list[Manifest]:
        order = {"live": 0, "building": 1}
        found = sorted((await self._read()).values(), key=lambda each: -each.number)
        return sorted((each.manifest for each in found), key=lambda manifest: order.get(manifest.state, 2))

    async def create(self, manifest: Manifest) -> None:
        there = await self._read()
        found = there.get(manifest.name)
        if found is not None:
            if found.manifest.fingerprint != manifest.fingerprint:
                raise Conflict(f"An index named {manifest.name} exists with another encoder or chunker: take another.")
            return
        chunks, versions = _collections(self._server.address.prefix, manifest)

        async def make(client: Any) -> None:
            # What a crash left of an earlier one that was being dropped is not taken over.
            for name in (versions, chunks):
                if await client.collections.exists(name) and await client.collections.get(name).length():
                    await client.collections.delete(name)
            await create(client, chunks, CHUNKS, self._server.address.replicas, vectors=True)
            await create(client, versions, VERSIONS, self._server.address.replicas)

        await self._server.call(make, PATIENCE_WRITING)
        number = max((each.number for each in there.values()), default=0) + 1
        await self._write(manifest, number, "building" if manifest.state == "live" else manifest.state)
        if manifest.state == "live":
            await self._make_live(manifest, number)

    async def update(self, manifest: Manifest) -> None:
        found = (await self._read()).get(manifest.name)
        if found is None:
            raise _no_index(manifest.name)
        if manifest.state == "live":
            if found.manifest.state == "retired":
                raise Conflict(f"{manifest.name} is not live any more: another index has taken its place.")
            await self._make_live(manifest, found.number)
            return
        await self._write(manifest, found.number, manifest.state)
        if found.live:
            await self._server.call(lambda client: self._collection(client).data.delete_by_id(_LIVE))

    async def drop(self, name: str) -> None:
        found = (await self._read()).get(name)
        if found is None:
            return
        if found.live:
            raise Conflict(f"{name} is the live index: make another one live first.")

        async def take(client: Any) -> None:
            await self._collection(client).data.delete_by_id(_id("manifest", name))
            await client.collections.delete(list(_collections(self._server.address.prefix, found.manifest)))

        await self._server.call(take, PATIENCE_WRITING)

    async def open(self, name: str) -> Index:
        found = (await self._read()).get(name)
        if found is None:
            raise _no_index(name)
        return WeaviateIndex(_GenerationServer(self, self._server, found.manifest), found.manifest)

    async def close(self) -> None:
        await self._server.close()

    def _collection(self, client: Any) -> Any:
        return client.collections.get(self._server.manifests).with_consistency_level(self._server.address.consistency)

    async def _read(self) -> dict[str, _Generation]:
        found = await self._server.call(lambda client: self._collection(client).query.fetch_objects(limit=MOST))
        live = next((each.properties["name"] for each in found.objects if each.uuid == _LIVE), None)
        generations = {}
        for each in found.objects:
            if each.uuid == _LIVE:
                continue
            name = each.properties["name"]
            stored = each.properties["state"]
            # The one object says which is live: until the manifests say so too, they are not believed.
            state = "live" if name == live else "retired" if stored == "live" else stored
            values = json.loads(each.properties["manifest"])
            generations[name] = _Generation(_manifest(values, state), each.properties["number"], name == live)
        return generations

    async def _write(self, manifest: Manifest, number: int, state: str) -> None:
        await self._put(
            _id("manifest", manifest.name),
            {
                "name": manifest.name,
                "state": state,
                "fingerprint": manifest.fingerprint,
                "manifest": json.dumps(asdict(manifest)),
                "number": number,
            },
        )

    async def _make_live(self, manifest: Manifest, number: int) -> None:
        await self._put(_LIVE, {"name": manifest.name, "state": "pointer"})
        await self._write(manifest, number, "live")

    async def _put(self, id: UUID, properties: dict[str, Any]) -> None:
        await _insert(
            self._server, self._collection, [DataObject(uuid=id, properties={**properties, "schema": SCHEMA})]
        )


class _GenerationServer:
    """The server as one generation's index calls it, which tells a dropped collection from one not read yet."""

    def __init__(self, indexes: WeaviateIndexes, server: _Server, manifest: Manifest) -> None:
        self.address = server.address
        self._indexes = indexes
        self._server = server
        self._manifest = manifest

    async def call(self, work: Callable[[Any], Awaitable[T]], patience: float = PATIENCE) -> T:
        """NotFound where the manifests say that this generation is gone, else as _Server.call."""
        return await self._told(self._server.call(work, patience))

    async def read(self, work: Callable[[Reads], Awaitable[T]]) -> T:
        return await self._told(self._server.read(work))

    async def _told(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except _Missing as error:
            listed = {each.name: each for each in await self._indexes.manifests()}.get(self._manifest.name)
            if listed is None or listed.fingerprint != self._manifest.fingerprint:
                raise _no_index(self._manifest.name) from error
            raise


# ── One generation ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of a document that was published."""

    document: str
    version: int
    author: str
    url: str
    title: str
    source_id: str
    language: str | None
    published: str | None
    chunks: int
    at: float


@dataclass(frozen=True, slots=True)
class _Found:
    chunk: Chunk
    version: int
    score: float

    @property
    def of(self) -> tuple[str, int]:
        return self.chunk.document_id, self.version


@dataclass(frozen=True, slots=True)
class _Count:
    """Of the chunks that have some tokens, when there were so many chunks in all."""

    count: int
    total: int
    at: float

    def holds(self, total: int, now: float) -> bool:
        seconds, chunks = (KEPT_EXACT, 0.0) if total <= COUNTED else (KEPT, total * DRIFT)
        return now - self.at < seconds and abs(total - self.total) <= chunks


class WeaviateIndex:
    def __init__(self, server: _GenerationServer, manifest: Manifest) -> None:
        self._server = server
        self._name = manifest.name
        self._dimensions = manifest.encoder.dimensions
        self._chunks_name, self._versions_name = _collections(server.address.prefix, manifest)
        self._words = words.Words()
        self._seen: dict[_Version, float] = {}
        """When a version was first known to be published."""
        self._drops = ""
        self._published_then: dict[tuple[str, int], tuple[float, _Version]] = {}
        """When a version was read, and it, as long as `drops` is as it was."""
        self._counts: dict[str, _Count] = {}
        self._total: tuple[float, int, Filters | None] | None = None
        self._found_last: dict[str, tuple[float, _Version | None]] = {}

    async def known(self, document_id: str) -> frozenset[str]:
        return await self._chunks_of(document_id)

    async def stage(self, document: IndexedDocument, chunks: Sequence[Chunk], vectors: Mapping[str, Vectors]) -> None:
        given = {chunk.id: self._row(vectors[chunk.id]) for chunk in chunks if chunk.id in vectors}
        staged, published = await self._versions_of(document.id)
        searchable = max(published, default=None)
        if searchable == document.version:
            return
        refuse_older(document, searchable)
        copied = await self.vectors([chunk.id for chunk in chunks if chunk.id not in given])
        rows = {id: row.tolist() for id, row in {**copied, **given}.items()}
        for chunk in chunks:
            if chunk.id not in rows:
                raise InvalidInput(f"Chunk {chunk.id} is new to the index and came without its vector.")
        if document.version not in staged:
            await self._insert(self._versions_for_writing, [self._version(document, STAGED, 0)])
        objects = await asyncio.to_thread(self._objects, document, chunks, rows)
        await self._insert(self._chunks_for_writing, objects)

    async def publish(self, document: IndexedDocument, chunks: int) -> None:
        self._found_last.pop(document.id, None)
        self._total = None
        _, published = await self._versions_of(document.id)
        searchable = max(published, default=None)
        if searchable != document.version:
            refuse_older(document, searchable)
            there = await self._count(every(equal("document", document.id), equal("version", document.version)))
            if there != chunks:
                raise Conflict(
                    f"{there} of the {chunks} chunks of version {document.version} are staged: stage the rest first."
                )
            await self._insert(self._versions_for_writing, [self._version(document, PUBLISHED, chunks)])
            _, published = await self._versions_of(document.id)
            if max(published, default=0) > document.version:
                # A newer one was published between the look and the write.
                id = _id(PUBLISHED, document.id, str(document.version))
                await self._server.call(lambda client: self._versions_for_writing(client).data.delete_by_id(id))
                await self._tell_of_drops()
                refuse_older(document, max(published))
        theirs = Where.by_property("document").equal(document.id)
        older = theirs & Where.by_property("version").less_than(document.version)
        done = theirs & Where.by_property("version").equal(document.version) & Where.by_property("state").equal(STAGED)
        await self._delete(self._versions_for_writing, Where.any_of([older, done]))
        if len(published) > 1 or searchable == document.version:
            # An older one went; or did at a try before this, which may have died before it told.
            await self._tell_of_drops()
        await self._delete(self._chunks_for_writing, older)
        self._forget()

    async def delete(self, document_ids: Collection[str]) -> None:
        for id in document_ids:
            self._found_last.pop(id, None)
        for some in _slices(list(document_ids)):
            theirs = Where.by_property("document").contains_any(some)
            await self._delete(self._versions_for_writing, theirs)
            await self._tell_of_drops()
            await self._delete(self._chunks_for_writing, theirs)
        self._forget()

    async def dense(self, vector: Vectors, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        row = self._row(vector).tobytes()
        authors, where = _wanted(scope, filter)

        async def find(limit: int) -> list[_Found]:
            found = await self._find(self._chunks_name, limit, where, near=row, shown=SHOWN)
            return [_found(each, 1.0 - each.metadata.distance) for each in found]

        return [] if k < 1 or authors == () else await self._search(min(k, NEAREST), authors, find)

    async def text(self, query: str, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        tokens = " ".join(self._words.of_query(query))
        authors, where = _wanted(scope, filter)

        async def find(limit: int) -> list[_Found]:
            recent = every(where, least("staged", int(time.time() - UNFLUSHED)))
            both = await asyncio.gather(
                self._find(self._chunks_name, max(limit, LEAST), where, words=tokens, shown=SHOWN),
                self._find(self._chunks_name, max(limit, RECENT), recent, words=tokens, shown=SHOWN),
            )
            merged = {each.metadata.id_as_bytes: each for some in both for each in some}
            best = sorted(merged.values(), key=lambda each: -each.metadata.score)[:limit]
            return [_found(each, each.metadata.score) for each in best]

        return [] if k < 1 or authors == () or not tokens else await self._search(min(k, NEAREST), authors, find)

    async def neighbours(self, places: Mapping[str, Collection[int]]) -> list[Hit]:
        hits: dict[str, list[Hit]] = {}
        left = set(places)
        for _ in range(ROUNDS):
            versions = await self._newest(left)
            wanted = {
                id: [at for at in sorted(set(places[id])) if 0 <= at < version.chunks]
                for id, version in versions.items()
            }
            ids = [_place(id, versions[id].version, at) for id, ordinals in wanted.items() for at in ordinals]
            found: dict[str, list[_Found]] = {id: [] for id in wanted}
            for result in await self._by_ids(self._chunks_name, ids, SHOWN):
                each = _found(result, 0.0)
                found[each.chunk.document_id].append(each)
            for id, theirs in found.items():
                if len(theirs) == len(wanted[id]):
                    theirs.sort(key=lambda each: each.chunk.ordinal)
                    hits[id] = [_hit(each, versions[id]) for each in theirs]
            # Of the others another version has taken their place meanwhile.
            left = versions.keys() - hits.keys()
            if not left:
                return [hit for id in places for hit in hits.get(id, ())]
        raise Unavailable("The document changes faster than it can be read: try again later.", retry_after=1)

    async def vectors(self, chunk_ids: Sequence[str]) -> dict[str, Vectors]:
        vectors: dict[str, Vectors] = {}
        for some in _slices(list(dict.fromkeys(chunk_ids))):
            found = await self._find(self._chunks_name, MOST, among("chunk", some), shown=["chunk"], vectors=True)
            for each in found:
                # A copy: what is read of bytes is not writable.
                vectors[text(each, "chunk")] = np.frombuffer(_vector(each), dtype="<f4").astype(np.float32)
        return vectors

    async def document_frequencies(self, terms: Collection[str]) -> tuple[dict[str, int], int]:
        held = {term: self._words.of_term(term) for term in terms}
        total, staged = await self._in_all()
        counts = await asyncio.gather(*(self._with(tokens, total, staged) for tokens in held.values()))
        return dict(zip(held, counts, strict=True)), total

    async def facets(self, scope: Scope) -> Facets:
        authors, _ = _wanted(scope, Filter())
        if authors == ():
            return Facets()
        where = Where.by_property("state").equal(PUBLISHED)
        if authors is not None:
            where = where & Where.by_property("author").contains_any([_key(author) for author in authors])
        named = ("author_name", "source_address", "host", "language", "byline")
        found = await self._server.call(
            lambda client: self._versions(client).aggregate.over_all(
                filters=where,
                total_count=True,
                return_metrics=[
                    *(Metrics(name).text(top_occurrences_value=True, limit=MOST) for name in named),
                    Metrics("chunks").integer(sum_=True),
                    Metrics("day").integer(minimum=True, maximum=True),
                ],
            )
        )

        def each(name: str) -> set[str]:
            met = found.properties.get(name)
            return {top.value for top in met.top_occurrences if top.value} if met is not None else set()

        days = found.properties.get("day")
        return Facets(
            authors=tuple(sorted(each("author_name"))),
            sources=tuple(sorted(each("host") | each("source_address"))),
            languages=tuple(sorted(each("language"))),
            bylines=tuple(sorted(each("byline"))),
            documents=found.total_count or 0,
            chunks=int(found.properties["chunks"].sum_ or 0) if found.total_count else 0,
            earliest=_date(days.minimum) if days is not None else None,
            latest=_date(days.maximum) if days is not None else None,
        )

    async def versions(self, document_ids: Collection[str]) -> dict[str, int]:
        versions: dict[str, int] = {}
        for some in _slices(list(document_ids)):
            where = every(among("document", some), equal("state", PUBLISHED))
            for each in await self._find(self._versions_name, MOST, where, shown=["document", "version"]):
                id = text(each, "document")
                versions[id] = max(versions.get(id, 0), number(each, "version"))
        return versions

    # ── Searching ───────────────────────────────────────────────────────────────────────────────────

    async def _search(
        self, k: int, authors: tuple[str, ...] | None, find: Callable[[int], Awaitable[list[_Found]]]
    ) -> list[Hit]:
        """The best k of what is searchable."""
        limit = k + SPARE
        gone: set[tuple[str, int]] = set()
        for _ in range(ROUNDS):
            began, at = time.time(), time.monotonic()
            found = await find(limit)
            wanted = {each.of for each in found}
            published = await self._published(wanted)
            fresh = any(each.at > began - SKEW and self._seen.get(each, math.inf) > at for each in published.values())
            missing = wanted - published.keys() - gone
            if missing:
                missing -= await self._being_staged(missing)
            self._remember(published.values())
            gone |= missing
            if fresh or missing:
                # A version may have been published, or dropped, since its chunks were looked for: a search that
                # begins now sees all or none of them.
                continue
            newest: dict[str, int] = {}
            for document, version in published:
                newest[document] = max(version, newest.get(document, 0))
            hits = [
                _hit(each, published[each.of])
                for each in found
                if each.of in published and newest[each.chunk.document_id] == each.version
            ]
            hits = [hit for hit in hits if authors is None or hit.author in authors]
            if len(hits) >= k or len(found) < limit or limit == MOST:
                hits.sort(key=lambda hit: (-hit.score, hit.chunk.document_id, hit.chunk.ordinal))
                if len(self._found_last) > REMEMBERED:
                    self._found_last.clear()
                now = time.monotonic()
                for hit in hits[:k]:
                    document = hit.chunk.document_id
                    self._found_last[document] = now, published[document, hit.version]
                return hits[:k]
            limit = min(4 * limit, MOST)
        raise Unavailable("The index changes faster than it can be searched: try again later.", retry_after=1)

    async def _published(self, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], _Version]:
        """Those that are published. Chunks of theirs that were found before this are all that there were then."""
        if not wanted:
            return {}
        began = time.monotonic()
        (drops,) = [text(each, "shown") for each in await self._by_ids(self._versions_name, [_DROPS], SHOWN)] or [""]
        if drops != self._drops:
            self._drops = drops
            self._published_then.clear()
        known: dict[tuple[str, int], _Version] = {}
        for of in wanted:
            at, version = self._published_then.get(of, (-math.inf, None))
            if version is not None and began - at < UNSEEN:
                known[of] = version
        ids = [
            _id(PUBLISHED, document, str(version)) for document, version in wanted if (document, version) not in known
        ]
        found = [_version(each) for each in await self._by_ids(self._versions_name, ids, SHOWN)]
        read = {(version.document, version.version): version for version in found}
        if self._drops == drops:
            if len(self._published_then) > REMEMBERED:
                self._published_then.clear()
            self._published_then |= {of: (began, version) for of, version in read.items()}
        return known | read

    async def _tell_of_drops(self) -> None:
        """What others remember is to be asked for again."""
        written = {"state": DROPS, "shown": uuid4().hex, "schema": SCHEMA}
        await self._insert(self._versions_for_writing, [DataObject(uuid=_DROPS, properties=written)])

    async def _being_staged(self, wanted: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        ids = [_id(STAGED, document, str(version)) for document, version in wanted]
        found = await self._by_ids(self._versions_name, ids, ["document", "version"])
        return {(text(each, "document"), number(each, "version")) for each in found}

    def _remember(self, published: Iterable[_Version]) -> None:
        if len(self._seen) > REMEMBERED:
            self._seen.clear()
        now = time.monotonic()
        for each in published:
            self._seen.setdefault(each, now)

    async def _newest(self, document_ids: Iterable[str]) -> dict[str, _Version]:
        """The searchable version of each document that has one."""
        versions: dict[str, _Version] = {}
        unknown = []
        for id in document_ids:
            at, version = self._found_last.pop(id, (0.0, None))
            if version is not None and time.monotonic() - at < SAME_QUESTION:
                versions[id] = version
            else:
                unknown.append(id)
        for some in _slices(unknown):
            where = every(among("document", some), equal("state", PUBLISHED))
            for each in await self._find(self._versions_name, MOST, where, shown=SHOWN):
                version = _version(each)
                known = versions.get(version.document)
                if known is None or known.version < version.version:
                    versions[version.document] = version
        return versions

    # ── Counting ────────────────────────────────────────────────────────────────────────────────────

    async def _in_all(self) -> tuple[int, Filters | None]:
        """(chunks, a filter of those among them that are staged and not searchable, which are not counted)."""
        now = time.monotonic()
        if self._total is not None and self._total[1] > COUNTED and now - self._total[0] < KEPT_TOTAL:
            return self._total[1:]
        total, staged = await asyncio.gather(self._count(None), self._staged())
        if total > COUNTED:
            staged = None
        elif staged is not None:
            total -= await self._count(staged)
        self._total = now, total, staged
        return total, staged

    async def _with(self, tokens: Sequence[str], total: int, staged: Filters | None) -> int:
        """In how many chunks all tokens stand."""
        if not tokens:
            return 0
        where = every(*(equal("words", token) for token in tokens))
        if staged is not None:
            whole = await self._count(where)
            return whole - (await self._count(every(where, staged)) if whole else 0)
        now = time.monotonic()
        key = " ".join(tokens)
        known = self._counts.get(key)
        if known is not None and known.holds(total, now):
            return known.count
        count = await (self._count(where) if total <= COUNTED else self._estimate(where, total))
        if len(self._counts) >= TERMS:
            self._counts.clear()
        self._counts[key] = _Count(count, total, now)
        return count

    async def _estimate(self, where: Filters, total: int) -> int:
        for share in SHARES:
            if total * share >= SAMPLED * SAMPLES:
                sampled = await self._count(every(where, below("sample", share)))
                if sampled >= ENOUGH:
                    return sampled * SAMPLES // share
        return await self._count(where)

    def _forget(self) -> None:
        """What was counted, for this process has written."""
        self._total = None
        self._counts.clear()

    async def _staged(self) -> Filters | None:
        """A filter of the chunks that are staged and not searchable; None: there are none."""
        found = await self._find(self._versions_name, PAGE, equal("state", STAGED), shown=["document", "version"])
        if not found:
            return None
        return either(
            every(equal("document", text(each, "document")), equal("version", number(each, "version")))
            for each in found
        )

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────

    async def _find(self, collection: str, limit: int, where: Filters | None, **asked: Any) -> Sequence[Result]:
        return await self._server.read(lambda reads: reads.find(collection, limit, where, **asked))

    async def _count(self, where: Filters | None) -> int:
        return await self._server.read(lambda reads: reads.count(self._chunks_name, where))

    async def _by_ids(self, collection: str, ids: Sequence[UUID], shown: list[str]) -> list[Result]:
        found: list[Result] = []
        for some in _slices([str(id) for id in ids]):
            found += await self._find(collection, len(some), among("_id", some), shown=shown)
        return found

    async def _versions_of(self, document_id: str) -> tuple[set[int], dict[int, _Version]]:
        """(versions that are being staged, versions that were published) of a document."""
        where = equal("document", document_id)
        found = await self._find(self._versions_name, MOST, where, shown=["version", "state", *SHOWN])
        published = [_version(each) for each in found if text(each, "state") == PUBLISHED]
        staged = {number(each, "version") for each in found if text(each, "state") == STAGED}
        return staged, {each.version: each for each in published}

    async def _chunks_of(self, document_id: str) -> frozenset[str]:
        theirs = equal("document", document_id)
        found = await self._find(self._chunks_name, MOST, theirs, shown=["chunk"])
        if len(found) < MOST:
            return frozenset(text(each, "chunk") for each in found)
        last = await self._server.call(
            lambda client: self._chunks(client).aggregate.over_all(
                filters=Where.by_property("document").equal(document_id),
                return_metrics=[Metrics("ordinal").integer(maximum=True)],
            )
        )
        ids: set[str] = set()
        for start in range(0, int(last.properties["ordinal"].maximum or 0) + 1, PAGE):
            where = every(theirs, least("ordinal", start), below("ordinal", start + PAGE))
            ids |= {text(each, "chunk") for each in await self._find(self._chunks_name, MOST, where, shown=["chunk"])}
        return frozenset(ids)

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────

    def _chunks(self, client: Any) -> Any:
        return client.collections.get(self._chunks_name).with_consistency_level(self._server.address.reading)

    def _versions(self, client: Any) -> Any:
        return client.collections.get(self._versions_name).with_consistency_level(self._server.address.reading)

    def _chunks_for_writing(self, client: Any) -> Any:
        return client.collections.get(self._chunks_name).with_consistency_level(self._server.address.consistency)

    def _versions_for_writing(self, client: Any) -> Any:
        return client.collections.get(self._versions_name).with_consistency_level(self._server.address.consistency)

    def _row(self, vector: Vectors) -> Vectors:
        refuse_odd(vector, self._dimensions)
        return np.asarray(vector, dtype="<f4")

    def _objects(
        self, document: IndexedDocument, chunks: Sequence[Chunk], vectors: Mapping[str, list[float]]
    ) -> list[DataObject[Any, Any]]:
        attributes = _present(
            author=_key(document.author),
            source=document.source_id,
            source_address=document.source_address,
            host=words.host(document.url),
            language=document.language,
            day=_day(document.published),
        )
        title = words.storable(document.title)
        staged = int(time.time())
        objects = []
        for chunk in chunks:
            heading, text = words.storable(chunk.heading), words.storable(chunk.text)
            id = _place(document.id, document.version, chunk.ordinal)
            shown = [chunk.id, chunk.document_id, chunk.ordinal, chunk.start, chunk.end, text, heading, chunk.kind,
                     chunk.tokens, document.version]  # fmt: skip
            properties = {
                "document": document.id, "version": document.version, "ordinal": chunk.ordinal, "chunk": chunk.id,
                "shown": json.dumps(shown), "words": self._words.of_chunk(title, heading, text),
                "sample": id.int % SAMPLES, "staged": staged, "schema": SCHEMA, **attributes,
            }  # fmt: skip
            objects.append(DataObject(uuid=id, properties=properties, vector=vectors[chunk.id]))
        return objects

    def _version(self, document: IndexedDocument, state: str, chunks: int) -> DataObject[Any, Any]:
        shown = [document.id, document.version, document.author, document.url, words.storable(document.title),
                 document.source_id, document.language, document.published, chunks, time.time()]  # fmt: skip
        properties = _present(
            author=_key(document.author),
            author_name=document.author,
            source_address=document.source_address,
            host=words.host(document.url),
            byline=words.storable(document.byline),
            language=document.language,
            day=_day(document.published),
        )
        properties |= {
            "document": document.id, "version": document.version, "state": state, "chunks": chunks,
            "shown": json.dumps(shown), "schema": SCHEMA,
        }  # fmt: skip
        return DataObject(uuid=_id(state, document.id, str(document.version)), properties=properties)

    async def _insert(self, collection: Callable[[Any], Any], objects: Sequence[DataObject[Any, Any]]) -> None:
        await _insert(self._server, collection, objects)

    async def _delete(self, collection: Callable[[Any], Any], where: Any) -> None:
        while True:
            done = await self._server.call(
                lambda client: collection(client).data.delete_many(where=where), PATIENCE_WRITING
            )
            if done.failed:
                raise Unavailable(f"{done.failed} of {done.matches} objects were not deleted: try again later.")
            if done.matches < MOST:
                return


async def _insert(
    server: _Server | _GenerationServer, collection: Callable[[Any], Any], objects: Sequence[DataObject[Any, Any]]
) -> None:
    """Write all objects, or raise: Weaviate answers a batch well of which some were refused."""
    for start in range(0, len(objects), BATCH):
        some = objects[start : start + BATCH]

        async def write(client: Any, some: Sequence[DataObject[Any, Any]] = some) -> None:
            done = await collection(client).data.insert_many(some)
            if done.has_errors:
                first = next(iter(done.errors.values())).message
                if _missing(first):
                    raise _Missing
                log.warning("index.weaviate", kind="batch", failed=len(done.errors), error=first[:200])
                raise Unavailable(
                    f"{len(done.errors)} of {len(some)} objects were not written: try again later.", retry_after=1
                )

        await server.call(write, PATIENCE_WRITING)


def _wanted(scope: Scope, filter: Filter) -> tuple[tuple[str, ...] | None, Filters]:
    """(authors that may be found, None: all; what else is a condition)."""
    allowed = None if scope.everyone else set(scope.authors)
    if filter.authors:
        allowed = set(filter.authors) if allowed is None else allowed & set(filter.authors)
    # Always one: with a filter, and few enough candidates, the vector search is exact.
    conditions = [equal("schema", SCHEMA)]
    if allowed:
        conditions.append(among("author", [_key(author) for author in sorted(allowed)]))
    if filter.sources:
        names = sorted({each for name in filter.sources for each in (name, name.lower().removeprefix("www."))})
        conditions.append(either(among(each, names) for each in ("source", "source_address", "host")))
    if filter.languages:
        conditions.append(among("language", list(filter.languages)))
    if filter.documents:
        conditions.append(among("document", list(filter.documents)))
    if filter.since:
        conditions.append(least("day", _asked(filter.since)))
    if filter.until:
        conditions.append(most("day", _asked(filter.until)))
    return None if allowed is None else tuple(sorted(allowed)), every(*conditions)


def _key(author: str) -> str:
    """What an author is filtered by: Weaviate trims the blanks around text, and no author is to be another one."""
    return digest("author", author)


def _day(published: str | None) -> int | None:
    """An ISO date as a number in the same order, YYYYMMDD."""
    found = DATE.match(published or "")
    return None if found is None else int("".join(part or "00" for part in found.groups()))


def _asked(date: str) -> int:
    day = _day(date)
    if day is None:
        raise InvalidInput(f"{date} is no date: write it as YYYY-MM-DD.")
    return day


def _date(day: float | None) -> str | None:
    if not day:
        return None
    text = f"{int(day):08d}"
    return "-".join(part for part in (text[:4], text[4:6], text[6:]) if part != "00")


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "")}


def _id(*parts: str) -> UUID:
    return UUID(digest("weaviate", *parts))


_LIVE = _id("live")
_DROPS = _id(DROPS)


def _place(document: str, version: int, ordinal: int) -> UUID:
    return _id("place", document, str(version), str(ordinal))


def _collections(prefix: str, manifest: Manifest) -> tuple[str, str]:
    """Names of a generation's two collections: a generation made again under its name is a new one."""
    own = digest(manifest.name, manifest.fingerprint)
    return f"{prefix}Chunks_{own}", f"{prefix}Versions_{own}"


def _found(result: Result, score: float) -> _Found:
    *chunk, version = json.loads(text(result, "shown"))
    return _Found(Chunk(*chunk), version, score)


def _version(result: Result) -> _Version:
    return _Version(*json.loads(text(result, "shown")))


def _vector(result: Result) -> bytes:
    """Its float32s: under the name that a collection's one vector has, or without one."""
    named = result.metadata.vectors
    return named[0].vector_bytes if named else result.metadata.vector_bytes


def _hit(found: _Found, version: _Version) -> Hit:
    return Hit(
        chunk=found.chunk,
        score=found.score,
        author=version.author,
        url=version.url,
        title=version.title,
        source_id=version.source_id,
        version=version.version,
        language=version.language,
        published=version.published,
    )


def _manifest(values: dict[str, Any], state: str) -> Manifest:
    thresholds = values.pop("thresholds")
    return Manifest(
        encoder=EncoderIdentity(**values.pop("encoder")),
        thresholds=None if thresholds is None else Thresholds(**thresholds),
        **{**values, "state": state},
    )


def _no_index(name: str) -> NotFound:
    return NotFound(f"There is no index named {name}: it may have been replaced; open the live one.")


def _slices(values: list[T]) -> Iterable[list[T]]:
    return (values[start : start + IDS] for start in range(0, len(values), IDS))


def _address(url: str) -> _Address:
    """The URL taken apart. Misconfigured, without any part of the URL, which may hold a key."""
    options = ("grpc_port", "grpc_host", "consistency", "replicas", "key")
    server = address.read(url, "TWIN_INDEX", EXAMPLE, ("weaviate", "weaviate+https"), options)
    secure, given = server.scheme == "weaviate+https", server.options
    prefix = server.path.strip("/") or "Twin"
    if not NAME.fullmatch(prefix):
        raise Misconfigured(
            f"TWIN_INDEX_URL is {EXAMPLE}: its path is what collections' names begin with, a capital and then letters "
            f"and digits."
        )
    consistency = given.get("consistency", "ALL").upper()
    if consistency not in ("ONE", "QUORUM", "ALL"):
        raise Misconfigured("TWIN_INDEX_URL: ?consistency= is ONE, QUORUM or ALL.")
    grpc_port, replicas = given.get("grpc_port", "443" if secure else "50051"), given.get("replicas", "1")
    if not COUNT.fullmatch(grpc_port) or not COUNT.fullmatch(replicas) or int(grpc_port) > 65535:
        raise Misconfigured("TWIN_INDEX_URL: ?grpc_port= is from 1 to 65535, and ?replicas= a number, 1 or more.")
    return _Address(
        host=server.host,
        port=server.port or (443 if secure else 8080),
        grpc_host=given.get("grpc_host", server.host),
        grpc_port=int(grpc_port),
        secure=secure,
        key=server.password or server.user or given.get("key"),
        prefix=prefix,
        consistency=ConsistencyLevel(consistency),
        replicas=int(replicas),
    )


async def open(url: str, data_dir: Path) -> Indexes:
    return WeaviateIndexes(_Server(_address(url)))
