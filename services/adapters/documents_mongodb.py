"""Documents in MongoDB.

Comes in: `mongodb://…`. Goes out: the port Documents. Does not know: what is done with a document.

All that must change together is in one record: the document, the names of its versions' texts, the addresses that lead
to it, its sketch. A text is written before the record that names it, under a name of its own, so a writer that loses
the race leaves no wrong text; the losers' texts and what a crash left are found by nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from services.adapters.mongodb import ATTEMPTS, Adapter, Database, Record, Step, busy, moment, translating
from services.adapters.records import (
    LARGE_TEXT,
    band_hash,
    cursor_after,
    cursor_place,
    packed_text,
    unpacked_text,
)
from services.domain import Author, Document, Scope, SourceKind, digest
from services.errors import Conflict, NotFound
from services.ports import DocumentPage, DocumentQuery, Documents

_FIELDS = [field.name for field in fields(Document)]
"""As they are, but for `id`, which is `_id`. A field added to Document is read as its default until it is written."""

_NEWEST = [("updated_at", DESCENDING), ("_id", DESCENDING)]

STEPS: Sequence[Step] = (
    {
        "documents": (
            IndexModel(_NEWEST),
            IndexModel([("author", ASCENDING), *_NEWEST]),
            IndexModel([("author", ASCENDING), ("state", ASCENDING), *_NEWEST]),
            IndexModel([("source_id", ASCENDING), *_NEWEST]),
            IndexModel([("author", ASCENDING), ("state", ASCENDING), ("source_id", ASCENDING)]),
            IndexModel([("todo", ASCENDING), ("_id", ASCENDING)]),
            IndexModel([("todo", ASCENDING), ("fingerprint", ASCENDING), ("_id", ASCENDING)]),
            IndexModel([("author", ASCENDING), ("addresses", ASCENDING)]),
            IndexModel([("bands", ASCENDING)]),
        ),
        "texts": (IndexModel([("owner", ASCENDING), ("made_at", ASCENDING)]),),
    },
)


async def open(url: str, data_dir: Path) -> Documents:
    return MongodbDocuments(await Database.open(url, "documents", STEPS))


class MongodbDocuments(Adapter):
    """A record, beside the document's fields:

    state, todo         derived from them, for filtering and for the reconciler
    texts               version → [name of the text's pieces, cleaner]
    addresses, claims   addresses that lead here; address's digest → when it was claimed: the newest claim holds
    bands               of the text's sketch, hashed
    purging             names of texts that are to go: they are in `texts` no more
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._documents = database.collection("documents")
        self._texts = database.pieces("texts")

    @translating
    async def get(self, ids: Collection[str]) -> dict[str, Document]:
        found = await self._documents.find({"_id": {"$in": list(ids)}}, _SHOWN).to_list() if ids else []
        return {str(record["_id"]): _document(record) for record in found}

    @translating
    async def resolve(self, author: str, addresses: Collection[str]) -> dict[str, str]:
        return await self._resolved(author, list(addresses)) if addresses else {}

    async def _resolved(self, author: str, wanted: list[str]) -> dict[str, str]:
        newest: dict[str, tuple[int, str]] = {}
        query = {"author": author, "addresses": {"$in": wanted}}
        async for record in self._documents.find(query, {"addresses": 1, "claims": 1}):
            for address in set(wanted).intersection(record["addresses"]):
                claim = (int(record["claims"][digest(address)]), str(record["_id"]))
                newest[address] = max(claim, newest.get(address, claim))
        return {address: id for address, (_, id) in newest.items()}

    @translating
    async def addresses(self, id: str) -> frozenset[str]:
        record = await self._documents.find_one({"_id": id}, {"author": 1, "addresses": 1})
        if record is None:
            return frozenset()
        led = await self._resolved(record["author"], record["addresses"])
        return frozenset(address for address, document in led.items() if document == id)

    @translating
    async def save(
        self, document: Document, *, text: str | None = None, cleaner: str = "", aliases: Collection[str] = ()
    ) -> Document:
        new = replace(document, revision=document.revision + 1)
        leading = list(aliases)
        if document.revision == 0:
            leading.append(document.url)
        record = _record(new)
        claims = {digest(address): moment() for address in leading}
        name = None
        if text is not None:
            packed = packed_text(text) if len(text) < LARGE_TEXT else await asyncio.to_thread(packed_text, text)
            name = await self._texts.write(new.id, packed)
        texts = {} if name is None else {str(new.version): [name, cleaner]}
        earlier: Record | None = None
        if document.revision == 0:
            whole = {"_id": new.id, **record, "texts": texts, "claims": claims, "bands": [], "purging": []}
            try:
                await self._documents.insert_one({**whole, "addresses": sorted(set(leading))})
            except DuplicateKeyError:
                await self._lost(name)
        else:
            changed: Record = {f"texts.{version}": value for version, value in texts.items()}
            changed |= {f"claims.{address}": claim for address, claim in claims.items()}
            change: Record = {"$set": {**record, **changed}}
            if leading:
                change["$addToSet"] = {"addresses": {"$each": leading}}
            query = {"_id": new.id, "revision": document.revision}
            if name is None:
                if not (await self._documents.update_one(query, change)).matched_count:
                    await self._lost(name)
            else:
                earlier = await self._documents.find_one_and_update(query, change)
                if earlier is None:
                    await self._lost(name)
        replaced = earlier["texts"].get(str(new.version)) if earlier is not None else None
        if replaced is not None:
            await self._texts.delete([replaced[0]])
        return new

    async def _lost(self, text: str | None) -> None:
        """Of a record that was not written."""
        if text is not None:
            await self._texts.delete([text])
        raise Conflict("The document was changed meanwhile: read it again.")

    @translating
    async def text(self, id: str, version: int) -> tuple[str, str]:
        for _ in range(ATTEMPTS):
            record = await self._documents.find_one({"_id": id}, {"texts": 1})
            named = record["texts"].get(str(version)) if record is not None else None
            if named is None:
                break
            packed = await self._texts.read(named[0])
            if packed is not None:
                return await asyncio.to_thread(unpacked_text, packed), str(named[1])
        raise NotFound("There is no such version of the document, or its text is no longer kept.")

    @translating
    async def find(self, query: DocumentQuery) -> DocumentPage:
        conditions: list[Record] = [{"state": {"$ne": "deleted"} if query.state is None else query.state}]
        if not query.scope.everyone:
            conditions.append({"author": {"$in": list(query.scope.authors)}})
        if query.author is not None:
            conditions.append({"author": query.author})
        if query.source_id is not None:
            conditions.append({"source_id": query.source_id})
        if query.text:
            pattern = {"$regex": _containing(query.text)}
            conditions.append({"$or": [{"title": pattern}, {"url": pattern}]})
        if query.cursor:
            updated_at, id = cursor_place(query.cursor)
            earlier = [{"updated_at": {"$lt": updated_at}}, {"updated_at": updated_at, "_id": {"$lt": id}}]
            conditions.append({"$or": earlier})
        # One more than asked for, to know whether there is a next page.
        cursor = self._documents.find({"$and": conditions}, _SHOWN).sort(_NEWEST).limit(query.limit + 1)
        found = [_document(record) async for record in cursor]
        page = found[: query.limit]
        return DocumentPage(tuple(page), cursor_after(page[-1]) if len(found) > query.limit and page else "")

    @translating
    async def unindexed(self, fingerprint: str, limit: int, after: str = "") -> list[Document]:
        # Each is a walk along an index; a changed fingerprint makes one of them long, and then only ids are sorted.
        found: dict[str, Document] = {}
        for condition in (
            {"todo": "index"},
            {"todo": "withdraw"},
            {"todo": "keep", "fingerprint": {"$lt": fingerprint}},
            {"todo": "keep", "fingerprint": {"$gt": fingerprint}},
        ):
            query = {**condition, "_id": {"$gt": after}}
            async for record in self._documents.find(query, _SHOWN).sort("_id", ASCENDING).limit(limit):
                found[str(record["_id"])] = _document(record)
        return [found[id] for id in sorted(found)[:limit]]

    @translating
    async def near(self, author: str, bands: Collection[str]) -> list[tuple[str, str]]:
        hashes = {band_hash(author, band): band for band in bands}
        if not hashes:
            return []
        query = {"bands": {"$in": list(hashes)}, "author": author, "deleted_at": None}
        return [
            (str(record["_id"]), hashes[band])
            async for record in self._documents.find(query, {"bands": 1})
            for band in record["bands"]
            if band in hashes
        ]

    @translating
    async def sketch(self, id: str, author: str, bands: Collection[str]) -> None:
        hashes = sorted({band_hash(author, band) for band in bands})
        result = await self._documents.update_one({"_id": id}, {"$set": {"bands": hashes}})
        if not result.matched_count:
            raise NotFound("There is no such document.")

    @translating
    async def authors(self, scope: Scope) -> list[Author]:
        match: Record = {"state": {"$ne": "deleted"}}
        if not scope.everyone:
            match["author"] = {"$in": list(scope.authors)}
        key = {"author": "$author", "state": "$state"}
        grouped = await self._documents.aggregate([{"$match": match}, {"$group": {"_id": key, "count": {"$sum": 1}}}])
        documents: dict[str, int] = {}
        indexed: dict[str, int] = {}
        async for group in grouped:
            author, count = str(group["_id"]["author"]), int(group["count"])
            documents[author] = documents.get(author, 0) + count
            if group["_id"]["state"] in ("indexed", "updating"):
                indexed[author] = indexed.get(author, 0) + count
        # Ordered as UTF-8 is, which is the order of code points.
        return [Author(each, documents[each], indexed.get(each, 0)) for each in sorted(documents)]

    @translating
    async def purge(self, id: str) -> None:
        for _ in range(ATTEMPTS):
            record = await self._documents.find_one(
                {"_id": id, "deleted_at": {"$ne": None}}, {"texts": 1, "purging": 1}
            )
            if record is None:
                return
            going = [*record["purging"], *(name for name, _ in record["texts"].values())]
            # Whoever brings the document back meanwhile, by a new text or without one, comes before this or after it.
            result = await self._documents.update_one(
                {"_id": id, "deleted_at": {"$ne": None}, "texts": record["texts"], "purging": record["purging"]},
                {"$set": {"texts": {}, "bands": [], "purging": going}},
            )
            if result.matched_count:
                break
        else:
            raise busy()
        await self._texts.delete(going)
        await self._texts.sweep([id])
        # Named until they are gone: a purge that broke off is taken up by the next.
        await self._documents.update_one({"_id": id, "purging": going}, {"$set": {"purging": []}})


_SHOWN: Record = {"texts": 0, "addresses": 0, "claims": 0, "bands": 0, "purging": 0, "state": 0, "todo": 0}


def _record(document: Document) -> Record:
    record = {name: getattr(document, name) for name in _FIELDS if name != "id"}
    record["kind"] = document.kind.value
    record["state"] = document.state
    match document.state:
        case "queued" | "updating":
            record["todo"] = "index"
        case "indexed":
            record["todo"] = "keep"
        case "deleted" if document.indexed_version is not None:
            record["todo"] = "withdraw"
        case _:
            record["todo"] = None
    return record


def _document(record: Record) -> Document:
    values: dict[str, Any] = {name: record[name] for name in _FIELDS if name in record}
    return Document(**{**values, "id": record["_id"], "kind": SourceKind(record["kind"])})


def _containing(text: str) -> str:
    """A regular expression, without flags, for text that contains this one, ASCII letters in either case: what
    SQLite's LIKE does, and the same on every server."""
    return "".join(
        f"[{each.lower()}{each.upper()}]"
        if each.isascii() and each.isalpha()
        else each
        if each.isalnum() or not each.isascii()
        else f"\\x{ord(each):02x}"
        for each in text
    )
