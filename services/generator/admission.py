"""Who may be answered now: as many at once as the engines can do, the others in turn or not at all.

Comes in: the id of the key that asks. Goes out: a place, now or after a wait; Overloaded at once where the wait would
be longer than anyone should have. Does not know: what is asked.

The wait is estimated from how long answers have taken lately, and those that run have by now. Keys take turns, so one
with a thousand requests delays another's by one answer, and only its own by a thousand (fair queueing: Nagle 1987, RFC
970).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.errors import Overloaded

SMOOTHING = 0.1
"""Weight of the newest answer's duration in the estimate."""
FIRST_GUESS = 2.0
"""Seconds of an answer, before one was seen."""


class Admission:
    """`places`: answers at once. `patience`: seconds that a request may be expected to wait for one."""

    def __init__(self, places: int, patience: float) -> None:
        self._places = places
        self._patience = patience
        self._running = 0
        self._seconds = FIRST_GUESS
        self._began: dict[object, float] = {}
        """When each that runs has begun."""
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[None]:
        """One of the places while the block runs. Overloaded, with the seconds after which there is room."""
        await self._enter(key)
        began = time.monotonic()
        self._began[turn := object()] = began
        try:
            yield
        finally:
            del self._began[turn]
            self._seconds += SMOOTHING * (time.monotonic() - began - self._seconds)
            self._leave()

    def wait(self, key: str) -> float:
        """Seconds that a request of this key would wait now."""
        if self._running < self._places:
            return 0.0
        mine = len(self._queues.get(key, ())) + 1
        # Everyone else has at most as many turns before it as it has requests itself.
        turns = mine + sum(min(len(queue), mine) for name, queue in self._queues.items() if name != key)
        age = time.monotonic() - sum(self._began.values()) / len(self._began) if self._began else 0.0
        return turns * max(self._seconds, age) / self._places

    async def _enter(self, key: str) -> None:
        wait = self.wait(key)
        if wait > self._patience:
            raise Overloaded(
                f"Too much is being answered: this would have to wait for {wait:.0f} s. Try again then.",
                retry_after=max(1.0, wait - self._patience),
            )
        if not wait:
            self._running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, deque()).append(turn)
        try:
            async with asyncio.timeout(2 * self._patience):
                await turn
        except TimeoutError as error:
            self._withdraw(key, turn)
            raise Overloaded(
                "It took longer than expected to get a turn. Try again.", retry_after=self._seconds
            ) from error
        except asyncio.CancelledError:
            self._withdraw(key, turn)
            raise

    def _withdraw(self, key: str, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self._leave()  # its turn came just then
            return
        queue = self._queues.get(key)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[key]

    def _leave(self) -> None:
        """Give the place to the key whose turn it is."""
        while self._queues:
            key, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            if queue:
                self._queues.move_to_end(key)
            else:
                del self._queues[key]
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
