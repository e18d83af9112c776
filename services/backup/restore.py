"""From a backup's file into stores, checked before and after.

Comes in: a path and stores. Goes out: filled stores. Does not know: adapters. What is there already and the same is
left alone, so a restore that was broken off is begun again and goes on; what is there and differs is refused, unless
it is told to replace nothing but what is missing (`merge`).
"""

from __future__ import annotations

import asyncio
import json
import zipfile
import zlib
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from services.backup.backup import FORMAT, PART, Contents, Say, digest_of, line_sum
from services.backup.records import made, plain
from services.backup.stores import ALL, Stores
from services.crawler import sketch
from services.domain import EVERYONE, AuditEntry, Chunk, Document, Generation, Job, Key, Manifest, Source
from services.errors import Conflict, InvalidInput, NotFound
from services.ports import Index, IndexedDocument

AT_ONCE = 8
"""Documents, or entries of the journal, written at once: each waits for its store to have it on disk."""


async def restore(stores: Stores, path: Path, say: Say) -> Contents:
    """InvalidInput where the file is none of Twin's or damaged, Conflict where the stores hold something else."""
    try:
        file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path.name} is no backup of Twin's, or cannot be read.") from error
    with file:
        contents = await asyncio.to_thread(_checked, file)
        newest = await asyncio.to_thread(_newest, file)
        await _vacant(stores, file, newest)
        sources = {each["id"]: made(Source, each) for each in _of(file, "sources")}
        for source in sources.values():
            await stores.sources.save(source)
        for name in [each for each in file.namelist() if each.startswith("uploads/")]:
            await stores.blobs.put(name.partition("/")[2], await asyncio.to_thread(file.read, name))
        indexes = await _indexes(stores, file)
        done = 0
        taken: set[tuple[str, str]] = set()
        async for some in _some(file, "documents", newest):
            await _side_by_side(_document(stores, file, indexes, sources, each) for each in some)
            taken |= {_first_address(each) for each in some if each["document"]["url"] not in each["addresses"]}
            done += len(some)
            say("documents", done)
        if taken:
            async for some in _some(file, "documents", newest):
                await _side_by_side(_lead(stores, each, taken) for each in some)
        for manifest in [made(Manifest, each) for each in _lines(file, "manifests.jsonl")]:
            await stores.indexes.update(manifest)
        for name in _parts(file, "jobs"):
            await stores.jobs.put([made(Job, each) for each in await asyncio.to_thread(_part, file, name)])
        for each in _of(file, "keys"):
            await stores.keys.save(made(Key, each))
        async for some in _some(file, "journal"):
            await stores.journal.save([made(Generation, each) for each in some])
        known = {each.id async for each in stores.all_audit()}
        # Written newest first, kept in the order they came.
        for name in reversed(_parts(file, "audit")):
            for each in reversed(await asyncio.to_thread(_part, file, name)):
                if each["id"] not in known:
                    await stores.audit.append(made(AuditEntry, each))
    await verify(stores, contents)
    return contents


async def verify(stores: Stores, contents: Contents) -> None:
    """Count and digest what the stores hold now. Conflict where it is not what the backup holds."""
    found = {
        "documents": {each.id: line_sum("documents", plain(each)) async for each in stores.all_documents()},
        "sources": {each.id: line_sum("sources", plain(each)) for each in await stores.sources.find(EVERYONE)},
        "jobs": {each.id: line_sum("jobs", plain(each)) for each in await stores.jobs.find(EVERYONE, limit=ALL)},
        "keys": {each.id: line_sum("keys", plain(each)) for each in await stores.keys.find()},
        "journal": {each.id: line_sum("journal", plain(each)) async for each in stores.all_generations()},
        "audit": {each.id: line_sum("audit", plain(each)) async for each in stores.all_audit()},
    }
    wrong = [
        f"{name} ({len(sums)} of {contents.counts[name]})"
        for name, sums in found.items()
        if len(sums) != contents.counts[name] or digest_of(sums) != contents.digests[name]
    ]
    if wrong:
        raise Conflict(
            f"What was restored is not what the backup holds: {', '.join(wrong)}. Restore into empty stores, while "
            "nothing else writes to them."
        )


