"""Promise 1: whatever is killed whenever, every accepted document is in the index exactly once afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.adapters import open_adapter
from services.domain import EVERYONE, Filter

KILLS = 50
DOCUMENTS = 60
SEED = 20
PARAGRAPH = (
    "The ledger of item{number} in edition{edition} was closed by hand and its balance was carried to the next page. "
)


def write(folder: Path, number: int, edition: int) -> None:
    """One document of a few chunks, each with words that stand nowhere else."""
    sections = (
        f"## Part {part}\n\n" + PARAGRAPH.format(number=f"{number}x{part}", edition=f"{edition}x{number}") * 12
        for part in range(3)
    )
    (folder / f"note-{number}.md").write_text(f"# Note {number}\n\n" + "\n\n".join(sections) + "\n", encoding="utf-8")


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from services.cli import main; main()", *words]


@pytest.mark.promise(1)
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    """An ingest is killed with SIGKILL at 50 random moments while its documents change; the run that is let finish
    finds every document searchable at its newest edition, once, and no job left over."""
    chance = random.Random(SEED)
    folder, data = tmp_path / "notes", tmp_path / "data"
    folder.mkdir()
    editions = dict.fromkeys(range(DOCUMENTS), 0)
    for number in editions:
        write(folder, number, 0)
    environment = {**os.environ, "TWIN_DATA_DIR": str(data), "TWIN_ENCODER_URL": "hashing://384"}
    ingest = command("ingest", str(folder), "--author", "alpha", "--json")
    quick = 0
    for _ in range(KILLS):
        process = subprocess.Popen(ingest, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.8, 3.0))
        quick += process.poll() is not None
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for number in chance.sample(sorted(editions), 8):
            editions[number] += 1
            write(folder, number, editions[number])
    assert quick < KILLS // 2, "the ingest is too quick for the kills to fall into it: give it more documents"

    ended = subprocess.run(ingest, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert json.loads(ended.stdout)["state"] == "done"
    # What a killed run had claimed is free again when its lease of 30 seconds has run out.
    until = time.monotonic() + 120
    while True:
        again = subprocess.run(ingest, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert again.returncode == 0, again.stderr + again.stdout
        listing = command("documents", "list", "--limit", "1000", "--json")
        listed = subprocess.run(listing, env=environment, capture_output=True, text=True, check=True)
        documents = json.loads(listed.stdout)["data"]
        assert len(documents) == DOCUMENTS
        states = {each["state"] for each in documents}
        if states == {"indexed"} or time.monotonic() > until:
            break
        time.sleep(3)
    assert states == {"indexed"}

    indexes = await open_adapter("index", "sqlite:///", data)
    try:
        index = await indexes.open((await indexes.manifests())[0].name)
        facets = await index.facets(EVERYONE)
        assert facets.documents == DOCUMENTS
        assert facets.chunks == sum(each["chunks"] for each in documents)
        for number, edition in editions.items():
            hits = await index.text(f"edition{edition}x{number}", 100, EVERYONE, Filter())
            assert hits, f"edition {edition} of note {number} is not searchable"
            assert len({hit.chunk.id for hit in hits}) == len(hits)
            if edition:
                old = await index.text(f"edition{edition - 1}x{number}", 100, EVERYONE, Filter())
                assert not [hit for hit in old if f"edition{edition - 1}x{number} " in hit.chunk.text]
    finally:
        await indexes.close()
