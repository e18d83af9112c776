"""`twin ingest`: what of this machine's files is brought in, under which names, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli import ingest
from services.errors import InvalidInput
from tests.cli.command import twin
from tests.promises.twin import running

WRITTEN = {
    "README.md": "# Bees\n\nBees keep honey for the winter, in combs of wax.\n",
    "drafts/later.md": "# Later\n\nA draft about the drones, which do not live long.\n",
    "code/hive.ts": "// Counts the bees of a hive, by their wings.\nexport const bees = (wings: number) => wings / 4;\n",
}
LEFT_OUT = {
    ".env": "PASSWORD=honey\n",
    ".obsidian/notes.md": "# Settings\n\nThese are settings of a program.\n",
    "node_modules/comb/README.md": "# Comb\n\nThis is somebody else's package.\n",
    "vendor/wax.md": "# Wax\n\nThis is somebody else's as well.\n",
    "package-lock.json": "{}\n",
    "drone.md~": "# Drone\n\nWhat an editor kept.\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


async def addresses(client: httpx.AsyncClient) -> set[str]:
    return {each["url"] for each in (await client.get("/v1/documents", params={"limit": 100})).json()["data"]}


def reach(made: Any, client: httpx.AsyncClient) -> dict[str, str]:
    return {"TWIN_URL": str(client.base_url), "TWIN_API_KEY": made.secret}


async def test_a_folder_is_uploaded_by_the_rules_of_a_folder(tmp_path: Path) -> None:
    """Hidden files, dependencies, generated files and binaries stay here; include and exclude choose; source code
    is read whatever its ending means elsewhere (.ts is a film's, too)."""
    notes = write(tmp_path / "notes", {**WRITTEN, **LEFT_OUT})
    (notes / "bee.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (notes / "linked.md").symlink_to(notes / "README.md")
    async with running(tmp_path / "data") as (made, client):
        words = ("ingest", str(notes), "-a", "alpha", "-o", "exclude=drafts/*")
        code, out, err = await twin(*words, environment=reach(made, client))
        assert code == 0, out + err
        found = await addresses(client)
        assert {each.rpartition("/")[2] for each in found} == {"README.md", "hive.ts"}

        code, out, err = await twin(
            "ingest", str(notes), "-a", "alpha", "-o", "include=*.png", environment=reach(made, client)
        )
        assert (code, out) == (2, "")
        assert "no file to take in" in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--every", "12h"], "--every"),
        (["--watch"], "--watch"),
        (["--kind", "git"], "--kind"),
        (["-o", "max_pages=3", "-o", "include=*.md"], "-o max_pages"),
    ],
)
async def test_what_an_upload_cannot_heed_is_refused(tmp_path: Path, words: list[str], named: str) -> None:
    """Before anything is sent: no gateway is there."""
    notes = write(tmp_path / "notes", WRITTEN)
    code, out, err = await twin("ingest", str(notes), *words, "--url", "http://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert err.startswith(f"twin: {named}: not for files and folders that are uploaded")


async def test_globs_are_for_folders(tmp_path: Path) -> None:
    notes = write(tmp_path / "notes", WRITTEN)
    words = ("ingest", str(notes / "README.md"), "-o", "exclude=*.md", "--url", "http://127.0.0.1:9")
    code, _, err = await twin(*words)
    assert code == 2
    assert err.startswith("twin: -o exclude: not for")


async def test_folders_with_files_of_one_name_are_beside_each_other(tmp_path: Path) -> None:
    """The folder's name comes before the path below it; a single file has its own alone."""
    bees = write(tmp_path / "bees", WRITTEN)
    wasps = write(tmp_path / "wasps", {"README.md": "# Wasps\n\nWasps keep no honey, and build of paper.\n"})
    single = write(tmp_path, {"README.md": "# Flies\n\nFlies build nothing, and are everywhere.\n"}) / "README.md"
    async with running(tmp_path / "data") as (made, client):
        for path in (bees, f"{wasps}/", single):
            code, out, err = await twin("ingest", str(path), "-a", "alpha", environment=reach(made, client))
            assert code == 0, out + err
        code, out, err = await twin("ingest", ".", "-a", "alpha", environment=reach(made, client), folder=bees)
        assert code == 0, out + err
        assert await addresses(client) == {
            *(f"upload:bees/{each}" for each in WRITTEN), "upload:wasps/README.md", "upload:README.md",
        }  # fmt: skip


async def test_no_file_takes_the_place_of_another_of_the_same_command(tmp_path: Path) -> None:
    """Named twice, one file is sent once; two of one name are refused before anything is sent."""
    first, second = write(tmp_path / "a/notes", WRITTEN), write(tmp_path / "b/notes", WRITTEN)
    code, out, err = await twin("ingest", str(first), str(second), "--url", "http://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert "Two of these files would be upload:notes/" in err
    code, _, err = await twin("ingest", str(first), str(first), "--url", "http://127.0.0.1:9")
    assert code == 5, err


@pytest.mark.parametrize("name", ["empty.md", "Notes.PDF", "bees.v2.json", "hive.py", "no notes.txt"])
@pytest.mark.parametrize("url", [[], ["--url", "http://127.0.0.1:9"]])
async def test_a_name_of_no_file_is_no_address(tmp_path: Path, name: str, url: list[str]) -> None:
    """A mistyped file does not become a request to a host of that name, and a source of it."""
    code, out, err = await twin("ingest", name, *url, folder=tmp_path, environment={"TWIN_DATA_DIR": str(tmp_path)})
    assert (code, out) == (2, "")
    assert f"There is no file {name!r} here" in err
    assert f"https://{name}" in err


@pytest.mark.parametrize("name", ["example.org", "blog.example.com/notes.md", "example.rs", "localhost.pl/a"])
def test_hosts_are_addresses(name: str) -> None:
    assert ingest._address(name) == f"https://{name}"


def test_files_and_addresses_are_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bees.md").write_text("Bees.")
    monkeypatch.chdir(tmp_path)
    assert ingest._address("bees.md") == str((tmp_path / "bees.md").resolve())
    assert ingest._address("https://wasps.md") == "https://wasps.md"


async def test_what_is_not_waited_for_is_queued(tmp_path: Path) -> None:
    """And has found nothing yet, which is not said."""
    notes = write(tmp_path / "notes", {"bread.md": "# Bread\n\nBread is baked of flour and water.\n"})
    # Nobody works: it stays queued.
    async with running(tmp_path / "data", work=False) as (made, client):
        code, out, err = await twin("ingest", str(notes), "-a", "alpha", "--detach", environment=reach(made, client))
        assert (code, out.splitlines()) == (0, ["queued    upload:notes/bread.md"]), err


async def test_a_refresh_of_which_some_failed(tmp_path: Path) -> None:
    """Exit code 3, as of an ingest; 1 where all failed, 0 where none did."""
    first = write(tmp_path / "bees", WRITTEN)
    second = write(tmp_path / "wasps", {"wasps.md": "# Wasps\n\nWasps build their nests of chewed wood.\n"})
    async with running(tmp_path / "data") as (made, client):
        for folder in (first, second):
            await client.post("/v1/sources", json={"author": "alpha", "address": str(folder)})
        refresh = ("sources", "refresh")
        code, out, err = await twin(*refresh, environment=reach(made, client))
        assert code == 0, out + err
        second.rename(tmp_path / "away")
        code, out, err = await twin(*refresh, environment=reach(made, client))
        assert (code, "failed    " in out, "done      " in out) == (3, True, True), err
        first.rename(tmp_path / "away too")
        code, out, err = await twin(*refresh, environment=reach(made, client))
        assert (code, "done      " in out) == (1, False), err


def test_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder below the one that is sent, whose permissions do not let its user in."""
    notes = write(tmp_path / "notes", WRITTEN)
    scandir = os.scandir

    def refusing(path: Path) -> Any:
        if Path(path).name == "drafts":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert [name for name, _ in ingest._files(notes, {})] == ["notes/README.md", "notes/code/hive.ts"]
    assert "notes/drafts" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by itself it is an error, before anything is sent."""
    notes = write(tmp_path, {"notes.md": "# Bees\n"}) / "notes.md"

    def refused(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(InvalidInput, match=r"notes\.md cannot be read here \(Permission denied\)"):
        ingest._files(notes, {})
