"""The work of one crawl job: what a source holds, brought in.

Comes in: a lease of a CRAWL job. Goes out: documents with their texts, a version more where a text changed; the feature
service asked to make them searchable; progress, and each failure with its reason. Does not know: chunks, vectors, gRPC.

Each item is looked at by itself, and what is wrong with one is noted and left behind. What is wrong with a store or
with the feature service ends the attempt: the lease's backoff tries again, and the job goes on from its checkpoint.
Everything here may be done twice: a document's id is derived, the same bytes and the same text change nothing, and a
version that was saved but never handed on is handed on when it is met again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import structlog

from services.crawler.address import canonical, normalise
from services.crawler.discover import discover
from services.crawler.duplicates import Duplicates
from services.crawler.extraction import Extraction, Read, is_current, raw_hash
from services.crawler.fetch import Fetched
from services.crawler.folders import is_local
from services.crawler.page import Links
from services.crawler.remove import Remover, is_gone
from services.crawler.sketch import near
from services.crawler.sources import Item, Listing, Payload, Tools, kind_of, notes, open_listing, page_links
from services.domain import EVERYONE, Document, Failure, Job, Progress, Source, SourceKind, document_id
from services.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Overloaded,
    TwinError,
    Unprocessable,
    UnsupportedMedia,
)
from services.lease import Lease
from services.ports import Blobs, DocumentQuery, Documents, Sources

_log = structlog.get_logger(__name__)

KEPT_FAILURES = 100
_BATCH = 64
"""Local items looked up, read and saved together: the store commits them in one go."""
_BATCH_BYTES = 32 * 1024 * 1024
_HANDED_ON = 32
"""Versions in one call to the feature service, at most. The first calls have fewer, so that it has work at once."""
_FIRST_HANDED_ON = 4
_LONGEST_TITLE = 500
REPORTED_EVERY = 0.2
"""Seconds; the lease writes less often still."""
_TRIES = 8
"""Saves of one document against others' writes."""


class Feature(Protocol):
    async def featurize(self, documents: Sequence[tuple[str, int, str]], parent: str = "") -> list[str]: ...


class Crawler:
    def __init__(
        self,
        documents: Documents,
        sources: Sources,
        blobs: Blobs,
        feature: Feature,
        remover: Remover,
        extraction: Extraction,
        tools: Tools,
        *,
        concurrency: int,
        readers: int,
    ) -> None:
        """`concurrency`: web pages of one job at once; `readers`: files of one job read, extracted and saved at once:
        more than there are processes that extract, for while some are extracted others are written."""
        self.documents = documents
        self.sources = sources
        self.blobs = blobs
        self.feature = feature
        self.remover = remover
        self.extraction = extraction
        self.tools = tools
        self.duplicates = Duplicates(documents)
        self.concurrency = concurrency
        self.readers = readers
        remover.on_removed = self._removed

    async def handle(self, leases: list[Lease]) -> None:
        """CRAWL jobs."""
        for lease in leases:
            await _watched(lease, _Run(self, lease))

    async def _removed(self, author: str, ids: set[str]) -> None:
        async def featurize(document: Document) -> None:
            await self.feature.featurize([(document.id, document.version, document.author)])

        try:
            await self.duplicates.release(author, ids, featurize)
        except TwinError as error:
            # The feature service's sweep finds versions that nobody asked it to index.
            _log.warning("delete.duplicates_later", reason=error.message)


async def _watched(lease: Lease, run: _Run) -> None:
    """The run, ended soon after a person cancels it or another worker takes the job."""
    work = asyncio.create_task(run.run())
    try:
        while not work.done():
            await asyncio.wait([work], timeout=0.2)
            lease.check()
            run.catch_up()
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


