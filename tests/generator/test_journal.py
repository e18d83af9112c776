"""The journal as the generator uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.adapters import open_adapter
from services.domain import EVERYONE, Generation
from services.errors import Unavailable
from services.generator import journal as journals
from services.generator.journal import Record
from tests.contracts.test_journal import generation


async def test_a_reader_that_goes_away_cancels_no_entry(tmp_path: Path) -> None:
    """Who reads the journal waits for the entries being written; a reader that is cancelled meanwhile leaves them be."""
    journal: Any = await open_adapter("journal", "sqlite:///", tmp_path)
    go = asyncio.Event()
    save = journal.save

    async def slowly(entries: Any) -> None:
        await go.wait()
        await save(entries)

    journal.save = slowly
    record = Record(journal, 3600)
    record.save(generation("given", 1.0))
    reader = asyncio.create_task(record.find(EVERYONE, None, 50, None, None))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    go.set()
    assert (await record.get("given", EVERYONE)).id == "given"
    await record.close()


async def test_entries_are_gathered(tmp_path: Path) -> None:
    """The first entry is written at once, those that come in the next moments together; a reader waits for all that were
    given, and for no more."""
    journal: Any = await open_adapter("journal", "sqlite:///", tmp_path)
    written: list[list[str]] = []
    save = journal.save

    async def counted(entries: Sequence[Generation]) -> None:
        written.append([each.id for each in entries])
        await save(entries)

    journal.save = counted
    record = Record(journal, 3600)
    for n in range(5):
        record.save(generation(str(n), float(n)))
    assert [each.id for each in await record.find(EVERYONE, None, 50, None, None)] == list("43210")
    assert written == [["0"], list("1234")]
    for n in range(journals.MOST + 1):
        record.save(generation(f"more {n}", 9.0))
    await asyncio.sleep(10 * journals.GATHER)
    assert sum(map(len, written[2:])) == journals.MOST + 1
    assert max(map(len, written)) == journals.MOST
    record.save(generation("last", 10.0))
    await record.close()
    assert written[-1] == ["last"]


async def test_an_entry_that_cannot_be_kept_takes_no_other_with_it(tmp_path: Path) -> None:
    """Of entries that are written together one is refused by the store: the others are kept."""
    journal: Any = await open_adapter("journal", "sqlite:///", tmp_path)
    save = journal.save

    async def refusing(entries: Sequence[Generation]) -> None:
        if any(each.id == "refused" for each in entries):
            raise Unavailable("too large")
        await save(entries)

    journal.save = refusing
    record = Record(journal, 3600)
    for id in ("first", "second", "refused", "third"):
        record.save(generation(id, 1.0))
    assert {each.id for each in await record.find(EVERYONE, None, 50, None, None)} == {"first", "second", "third"}
    await record.close()


async def test_another_process_finds_an_entry_that_is_about_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who judges an answer right after it was given may come to another generator."""
    monkeypatch.setattr(journals, "GATHER", 0.2)
    one, other = [Record(await open_adapter("journal", "sqlite:///", tmp_path), 3600) for _ in range(2)]
    for id in ("first", "second"):
        one.save(generation(id, 1.0))
    assert (await other.get("second", EVERYONE)).id == "second"
    await one.close()
    await other.close()
