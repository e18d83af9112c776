"""The one file: who may open it, what is committed, and what a caller is told when the disk or the file fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path

import apsw
import pytest

from services.adapters import open_adapter, sqlite
from services.adapters.sqlite import Database, file_path
from services.errors import Conflict, Internal, Misconfigured, Unavailable

STEPS = ("CREATE TABLE notes (text)",)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open("sqlite:///twin.db", tmp_path, "notes", STEPS)
    yield opened
    await opened.close()


def add(text: str) -> Callable[[apsw.Connection], None]:
    def write(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))

    return write


async def notes(database: Database) -> list[str]:
    return await database.read(lambda connection: [text for (text,) in connection.execute("SELECT text FROM notes")])


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the data directory, absolute, or from home; nothing else."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert file_path("sqlite://", tmp_path) == tmp_path / "twin.db"
    assert file_path("sqlite:///my%20twin.db", tmp_path) == tmp_path / "my twin.db"
    assert file_path("sqlite:////srv/twin.db", tmp_path) == Path("/srv/twin.db")
    assert file_path("sqlite:///~/.twin/twin.db", tmp_path) == Path("/home/someone/.twin/twin.db")
    for wrong in ("sqlite://host/twin.db", "sqlite:///:memory:", "sqlite:///twin.db?mode=ro"):
        with pytest.raises(Misconfigured):
            file_path(wrong, tmp_path)


async def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """The directory is made 0700 and the file with its log 0600; a file open to others is closed to them."""
    directory = tmp_path / "data"
    opened = await Database.open("sqlite:///twin.db", directory, "notes", STEPS)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in directory.iterdir()} == {0o600}
    await opened.close()
    (directory / "twin.db").chmod(0o644)
    opened = await Database.open("sqlite:///twin.db", directory, "notes", STEPS)
    await opened.close()
    assert (directory / "twin.db").stat().st_mode & 0o777 == 0o600


async def test_a_write_is_whole_or_nothing(database: Database) -> None:
    """Of writes that share a transaction one that raises takes back only its own; a read cannot write."""

    def half(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('half')")
        raise Conflict("not so")

    writes = [database.write(half if n % 3 == 0 else add(str(n))) for n in range(30)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, Conflict) for result in results] == [n % 3 == 0 for n in range(30)]
    assert sorted(await notes(database)) == sorted(str(n) for n in range(30) if n % 3)
    with pytest.raises(Unavailable):
        await database.read(add("sneaked in"))
    with pytest.raises(Internal):
        await database.write(lambda connection: connection.execute("SELEKT 1"))
    assert len(await notes(database)) == 20


async def test_openers_share_and_close_for_themselves(tmp_path: Path, database: Database) -> None:
    """Closing one hold, twice, leaves the others at work; the last one leaves a single file."""
    other = await Database.open("sqlite://", tmp_path, "notes", STEPS)
    await other.close()
    await other.close()
    await database.write(add("still here"))
    assert await notes(database) == ["still here"]
    await database.close()
    assert os.listdir(tmp_path) == ["twin.db"]
    with pytest.raises(Unavailable):
        await database.write(add("too late"))
    with pytest.raises(Unavailable):
        await notes(database)


async def test_migrations_go_forward_once_and_never_back(tmp_path: Path, database: Database) -> None:
    """Steps run in order, each once, all or none; a file of a newer version is refused with what to do."""
    await database.migrate("notes", (*STEPS, "ALTER TABLE notes ADD COLUMN at", add("by a step")))
    await database.migrate("notes", (*STEPS, "ALTER TABLE notes ADD COLUMN at", "DROP TABLE notes"))
    assert await notes(database) == ["by a step"]
    with pytest.raises(Internal):
        await database.migrate("other", ("CREATE TABLE other (a)", "CREATE TABLE notes (a)"))
    await database.migrate("other", ("CREATE TABLE other (a)",))
    with pytest.raises(Misconfigured, match="newer Twin"):
        await Database.open("sqlite://", tmp_path, "notes", STEPS)
    await database.close()
    assert not sqlite._files, "what was refused holds nothing"


async def test_a_newer_file_is_refused_by_a_reader_that_knew_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection keeps the schema it has read; which version the file is of must not be taken from that."""
    monkeypatch.setattr(sqlite, "READERS", 1)
    opened = await Database.open("sqlite://", tmp_path, "notes", STEPS)
    await opened.migrate("notes", (*STEPS, "ALTER TABLE notes ADD COLUMN at"))
    with pytest.raises(Misconfigured, match="newer Twin"):
        await Database.open("sqlite://", tmp_path, "notes", STEPS)
    await opened.close()


