"""One MongoDB database, shared by every adapter of a process that keeps its records there.

Comes in: `mongodb://…` or `mongodb+srv://…`. Goes out: collections, pieces of large values, and errors of
services.errors. Does not know: what is in a collection.

Nothing here or in the adapters rests on transactions, for a server that stands alone has none: what must be whole is
one document, changed by one operation that names what it expects to find. Writes are acknowledged by a majority and
journaled, because Twin answers "accepted" and "deleted" once they return. Reads are of the primary.
"""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pymongo
import structlog
from bson.errors import BSONError
from pymongo import AsyncMongoClient, IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    CursorNotFound,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidName,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from services.errors import Conflict, Internal, Misconfigured, TooLarge, TwinError, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
Record = dict[str, Any]
Records = AsyncCollection[Record]
Step = Mapping[str, Sequence[IndexModel]]
"""One step of a migration: collection → indexes that it gets."""

ANSWER_SECONDS = 10.0
"""For one answer of the server, which takes milliseconds."""
SELECTION_SECONDS = 5.0
"""To find a server: a caller is better told soon that the store is away."""
INDEX_SECONDS = 600.0
"""To make an index over what is there: some seconds for a million records."""
ABANDONED_SECONDS = 3600.0
"""After which a value that no record names will not be named any more."""
PIECE = 4 << 20
"""Bytes of one piece of a large value; a document has at most 16 MB."""
ATTEMPTS = 20
"""Of an operation that others keep getting in before: each loses to one that went through."""

_DEFAULTS: Mapping[str, Any] = {
    "socketTimeoutMS": int(ANSWER_SECONDS * 1000),
    "serverSelectionTimeoutMS": int(SELECTION_SECONDS * 1000),
    "connectTimeoutMS": int(SELECTION_SECONDS * 1000),
    "waitQueueTimeoutMS": int(ANSWER_SECONDS * 1000),
    "appname": "twin",
}
_AWAY = "The document store does not answer: try again in a moment."
_WRONG_URL = (
    "A mongodb:// URL is mongodb://USER:PASSWORD@HOST:PORT/DATABASE?OPTIONS, special characters in the user and the "
    "password percent-encoded."
)
_AUTHENTICATION = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, and Atlas's code for either."""
_TOO_LARGE = frozenset({10334, 17419, 17420})
"""BSONObjectTooLarge, and an update that makes a document so."""

_log = structlog.get_logger(__name__)
_clients: dict[tuple[str, asyncio.AbstractEventLoop], _Client] = {}


@dataclass
class _Client:
    client: AsyncMongoClient[Record]
    holders: int = 0


class Database:
    """One adapter's hold on a database. Belongs to the event loop that opened it, as the driver's client does."""

    def __init__(self, key: tuple[str, asyncio.AbstractEventLoop], database: AsyncDatabase[Record]) -> None:
        self._key = key
        self._database = database
        self.closed = False

    @classmethod
    async def open(cls, url: str, component: str, steps: Sequence[Step]) -> Database:
        """The database that the URL names, `twin` where it names none, with the component's collections at version
        `len(steps)`. Misconfigured; Unavailable where no server answers."""
        key = (url, asyncio.get_running_loop())
        held = _clients.get(key)
        try:
            name = unquote(urlsplit(url).path.removeprefix("/")) or "twin"
            if held is None:
                given = {option.lower() for option, _ in parse_qsl(urlsplit(url).query)}
                options = {option: value for option, value in _DEFAULTS.items() if option.lower() not in given}
                held = _clients[key] = _Client(AsyncMongoClient(url, **options))
            database = held.client.get_database(
                name, read_preference=ReadPreference.PRIMARY, write_concern=WriteConcern("majority", j=True)
            )
        except (ConfigurationError, InvalidName, ValueError) as error:
            # Their messages quote the URL, and the chain of causes is logged.
            if held is not None and not held.holders:
                await _clients.pop(key).client.close()
            raise Misconfigured(f"{_WRONG_URL} ({type(error).__name__})") from None
        held.holders += 1
        opened = cls(key, database)
        try:
            await opened._migrate(component, steps)
        except (PyMongoError, OSError) as error:
            await asyncio.shield(opened.close())
            raise _translated(error, opening=True) from error
        except BaseException:
            await asyncio.shield(opened.close())
            raise
        return opened

    def collection(self, name: str) -> Records:
        return self._database[name]

    def pieces(self, name: str) -> Pieces:
        return Pieces(self._database[name])

    async def _migrate(self, component: str, steps: Sequence[Step]) -> None:
        """Bring a component's collections to version `len(steps)`, whatever other processes do.

        A step may run twice, at once even; it is never changed once released, and only adds: an older Twin may still
        be serving. Misconfigured where the database is of a newer version than this.
        """
        versions = self._database["schema_versions"]
        record = await versions.find_one({"_id": component})
        found = int(record["version"]) if record else 0
        if found > len(steps):
            raise Misconfigured(
                f"The database was written by a newer Twin (its {component} are version {found}, this Twin knows "
                f"{len(steps)}): install the newer Twin, or name another database in the URL."
            )
        with pymongo.timeout(INDEX_SECONDS):
            for step in steps[found:]:
                for collection, indexes in step.items():
                    # One at a time: FerretDB falls over several of which some are there.
                    for index in indexes:
                        await self._database[collection].create_indexes([index])
        if found < len(steps):
            # Never back: a newer Twin may have been at work meanwhile.
            await upsert(versions, {"_id": component}, {"$max": {"version": len(steps)}})

    async def close(self) -> None:
        """Let go; the last one to do so closes the client."""
        if self.closed:
            return
        self.closed = True
        held = _clients[self._key]
        held.holders -= 1
        if not held.holders:
            del _clients[self._key]
            await held.client.close()