def _checked(file: zipfile.ZipFile) -> Contents:
    """Every entry's checksum, before anything is written."""
    try:
        contents = made(Contents, json.loads(file.read("contents.json")))
        damaged = file.testzip()
    except (KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput("This file is no backup of Twin's, or it is damaged.") from error
    if damaged is not None:
        raise InvalidInput(f"The backup is damaged in {damaged}: take another one.")
    if contents.format > FORMAT:
        raise InvalidInput("The backup was made by a newer Twin: install that one to restore it.")
    return contents


async def _vacant(stores: Stores, file: zipfile.ZipFile, newest: Mapping[str, int]) -> None:
    """Conflict where the stores hold what is not of this backup: what is there afterwards could not be told from it."""
    there: dict[str, AsyncIterator[str]] = {
        "documents": (each.id async for each in stores.all_documents()),
        "sources": _ids(await stores.sources.find(EVERYONE)),
        "jobs": _ids(await stores.jobs.find(EVERYONE, limit=ALL)),
        "keys": _ids(await stores.keys.find()),
        "journal": (each.id async for each in stores.all_generations()),
        "audit": (each.id async for each in stores.all_audit()),
    }
    for kind, ids in there.items():
        own = newest.keys() if kind == "documents" else {each["id"] for each in _of(file, kind)}
        async for id in ids:
            if id not in own:
                raise Conflict(
                    f"The stores hold {kind} that are not of this backup: restore into empty ones (another "
                    "TWIN_DATA_DIR, or other TWIN_DOCUMENTS_URL and TWIN_INDEX_URL), before a key is made there."
                )


async def _ids(some: Iterable[Source] | Iterable[Job] | Iterable[Key]) -> AsyncIterator[str]:
    for each in some:
        yield each.id


async def _indexes(stores: Stores, file: zipfile.ZipFile) -> dict[str, Index]:
    opened = {}
    for each in _lines(file, "manifests.jsonl"):
        manifest = made(Manifest, each)
        await stores.indexes.create(replace(manifest, state="building"))
        opened[manifest.name] = await stores.indexes.open(manifest.name)
    return opened


async def _some(
    file: zipfile.ZipFile, kind: str, newest: Mapping[str, int] | None = None
) -> AsyncIterator[list[dict[str, Any]]]:
    """Lines of a kind, as many as are written at once. `newest`: of each document the line of that revision."""
    for name in _parts(file, kind):
        lines = await asyncio.to_thread(_part, file, name)
        if newest is not None:
            kept = {line["document"]["id"]: line for line in lines}
            lines = [line for id, line in kept.items() if newest[id] == line["document"]["revision"]]
        for start in range(0, len(lines), AT_ONCE):
            yield lines[start : start + AT_ONCE]


async def _side_by_side(works: Iterable[Coroutine[Any, Any, object]]) -> None:
    """All of them to their end, then the first error of any."""
    for each in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each


async def _document(
    stores: Stores, file: zipfile.ZipFile, indexes: dict[str, Index], sources: dict[str, Source], line: dict[str, Any]
) -> None:
    document = made(Document, line["document"])
    stem = f"{document.id}-{document.revision}"
    if line["blob"]:
        await stores.blobs.put(document.id, await asyncio.to_thread(file.read, f"blobs/{stem}"))
    there = (await stores.documents.get([document.id])).get(document.id)
    if there is None or replace(there, revision=0) != replace(document, revision=0):
        for text in line["texts"]:
            earlier = replace(document, version=text["version"], revision=there.revision if there else 0)
            there = await stores.documents.save(earlier, text=text["text"], cleaner=text["cleaner"])
        last = replace(document, revision=there.revision if there else 0)
        await stores.documents.save(last, aliases=line["addresses"])
    if document.deleted_at is None and document.duplicate_of is None and line["texts"]:
        bands = await asyncio.to_thread(sketch.bands, line["texts"][-1]["text"])
        await stores.documents.sketch(document.id, document.author, bands)
    source = sources.get(document.source_id)
    record = IndexedDocument(
        id=document.id,
        version=document.indexed_version or 0,
        author=document.author,
        url=document.url,
        title=document.title,
        source_id=document.source_id,
        source_address=source.address if source is not None else "",
        byline=document.byline,
        language=document.language,
        published=document.published,
    )
    for name, some in line["chunks"].items():
        chunks = [made(Chunk, each) for each in some]
        data = await asyncio.to_thread(file.read, f"vectors/{stem}-{name}.f32")
        rows = np.frombuffer(data, dtype="<f4").reshape(len(chunks), -1)
        vectors = {chunk.id: row for chunk, row in zip(chunks, rows, strict=True)}
        for start in range(0, len(chunks), PART * 10):
            await indexes[name].stage(record, chunks[start : start + PART * 10], vectors)
        await indexes[name].publish(record, len(chunks))


def _first_address(line: dict[str, Any]) -> tuple[str, str]:
    """A document's author and the address that it came by, which its record claims when it is made."""
    return line["document"]["author"], line["document"]["url"]


async def _lead(stores: Stores, line: dict[str, Any], taken: Collection[tuple[str, str]]) -> None:
    """Give a document the addresses back that others had first, and that those took again when they were made."""
    document = line["document"]
    own = [each for each in line["addresses"] if (document["author"], each) in taken]
    if own:
        there = (await stores.documents.get([document["id"]]))[document["id"]]
        await stores.documents.save(there, aliases=own)


def _newest(file: zipfile.ZipFile) -> dict[str, int]:
    """Document id → the revision of its last line."""
    return {line["document"]["id"]: line["document"]["revision"] for line in _of(file, "documents")}


def _parts(file: zipfile.ZipFile, kind: str) -> list[str]:
    return sorted(each for each in file.namelist() if each.startswith(f"{kind}/"))


def _of(file: zipfile.ZipFile, kind: str) -> Iterator[dict[str, Any]]:
    for name in _parts(file, kind):
        yield from _lines(file, name)


def _part(file: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return list(_lines(file, name))


def _lines(file: zipfile.ZipFile, name: str) -> Iterator[dict[str, Any]]:
    try:
        with file.open(name) as opened:
            for line in opened:
                yield json.loads(line)
    except KeyError as error:
        raise NotFound(f"The backup lacks {name}.") from error
