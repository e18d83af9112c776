"""Versions of documents brought into one generation of the index: chunked, embedded together, staged.

Comes in: cleaned texts with their documents. Goes out: staged versions, each told of when it is whole. Does not know:
jobs, tombstones, which generation is live.

Three things go on at once: the next documents are chunked in threads, the encoder computes, what it computed is
written. Chunks of many documents share the encoder's batches; the chunks of one long document go through in parts. So
memory holds a few parts, whatever the size of the corpus.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from services import telemetry
from services.domain import Chunk, Document
from services.errors import Conflict, InvalidInput
from services.feature.chunk import chunk
from services.feature.generations import Generation
from services.ports import IndexedDocument, Vectors

BATCH = 256
"""Texts given to the encoder at once: enough of each length that little is padding."""
PART = 1024
"""Chunks staged at once, those included that need no vector."""
IN_FLIGHT = 2
"""Batches under way: one is computed while the other is tokenised or written."""
AHEAD = 64
"""Documents chunked ahead of the encoder, at most."""
AHEAD_CHARACTERS = 4_000_000
"""Of the texts that are chunked at once."""


@dataclass(slots=True)
class Work:
    """One version of one document on its way into one generation."""

    document: Document
    version: int
    text: str
    source_address: str = ""
    chunks: int = 0
    """Known once it is chunked."""
    staged: int = 0
    embedded: int = 0
    """Chunks that needed a vector."""
    whole: bool = False
    """Everything is staged, and it was told."""

    @property
    def record(self) -> IndexedDocument:
        each = self.document
        return IndexedDocument(
            id=each.id,
            version=self.version,
            author=each.author,
            url=each.url,
            title=each.title,
            source_id=each.source_id,
            source_address=self.source_address,
            byline=each.byline,
            language=each.language,
            published=each.published,
        )


@dataclass(slots=True)
class _Part:
    """Chunks of one document that are staged together."""

    work: Work
    chunks: Sequence[Chunk]
    fresh: list[Chunk] = field(default_factory=list)
    """Those without a vector in the index."""


async def bring_in(
    generation: Generation, texts: AsyncIterator[list[Work]], whole: Callable[[list[Work]], Awaitable[None]]
) -> None:
    """Stage every version that `texts` yields (some at a time), and call `whole` with those that are staged whole.

    Raises the first error of any of them; what was staged stays, and is not embedded again.
    """
    prepared: asyncio.Queue[_Part | None] = asyncio.Queue(maxsize=AHEAD)
    room = asyncio.Semaphore(IN_FLIGHT)
    under_way = 0

    async def prepare() -> None:
        async for some in texts:
            for parts in await asyncio.gather(*(_parts(generation, work) for work in some)):
                for part in parts:
                    await prepared.put(part)
        await prepared.put(None)

    async def run(batch: list[_Part]) -> None:
        nonlocal under_way
        try:
            await _stage(generation, batch)
            done = []
            for part in batch:
                if part.work.staged == part.work.chunks and not part.work.whole:
                    part.work.whole = True
                    done.append(part.work)
            if done:
                await whole(done)
        finally:
            under_way -= 1
            room.release()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(prepare())
            batch: list[_Part] = []
            more = True
            while more:
                part = await prepared.get()
                if part is None:
                    more = False
                else:
                    batch.append(part)
                full = sum(len(each.fresh) for each in batch) >= BATCH or len(batch) >= BATCH
                idle = prepared.empty() and under_way == 0
                if batch and (full or idle or not more):
                    await room.acquire()
                    under_way += 1
                    group.create_task(run(batch))
                    batch = []
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


async def _parts(generation: Generation, work: Work) -> list[_Part]:
    chunks = await asyncio.to_thread(
        chunk, work.text, work.document.id, work.document.title, generation.encoder, work.document.language
    )
    known = await generation.index.known(work.document.id)
    work.text = ""
    work.chunks = len(chunks)
    work.staged = 0
    parts = [_Part(work, [])]
    current: list[Chunk] = []
    fresh: list[Chunk] = []
    for each in chunks:
        current.append(each)
        if each.id not in known:
            fresh.append(each)
        if len(current) == PART or len(fresh) == BATCH:
            parts.append(_Part(work, current, fresh))
            current, fresh = [], []
    if current:
        parts.append(_Part(work, current, fresh))
    return parts[1:] or parts


async def _stage(generation: Generation, batch: Sequence[_Part]) -> None:
    texts = [each.embedded_text for part in batch for each in part.fresh]
    vectors = await generation.encoder.encode(texts)
    telemetry.CHUNKS.inc(len(texts))
    rows = iter(vectors)

    async def stage(part: _Part, found: dict[str, Vectors]) -> None:
        if part.chunks:
            await _write(generation, part, found)
        part.work.staged += len(part.chunks)
        part.work.embedded += len(part.fresh)

    await asyncio.gather(*(stage(part, {each.id: next(rows) for each in part.fresh}) for part in batch))


async def _write(generation: Generation, part: _Part, vectors: dict[str, Vectors]) -> None:
    """Stage a part; not where a newer version was published meanwhile, which has taken this one's place."""
    id = part.work.document.id
    try:
        await generation.index.stage(part.work.record, part.chunks, vectors)
    except Conflict:
        if (await generation.index.versions([id])).get(id, 0) <= part.work.version:
            raise
    except InvalidInput as error:
        known = await generation.index.known(id)
        if all(each.id in known or each.id in vectors for each in part.chunks):
            raise
        raise Conflict("Chunks of the document were taken away during the work: it is done again.") from error


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a group; the others came of it."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
