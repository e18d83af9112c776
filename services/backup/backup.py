"""From the stores into one file, while writes go on.

Comes in: stores and a path. Goes out: the file, whole or not at all, and what is in it. Does not know: adapters.

A document is read until its record is the same before and after: what is written of it is of one moment. Documents that
change while others are read are read again at the end, so the file is not older than the moment it was begun.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from services.backup.records import plain
from services.backup.stores import ALL, Stores
from services.domain import EVERYONE, Chunk, Document, Source, SourceKind, document_id
from services.errors import InvalidInput, NotFound, Unavailable
from services.ports import Index

FORMAT = 1
PART = 50
"""Documents in one entry of the file: what restoring holds in memory at once."""
ATTEMPTS = 20
"""Reads of one document that keeps changing."""
CHUNKS = 500
"""Read at once."""
LINES = 500
"""Of all other kinds, in one entry of the file."""


@dataclass(slots=True)
class Contents:
    """What a backup holds: for each kind how many, and a digest over all of them in the order of their ids."""

    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    made_at: float = 0.0
    version: str = ""
    format: int = FORMAT


Say = Callable[[str, int], None]
"""Told what is done, and how many of it by now."""


async def backup(stores: Stores, path: Path, say: Say) -> Contents:
    """InvalidInput where the path is taken or cannot be written; the errors of the stores."""
    if await asyncio.to_thread(path.exists):
        raise InvalidInput(f"{path.name} is there already: name another file.")
    partial = path.with_name(path.name + ".partial")
    try:
        handle = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        with (
            os.fdopen(handle, "w+b") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
        ):
            contents = await _write(stores, made, say)
            made.writestr("contents.json", json.dumps(plain(contents), indent=2))
            made.close()
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        partial.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be written ({error.strerror}): name another place.") from error
    finally:
        partial.unlink(missing_ok=True)
    return contents


async def _write(stores: Stores, file: zipfile.ZipFile, say: Say) -> Contents:
    began = time.time()
    contents = Contents(made_at=began, version=version("twin"))
    manifests = [each for each in await stores.indexes.manifests() if each.state == "live"]
    indexes = {each.name: await stores.indexes.open(each.name) for each in manifests}
    _lines(file, "manifests.jsonl", map(plain, manifests))

    written: dict[str, str] = {}
    part: list[dict[str, Any]] = []
    parts = 0
    chunks: dict[str, int] = {}

    async def put(document: Document) -> None:
        nonlocal parts
        line, sum_, vectors = await _document(stores, indexes, document)
        id = document.id
        written[id] = sum_
        chunks[id] = sum(len(each) for each in line["chunks"].values())
        for name, rows in vectors.items():
            await asyncio.to_thread(
                file.writestr, f"vectors/{id}-{line['document']['revision']}-{name}.f32", rows.tobytes()
            )
        try:
            blob = await stores.blobs.get(id)
        except NotFound:
            line["blob"] = False
        else:
            line["blob"] = True
            await asyncio.to_thread(file.writestr, f"blobs/{id}-{line['document']['revision']}", blob)
        part.append(line)
        if len(part) == PART:
            await asyncio.to_thread(_lines, file, f"documents/{parts:06}.jsonl", list(part))
            parts += 1
            part.clear()
        say("documents", len(written))

    async for document in stores.all_documents():
        await put(document)
    # What changed meanwhile, and what came: later lines of the file stand for earlier ones of the same document.
    for _ in range(ATTEMPTS):
        stale = [each async for each in stores.all_documents() if written.get(each.id) != _sum(each)]
        if not stale:
            break
        for each in stale:
            await put(each)
    if part:
        _lines(file, f"documents/{parts:06}.jsonl", part)
    contents.counts["documents"], contents.digests["documents"] = len(written), digest_of(written)
    contents.counts["chunks"] = sum(chunks.values())

    everything: dict[str, AsyncIterator[Any]] = {
        "sources": _each(await stores.sources.find(EVERYONE)),
        "jobs": _each(await stores.jobs.find(EVERYONE, limit=ALL)),
        "keys": _each(await stores.keys.find()),
        "journal": stores.all_generations(),
        "audit": stores.all_audit(),
    }
    for name, some in everything.items():
        sums: dict[str, str] = {}
        lines: list[dict[str, Any]] = []
        number = 0
        async for each in some:
            line = plain(each)
            sums[line["id"]] = line_sum(name, line)
            lines.append(line)
            if isinstance(each, Source) and each.kind is SourceKind.UPLOAD:
                await _waiting_upload(stores, file, each, written)
            if len(lines) == LINES:
                await asyncio.to_thread(_lines, file, f"{name}/{number:06}.jsonl", lines)
                lines, number = [], number + 1
        await asyncio.to_thread(_lines, file, f"{name}/{number:06}.jsonl", lines)
        contents.counts[name], contents.digests[name] = len(sums), digest_of(sums)
        say(name, len(sums))
    return contents


async def _each(some: Iterable[Any]) -> AsyncIterator[Any]:
    for each in some:
        yield each


async def _waiting_upload(stores: Stores, file: zipfile.ZipFile, source: Source, written: Collection[str]) -> None:
    """The bytes of an upload that has no record of a document yet: its job is to be done where it is restored."""
    id = document_id(source.author, source.address)
    if id not in written:
        try:
            blob = await stores.blobs.get(id)
        except NotFound:
            return
        await asyncio.to_thread(file.writestr, f"uploads/{id}", blob)


async def _document(
    stores: Stores, indexes: dict[str, Index], document: Document
) -> tuple[dict[str, Any], str, dict[str, np.ndarray[Any, Any]]]:
    """One document of one moment, its digest, and its vectors a generation."""
    for _ in range(ATTEMPTS):
        texts = []
        for number in range(1, document.version + 1):
            try:
                text, cleaner = await stores.documents.text(document.id, number)
            except NotFound:
                continue
            texts.append({"version": number, "text": text, "cleaner": cleaner})
        found: dict[str, list[Chunk]] = {}
        vectors: dict[str, np.ndarray[Any, Any]] = {}
        whole = True
        for name, index in indexes.items():
            if document.indexed_version is None:
                continue
            hits = []
            for start in range(0, document.chunks, CHUNKS):
                hits += await index.neighbours({document.id: range(start, min(start + CHUNKS, document.chunks))})
            rows: dict[str, Any] = {}
            for start in range(0, len(hits), CHUNKS):
                rows |= await index.vectors([each.chunk.id for each in hits[start : start + CHUNKS]])
            hits.sort(key=lambda each: each.chunk.ordinal)
            whole = whole and len(hits) == document.chunks and len({each.chunk.id for each in hits} - rows.keys()) == 0
            whole = whole and all(each.version == document.indexed_version for each in hits)
            if whole and hits:
                found[name] = [each.chunk for each in hits]
                vectors[name] = np.stack([rows[each.chunk.id] for each in hits]).astype("<f4")
        addresses = sorted(await stores.documents.addresses(document.id))
        now = (await stores.documents.get([document.id])).get(document.id)
        if whole and now == document:
            line = {"document": plain(document), "texts": texts, "addresses": addresses,
                    "chunks": {name: plain(some) for name, some in found.items()}}  # fmt: skip
            return line, _sum(document), vectors
        if now is None:
            break
        document = now
        await asyncio.sleep(0.05)
    raise Unavailable("A document changes faster than it can be read: try again when less is being brought in.")


def _sum(document: Document) -> str:
    """What must be the same after restoring: all but the count of writes to the record."""
    return line_sum("documents", plain(document))


def line_sum(kind: str, line: dict[str, Any]) -> str:
    kept = {name: value for name, value in line.items() if (kind, name) not in _OWN}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


_OWN = {("documents", "revision"), ("keys", "used_at")}
"""Fields that each store counts by itself, or that change without anybody's doing."""


def digest_of(sums: dict[str, str]) -> str:
    """Over all, in the order of their ids."""
    state = hashlib.sha256()
    for id in sorted(sums):
        state.update(f"{id} {sums[id]}\n".encode())
    return state.hexdigest()


def _lines(file: zipfile.ZipFile, name: str, lines: Iterable[Any]) -> None:
    # ASCII: whatever a text holds, half a surrogate pair included, comes back as it was.
    file.writestr(name, "".join(json.dumps(each) + "\n" for each in lines))
