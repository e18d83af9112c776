"""`twin ask`, `twin chat` and `twin search` before a real Twin: what is printed where."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import twin
from tests.promises.twin import NOTES, QUESTION, running, upload


async def test_a_follow_up_is_shown_as_it_was_understood(tmp_path: Path) -> None:
    """On stderr, and only where it is another question than the one that was typed."""
    async with running(tmp_path) as (made, client):
        await upload(client, "alpha", sourdough=NOTES)
        reach = {"TWIN_URL": str(client.base_url), "TWIN_API_KEY": made.secret}
        code, out, err = await twin("chat", environment=reach, typed=f"{QUESTION}\nAnd when is it ready?\n")
        assert code == 0, err
        assert "Understood" not in out
        (said,) = (each for each in err.splitlines() if each.startswith("Understood as: "))
        assert "ready" in said
        assert "starter" in said
        code, _, err = await twin("ask", QUESTION, environment=reach)
        assert (code, "Understood" in err) == (0, False)


async def test_an_author_who_is_not_there(tmp_path: Path) -> None:
    """Is said to be none, with those that there are, by every command that asks; one who is there and has nothing on
    it is not."""
    async with running(tmp_path) as (made, client):
        reach = {"TWIN_URL": str(client.base_url), "TWIN_API_KEY": made.secret}
        code, _, err = await twin("ask", "-a", "nobody", QUESTION, environment=reach)
        assert (code, err) == (6, "twin: There is no author 'nobody'; nothing has come in yet, or not for this key.\n")
        await upload(client, "alpha", sourdough=NOTES)
        await upload(client, "beta", zeppelin="# Zeppelins\n\nA zeppelin is moored to a mast.\n")
        asked = [
            ("ask", QUESTION),
            ("ask", QUESTION, "--json"),
            ("chat",),
            ("search", "flour"),
            ("search", "x", "--json"),
        ]
        for words in asked:
            code, out, err = await twin(*words, "-a", "nobody", environment=reach, typed=f"{QUESTION}\n")
            assert (code, out, err) == (6, "", "twin: There is no author 'nobody'; there are: alpha, beta.\n")
        code, _, err = await twin("search", "zeppelin", "-a", "beta", "--since", "2030-01-01", environment=reach)
        assert (code, err) == (0, "Nothing found.\n")