async def test_hooks_run_in_every_connection(database: Database) -> None:
    """A function given once is there for readers and the writer, those already open included."""

    def twice(*values: apsw.SQLiteValue) -> apsw.SQLiteValue:
        return 2 * int(values[0] or 0)

    def hook(connection: apsw.Connection) -> None:
        connection.create_scalar_function("twice", twice)

    await notes(database)
    await database.prepare(hook)
    await database.prepare(hook)
    found = await asyncio.gather(
        *(database.read(lambda connection: connection.execute("SELECT twice(4)").get) for _ in range(20))
    )
    assert set(found) == {8}
    assert await database.write(lambda connection: connection.execute("SELECT twice(5)").get) == 10


async def test_a_full_disk_is_said_and_passes(database: Database) -> None:
    """A write that finds no room is Unavailable with what to do, writes nothing, and goes well once there is room."""
    pages = await database.write(lambda connection: connection.pragma("page_count"))
    await database.write(lambda connection: connection.pragma("max_page_count", pages + 1))
    with pytest.raises(Unavailable, match="free some space"):
        await database.write(add("x" * 100_000))
    # SQLite ends the whole transaction: a write that shares its group would be told the same.
    await asyncio.sleep(0.2)
    await database.write(lambda connection: connection.pragma("max_page_count", 1_000_000))
    await database.write(add("small"))
    assert await notes(database) == ["small"]


@pytest.mark.parametrize("content", [b"this is no database at all, but some text" * 200, b"\0" * 8192])
async def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """What is not a database is refused at start, with the way back, and is left as it is."""
    (tmp_path / "twin.db").write_bytes(content)
    with pytest.raises(Misconfigured, match="twin restore"):
        await Database.open("sqlite:///twin.db", tmp_path, "notes", STEPS)
    assert (tmp_path / "twin.db").read_bytes() == content


async def test_damage_inside_is_said(tmp_path: Path, database: Database) -> None:
    """A page that was overwritten is met as Unavailable, which says to restore."""
    for n in range(200):
        await database.write(add(f"{n}" * 500))
    await database.close()
    with (tmp_path / "twin.db").open("r+b") as file:
        file.seek(16_384)
        file.write(b"\xff" * 40_960)
    again = await Database.open("sqlite:///twin.db", tmp_path, "notes", STEPS)
    with pytest.raises(Unavailable, match="twin restore"):
        await notes(again)
    await again.close()