# ── Checkpoints ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Checkpoint:
    """What a job needs to go on after a crash, as Progress.checkpoint carries it."""

    explicit: bool = False
    """A person asked for this crawl: it brings back what was deleted before."""
    seconds: float = 0.0
    """Worked so far."""
    passed: int = 0
    """Items of an ordered listing that are done with, all of them."""
    after: str = ""
    """Address of the last of these."""
    counts: tuple[int, ...] = ()
    """seen, new, changed, unchanged, skipped, failed at that point."""
    attempt: int = 0
    """Of the ingest, at this source: each retry of a crawl that went through is a job of its own."""
    done: bytearray = field(default_factory=bytearray)
    """6 bytes of hash for each web address that is done with."""
    ready: list[tuple[str, int, str]] = field(default_factory=list)
    """Versions (document, number, author) that came in and that the feature service has not been told of yet."""

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        known = json.loads(text) if text else {}
        return cls(
            explicit=known.get("explicit", False),
            seconds=known.get("seconds", 0.0),
            passed=known.get("passed", 0),
            after=known.get("after", ""),
            counts=tuple(known.get("counts", ())),
            attempt=known.get("attempt", 0),
            done=bytearray(base64.b64decode(known.get("done", ""))),
            ready=[(document, version, author) for document, version, author in known.get("ready", ())],
        )

    def write(self) -> str:
        known: dict[str, object] = {"explicit": self.explicit, "seconds": round(self.seconds, 2)}
        if self.attempt:
            known["attempt"] = self.attempt
        if self.passed:
            known |= {"passed": self.passed, "after": self.after, "counts": self.counts}
        if self.done:
            known["done"] = base64.b64encode(self.done).decode()
        if self.ready:
            known["ready"] = self.ready
        return json.dumps(known)


_MARK = 6
_FROM_FEED = "feed"
"""In the place of an ETag: the text is the feed's own, because the page could not be fetched. What was fetched once is
not given up for it."""


def _mark(address: str) -> bytes:
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).digest()[:_MARK]


# ── One run ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Found:
    """An item's bytes, and what came with them."""

    payload: Payload
    address: str
    """Whence: of the page where it was in the end, or of the file."""
    etag: str = ""
    last_modified: str = ""
    declared: str | None = None
    """Canonical, by the response's own header."""
    aliases: tuple[str, ...] = ()


class _Passed(Exception):
    """An item that is done with, as counted."""

    def __init__(self, count: str, links: Links | None = None) -> None:
        self.count = count
        self.links = links


