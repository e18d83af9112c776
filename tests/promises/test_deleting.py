"""Promise 2, on the whole Twin: what is deleted is nowhere, and stays away until somebody asks for it by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.twin import NOTES, QUESTION, ask, ended, found, running


@pytest.mark.promise(2)
async def test_deleted_it_is_nowhere_and_only_an_ingest_brings_it_back(tmp_path: Path) -> None:
    """A deleted document is in no search, no answer and no kept answer; a refresh of its source leaves it away, though
    its file is still there; an ingest of the same folder brings it back."""
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "sourdough.md").write_text(NOTES, encoding="utf-8")
    (notes / "other.md").write_text("# Kites\n\nA kite of paper flies on a light wind.\n", encoding="utf-8")
    ingest = {"author": "alpha", "sources": [str(notes)]}
    async with running(tmp_path / "data") as (_, client):
        job = await ended(client, (await client.post("/v1/ingest-jobs", json=ingest)).json()["id"])
        assert job["documents"]["indexed"] == 2
        answer = await ask(client, QUESTION)
        kept = answer["twin"]["generation_id"]
        assert "twice a day" in (await client.get(f"/v1/generations/{kept}")).text
        (id,) = {each["document_id"] for each in answer["twin"]["citations"] if "sourdough" in each["url"]}

        gone = (await client.delete(f"/v1/documents/{id}")).json()
        assert gone["deleted"] is True
        assert gone["redacted"] >= 1
        assert "twice a day" not in (await client.get(f"/v1/generations/{kept}")).text
        assert all(each["document"]["id"] != id for each in await found(client, QUESTION))
        assert "twice a day" not in str(await ask(client, QUESTION))

        refreshed = await client.post(f"/v1/sources/{job['sources'][0]['source_id']}/refresh")
        await ended(client, refreshed.json()["id"])
        assert all(each["document"]["id"] != id for each in await found(client, QUESTION))

        await ended(client, (await client.post("/v1/ingest-jobs", json=ingest)).json()["id"])
        assert id in {each["document"]["id"] for each in await found(client, QUESTION)}
