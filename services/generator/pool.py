"""Several replicas of one engine as one language model.

Comes in: the addresses of replicas, listed or behind one name. Goes out: a LanguageModel that keeps conversations where
their prompts are cached, leaves out what is dead, and moves a request that has got nothing yet. Does not know: prompts,
protocols, how an engine is called.

    which?   the replica that this prompt's beginning hashes to (rendezvous hashing: when one comes or goes only its
             own prompts move), unless it has SPREAD more to do than the least loaded one: then that one
    dead?    left out at once, tried again after a pause that doubles; its requests without a token go to another
    new?     names are looked up every LOOK seconds; a replica must prove that it serves the model before it is used
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import structlog

from services.domain import Message, Usage
from services.errors import DeadlineExceeded, Misconfigured, Overloaded, TwinError, Unavailable
from services.ports import LanguageModel, Sampling

LOOK = 5.0
"""Seconds between two looks at the names and at the engines' queues."""
SPREAD = 4
"""Requests by which a prompt's own replica may be busier than the least busy one: a cached prompt saves about as much
as some requests cost that share the engine's batch."""
PAUSE = 1.0
"""Seconds for which a replica that failed is left out; twice as long after each further failure."""
LONGEST_PAUSE = 30.0
AFFINITY_CHARACTERS = 2000
"""Of a prompt's beginning, by which its replica is chosen."""

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Replica:
    """One engine."""

    url: str
    model: LanguageModel
    outstanding: int = 0
    """Requests of this process."""
    waiting: int = 0
    """Requests in the engine's own queue, everyone's, as last read."""
    failures: int = 0
    out_until: float = 0.0
    proven: bool = False
    gone: bool = False
    """Its name no longer leads to it: it finishes what it has."""

    @property
    def load(self) -> int:
        return self.outstanding + self.waiting

    def failed(self, now: float) -> None:
        self.out_until = now + min(LONGEST_PAUSE, PAUSE * 2.0**self.failures)
        self.failures += 1
        self.proven = False


Resolve = Callable[[str], Awaitable[Sequence[str]]]


@dataclass(slots=True)
class _Tried:
    replicas: set[int] = field(default_factory=set)
    error: TwinError | None = None