class _Run:
    def __init__(self, crawler: Crawler, lease: Lease) -> None:
        self._ = crawler
        self._lease = lease
        self._job: Job = lease.job
        before = lease.job.progress or Progress()
        self._checkpoint = Checkpoint.read(before.checkpoint)
        if not self._checkpoint.done and not self._checkpoint.passed:
            before = Progress()
        self._counts = {
            name: getattr(before, name) for name in ("seen", "new", "changed", "unchanged", "skipped", "failed")
        }
        self._failures: deque[Failure] = deque(before.failures, KEPT_FAILURES)
        self._total = before.total
        self._current = before.current
        self._began = time.monotonic() - self._checkpoint.seconds
        self._reported = 0.0
        self._unreported = False
        self._handled: set[str] = set()
        """Ids met in this run: another address of theirs is no second document, and the others may be gone."""
        self._changed: set[str] = set()
        self._ready = self._checkpoint.ready
        self._enough = _FIRST_HANDED_ON
        self._handing_on = asyncio.Lock()
        self._first_failure: TwinError | None = None
        self._owners: dict[str, Source | None] = {}
        self._adoptions: set[str] = set()
        self._known_source: Source | None = None

    @property
    def _source(self) -> Source:
        if self._known_source is None:
            raise NotFound("The source was deleted before it was crawled.")
        return self._known_source

    async def run(self) -> None:
        try:
            await self._crawl()
        except (InvalidInput, NotFound, Forbidden) as error:
            # What is wrong with the source as a whole is its one failure.
            if not self._failures:
                cause = error.__cause__
                code = cause.code if isinstance(cause, TwinError) else error.code
                address = self._known_source.address if self._known_source is not None else self._job.target
                self._failures.append(Failure(address, code, error.message))
            raise
        finally:
            if not self._lease.lost:
                self._report(now=True)

    async def _crawl(self) -> None:
        source = await self._.sources.get(self._job.target)
        if source is None:
            raise NotFound("The source was deleted before it was crawled.")
        self._known_source = source
        self._known_source = await self._discovered(source)
        if self._checkpoint.explicit and "commit" in self._source.options and await self._has_deleted():
            # An explicit ingest brings back what was deleted, so it looks at every file again.
            self._known_source = replace(self._source, options=_without(self._source.options, "commit"))
        listing = await open_listing(self._source, self._.tools)
        self._total = listing.total if listing.total is not None else self._total
        self._report()
        if not listing.unchanged:
            async with aclosing(listing.items()) as items:
                if kind_of(self._source.kind or SourceKind.PAGE).pages:
                    await self._web(listing, items)
                else:
                    await self._local(listing, items)
            await self._hand_on()
            if listing.complete:
                await self._gone()
        # Only now, when all that came with them is known.
        await self._.duplicates.release(self._job.author, self._changed, self._featurize)
        await self._hand_on()
        await self._record(listing)
        counts = self._counts
        if self._first_failure is not None and not counts["new"] + counts["changed"] + counts["unchanged"]:
            # Nothing came in. If it is tried again, it is tried from the beginning.
            self._checkpoint = Checkpoint(explicit=self._checkpoint.explicit, attempt=self._checkpoint.attempt)
            raise Unprocessable(self._first_failure.message) from self._first_failure

    async def _discovered(self, source: Source) -> Source:
        found = await discover(source, self._.tools)
        if found is not source:
            # The schedule may have been changed while it was looked at; where the kind or the options were, what was
            # found is of what is asked for no longer.
            while (now := await self._.sources.get(source.id)) is not None:
                if (now.kind, now.options) != (source.kind, source.options):
                    break
                if await self._.sources.change(now, replace(now, kind=found.kind, options=found.options)):
                    break
        return found

    async def _has_deleted(self) -> bool:
        query = DocumentQuery(scope=EVERYONE, source_id=self._source.id, state="deleted", limit=1)
        return bool((await self._.documents.find(query)).documents)

    async def _record(self, listing: Listing) -> None:
        """When it was crawled, when it is due, and what to know the next time; the schedule may have changed."""
        now = time.time()
        while (source := await self._.sources.get(self._source.id)) is not None:
            options = dict(source.options)
            if self._counts["failed"]:
                options = _without(options, *listing.notes)
            elif _said(source) == _said(self._source):
                options |= listing.notes
            due = now + source.every if source.every is not None else None
            if await self._.sources.change(source, replace(source, options=options, crawled_at=now, due_at=due)):
                return

    # ── Items, many at once ─────────────────────────────────────────────────────────────────────────

    async def _web(self, listing: Listing, items: AsyncIterator[Item]) -> None:
        """Pages, so many at a time; which of them are done with is noted one by one."""
        marks = bytes(self._checkpoint.done)
        done = {marks[at : at + _MARK] for at in range(0, len(marks), _MARK)}
        slots = asyncio.Semaphore(self._.concurrency)
        tasks: set[asyncio.Task[None]] = set()
        broken: list[BaseException] = []

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            slots.release()
            if not task.cancelled() and (error := task.exception()) is not None:
                broken.append(error)

        async def one(item: Item) -> None:
            links = None
            try:
                if _mark(item.address) in done:
                    links = await self._links_again(item) if listing.wants_links else None
                else:
                    links = await self._page(item, wants_links=listing.wants_links)
            finally:
                listing.handled(item, links)

        try:
            async for item in items:
                await slots.acquire()
                if broken:
                    break
                task = asyncio.create_task(one(item))
                tasks.add(task)
                task.add_done_callback(ended)
            while tasks and not broken:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if broken:
            raise broken[0]

    async def _page(self, item: Item, *, wants_links: bool) -> Links | None:
        known = await self._records([item.address])
        try:
            return await self._item(item, known.get(item.address), wants_links=wants_links)
        finally:
            if self._ready:
                await self._hand_on()

    async def _local(self, listing: Listing, items: AsyncIterator[Item]) -> None:
        """Files, a batch at a time, in order; the checkpoint counts whole batches."""
        checkpoint = self._checkpoint
        passing = checkpoint.passed
        if passing and checkpoint.counts:
            self._counts = dict(zip(self._counts, checkpoint.counts, strict=True))
        batch: list[Item] = []
        position = size = 0
        async for item in items:
            batch.append(item)
            size += item.size
            if len(batch) == _BATCH or size >= _BATCH_BYTES:
                position = await self._batch(batch, position, passing)
                batch, size = [], 0
        if batch:
            await self._batch(batch, position, passing)

    async def _batch(self, batch: list[Item], position: int, passing: int) -> int:
        known = await self._records([item.address for item in batch])
        end = position + len(batch)
        if end <= passing:
            # Done with before the interruption; what a listing has is not gone.
            self._handled.update(known[item.address].id for item in batch if item.address in known)
            if end < passing or batch[-1].address == self._checkpoint.after:
                return end
        slots = asyncio.Semaphore(self._.readers)

        async def one(item: Item) -> None:
            record = known.get(item.address)
            if not self._is_same(item, record):
                async with slots:
                    await self._item(item, record, wants_links=False)
            else:
                await self._unchanged(record)

        tasks = [asyncio.create_task(one(item)) for item in batch]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._hand_on()
        self._checkpoint.passed, self._checkpoint.after = end, batch[-1].address
        self._checkpoint.counts = tuple(self._counts.values())
        return end

    def _is_same(self, item: Item, record: Document | None) -> bool:
        """Whether the record shows already that the item has not changed: the short way for many unchanged files."""
        return (
            record is not None
            and bool(item.stamp)
            and record.etag == item.stamp
            and record.source_id == self._source.id
            and record.deleted_at is None
            and is_current(record.raw_hash)
        )

    # ── One item ────────────────────────────────────────────────────────────────────────────────────

    async def _item(self, item: Item, record: Document | None, *, wants_links: bool) -> Links | None:
        """Bring one item in, and count it. What is wrong with the item itself is noted; other errors pass."""
        self._current = item.address
        try:
            item, record = await self._placed(item, record)
            self._check_tombstone(record)
            if record is not None:
                record = await self._adopted(item, record)
            found = await self._obtained(item, record, wants_links)
            if item.url:
                record = await self._record_of(found, record)
            return await self._bring_in(item, found, record, wants_links)
        except _Passed as passed:
            self._count(passed.count, item)
            return passed.links
        except _Failed as failed:
            self._fail(item, failed.error)
            return None

    async def _placed(self, item: Item, record: Document | None) -> tuple[Item, Document | None]:
        """The item under the address that it has or, deleted, had; else the first of its addresses that no other file
        has; with its record."""
        if len(item.addresses) == 1:
            return item, record
        if self._source.crawled_at is not None and (record is None or record.source_id != self._source.id):
            # The file that had the first address may be gone meanwhile: that makes this one no other document, and
            # brings back none that was deleted.
            others = await self._records(item.addresses[1:])
            for address, other in others.items():
                if other.source_id == self._source.id and other.url == address:
                    return replace(item, addresses=(address,)), other
        for number, address in enumerate(item.addresses):
            if number:
                record = (await self._records([address])).get(address)
            last = number == len(item.addresses) - 1
            if record is None or last or not await self._is_anothers(item, record):
                return replace(item, addresses=(address,)), record
        raise AssertionError("the last address is always taken")

    async def _is_anothers(self, item: Item, record: Document) -> bool:
        """Whether a record of this address is another file's, which is still there."""
        if record.source_id == self._source.id or record.deleted_at is not None:
            return False
        owner = await self._owner(record)
        place = _place(owner, record)
        return place is not None and await asyncio.to_thread(_is_other_file, place, item.place)

    async def _adopted(self, item: Item, record: Document) -> Document:
        """The record as one of this source's, where its own source is forgotten or has the file no longer."""
        if record.source_id == self._source.id:
            return record
        owner = await self._owner(record)
        place = _place(owner, record)
        if owner is None or (place is not None and not await asyncio.to_thread(os.path.exists, place)):
            self._adoptions.add(record.id)
            return replace(record, source_id=self._source.id, kind=self._source.kind or record.kind)
        return record

    async def _owner(self, record: Document) -> Source | None:
        if record.source_id not in self._owners:
            self._owners[record.source_id] = await self._.sources.get(record.source_id)
        return self._owners[record.source_id]

    def _check_tombstone(self, record: Document | None) -> None:
        if record is None:
            return
        if record.id in self._handled:
            raise _Passed("skipped")
        self._handled.add(record.id)
        if record.deleted_at is not None and not is_gone(record):
            before = record.deleted_at < self._job.created_at
            if not (self._checkpoint.explicit and before):
                raise _Passed("skipped")

    async def _obtained(self, item: Item, record: Document | None, wants_links: bool) -> _Found:
        """The item's bytes. _Passed where nothing changed, _Failed where they cannot be had."""
        if not item.url:
            if item.read is None:
                raise AssertionError("an item has a URL or brings its bytes")
            try:
                return _Found(await item.read(), item.address, etag=item.stamp)
            except TwinError as error:
                raise _Failed(error) from error
        current = record is not None and record.deleted_at is None and is_current(record.raw_hash)
        etag, last_modified = (record.etag, record.last_modified) if record is not None and current else ("", "")
        from_feed = etag == _FROM_FEED
        try:
            fetched = await self._.tools.web.fetch(
                item.url, etag="" if from_feed else etag, last_modified=last_modified
            )
        except TwinError as error:
            if item.fallback and (record is None or not current or from_feed):
                payload = Payload(item.fallback.encode("utf-8", "replace"), "text/html; charset=utf-8")
                return _Found(payload, item.url, etag=_FROM_FEED)
            raise _Failed(error) from error
        if fetched.status == 304 and record is not None:
            await self._unchanged(record, counted=False)
            raise _Passed("unchanged", await self._links_again(item) if wants_links else None)
        if fetched.status != 200:
            if record is not None and record.deleted_at is None:
                await self._.remover.delete(record, gone=True)
            raise _Failed(NotFound("The server says that there is nothing at this address any more."))
        return _fetched(item, fetched)

    async def _record_of(self, found: _Found, record: Document | None) -> Document | None:
        """The record that the fetched page belongs to: the one its address led to before, else the one of the address
        where it was found in the end."""
        if record is not None:
            return record
        try:
            own = normalise(found.address)
        except InvalidInput as error:
            raise _Failed(error) from error
        record = (await self._records([own])).get(own)
        self._check_tombstone(record)
        return record

    async def _bring_in(self, item: Item, found: _Found, record: Document | None, wants_links: bool) -> Links | None:
        hash = raw_hash(found.payload)
        if record is not None and record.deleted_at is None and record.raw_hash == hash:
            await self._touched(record, found)
            raise _Passed("unchanged", await self._links(found) if wants_links else None)
        try:
            read = await self._.extraction.read(found.payload, found.address, links=wants_links)
            if not read.extracted.text.strip():
                raise Unprocessable("There is no text in it.")
        except UnsupportedMedia as error:
            self._first_failure = self._first_failure or error
            if self._total == 1:
                raise _Failed(error) from error
            raise _Passed("skipped") from error
        except TwinError as error:
            if wants_links and isinstance(error, Unprocessable):
                # A page without a text of its own, such as a table of contents, leads on all the same.
                self._first_failure = self._first_failure or error
                raise _Passed("skipped", await self._links(found)) from error
            raise _Failed(error) from error
        address = item.address
        if item.url and record is None:
            address, record = await self._believed(found, read)
        elif record is not None:
            address = record.url
        await self._save(item, found, read, address, record, hash)
        return read.links

    async def _believed(self, found: _Found, read: Read) -> tuple[str, Document | None]:
        """The address of a page that is not known yet, with its record where another page declared it before.

        A canonical address that a different text has already is not believed: some sites declare one for all pages.
        """
        own = normalise(found.address)
        declared = canonical(found.address, read.extracted.canonical or found.declared)
        if declared == own:
            return own, None
        record = (await self._records([declared])).get(declared)
        if record is None:
            return declared, None
        if record.deleted_at is None and record.text_hash != read.text_hash:
            try:
                text, _ = await self._.documents.text(record.id, record.version)
            except NotFound:
                text = ""
            if not await asyncio.to_thread(near, text, read.extracted.text):
                return own, None
        self._check_tombstone(record)
        return declared, record

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────

    async def _save(
        self, item: Item, found: _Found, read: Read, address: str, record: Document | None, hash: str
    ) -> None:
        author = self._job.author
        id = record.id if record is not None else document_id(author, address)
        self._handled.add(id)
        await self._.blobs.put(id, found.payload.data)
        async with self._.duplicates.deciding(author, id, read.extracted.text, read.bands) as original:
            for _ in range(_TRIES):
                new = self._next(item, found, read, address, record, hash, original)
                changed = record is None or new.version != record.version
                try:
                    saved = await self._.documents.save(
                        new,
                        text=read.extracted.text if changed else None,
                        aliases={alias for alias in (*found.aliases, item.address) if alias != new.url},
                    )
                    break
                except Conflict:
                    record = (await self._.documents.get([id])).get(id)
                    if record is not None and record.deleted_at is not None:
                        try:
                            self._check_deleted_meanwhile(record)
                        except _Passed:
                            # They were kept after whoever deleted the document took what was kept before.
                            await self._.blobs.delete([id])
                            raise
            else:
                raise Conflict("A document was written by others again and again.")
            await self._.documents.sketch(id, author, () if original else read.bands)
        # Before it is marked as done with: whatever happens then, it is handed on.
        if _is_waiting(saved):
            self._note(saved)
        if record is not None and record.deleted_at is None:
            if changed:
                self._changed.add(id)
            self._count("changed" if changed else "unchanged", item)
        else:
            self._count("new", item)
        await self._hand_on_if_enough()

    def _check_deleted_meanwhile(self, record: Document) -> None:
        if not is_gone(record) and not (
            self._checkpoint.explicit and (record.deleted_at or 0.0) < self._job.created_at
        ):
            raise _Passed("skipped")

    def _next(
        self,
        item: Item,
        found: _Found,
        read: Read,
        address: str,
        record: Document | None,
        hash: str,
        original: str | None,
    ) -> Document:
        """The record as it is to be: with a version more where what is searched or shown of it has changed."""
        now = time.time()
        extracted = read.extracted
        title = (extracted.title or item.title or (found.payload.name or ""))[:_LONGEST_TITLE].strip()
        if record is None:
            record = Document(
                id=document_id(self._job.author, address),
                author=self._job.author,
                url=address,
                source_id=self._source.id,
                kind=self._source.kind or SourceKind.PAGE,
                title=title,
                version=0,
                created_at=now,
            )
        new = replace(
            record,
            title=title,
            byline=extracted.byline[:_LONGEST_TITLE],
            language=extracted.language,
            published=extracted.published or item.published,
            modified=extracted.modified,
            media_type=extracted.media_type,
            raw_hash=hash,
            text_hash=read.text_hash,
            etag=found.etag,
            last_modified=found.last_modified,
            duplicate_of=original,
        )
        shown = ("title", "byline", "language", "published", "text_hash", "deleted_at")
        if record.deleted_at is not None:
            # The tombstone's source may be forgotten; who brings it back owns it.
            new = replace(
                new,
                deleted_at=None,
                indexed_version=None,
                chunks=0,
                fingerprint="",
                source_id=self._source.id,
                kind=self._source.kind or SourceKind.PAGE,
            )
        if record.version == 0 or any(getattr(new, name) != getattr(record, name) for name in shown):
            return replace(
                new, version=record.version + 1, characters=len(extracted.text), failure=None, updated_at=now
            )
        return replace(new, updated_at=now) if original != record.duplicate_of else new

    async def _touched(self, record: Document, found: _Found) -> None:
        """The same bytes: what else is to be written of them."""
        aliases = {alias for alias in found.aliases if alias != record.url}
        validators = (found.etag, found.last_modified) != (record.etag, record.last_modified)
        if validators or record.id in self._adoptions or (aliases and await self._are_new(aliases, record)):
            try:
                record = await self._.documents.save(
                    replace(record, etag=found.etag, last_modified=found.last_modified), aliases=aliases
                )
            except Conflict:
                pass  # others write it just now; the next crawl does this again
        await self._unchanged(record, counted=False)

    async def _are_new(self, aliases: set[str], record: Document) -> bool:
        known = await self._.documents.resolve(record.author, aliases)
        return any(known.get(each) != record.id for each in aliases)

    async def _unchanged(self, record: Document | None, *, counted: bool = True) -> None:
        """A document that is as it was: handed on again where that has not come to its end."""
        if record is None:
            return
        self._handled.add(record.id)
        if counted:
            self._count("unchanged")
        if record.failure is not None and self._checkpoint.explicit:
            try:
                record = await self._.documents.save(replace(record, failure=None, updated_at=time.time()))
            except Conflict:
                return
        await self._featurize_if_needed(record)

    async def _featurize_if_needed(self, document: Document) -> None:
        if _is_waiting(document):
            await self._featurize(document)

    def _note(self, document: Document) -> None:
        version = (document.id, document.version, document.author)
        # The attempt before this may have left it.
        if version not in self._ready:
            self._ready.append(version)

    async def _featurize(self, document: Document) -> None:
        self._note(document)
        await self._hand_on_if_enough()

    async def _hand_on_if_enough(self) -> None:
        if len(self._ready) >= self._enough:
            self._enough = min(2 * self._enough, _HANDED_ON)
            await self._hand_on()

    async def _hand_on(self) -> None:
        """Have what is ready made searchable; waits while the feature service is far behind."""
        async with self._handing_on:
            pause = 0.25
            while self._ready:
                some = self._ready[:_HANDED_ON]
                try:
                    await self._.feature.featurize(some, parent=self._job.parent or "")
                except Overloaded as error:
                    await asyncio.sleep(min(error.retry_after or pause, 5.0))
                    pause = min(pause * 2, 5.0)
                else:
                    del self._ready[: len(some)]
                    pause = 0.25

    async def _gone(self) -> None:
        """Documents of this source that it does not hold any more."""
        gone: list[Document] = []
        cursor = ""
        while True:
            query = DocumentQuery(scope=EVERYONE, source_id=self._source.id, limit=500, cursor=cursor)
            page = await self._.documents.find(query)
            gone.extend(each for each in page.documents if each.id not in self._handled)
            cursor = page.next
            if not cursor:
                break
        for each in gone:
            self._lease.check()
            await self._.remover.delete(each, gone=True, tell=False)
        self._changed.update(each.id for each in gone)

    # ── Looking ─────────────────────────────────────────────────────────────────────────────────────

    async def _records(self, addresses: Sequence[str]) -> dict[str, Document]:
        """Address → document, for the addresses of this author that are known."""
        ids = await self._.documents.resolve(self._job.author, addresses)
        found = await self._.documents.get(set(ids.values()))
        return {address: found[id] for address, id in ids.items() if id in found}

    async def _links(self, found: _Found) -> Links | None:
        try:
            return await page_links(self._.tools, found.payload.data, found.address)
        except TwinError:
            return None

    async def _links_again(self, item: Item) -> Links | None:
        """The links of a page that was not fetched, from the bytes of the last time."""
        record = (await self._records([item.address])).get(item.address)
        if record is None:
            return None
        try:
            return await page_links(self._.tools, await self._.blobs.get(record.id), record.url)
        except TwinError:
            return None

    # ── Counting ────────────────────────────────────────────────────────────────────────────────────

    def _count(self, name: str, item: Item | None = None) -> None:
        self._counts["seen"] += 1
        self._counts[name] += 1
        if item is not None and item.url:
            self._checkpoint.done += _mark(item.address)
        self._report()

    def _fail(self, item: Item, error: TwinError) -> None:
        if isinstance(error, UnsupportedMedia) and self._total != 1:
            self._first_failure = self._first_failure or error
            self._count("skipped", item)
            return
        self._first_failure = self._first_failure or error
        self._failures.append(Failure(item.address, error.code, error.message))
        self._count("failed", item)

    def catch_up(self) -> None:
        """Report what was counted too soon after the last report, if anything: nothing further may come for long."""
        if self._unreported:
            self._report()

    def _report(self, *, now: bool = False) -> None:
        self._unreported = True
        if not now and time.monotonic() - self._reported < REPORTED_EVERY:
            return
        self._unreported = False
        self._reported = time.monotonic()
        self._checkpoint.seconds = time.monotonic() - self._began
        self._lease.report(
            Progress(
                **self._counts,
                total=self._total,
                current=self._current,
                failures=tuple(self._failures),
                checkpoint=self._checkpoint.write(),
            )
        )


