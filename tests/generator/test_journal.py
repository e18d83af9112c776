"""The journal as the generator uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from services.adapters import open_adapter
from services.domain import EVERYONE
from services.generator.journal import Record
from tests.contracts.test_journal import generation


async def test_a_reader_that_goes_away_cancels_no_entry(tmp_path: Path) -> None:
    """Who reads the journal waits for the entries being written; a reader that is cancelled meanwhile leaves them be."""
    journal: Any = await open_adapter("journal", "sqlite:///", tmp_path)
    go = asyncio.Event()
    save = journal.save

    async def slowly(entry: Any) -> None:
        await go.wait()
        await save(entry)

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
