"""`twin documents`: ids that are shown by their beginnings, and what is deleted by them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from services.cli import documents, sources
from services.cli.api import Api
from services.errors import InvalidInput, NotFound
from tests.cli.command import twin
from tests.promises.twin import running, upload

TEXTS = {f"note{number}": f"# Note {number}\n\nThis is about the {number}th kind of bread.\n" for number in range(20)}


class Paged:
    """A gateway with more than a page of documents, and with two sources."""

    ids = [f"{number:032x}" for number in range(250)] + ["f" * 32]

    async def get(self, path: str, **query: Any) -> Any:
        if path == "/v1/sources":
            return {"data": [{"id": each} for each in ("abcd" * 8, "abce" * 8)]}
        start = int(query.get("cursor") or 0)
        end = start + query["limit"]
        data = [{"id": each} for each in self.ids[start:end]]
        return {"data": data, "next": str(end) if end < len(self.ids) else ""}


async def test_an_id_is_found_by_its_beginning_on_any_page() -> None:
    api = cast(Api, Paged())
    assert await documents._whole(api, ["ff", "f" * 32]) == ["f" * 32]
    # A whole one is not looked for: the gateway says whether it is there.
    assert await documents._whole(api, ["e" * 32]) == ["e" * 32]


@pytest.mark.parametrize("beginning", ["", " "])
async def test_an_empty_id_names_nothing(beginning: str) -> None:
    api = cast(Api, Paged())
    with pytest.raises(InvalidInput, match="empty id"):
        await documents._whole(api, ["ff", beginning])
    with pytest.raises(InvalidInput, match="empty id"):
        await sources._choose(api, [beginning], None)


async def test_a_beginning_of_several_is_refused() -> None:
    """Also where the second is on another page than the first."""
    api = cast(Api, Paged())
    with pytest.raises(NotFound, match="250 documents have an id that begins with 0: "):
        await documents._whole(api, ["0"])
    with pytest.raises(NotFound, match="None of the documents has an id that begins with 9: "):
        await documents._whole(api, ["9"])
    with pytest.raises(NotFound, match="2 sources have an id that begins with abc: "):
        await sources._choose(api, ["abcd", "abc"], None)


async def test_what_is_deleted_is_said(tmp_path: Path) -> None:
    """One document goes, by its title and address; where an id may be several, none of those that were named goes."""
    async with running(tmp_path) as (made, client):
        await upload(client, "alpha", **TEXTS)
        listed = (await client.get("/v1/documents", params={"limit": 100})).json()["data"]
        ids = {each["id"]: each for each in listed}
        # Of twenty ids two begin with the same digit.
        shared = next(each for each in "0123456789abcdef" if sum(id.startswith(each) for id in ids) > 1)
        reach = {"TWIN_URL": str(client.base_url), "TWIN_API_KEY": made.secret}
        chosen = listed[7]
        for refused in ("", shared):
            code, out, err = await twin("documents", "delete", chosen["id"], refused, "--yes", environment=reach)
            assert code in (2, 6), err
            assert out == ""
            assert len(err.splitlines()) == 1
        assert len((await client.get("/v1/documents", params={"limit": 100})).json()["data"]) == len(ids)

        code, out, err = await twin("documents", "delete", chosen["id"][:12], "--yes", environment=reach)
        assert code == 0, err
        assert chosen["title"] in out
        assert chosen["url"] in out
        left = (await client.get("/v1/documents", params={"limit": 100})).json()["data"]
        assert {each["id"] for each in left} == set(ids) - {chosen["id"]}
        # Again, as after one that failed half way: by its whole id, for it is in no list any more.
        code, out, err = await twin("documents", "delete", chosen["id"], "--yes", environment=reach)
        assert code == 0, err
        assert chosen["id"][:12] in out
        code, _, _ = await twin("documents", "delete", "f" * 32, "--yes", environment=reach)
        assert code == 6, "one that never was"


async def test_a_list_that_is_cut_says_so(tmp_path: Path) -> None:
    """On stderr, in either form; --all has every page."""
    async with running(tmp_path) as (made, client):
        await upload(client, "alpha", **TEXTS)
        # Each document is listed whatever its state: what is alike is a duplicate.
        count = len((await client.get("/v1/documents", params={"limit": 100})).json()["data"])
        reach = {"TWIN_URL": str(client.base_url), "TWIN_API_KEY": made.secret}
        for words in (("--limit", "5"), ("--limit", "5", "--json")):
            code, out, err = await twin("documents", "list", *words, environment=reach)
            assert (code, err.count("\n")) == (0, 1), err
            assert out.count("upload:") == 5
            assert "more than these 5: --limit" in err
        for whole in ([], ["--limit", str(count)], ["--limit", "5", "--all"]):
            code, out, err = await twin("documents", "list", *whole, environment=reach)
            assert (code, err, out.count("upload:")) == (0, "", count)


def test_every_page_is_followed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @asynccontextmanager
    async def connect(*given: object) -> AsyncIterator[Paged]:
        yield Paged()

    monkeypatch.setattr(documents, "connect", connect)
    documents.list_documents(None, whole=True, as_json=True)
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["data"]] == Paged.ids
    documents.list_documents(None, limit=120, as_json=True)
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["data"]] == Paged.ids[:120]