async def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A directory in the file's place, or a file in its directory's, is a wrong setting and says which."""
    (tmp_path / "twin.db").mkdir()
    with pytest.raises(Misconfigured, match="TWIN_DATA_DIR"):
        await Database.open("sqlite:///twin.db", tmp_path, "notes", STEPS)
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="TWIN_DATA_DIR"):
        await Database.open("sqlite:///twin.db", tmp_path / "file", "notes", STEPS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    """Where this user may not write, the start is refused with what to do."""
    os.chmod(tmp_path, 0o500)
    with pytest.raises(Misconfigured, match="TWIN_DATA_DIR"):
        await Database.open("sqlite:///twin.db", tmp_path, "notes", STEPS)


async def test_another_process_that_never_lets_go(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads go on beside a foreign writer; a write waits, and after long is Unavailable, never a raw error."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.3)
    await database.write(add("before"))
    other = apsw.Connection(str(tmp_path / "twin.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="Another process"):
        await database.write(add("during"))
    assert await notes(database) == ["before"]
    other.execute("COMMIT")
    other.close()
    await database.write(add("after"))
    assert await notes(database) == ["before", "after"]


def test_a_write_after_a_failed_one_has_its_own_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told that a write failed and writes again at once, before all others were told, is not failed with it."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    file = sqlite._acquire(file_path("sqlite:///twin.db", tmp_path))
    try:
        file.submit_write(lambda connection: connection.execute(STEPS[0])).result()
        other = apsw.Connection(str(tmp_path / "twin.db"))
        other.execute("BEGIN IMMEDIATE")
        again: Future[Future[None]] = Future()

        def write_again(_: Future[None]) -> None:
            again.set_result(file.submit_write(add("after")))

        first = file.submit_write(add("during"))
        first.add_done_callback(lambda _: other.execute("COMMIT"))
        first.add_done_callback(write_again)
        assert isinstance(first.exception(10), Unavailable)
        assert again.result(10).exception(10) is None
        other.close()
    finally:
        sqlite._release(file)


async def test_a_write_too_large_fails_alone(tmp_path: Path, database: Database) -> None:
    """Where a full disk takes a transaction back, what only waited beside the write that was too large is written."""
    await database.write(lambda connection: connection.pragma("max_page_count", 200))
    go = threading.Event()
    busy = asyncio.ensure_future(database.write(lambda connection: go.wait(60)))
    large = asyncio.ensure_future(
        database.write(lambda connection: connection.execute("INSERT INTO notes VALUES (zeroblob(2000000))") and None)
    )
    small = [asyncio.ensure_future(database.write(add(str(n)))) for n in range(3)]
    await asyncio.sleep(0.1)  # past the time in which the first would take more in
    go.set()
    with pytest.raises(Unavailable, match="full"):
        await large
    await asyncio.gather(busy, *small)
    assert await notes(database) == ["0", "1", "2"]


async def test_a_cancelled_caller_leaves_no_half(database: Database) -> None:
    """A write whose caller went away is either not begun or whole, and the next ones are written."""
    tasks = [asyncio.ensure_future(database.write(add(str(n)))) for n in range(100)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await database.write(add("last"))
    written = await notes(database)
    assert set(written) >= {str(n) for n in range(1, 100, 2)} | {"last"}
    assert len(written) == len(set(written))


WRITER = """
    import asyncio, sys
    from pathlib import Path
    from services.adapters import open_adapter
    from services.domain import Job, JobKind

    async def main(directory: Path, name: str) -> None:
        jobs = await open_adapter("jobs", "sqlite:///twin.db", directory)
        await open_adapter("documents", "sqlite:///twin.db", directory)
        for n in range(100):
            await jobs.put([Job(f"{name} {n}", JobKind.CRAWL, "alpha", "t")])
        claimed = []
        while batch := await jobs.claim(JobKind.CRAWL, name, 1.0, 1000.0, 3):
            claimed.extend(batch)
            await asyncio.sleep(0)
        print("\\n".join(job.id for job in claimed))
        await jobs.close()

    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.promise(1)
def test_processes_share_one_new_file(tmp_path: Path) -> None:
    """Four processes that make, migrate, write and claim in one new file at the same time meet no error, and each
    job is claimed exactly once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    outputs = [process.communicate(timeout=250) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    claimed = [line for out, _ in outputs for line in out.splitlines() if line]
    assert sorted(claimed) == sorted(f"{name} {n}" for name in "abcd" for n in range(100))


async def test_ports_share_the_file(tmp_path: Path) -> None:
    """Every embedded store is in the one file, and closing one leaves the others open."""
    ports = ("documents", "jobs", "sources", "blobs", "journal", "keys", "audit")
    opened = [await open_adapter(port, "sqlite:///twin.db", tmp_path) for port in ports]
    await opened[0].close()
    assert await opened[1].get("missing") is None
    for adapter in opened:
        await adapter.close()
    assert os.listdir(tmp_path) == ["twin.db"]
