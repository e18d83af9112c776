"""What every reranker promises; an adapter joins by one more entry in RERANKERS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.adapters import open_adapter
from services.errors import Misconfigured
from services.ports import Reranker
from tests import models
from tests.servers import tei

RERANKERS = ["tei", models.loading_torch("cross-encoder")]
QUERY = "Who wrote letters to the harbour master?"
RIGHT = "The lighthouse keeper wrote letters to the harbour master."
WRONG = "Knead the dough and let it rise overnight."


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(params=RERANKERS)
async def reranker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reranker]:
    if request.param == "cross-encoder":
        folder = request.getfixturevalue("trained")
        model: Reranker = await open_adapter("reranker", f"cross-encoder://{folder}?device=cpu", tmp_path)
        yield model
        await model.close()
        await model.close()
        return
    with tei.running(tei.Tei(reranker=True, model_id="stub/reranker", max_client_batch_size=4)) as server:
        opened: Reranker = await open_adapter("reranker", server.url, tmp_path)
        yield opened
        await opened.close()
        await opened.close()


async def test_has_a_name(reranker: Reranker) -> None:
    """It says which model reads."""
    assert reranker.name


async def test_what_answers_scores_higher(reranker: Reranker) -> None:
    """A text that shares the query's words is ahead of one that doesn't, wherever it stands."""
    for texts in ([RIGHT, WRONG], [WRONG, RIGHT], [WRONG] * 9 + [RIGHT] + [WRONG] * 3):
        scores = await reranker.score(QUERY, texts)
        assert len(scores) == len(texts)
        assert scores.index(max(scores)) == texts.index(RIGHT)


async def test_a_text_has_its_own_score(reranker: Reranker) -> None:
    """Order and company change nothing (to the model's precision)."""
    texts = [RIGHT, WRONG, "The harbour master answered.", "word " * 100]
    alone = [(await reranker.score(QUERY, [text]))[0] for text in texts]
    together = (await reranker.score(QUERY, texts[::-1] * 4))[:4][::-1]
    assert together == pytest.approx(alone, abs=0.02)


async def test_odd_texts(reranker: Reranker) -> None:
    """None, an empty one, one that is too long, one without a UTF-8: each gets a number."""
    assert await reranker.score(QUERY, []) == []
    texts = ["", " \n", "lone \ud800 surrogate", "naïve café 🙂 東京", RIGHT + " word" * 3000]
    for query in (QUERY, "", "lone \ud800", "why " * 2000):
        scores = await reranker.score(query, texts)
        assert len(scores) == len(texts)
        assert all(abs(score) < 1e6 for score in scores)


async def test_no_reranker(tmp_path: Path) -> None:
    """none:// is no reranker at all."""
    assert await open_adapter("reranker", "none://", tmp_path) is None
    with pytest.raises(Misconfigured):
        await open_adapter("reranker", "none://more", tmp_path)
