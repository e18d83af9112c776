"""One SQLite file, shared by every embedded adapter in it and by every process that uses the data directory.

Comes in: functions over an apsw connection. Goes out: what they return, or errors of services.errors. Does not know:
whose tables are in the file.

Every opener in a process shares one writer and a few readers, each a thread with a connection of its own, so no event
loop ever waits for a disk. Writes are grouped: what is waiting when a transaction begins, or comes while it runs, is
committed with it, each function inside a savepoint of its own. Between processes SQLite's locks decide.

synchronous=FULL, because Twin answers "accepted" and "deleted" once the commit returns, and a power cut must not take
that back; the groups keep it at one fsync for many writes. WAL, because readers then never wait for a writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import apsw
import structlog

from services.errors import Internal, Misconfigured, TwinError, Unavailable

T = TypeVar("T")
Step = str | Callable[[apsw.Connection], object]
"""One step of a migration: SQL, or a function over the connection."""

BUSY_SECONDS = 30.0
"""How long a lock held by another process is waited for: longer than any write of Twin's takes."""
GROUP_SECONDS = 0.02
"""How long a group of writes takes more in before it commits: other processes must get their turn."""
READERS = 4
"""Connections for reading: two cores' worth of searches, and two waiting for the disk."""

_log = structlog.get_logger(__name__)
_files: dict[Path, _File] = {}
_files_lock = threading.Lock()


def file_path(url: str, data_dir: Path) -> Path:
    """The file that `sqlite:///relative.db` (below the data directory), `sqlite:////absolute.db` or `sqlite:///~/…`
    names; `sqlite://` alone is twin.db in the data directory. Misconfigured."""
    scheme, _, rest = url.partition("://")
    rest = unquote(rest)
    given = any(each in rest for each in ("?", "#", ":memory:")) or (rest and not rest.startswith("/"))
    if scheme.lower() != "sqlite" or given:
        raise Misconfigured("A sqlite:// URL is sqlite:///file.db (in TWIN_DATA_DIR) or sqlite:////absolute/file.db.")
    name = rest[1:] or "twin.db"
    return Path(os.path.realpath(data_dir.expanduser() / Path(name).expanduser()))


class Database:
    """One opener's hold on a file. All methods may be called from any event loop."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        data_dir: Path,
        component: str,
        steps: Sequence[Step],
        hook: Callable[[apsw.Connection], None] | None = None,
    ) -> Database:
        """Open the file, making it (mode 0600) and its directory (0700) where missing, prepare it by the hook, and
        bring the component's tables to version `len(steps)`. Misconfigured."""
        path = file_path(url, data_dir)
        opened = cls(await asyncio.to_thread(_acquire, path))
        try:
            if hook is not None:
                await opened.prepare(hook)
            await opened.migrate(component, steps)
        except BaseException:
            await asyncio.shield(opened.close())
            raise
        return opened

    @property
    def path(self) -> Path:
        return self._file.path

    async def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn` in a reading thread, in one transaction: all it reads is of one moment. It cannot write."""
        self._check_open()
        return await asyncio.wrap_future(self._file.readers.submit(self._file.read, fn))

    async def write(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn` in the writing thread, in a transaction, and return once it is committed.

        All of it is written or, where it raises, nothing. It may share its transaction with other writes of this
        process, so it must not begin, commit or roll back itself.
        """
        self._check_open()
        return await asyncio.wrap_future(self._file.submit_write(fn))

    async def migrate(self, component: str, steps: Sequence[Step]) -> None:
        """Bring a component's tables to version `len(steps)`, in one transaction, whatever other processes do.

        A step is never changed once released, and only adds: an older Twin may still be running on the file.
        Misconfigured where the file is of a newer version than this.
        """

        def current(connection: apsw.Connection) -> int:
            # Asked by a statement: `table_exists` answers from the schema that the connection read last, however old.
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_versions'").get:
                return 0
            version = connection.execute("SELECT version FROM schema_versions WHERE component = ?", (component,)).get
            return int(version or 0)

        def upgrade(connection: apsw.Connection) -> int:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
            )
            before = current(connection)
            for step in steps[before:]:
                if isinstance(step, str):
                    connection.execute(step)
                else:
                    step(connection)
            connection.execute(
                "INSERT INTO schema_versions VALUES (?, ?) ON CONFLICT DO UPDATE SET version = excluded.version",
                (component, max(len(steps), before)),
            )
            return before

        found = await self.read(current)
        if found < len(steps):
            found = await self.write(upgrade)
        if found > len(steps):
            raise Misconfigured(
                f"The data file was written by a newer Twin (its {component} are version {found}, this Twin knows "
                f"{len(steps)}): install the newer Twin, or set TWIN_DATA_DIR to another directory."
            )

    async def prepare(self, hook: Callable[[apsw.Connection], None]) -> None:
        """Have `hook` run once in every connection before its next use: extensions, functions, tokenizers.

        Give the same function each time: it is remembered by identity. Misconfigured where it fails.
        """
        await asyncio.to_thread(self._file.add_hook, hook)

    async def close(self) -> None:
        """Let go; the last one to do so in the process waits for the writes under way and closes the file."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(_release, self._file)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The data file is closed: Twin is stopping.")


