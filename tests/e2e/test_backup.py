"""Everything in one file, and from it into other stores: same ids, digests, vectors and answers."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services import embedded
from services.backup import backup, bootstrap, restore
from services.backup.stores import Stores
from services.domain import Document, SourceKind
from services.errors import Conflict, InvalidInput

QUESTIONS = ["How is a key made?", "What happens when a document is deleted?", "How do I calibrate thresholds?"]
DOCS = Path(__file__).parents[2] / "docs"


async def ask(http: httpx.AsyncClient, question: str) -> tuple[str, list[Any]]:
    response = await http.post(
        "/v1/chat/completions", json={"model": "alpha", "messages": [{"role": "user", "content": question}]}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    return answer["choices"][0]["message"]["content"], answer["twin"]["citations"]


async def ingest(http: httpx.AsyncClient, folder: Path, author: str = "alpha") -> None:
    job = (await http.post("/v1/ingest-jobs", json={"author": author, "sources": [str(folder)]})).json()
    while job["state"] in ("queued", "running"):
        await asyncio.sleep(0.05)
        job = (await http.get(f"/v1/ingest-jobs/{job['id']}")).json()
    assert job["state"] == "done", job


def client(twin: embedded.Twin) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(twin.gateway.app),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {twin.secret}"},
        timeout=60,
    )


async def opened(directory: Path, **urls: str) -> Stores:
    return await bootstrap.build(bootstrap.Settings(data_dir=directory, **urls))  # type: ignore[arg-type]


def silent(kind: str, count: int) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("notes")
    for number in range(int(os.environ.get("TWIN_TEST_DOCUMENTS", "12"))):
        text = f"# Note {number}\n\nThe lighthouse number {number} was painted in {1900 + number} by its keeper.\n"
        (made / f"note-{number}.md").write_text(text)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, dict[str, tuple[str, list[Any]]]]:
    """A data directory with guides, a changed document, a deleted one, a key, answers in the journal."""
    directory = tmp_path_factory.mktemp("laptop") / "data"
    async with embedded.running(data_dir=directory, gateway_port=0) as twin, client(twin) as http:
        await ingest(http, DOCS)
        await ingest(http, folder)
        changed = folder / "note-3.md"
        before = changed.read_text()
        changed.write_text(before + "\nIn winter it was painted again.\n")
        await ingest(http, folder)
        changed.write_text(before)
        documents = (await http.get("/v1/documents", params={"q": "note-5"})).json()["data"]
        assert (await http.delete(f"/v1/documents/{documents[0]['id']}")).status_code == 200
        assert (await http.post("/v1/api-keys", json={"name": "kept"})).status_code == 201
        answers = {question: await ask(http, question) for question in QUESTIONS}
    return directory, answers


@pytest.fixture
def laptop(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of it, for each test its own."""
    directory, answers = made
    shutil.copytree(directory, tmp_path / "laptop")
    return tmp_path / "laptop", answers