class Adapter:
    """What every adapter on MongoDB has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def close(self) -> None:
        await self._database.close()


A = TypeVar("A", bound=Adapter)


def translating(
    call: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]:
    """The driver's errors leave the method as Twin's."""

    @functools.wraps(call)
    async def translated(self: A, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._database.closed:
            raise Unavailable("The document store is closed: Twin is stopping.")
        try:
            return await call(self, *args, **kwargs)
        except (PyMongoError, BSONError, OSError) as error:
            raise _translated(error) from error

    return translated


class Pieces:
    """Values of any size, written once under a name that was never used and never changed.

    A value counts for nothing until a record names it: what a crash leaves is found by no one, and goes with the
    `owner`.
    """

    def __init__(self, collection: Records) -> None:
        self._collection = collection

    async def write(self, owner: str, data: bytes) -> str:
        """The value's name, for the record."""
        count = max(1, -(-len(data) // PIECE))

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(count):
                yield data[number * PIECE : (number + 1) * PIECE]

        return await self.write_each(owner, pieces(), count)

    async def write_each(self, owner: str, pieces: AsyncIterator[bytes], count: int) -> str:
        """A value of `count` pieces, or of one that is empty where none comes."""
        name = f"{uuid.uuid4().hex}-{count}"
        number = 0
        async for piece in pieces:
            await self._insert(name, number, owner, piece)
            number += 1
        if not number:
            await self._insert(name, 0, owner, b"")
        return name

    async def _insert(self, name: str, number: int, owner: str, piece: bytes) -> None:
        await self._collection.insert_one(
            {"_id": f"{name}-{number}", "owner": owner, "made_at": time.time(), "data": piece}
        )

    async def read(self, name: str) -> bytes | None:
        """None where it is gone: a newer one took its place while its name was being read."""
        read = []
        for piece in self._ids(name):
            found = await self._collection.find_one({"_id": piece})
            if found is None:
                return None
            read.append(bytes(found["data"]))
        return b"".join(read)

    async def delete(self, names: Collection[str]) -> None:
        ids = [piece for name in names for piece in self._ids(name)]
        if ids:
            await self._collection.delete_many({"_id": {"$in": ids}})

    async def sweep(self, owners: Collection[str]) -> None:
        """Take what a crash left of these owners, of whom nothing is named any more: all that is older than any
        operation takes."""
        before = time.time() - ABANDONED_SECONDS
        await self._collection.delete_many({"owner": {"$in": list(owners)}, "made_at": {"$lt": before}})

    @staticmethod
    def _ids(name: str) -> list[str]:
        return [f"{name}-{number}" for number in range(int(name.rpartition("-")[2]))]


async def upsert(collection: Records, filter: Record, change: Record) -> None:
    """Change the one document that this finds or make it. Of two that make it at once the server refuses one, which
    finds it when it looks again."""
    try:
        await collection.update_one(filter, change, upsert=True)
    except DuplicateKeyError:
        await collection.update_one(filter, change, upsert=True)


_last = 0


def moment() -> int:
    """Nanoseconds since the epoch that grow with each call in a process: the order in which records of one time were
    made. Between processes it is as good as their clocks."""
    global _last
    _last = max(_last + 1, time.time_ns())
    return _last


def busy() -> Conflict:
    """After ATTEMPTS."""
    return Conflict("Others keep changing the same record: try again in a moment.", retry_after=1)


def _translated(error: Exception, *, opening: bool = False) -> TwinError:
    """What the driver says, as an error of Twin's that says what to do and names no host."""
    code = error.code if isinstance(error, OperationFailure) else None
    if isinstance(error, BulkWriteError):
        code = next((each.get("code") for each in error.details.get("writeErrors", ())), code)
    # Not its message: a server's may quote what was to be written.
    name = error.details.get("codeName", "") if isinstance(error, OperationFailure) and error.details else ""
    _log.error("mongodb.failed", error=type(error).__name__, code=code, name=name)
    if code in _AUTHENTICATION:
        message = (
            "The document store refuses Twin's user or password: see that they are right in the URL, that `authSource` "
            "names the database they are kept in, and that the user may read and write."
        )
        return Misconfigured(message) if opening else Unavailable(message, retry_after=30)
    if isinstance(error, DocumentTooLarge) or code in _TOO_LARGE:
        return TooLarge("One record is larger than the document store holds (16 MB): take it in smaller parts.")
    if isinstance(error, ConfigurationError):
        return Misconfigured(_WRONG_URL)
    match error:
        case DuplicateKeyError():
            return Conflict("It was made meanwhile: read it again.")
        case WriteConcernError():
            return Unavailable(
                "The document store has not confirmed the write: it may or may not have been kept. Try again.",
                retry_after=2,
            )
        case ConnectionFailure() | CursorNotFound() | OSError() | InvalidOperation():
            return Unavailable(_AWAY, retry_after=2)
        case PyMongoError() if error.timeout or error.has_error_label("RetryableWriteError"):
            return Unavailable(_AWAY, retry_after=2)
    return Internal("The document store could not be used as expected; the cause is in the log.")