class Pool:
    """`urls`: of engines; one whose host is a name stands for every address of it."""

    def __init__(
        self, urls: Sequence[str], open: Callable[[str], Awaitable[LanguageModel]], resolve: Resolve | None = None
    ) -> None:
        self._urls = urls
        self._open = open
        self._resolve = resolve or addresses
        self._replicas: dict[str, Replica] = {}
        self._looking: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Find the replicas, prove those that are up, go on looking. Misconfigured where one serves another model:
        an answer from it would be somebody else's."""
        await self._find()
        for replica in self._replicas.values():
            try:
                await self._prove(replica)
            except Misconfigured:
                raise
            except TwinError as error:
                log.warning("engine away", engine=_shown(replica.url), error=error.message)
        self._looking = asyncio.create_task(self._look())

    @property
    def name(self) -> str:
        return next((each.model.name for each in self._replicas.values() if each.model.name), "")

    @property
    def window(self) -> int:
        """The smallest: a prompt must fit wherever it goes."""
        return min((each.model.window for each in self._replicas.values()), default=8192)

    async def count(self, messages: Sequence[Message]) -> int:
        replica = min(self._replicas.values(), key=lambda each: each.out_until, default=None)
        if replica is None:
            raise _none()
        return await replica.model.count(messages)

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Usage, None]:
        """From one replica; from another where that one fails before it has given anything."""
        tried = _Tried()
        while True:
            replica = await self._choose(messages, tried)
            replica.outstanding += 1
            begun = False
            try:
                async with aclosing(replica.model.stream(messages, sampling)) as pieces:
                    async for piece in pieces:
                        if not begun:
                            begun, replica.failures = True, 0
                        yield piece
                return
            except (Unavailable, DeadlineExceeded, Overloaded) as error:
                if not isinstance(error, Overloaded):
                    replica.failed(time.monotonic())
                    log.warning("engine failed", engine=_shown(replica.url), error=error.message)
                if begun:
                    raise
                tried.replicas.add(id(replica))
                tried.error = error
            finally:
                replica.outstanding -= 1
                if replica.gone and not replica.outstanding:
                    await replica.model.close()

    async def prove(self) -> None:
        """Misconfigured, Unavailable."""
        for replica in self._replicas.values():
            await self._prove(replica)

    async def waiting(self) -> int | None:
        return sum(each.waiting for each in self._replicas.values())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            self._looking = None
        replicas, self._replicas = list(self._replicas.values()), {}
        for replica in replicas:
            await replica.model.close()

    # ── Choosing ────────────────────────────────────────────────────────────────────────────────────

    async def _choose(self, messages: Sequence[Message], tried: _Tried) -> Replica:
        while True:
            for replica in self._order(messages):
                if id(replica) in tried.replicas:
                    continue
                if replica.proven:
                    return replica
                try:
                    await self._prove(replica)
                except TwinError as error:
                    tried.replicas.add(id(replica))
                    tried.error = error if isinstance(error, Misconfigured) else tried.error or error
                    break  # the order has changed
                else:
                    return replica
            else:
                raise tried.error or _none()

    def _order(self, messages: Sequence[Message]) -> list[Replica]:
        """Best first; those that are left out come last, the first to be tried again before the others."""
        now = time.monotonic()
        up = [each for each in self._replicas.values() if each.out_until <= now]
        out = sorted(
            (each for each in self._replicas.values() if each.out_until > now), key=lambda each: each.out_until
        )
        if len(up) > 1:
            key = _beginning(messages)
            up.sort(key=lambda each: hashlib.sha256(f"{each.url}\n{key}".encode("utf-8", "surrogatepass")).digest())
            least = min(up, key=lambda each: each.load)
            if up[0].load - least.load >= SPREAD:
                up.remove(least)
                up.insert(0, least)
        return [*up, *out]

    # ── Looking ─────────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._find()
                await asyncio.gather(*(self._read(each) for each in list(self._replicas.values())))
            except Exception:
                # The look after this one may go well, and without looks nothing is found.
                log.exception("engines not looked at")

    async def _find(self) -> None:
        async with self._changing:
            wanted = [each for url in self._urls for each in await self._expand(url)]
            for url in wanted:
                if url not in self._replicas:
                    self._replicas[url] = Replica(url, await self._open(url))
            for url, replica in list(self._replicas.items()):
                if url not in wanted:
                    replica.gone = True
                    del self._replicas[url]
                    if not replica.outstanding:
                        await replica.model.close()

    async def _expand(self, url: str) -> list[str]:
        """An address for each machine that the host's name stands for. TLS proves names, so such a URL stays whole."""
        try:
            parts = urlsplit(url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            # Whoever opens it says what is wrong, without quoting it: the URL may hold a password.
            return [url]
        if not parts.hostname or parts.hostname == "localhost" or not parts.scheme.endswith("+http"):
            return [url]
        if "@" in parts.netloc:
            return [url]
        try:
            found = await self._resolve(parts.hostname)
        except (OSError, UnicodeError):
            found = []
        if not found:
            # The name may be back in a moment: what is known stays known.
            return list(self._replicas) or [url]
        return [
            urlunsplit(parts._replace(netloc=(f"[{each}]" if ":" in each else each) + port)) for each in sorted(found)
        ]

    async def _read(self, replica: Replica) -> None:
        replica.waiting = await replica.model.waiting() or 0
        if not replica.proven and replica.out_until <= time.monotonic():
            try:
                await self._prove(replica)
            except TwinError as error:
                log.warning("engine away", engine=_shown(replica.url), error=error.message)

    async def _prove(self, replica: Replica) -> None:
        failures = replica.failures
        try:
            await replica.model.prove()
        except TwinError:
            replica.failed(time.monotonic())
            raise
        # Its failures are forgotten with its first token: one that lists its models may still not answer. One that has
        # failed a request meanwhile keeps its pause.
        if replica.failures <= failures:
            replica.proven, replica.out_until = True, 0.0


async def addresses(host: str) -> Sequence[str]:
    """Of a host, as the system resolves it; OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # A machine with an address of each kind is one machine.
    old = [each for each in found if each[0] is socket.AF_INET] or found
    return list(dict.fromkeys(str(each[4][0]) for each in old))


def _beginning(messages: Sequence[Message]) -> str:
    return "\n".join(f"{each.role}: {each.content}" for each in messages)[:AFFINITY_CHARACTERS]


def _none() -> TwinError:
    return Unavailable("No engine of the language model is known: check the name in TWIN_LLM_URL.", retry_after=LOOK)


def _shown(url: str) -> str:
    """Without what may be secret."""
    return urlsplit(url)._replace(query="").geturl()