async def test_there_and_back(laptop: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Restored elsewhere and from there again: the same counts, digests, vectors and answers; nothing is embedded."""
    directory, answers = laptop
    here = await opened(directory)
    contents = await backup.backup(here, tmp_path / "one.twin", silent)
    assert contents.counts["documents"] > 20
    assert contents.counts["chunks"] > 50
    assert contents.counts["keys"] == 1
    assert contents.counts["journal"] == len(QUESTIONS)
    there = await opened(tmp_path / "other")
    await restore.restore(there, tmp_path / "one.twin", silent)
    again = await backup.backup(there, tmp_path / "two.twin", silent)
    assert again.counts == contents.counts
    assert again.digests == contents.digests
    ours, theirs = [await each.indexes.open((await each.indexes.manifests())[0].name) for each in (here, there)]
    async for document in here.all_documents():
        if document.indexed_version is not None:
            hits = await ours.neighbours({document.id: range(document.chunks)})
            assert await theirs.neighbours({document.id: range(document.chunks)}) == hits
            ids = [hit.chunk.id for hit in hits]
            left, right = await ours.vectors(ids), await theirs.vectors(ids)
            assert left.keys() == right.keys()
            assert all((left[id] == right[id]).all() for id in ids)
    for each in (here, there):
        await each.close()
    async with embedded.running(data_dir=tmp_path / "other", gateway_port=0) as twin, client(twin) as http:
        for question, answer in answers.items():
            assert await ask(http, question) == answer


async def test_while_writes_go_on(laptop: tuple[Path, dict[str, Any]], tmp_path: Path, folder: Path) -> None:
    """A backup that is made during an ingest is whole: every document in it is of one moment, and it restores."""
    directory, _ = laptop
    more = tmp_path / "more"
    more.mkdir()
    for number in range(60):
        (more / f"{number}.md").write_text(
            f"# Entry {number}\n\nOn day {number} the harbour held {number + 3} boats.\n"
        )
    async with embedded.running(data_dir=directory, gateway_port=0) as twin, client(twin) as http:
        here = await opened(directory)
        bringing = asyncio.create_task(ingest(http, more))
        await asyncio.sleep(0.3)
        contents = await backup.backup(here, tmp_path / "busy.twin", silent)
        await bringing
        await here.close()
    there = await opened(tmp_path / "other")
    assert (await restore.restore(there, tmp_path / "busy.twin", silent)).digests == contents.digests
    await there.close()


async def test_a_restore_goes_on_where_it_broke_off(laptop: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Broken off in the middle and begun again, it ends whole; stores that hold something else are refused."""
    directory, _ = laptop
    here = await opened(directory)
    await backup.backup(here, tmp_path / "one.twin", silent)
    with pytest.raises(InvalidInput, match="already"):
        await backup.backup(here, tmp_path / "one.twin", silent)
    await here.close()

    def breaking(kind: str, count: int) -> None:
        if count >= 10:
            raise KeyboardInterrupt

    there = await opened(tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        await restore.restore(there, tmp_path / "one.twin", breaking)
    await restore.restore(there, tmp_path / "one.twin", silent)
    stranger = await there.documents.get([each.id async for each in there.all_documents()])
    await there.close()
    assert len(stranger) > 20
    other = tmp_path / "third"
    async with embedded.running(data_dir=other, gateway_port=0) as twin, client(twin) as http:
        assert (await http.post("/v1/api-keys", json={"name": "own"})).status_code == 201
        third = await opened(other)
        with pytest.raises(Conflict, match="empty"):
            await restore.restore(third, tmp_path / "one.twin", silent)
        await third.close()


async def test_a_damaged_file_is_refused_before_anything_is_written(
    laptop: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """One flipped byte, a cut end, or another file: refused, and the stores stay empty."""
    directory, _ = laptop
    here = await opened(directory)
    path = tmp_path / "one.twin"
    await backup.backup(here, path, silent)
    await here.close()
    assert path.stat().st_mode & 0o077 == 0
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    for number, data in enumerate((bytes(flipped), whole[: len(whole) // 2], b"PK not a backup")):
        (tmp_path / f"bad-{number}").write_bytes(data)
        there = await opened(tmp_path / f"stores-{number}")
        with pytest.raises(InvalidInput):
            await restore.restore(there, tmp_path / f"bad-{number}", silent)
        assert [each async for each in there.all_documents()] == []
        await there.close()


async def test_an_upload_that_waits_comes_along(tmp_path: Path) -> None:
    """Bytes that were accepted and not read yet are restored with their job, which is done there."""
    async with (
        embedded.running(data_dir=tmp_path / "here", gateway_port=0, workers=False) as twin,
        client(twin) as http,
    ):
        files = {"file": ("waiting.md", b"# Waiting\n\nThe ferry leaves at nine.\n")}
        accepted = await http.post("/v1/documents", data={"author": "alpha"}, files=files)
        assert accepted.status_code == 202, accepted.text
    here = await opened(tmp_path / "here")
    await backup.backup(here, tmp_path / "one.twin", silent)
    await here.close()
    there = await opened(tmp_path / "there")
    await restore.restore(there, tmp_path / "one.twin", silent)
    await there.close()
    async with embedded.running(data_dir=tmp_path / "there", gateway_port=0) as twin, client(twin) as http:
        job = accepted.json()
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
            job = (await http.get(f"/v1/ingest-jobs/{job['id']}")).json()
        assert job["state"] == "done", job
        assert "nine" in (await ask(http, "When does the ferry leave?"))[0]


async def test_an_address_leads_where_it_led(tmp_path: Path) -> None:
    """An address that one document came by and that leads to another since does so in the restored stores too."""
    here = await opened(tmp_path / "here")
    # More of them than are written at once, and each later one has the address of the one before.
    address = "https://example.org/{}"
    count = 20
    for number in range(count):
        document = Document(
            f"document-{number}", "alpha", address.format(number), "source", SourceKind.PAGE, f"Ferry {number}",
            created_at=number, updated_at=number,
        )  # fmt: skip
        made = await here.documents.save(document, text=f"# Ferry {number}\n", cleaner="")
        await here.documents.save(made, aliases=[address.format(number - 1)] if number else [])
    addresses = [address.format(number) for number in range(count)]
    led = await here.documents.resolve("alpha", addresses)
    assert led[addresses[0]] == "document-1"
    await backup.backup(here, tmp_path / "one.twin", silent)
    await here.close()
    there = await opened(tmp_path / "there")
    await restore.restore(there, tmp_path / "one.twin", silent)
    assert await there.documents.resolve("alpha", addresses) == led
    await restore.restore(there, tmp_path / "one.twin", silent)
    assert await there.documents.resolve("alpha", addresses) == led
    await there.close()
