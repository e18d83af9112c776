"""Promise 1: one data directory under two processes at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from services.adapters import open_adapter
from services.domain import EVERYONE, Filter

EACH = 15


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from services.cli import main; main()", *words]


@pytest.mark.promise(1)
async def test_an_ingest_beside_what_serves(tmp_path: Path) -> None:
    """`twin ingest`, three times at once, beside `twin up` that is bringing in a folder itself: all end well, every
    document is in the index exactly once, and what serves finds what the others brought."""
    data = tmp_path / "data"
    environment = {**os.environ, "TWIN_DATA_DIR": str(data), "TWIN_ENCODER_URL": "hashing://384"}
    environment.pop("TWIN_URL", None)
    folders = [tmp_path / f"folder{number}" for number in range(4)]
    for place, folder in enumerate(folders):
        folder.mkdir()
        for number in range(EACH):
            words = f"# Note {place}-{number}\n\nThe ledger of item{place}x{number} was closed by hand.\n"
            (folder / f"note-{place}-{number}.md").write_text(words, encoding="utf-8")
    made = subprocess.run(
        command("keys", "create", "tests", "--role", "admin", "--json"), env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['secret']}"}
    up = subprocess.Popen(command("up", "--port", "0"), env=environment, stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    try:
        address = ""
        while not address:
            line = up.stdout.readline()
            assert line, "twin up ended"
            said = re.search(r"API\s+(http://\S+)/v1", line)
            address = said[1] if said else ""
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60, trust_env=False) as client:
            body = {"author": "alpha", "sources": [str(folders[0])]}
            job = (await client.post("/v1/ingest-jobs", json=body)).json()
            beside = [
                subprocess.Popen(
                    command("ingest", str(folder), "--author", "alpha", "--json"), env=environment,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )
                for folder in folders[1:]
            ]  # fmt: skip
            for process in beside:
                shown, errors = process.communicate(timeout=250)
                assert process.returncode == 0, errors + shown
                assert json.loads(shown)["state"] == "done"
            async with client.stream("GET", f"/v1/ingest-jobs/{job['id']}/events") as events:
                async for _ in events.aiter_lines():
                    pass
            assert (await client.get(f"/v1/ingest-jobs/{job['id']}")).json()["state"] == "done"
            listed = (await client.get("/v1/documents", params={"limit": 100})).json()["data"]
            assert sorted(each["url"].removeprefix("file:") for each in listed) == sorted(
                f"note-{place}-{number}.md" for place in range(4) for number in range(EACH)
            )
            assert {each["state"] for each in listed} == {"indexed"}
            reply = (await client.post("/v1/search", json={"query": "the ledger of item3x7"})).json()
            assert any("item3x7 " in each["text"] for each in reply["passages"])
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)
    indexes = await open_adapter("index", "sqlite:///", data)
    try:
        index = await indexes.open((await indexes.manifests())[0].name)
        facets = await index.facets(EVERYONE)
        assert facets.documents == 4 * EACH
        assert facets.chunks == sum(each["chunks"] for each in listed)
        for place in range(4):
            hits = await index.text(f"item{place}x3", 10, EVERYONE, Filter())
            assert len([hit for hit in hits if f"item{place}x3 " in hit.chunk.text]) == 1
    finally:
        await indexes.close()