class _Failed(Exception):
    """An item that cannot be had or read."""

    def __init__(self, error: TwinError) -> None:
        self.error = error


def _is_waiting(document: Document) -> bool:
    """Whether the feature service has something to do for it."""
    # A duplicate that was searchable is handed on too: the feature service takes its chunks.
    withdrawn = document.duplicate_of is not None and document.indexed_version is not None
    waiting = document.duplicate_of is None and document.indexed_version != document.version
    return withdrawn or (waiting and document.failure is None)


def _fetched(item: Item, fetched: Fetched) -> _Found:
    own = normalise(fetched.url)
    path = []
    for each in fetched.path:
        try:
            path.append(normalise(each))
        except InvalidInput:
            continue
    return _Found(
        Payload(fetched.body, fetched.media_type),
        fetched.url,
        etag=fetched.etag,
        last_modified=fetched.last_modified,
        declared=fetched.canonical,
        aliases=tuple(dict.fromkeys([item.address, *path, own])),
    )


def _place(owner: Source | None, record: Document) -> str | None:
    """Where a file source has a record's file; None for what is no file of the machine's."""
    if owner is None or not is_local(owner.address) or owner.kind not in (SourceKind.FOLDER, SourceKind.FILE):
        return None
    if owner.kind is SourceKind.FILE:
        return owner.address
    return str(Path(owner.address) / record.url.removeprefix("file:"))


def _is_other_file(theirs: str, ours: str) -> bool:
    return os.path.exists(theirs) and os.path.realpath(theirs) != os.path.realpath(ours)


def _said(source: Source) -> tuple[SourceKind | None, dict[str, str]]:
    """What a person says of a source, on which it depends what a crawl finds out."""
    return source.kind, _without(source.options, *notes())


def _without(options: object, *names: str) -> dict[str, str]:
    return {name: value for name, value in dict(options).items() if name not in names}  # type: ignore[call-overload]