class _File:
    """What a process holds of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holders = 0
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._pending: deque[tuple[Callable[[apsw.Connection], object], Future[object]]] = deque()
        self._local = threading.local()
        self._hooks: list[Callable[[apsw.Connection], None]] = []
        self._connections: list[apsw.Connection] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        """The writer's connection first: it makes the file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if self.path.stat().st_mode & 0o077 and self.path.stat().st_uid == os.geteuid():
                self.path.chmod(0o600)
        except OSError as error:
            raise Misconfigured(
                f"The data file {self.path.name} cannot be opened for writing ({error.strerror}): "
                f"set TWIN_DATA_DIR to a directory on a disk that this user may write to."
            ) from error
        self._writer.submit(self._connection, writing=True).result()

    def close(self) -> None:
        self.readers.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    def add_hook(self, hook: Callable[[apsw.Connection], None]) -> None:
        with self._lock:
            if hook in self._hooks:
                return
            self._hooks.append(hook)
        self._writer.submit(self._connection, writing=True).result()

    def _connect(self, writing: bool) -> apsw.Connection:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            connection = apsw.Connection(str(self.path), statementcachesize=256)
            try:
                connection.set_busy_handler(_patience())
                # Set first on a new file, and kept in it. SQLite does not wait by itself while two processes set it.
                if writing and connection.pragma("journal_mode", "wal") != "wal":
                    raise Misconfigured(
                        "The data file is on a file system without shared memory (a network drive?): "
                        "set TWIN_DATA_DIR to a directory on a local disk."
                    )
                connection.pragma("synchronous", "full")
                connection.pragma("foreign_keys", True)
                connection.pragma("temp_store", "memory")
                connection.pragma("cache_size", -16_000 if writing else -4_000)
                if writing:
                    # So that the log does not keep the size of the largest write ever made.
                    connection.pragma("journal_size_limit", 64 << 20)
                else:
                    connection.pragma("query_only", True)
                connection.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018  reads the header
            except apsw.BusyError:
                connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.005, 0.05))
            except BaseException:
                connection.close()
                raise
            else:
                return connection

    def _connection(self, *, writing: bool) -> apsw.Connection:
        """This thread's connection, with all hooks run in it."""
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = self._connect(writing)
            except apsw.Error as error:
                raise _translated(error, opening=True) from error
            self._local.connection = connection
            self._local.hooks = 0
            with self._lock:
                self._connections.append(connection)
        while self._local.hooks < len(self._hooks):
            hook = self._hooks[self._local.hooks]
            try:
                hook(connection)
            except (apsw.Error, OSError) as error:
                _log.exception("sqlite.extension", hook=getattr(hook, "__qualname__", repr(hook)))
                raise Misconfigured("An extension of SQLite could not be loaded: install Twin again.") from error
            self._local.hooks += 1
        return connection

    def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        connection = self._connection(writing=False)
        try:
            connection.execute("BEGIN")
            try:
                return fn(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except apsw.Error as error:
            raise _translated(error) from error

    def submit_write(self, fn: Callable[[apsw.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        self._pending.append((fn, future))  # type: ignore[arg-type]  # a pair's two halves share one T
        # Once a write: what one group leaves, the next takes.
        self._writer.submit(self._commit_group)
        return future

    def _commit_group(self) -> None:
        """Take what is pending, run and commit it. The futures tell how it went; nothing is raised."""
        if not self._pending:
            return
        done: list[tuple[Future[object], object]] = []
        begun = False
        try:
            connection = self._connection(writing=True)
            connection.execute("BEGIN IMMEDIATE")
            begun = True
            end = time.monotonic() + GROUP_SECONDS
            while self._pending:
                fn, future = self._pending.popleft()
                if future.set_running_or_notify_cancel():
                    self._run(connection, fn, future, done)
                if time.monotonic() > end:
                    break
            connection.execute("COMMIT")
        except (apsw.Error, TwinError) as error:
            # Not begun or not committed: none of it is written. Where it was not begun, those still waiting have waited
            # as long; they are taken before anyone is told, for who is told may write again, and that write has not
            # waited at all. Where it was, they have their turn: what one of them is too large for may hold them.
            failure = _translated(error)
            opened: apsw.Connection | None = getattr(self._local, "connection", None)
            if opened is not None and opened.in_transaction:
                with contextlib.suppress(apsw.Error):
                    opened.execute("ROLLBACK")
            failed = [future for future, _ in done]
            while not begun and self._pending:
                _, future = self._pending.popleft()
                if future.set_running_or_notify_cancel():
                    failed.append(future)
            for future in failed:
                future.set_exception(failure)
        else:
            for future, value in done:
                future.set_result(value)

    @staticmethod
    def _run(
        connection: apsw.Connection,
        fn: Callable[[apsw.Connection], object],
        future: Future[object],
        done: list[tuple[Future[object], object]],
    ) -> None:
        """One write of a group. Raises only where SQLite has taken the whole transaction back."""
        connection.execute("SAVEPOINT one")
        try:
            value = fn(connection)
        except BaseException as error:
            future.set_exception(_translated(error) if isinstance(error, apsw.Error) else error)
            if not connection.in_transaction:
                raise _translated(error) from error
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
        else:
            connection.execute("RELEASE one")
            done.append((future, value))


def _acquire(path: Path) -> _File:
    with _files_lock:
        file = _files.get(path)
        if file is None:
            file = _File(path)
            try:
                file.open()
            except BaseException:
                file.close()
                raise
            _files[path] = file
        file.holders += 1
        return file


def _release(file: _File) -> None:
    with _files_lock:
        file.holders -= 1
        if file.holders:
            return
        del _files[file.path]
        file.close()


def _patience() -> Callable[[int], bool]:
    """A busy handler that waits up to BUSY_SECONDS, in short random naps: SQLite's own grow to 100 ms, through which
    a process that writes without pause keeps another out."""
    began = 0.0

    def wait(calls: int) -> bool:
        nonlocal began
        now = time.monotonic()
        if calls == 0:
            began = now
        if now - began > BUSY_SECONDS:
            return False
        time.sleep(random.uniform(0.0005, 0.005))
        return True

    return wait


def _translated(error: BaseException, *, opening: bool = False) -> TwinError:
    """What SQLite says, as an error of Twin's that says what to do. At start it is a wrong setting."""
    if isinstance(error, TwinError):
        return error
    kind: type[TwinError] = Misconfigured if opening else Unavailable
    _log.error("sqlite.failed", error=f"{type(error).__name__}: {error}")
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return Unavailable(
                f"Another process has been writing to the data file for more than {BUSY_SECONDS:.0f} s: "
                f"try again later, or stop the other process.",
                retry_after=5,
            )
        case apsw.FullError():
            return kind("The disk that holds the data directory is full: free some space.", retry_after=60)
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError():
            return kind(
                "The data file cannot be written: make its directory (TWIN_DATA_DIR) writable for this user, "
                "or name another one."
            )
        case apsw.NotADBError() | apsw.CorruptError():
            return kind(
                "The data file is damaged or is not Twin's: stop Twin and bring back a backup with `twin restore`, "
                "or set TWIN_DATA_DIR to another directory."
            )
        case apsw.IOError() | apsw.NoLFSError() | apsw.ProtocolError():
            return kind("The disk that holds the data directory reports errors: check it, then start Twin again.")
        case apsw.TooBigError():
            return Unavailable("Something is too large for the data file (1 GB): take it in smaller parts.")
        case _:
            return Internal("The data file could not be used as expected; the cause is in the log.")
