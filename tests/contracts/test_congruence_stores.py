"""The stores on a server do what the embedded ones do: the same random operations give the same results in both.

Each port gets OPERATIONS of them, drawn from a seed, on few records, so that they meet one another.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.adapters import open_adapter
from services.domain import (
    EVERYONE,
    AuditEntry,
    Citation,
    Document,
    Evidence,
    Failure,
    Feedback,
    Generation,
    Job,
    JobKind,
    JobState,
    Key,
    Message,
    Passage,
    Progress,
    Role,
    Scope,
    Source,
    SourceKind,
    Support,
    Usage,
    Verdict,
    document_id,
)
from services.errors import TwinError
from services.ports import Audit, Blobs, DocumentQuery, Documents, Jobs, Journal, Keys, Sources

OPERATIONS = 1000
SERVERS = ("mongodb",)
AUTHORS = ("alpha", "beta", "gamma δ")
TIMES = tuple(float(n) / 2 for n in range(12))
WORDS = (
    "Ünïcode",
    "100%_sure",
    "a.b*[c]",
    "back\\slash",
    "quote'\"",
    "plain",
    "PLAIN",
    "line\nbreak",
    "\U0001f600",
    "",
)


class Pair:
    """Two stores that are asked the same."""

    def __init__(self, embedded: Any, server: Any) -> None:
        self._stores = (embedded, server)
        self.asked = 0

    async def same(self, what: str, ask: Callable[[Any], Awaitable[Any]], *, ordered: bool = True) -> Any:
        """What both answer, or None where both refuse with the same error."""
        self.asked += 1

        async def answer(store: Any) -> Any:
            try:
                given = await ask(store)
            except TwinError as error:
                return type(error)
            return given if ordered else sorted(given, key=repr)

        embedded, server = await asyncio.gather(*(answer(store) for store in self._stores))
        assert embedded == server, f"operation {self.asked}: {what}"
        return None if isinstance(embedded, type) else embedded


@pytest.fixture(params=SERVERS)
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = request.getfixturevalue(f"{request.param}_url")
    opened: list[Any] = []

    async def make(port: str) -> Pair:
        for each in ("sqlite:///twin.db", url):
            opened.append(await open_adapter(port, each, tmp_path))
        return Pair(*opened[-2:])

    yield make
    for adapter in opened:
        await adapter.close()


def scope(chance: random.Random) -> Scope:
    return chance.choice(
        [EVERYONE, EVERYONE, Scope(), Scope(authors=(chance.choice(AUTHORS),)), Scope(authors=AUTHORS[:2])]
    )


def some(chance: random.Random, among: Sequence[Any], most: int = 3) -> list[Any]:
    return chance.sample(list(among), chance.randint(0, min(most, len(among))))


async def test_documents(pair: Any) -> None:
    """Records, revisions, texts, addresses, sketches, pages, what is to be indexed, authors, tombstones."""
    chance = random.Random(1)
    stores: Pair = await pair("documents")
    known: dict[str, Document] = {}
    addresses = [f"https://example.org/{n}" for n in range(14)]
    bands = [f"{n}:x" for n in range(6)]

    def changed(document: Document) -> Document:
        return replace(
            document,
            title=f"{chance.choice(WORDS)} {chance.choice(WORDS)}",
            source_id=chance.choice(("s1", "s2")),
            version=chance.randint(1, 4),
            indexed_version=chance.choice((None, 1, 2, 3)),
            fingerprint=chance.choice(("a", "b", "c")),
            duplicate_of=chance.choice((None, None, None, "other")),
            failure=chance.choice((None, None, None, "why")),
            deleted_at=chance.choice((None, None, None, 7.5)),
            language=chance.choice((None, "en")),
            updated_at=chance.choice(TIMES),
        )

    async def save() -> None:
        address, author = chance.choice(addresses), chance.choice(AUTHORS)
        id = document_id(author, address)
        document = changed(known.get(id, Document(id, author, address, "s1", SourceKind.PAGE, "")))
        if chance.random() < 0.15:
            document = replace(document, revision=chance.randint(0, 3))
        text = chance.choice((None, f"{chance.choice(WORDS)}\x00\udcff {chance.random()}"))
        given = {"text": text, "cleaner": chance.choice(("c1", "c2")), "aliases": some(chance, addresses)}
        saved = await stores.same(f"save {document}", lambda store: store.save(document, **given))
        if saved is not None:
            known[id] = saved

    async def find() -> None:
        query = DocumentQuery(
            scope(chance),
            chance.choice((None, None, *AUTHORS)),
            chance.choice((None, None, "s1")),
            chance.choice((None, "queued", "indexed", "updating", "failed", "duplicate", "deleted")),
            chance.choice(("", "", *WORDS, "pLaIn", "_", "%", "EXAMPLE.org/1", ".", "é")),
            chance.randint(1, 5),
        )
        while (page := await stores.same(f"find {query}", of(query))).next:
            query = replace(query, cursor=page.next)

    def of(query: DocumentQuery) -> Callable[[Documents], Awaitable[Any]]:
        return lambda store: store.find(query)

    async def ask() -> None:
        id = chance.choice([*known, "missing"])
        author, version, limit = chance.choice(AUTHORS), chance.randint(1, 5), chance.randint(1, 6)
        those, after, shared = some(chance, addresses, 5), chance.choice(("", *known)), some(chance, bands)
        seen = scope(chance)
        asks: list[tuple[str, Callable[[Documents], Awaitable[Any]], bool]] = [
            ("get", lambda store: store.get([id, *list(known)[:limit]]), True),
            ("resolve", lambda store: store.resolve(author, those), True),
            ("addresses", lambda store: store.addresses(id), True),
            ("text", lambda store: store.text(id, version), True),
            ("unindexed", lambda store: store.unindexed("b", limit, after), True),
            ("near", lambda store: store.near(author, bands), False),
            ("authors", lambda store: store.authors(seen), True),
            ("sketch", lambda store: store.sketch(id, known[id].author if id in known else "", shared), True),
            ("purge", lambda store: store.purge(id), True),
        ]
        name, call, ordered = chance.choice(asks)
        await stores.same(f"{name} {id}", call, ordered=ordered)

    while stores.asked < OPERATIONS:
        await chance.choices((save, find, ask), (4, 2, 5))[0]()
    await stores.same("all", lambda store: store.get(list(known)))


async def test_jobs(pair: Any) -> None:
    """Put, claim, save with old and new tokens, cancel, requeue, prune, find, counts, backlog."""
    chance = random.Random(2)
    stores: Pair = await pair("jobs")
    ids = [f"job {n}" for n in range(60)]
    held: list[Job] = []
    now = 1.0
    kinds = (JobKind.CRAWL, JobKind.FEATURIZE)
    progress = Progress(total=4, seen=2, current="é", failures=(Failure("https://a", "not_found", "Gone."),))

    def job() -> Job:
        if chance.random() < 0.2:
            return Job(
                f"ingest {chance.randint(0, 6)}",
                JobKind.INGEST,
                chance.choice(AUTHORS),
                "",
                created_at=now,
                updated_at=now,
            )
        return Job(
            chance.choice(ids),
            chance.choice(kinds),
            chance.choice(AUTHORS),
            f"target {chance.randint(0, 5)}",
            parent=chance.choice((None, *(f"ingest {n}" for n in range(7)))),
            not_before=chance.choice((0.0, 0.0, now - 1, now + 3)),
            created_at=chance.choice((now, now, now - 2)),
            updated_at=now,
        )  # fmt: skip

    async def put() -> None:
        jobs = [job() for _ in range(chance.randint(1, 4))]
        await stores.same(f"put {jobs}", lambda store: store.put(jobs))

    async def claim() -> None:
        kind, lease, limit = chance.choice(kinds), chance.choice((1.0, 5.0)), chance.randint(1, 4)
        claimed = await stores.same("claim", lambda store: store.claim(kind, "w", now, lease, limit), ordered=False)
        held.extend(claimed)

    async def save() -> None:
        chosen = some(chance, held)
        saved = [
            replace(
                each,
                state=chance.choice(tuple(JobState)),
                progress=chance.choice((None, progress)),
                failure=chance.choice((None, "why")),
                not_before=chance.choice((0.0, now + 2)),
                lease_until=now + chance.choice((1.0, 4.0)),
            )
            for each in {job.id: job for job in chosen}.values()
        ]
        await stores.same(f"save {saved}", lambda store: store.save(saved, now))

    async def ask() -> None:
        parent = f"ingest {chance.randint(0, 7)}"
        one, seen, limit = chance.choice([*ids, parent]), scope(chance), chance.randint(1, 8)
        kind, target = chance.choice((None, *kinds)), chance.choice((None, None, "target 1"))
        of, states, back = chance.choice((None, parent)), some(chance, list(JobState), 2), chance.choice((1.0, 4.0))
        asks: list[tuple[str, Callable[[Jobs], Awaitable[Any]]]] = [
            ("get", lambda store: store.get(one)),
            ("find", lambda store: store.find(seen, kind=kind, parent=of, target=target, states=states, limit=limit)),
            ("find", lambda store: store.find(seen, kind=kind, limit=limit)),
            ("counts", lambda store: store.counts(of)),
            ("backlog", lambda store: store.backlog(now)),
            ("cancel", lambda store: store.cancel(one, now)),
            ("requeue", lambda store: store.requeue(parent, now)),
            ("prune", lambda store: store.prune(now - back)),
        ]
        name, call = chance.choices(asks, (2, 3, 2, 2, 3, 2, 2, 1))[0]
        await stores.same(name, call)

    while stores.asked < OPERATIONS:
        await chance.choices((put, claim, save, ask), (2, 3, 3, 5))[0]()
        now += chance.choice((0.0, 0.5))
        del held[:-20]
    everything = await stores.same("all", lambda store: store.find(EVERYONE, limit=1000))
    assert {each.state for each in everything} == set(JobState)


async def test_journal(pair: Any) -> None:
    """Save, find within a scope, feedback, delete, redact."""
    chance = random.Random(3)
    stores: Pair = await pair("journal")
    ids = [f"answer {n}" for n in range(30)]

    def generation() -> Generation:
        authors = tuple(some(chance, AUTHORS, 2))
        documents = some(chance, ("d1", "d2", "d3"), 2)
        return Generation(
            chance.choice(ids), chance.choice(("k1", "k2")), None,
            (Message("user", "Q?"), Message("assistant", "A"), Message("user", chance.choice(WORDS))), "Q", "P", "m",
            tuple(Passage("c", each, 1, 0, 1, "T", "H", "t", "u", "alpha", 0.5, {"dense": 0.5}) for each in documents),
            f"answer {chance.random()}",
            tuple(Citation(1, each, 1, "t", "u", "alpha", 0, 1, "T", 0, 1) for each in documents[:1]),
            (Support(0, 1, Verdict.QUOTED, 1.0),), Evidence.ANSWER, Usage(1, 2), {"a.b": 1.5}, "stop",
            chance.choice(TIMES), authors, trace=chance.choice(("", "t1", "t2")),
        )  # fmt: skip

    async def save() -> None:
        entries = [generation() for _ in range(chance.choice((1, 1, 3)))]
        await stores.same(f"save {[each.id for each in entries]}", lambda store: store.save(entries))

    async def ask() -> None:
        one, seen, at, limit = (
            chance.choice([*ids, "missing"]),
            scope(chance),
            chance.choice(TIMES),
            chance.randint(1, 8),
        )
        key, before = chance.choice((None, "k1")), chance.choice((None, at))
        trace = chance.choice((None, None, "t1"))
        given = Feedback(one, chance.choice((1, -1)), chance.choice(WORDS), ("wrong",), at)
        document = chance.choice(("d1", "d2", "d3", "d4"))
        asks: list[tuple[str, Callable[[Journal], Awaitable[Any]]]] = [
            ("get", lambda store: store.get(one)),
            ("find", lambda store: store.find(seen, key_id=key, limit=limit, before=before, trace=trace)),
            ("feedback", lambda store: store.feedback(given)),
            ("delete", lambda store: store.delete([one])),
            ("delete before", lambda store: store.delete(before=0.5)),
            ("redact", lambda store: store.redact(document)),
        ]
        name, call = chance.choices(asks, (4, 8, 4, 1, 1, 1))[0]
        await stores.same(f"{name} {one}", call)

    while stores.asked < OPERATIONS:
        await chance.choices((save, ask), (1, 2))[0]()


async def test_sources(pair: Any) -> None:
    """Save, change, get, find, due, delete."""
    chance = random.Random(4)
    saved: dict[str, Source] = {}
    stores: Pair = await pair("sources")

    async def step(store_of: Pair) -> None:
        n = chance.randint(0, 9)
        source = Source(
            f"s{n}", chance.choice(AUTHORS), chance.choice((None, *SourceKind)), f"https://example.org/{n}",
            {"a.b": chance.choice(WORDS), "$x": "y"}, chance.choice((None, 60.0)), chance.random() < 0.5, 1.0,
            chance.choice((None, 2.0)), chance.choice((None, *TIMES)),
        )  # fmt: skip
        # What was read last, which may be stored no longer.
        known = saved.get(source.id, source)
        seen, author = scope(chance), chance.choice((None, *AUTHORS))
        now, limit = chance.choice(TIMES), chance.randint(1, 5)
        asks: list[tuple[str, Callable[[Sources], Awaitable[Any]]]] = [
            ("save", lambda store: store.save(source)),
            ("change", lambda store: store.change(known, source)),
            ("get", lambda store: store.get(source.id)),
            ("find", lambda store: store.find(seen, author)),
            ("due", lambda store: store.due(now, limit)),
            ("delete", lambda store: store.delete(source.id)),
        ]
        name, call = chance.choices(asks, (4, 3, 2, 3, 3, 1))[0]
        await store_of.same(f"{name} {source}", call)
        if name == "save" and chance.random() < 0.8:
            saved[source.id] = source

    while stores.asked < OPERATIONS:
        await step(stores)


async def test_blobs(pair: Any) -> None:
    """Put, get, delete, of nothing, a little, and more than one piece."""
    chance = random.Random(5)
    stores: Pair = await pair("blobs")
    keys = [f"k{n}" for n in range(8)]
    large = chance.randbytes(5 << 20)

    async def step() -> None:
        key, gone, size = chance.choice(keys), some(chance, keys, 2), chance.choice((0, 1, 100, 10_000))
        data = chance.randbytes(size)
        asks: list[tuple[str, Callable[[Blobs], Awaitable[Any]]]] = [
            ("put", lambda store: store.put(key, data)),
            ("get", lambda store: store.get(key)),
            ("delete", lambda store: store.delete(gone)),
        ]
        name, call = chance.choices(asks, (4, 5, 1))[0]
        await stores.same(f"{name} {key}", call)

    await stores.same("put large", lambda store: store.put(keys[0], large))
    await stores.same("get large", lambda store: store.get(keys[0]))
    while stores.asked < OPERATIONS:
        await step()


async def test_keys(pair: Any) -> None:
    """Save, find by hash, list, use."""
    chance = random.Random(6)
    stores: Pair = await pair("keys")

    async def step() -> None:
        n, at = chance.randint(0, 9), 1000.0 + stores.asked
        key = Key(
            f"k{n}", f"h{n}", chance.choice(WORDS), chance.choice(list(Role)),
            chance.choice((None, (), ("alpha",), AUTHORS)), chance.choice(TIMES), chance.choice((None, 9.0)),
            chance.choice((None, 8.0)), None, chance.choice((None, 5)),
        )  # fmt: skip
        asks: list[tuple[str, Callable[[Keys], Awaitable[Any]]]] = [
            ("save", lambda store: store.save(key)),
            ("by_hash", lambda store: store.by_hash(key.hash)),
            ("find", lambda store: store.find()),
            ("used", lambda store: store.used(key.id, at)),
        ]
        name, call = chance.choices(asks, (2, 4, 3, 2))[0]
        await stores.same(f"{name} {key}", call)

    while stores.asked < OPERATIONS:
        await step()


async def test_audit(pair: Any) -> None:
    """Append, page by time."""
    chance = random.Random(7)
    stores: Pair = await pair("audit")

    async def step() -> None:
        at = stores.asked
        entry = AuditEntry(f"a{at}", chance.choice(TIMES), "k", "key.create", chance.choice(WORDS), "d")
        limit, before = chance.randint(1, 6), chance.choice((None, *TIMES))
        asks: list[tuple[str, Callable[[Audit], Awaitable[Any]]]] = [
            ("append", lambda store: store.append(entry)),
            ("find", lambda store: store.find(limit, before)),
        ]
        name, call = chance.choices(asks, (1, 9))[0]
        await stores.same(f"{name} {at}", call)

    while stores.asked < OPERATIONS:
        await step()
