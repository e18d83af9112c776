"""All services in one process, as `twin doctor` tries them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

from services.embedded import Check, checks
from tests.generator import engine
from tests.servers import tei


async def reranker() -> Check:
    found = await checks()
    assert [each.part for each in found if not each.ok and each.part != "reranker"] == []
    (check,) = (each for each in found if each.part == "reranker")
    return check


async def test_the_reranker_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is said to be none; one that scores is well; one that fails or is away is named with what to do, and the
    other parts are tried all the same."""
    monkeypatch.setenv("TWIN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TWIN_ENCODER_URL", "hashing://384")
    assert await reranker() == Check("reranker", True, "none: passages are in the order of the searches")
    with tei.running(tei.Tei(reranker=True, model_id="some/reranker")) as server:
        monkeypatch.setenv("TWIN_RERANKER_URL", server.url)
        assert await reranker() == Check("reranker", True, "some/reranker")
        server.fault = lambda path: JSONResponse({"error": "secret"}, 500) if path == "/rerank" else None
        failing = await reranker()
    away = await reranker()
    for check in (failing, away):
        assert not check.ok
        assert "TWIN_RERANKER_URL" in check.detail
        assert "secret" not in check.detail


async def test_the_engine_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotations need none; one that is there is well; one that fails, refuses the key or is away is named as
    bad with what to do."""
    monkeypatch.setenv("TWIN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TWIN_ENCODER_URL", "hashing://384")

    async def answers() -> Check:
        return next(each for each in await checks() if each.part == "answers")

    assert (await answers()).ok
    said: list[Any] = [["Yes."]]
    async with engine.running(lambda messages: said[0]) as stub:
        monkeypatch.setenv("TWIN_LLM_URL", stub.url)
        well = await answers()
        assert well.ok
        assert "stub" in well.detail
        stub.listed = 500
        failing = await answers()
        stub.listed, said[0] = 200, JSONResponse({"error": "secret"}, 401)
        refusing = await answers()
    assert "refused the key" in refusing.detail
    for check in (failing, refusing, await answers()):
        assert not check.ok
        assert check.detail.startswith("stub: ")
        assert "no question is answered" in check.mend
