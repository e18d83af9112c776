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
