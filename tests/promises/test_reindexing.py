"""Promise 5, on the whole Twin: another encoder by a second index, while questions are asked and documents come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.promises.twin import found, running, upload

KINDS = ("bees", "kites", "clocks", "ferns", "looms", "tides")


def prose(kind: str, number: int) -> str:
    """Words that stand in no other document: near-duplicates are not indexed."""
    return " ".join(f"{kind}{number}w{place}" for place in range(150)) + "."


@pytest.mark.promise(5)
async def test_another_encoder_while_searching(tmp_path: Path) -> None:
    """Started with another encoder, Twin goes on with the one that its index names. A reindex to hashing://384 makes a
    second index: every search meanwhile finds what it asks for, a document that comes meanwhile is in, and afterwards
    the new encoder is named."""
    texts = {
        f"{kind}{number}": f"# {kind.title()}\n\nThe {kind} of {kind}{number}x are wound by hand. {prose(kind, number)}\n"
        for kind in KINDS
        for number in range(5)
    }
    async with running(tmp_path, encoder_url="hashing://64") as (_, client):
        assert (await upload(client, "alpha", **texts))["state"] == "done"
    async with running(tmp_path, encoder_url="hashing://384", feature_linger_seconds=0.5) as (_, client):
        assert (await client.get("/v1/status")).json()["index"]["encoder"] == "hashing://64"
        job = (await client.post("/v1/reindex-jobs")).json()
        searches, late = 0, None
        async with asyncio.timeout(200):
            while job["state"] in ("queued", "running"):
                name = sorted(texts)[searches % len(texts)]
                passages = await found(client, f"the {name[:-1]} of {name}x")
                assert any(f"{name}x" in each["text"] for each in passages), name
                if late is None:
                    late = await upload(client, "alpha", late="# Late\n\nThe sundial of item9z came late.\n")
                searches += 1
                job = (await client.get(f"/v1/reindex-jobs/{job['id']}")).json()
        assert job["state"] == "done", job
        assert job["index"]["encoder"]["url"] == "hashing://384"
        assert (await client.get("/v1/status")).json()["index"]["encoder"] == "hashing://384"
        assert "item9z" in (await found(client, "the sundial of item9z"))[0]["text"]
        listed = (await client.get("/v1/documents", params={"limit": 100})).json()["data"]
        assert len(listed) == len(texts) + 1
        assert {each["state"] for each in listed} == {"indexed"}
