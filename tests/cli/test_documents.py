"""`twin documents`: ids that are shown by their beginnings, and what is deleted by them."""

from __future__ import annotations

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
