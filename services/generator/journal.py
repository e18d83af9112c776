"""The journal as the generator uses it: entries written beside the stream, kept for a time, and redacted for good.

Comes in: finished answers, feedback, requests to read, delete and redact. Goes out: entries within a scope. Does not
know: how an answer is made, nor the store.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Sequence

import structlog

from services.domain import Feedback, Generation, Scope
from services.errors import InvalidInput, NotFound, TwinError
from services.ports import Journal

log = structlog.get_logger()

GATHER = 0.01
"""Seconds within which entries are written together: to write each by itself costs a fifth of an engine's answer. The
first one after a pause waits for nobody."""
MOST = 100
"""Entries in one write."""
SWEEP = 3600.0
"""Seconds between looks for entries that are too old."""


class Record:
    def __init__(self, journal: Journal, retention: float) -> None:
        self._journal = journal
        self._retention = retention
        self._waiting: list[Generation] = []
        self._context: contextvars.Context | None = None
        """Of the first that waits: to its trace belongs what writes them."""
        self._gathering: asyncio.TimerHandle | None = None
        self._saving: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._saved()
        await self._journal.close()

    def save(self, generation: Generation) -> None:
        """Write an entry beside the stream that ends; reads wait for it."""
        if not self._waiting:
            self._context = contextvars.copy_context()
        self._waiting.append(generation)
        if self._gathering is None or len(self._waiting) >= MOST:
            self._write()

    async def get(self, id: str, scope: Scope) -> Generation:
        """NotFound where it is not there, or not for this scope."""
        await self._saved()
        found = await self._journal.get(id)
        if found is None:
            # Another process may be about to write it.
            await asyncio.sleep(2 * GATHER)
            found = await self._journal.get(id)
        if found is None or not (
            scope.everyone or (found.authors and all(scope.allows(author) for author in found.authors))
        ):
            raise NotFound("There is no such answer in the journal, or not for this key.")
        return found

    async def find(
        self, scope: Scope, key_id: str | None, limit: int, before: float | None, trace: str | None
    ) -> list[Generation]:
        if not 1 <= limit <= 200:
            raise InvalidInput("From 1 to 200 answers at once.", param="limit")
        await self._saved()
        return await self._journal.find(scope, key_id=key_id, limit=limit, before=before, trace=trace)

    async def feedback(self, feedback: Feedback, scope: Scope) -> None:
        if feedback.rating not in (1, -1):
            raise InvalidInput("A rating is 1 or -1.", param="rating")
        await self.get(feedback.generation_id, scope)
        await self._journal.feedback(feedback)

    async def delete(self, id: str, scope: Scope) -> None:
        await self.get(id, scope)
        await self._journal.delete([id])

    async def redact(self, document_id: str) -> int:
        """Take a document's text from every entry, those of answers that are still streaming, here or in another
        process, included: the store takes it from them when they come."""
        await self._saved()
        return await self._journal.redact(document_id)

    def _write(self) -> None:
        """What waits, now; what comes within GATHER seconds from now waits for their end."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if not self._waiting:
            return
        self._gathering = asyncio.get_running_loop().call_later(GATHER, self._write)
        task = asyncio.create_task(self._save(self._waiting), context=self._context)
        self._waiting = []
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _save(self, generations: Sequence[Generation]) -> None:
        try:
            await self._journal.save(generations)
        except TwinError as error:
            if len(generations) > 1:
                # One that cannot be kept takes no other with it.
                await asyncio.gather(*(self._save([each]) for each in generations))
                return
            # The answer has been given: that the journal is away must not take it back.
            log.error("answer not kept", generation=generations[0].id, code=error.code)

    async def _saved(self) -> None:
        self._write()
        # Not gathered: a reader that is cancelled would cancel what others wait for to be written.
        if self._saving:
            await asyncio.wait(set(self._saving))

    async def _sweep(self) -> None:
        while True:
            try:
                await self._journal.delete(before=time.time() - self._retention)
            except TwinError as error:
                log.warning("old answers not deleted", code=error.code)
            await asyncio.sleep(SWEEP)
