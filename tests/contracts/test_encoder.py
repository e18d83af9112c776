"""What every encoder promises; an adapter joins by one more entry in URLS, one that needs a server or a model by one
more in ENCODERS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.adapters import open_adapter
from services.errors import Misconfigured, TooLarge
from services.ports import Encoder
from tests import models
from tests.servers import tei

URLS = ["hashing://384", "hashing://64", "onnx://"]
ENCODERS = [*URLS, models.loading_torch("sentence-transformers"), "tei", "tei with its tokenizer here"]
TEXTS = [
    "The lighthouse keeper wrote letters to the harbour master.",
    "Set max_tokens in the request body; fooBar() returns it.",
    "",
    " \n\t ",
    "naïve café 🙂 東京 Миру мир",
    "lone \ud800 surrogate",
    "word " * 200,
]


@pytest.fixture(scope="module")
def tei_url() -> Iterator[str]:
    with tei.running(tei.Tei()) as server:
        yield server.url


@pytest.fixture(params=ENCODERS)
async def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Encoder]:
    url = request.param
    if url == "sentence-transformers":
        url = f"sentence-transformers://{models.minilm()}?device=cpu"
    elif url.startswith("tei"):
        url = request.getfixturevalue("tei_url")
        if request.param != "tei":
            tokenizer = tmp_path / "tokenizer.json"
            tokenizer.write_text(tei.Tei()._tokenizer.to_str())
            url += f"?tokenizer={tokenizer}"
    opened: Encoder = await open_adapter("encoder", url, tmp_path)
    yield opened
    await opened.close()
    await opened.close()


async def test_rows_of_length_one(encoder: Encoder) -> None:
    """Every text, the empty one and odd ones included, gets a finite row of length 1 in its place."""
    vectors = await encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.identity.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (await encoder.encode([])).shape == (0, encoder.identity.dimensions)


async def test_order_and_company_do_not_matter(encoder: Encoder) -> None:
    """A text's vector is its own, wherever it stands and with whatever it is batched (to the precision named)."""
    alone = np.concatenate([await encoder.encode([text]) for text in TEXTS])
    together = (await encoder.encode(TEXTS[::-1] * 20))[: len(TEXTS)][::-1]
    assert (np.sum(alone * together, axis=1) > 0.98).all()


async def test_near_is_near(encoder: Encoder) -> None:
    """A question is nearer to the passage that shares its words than to another."""
    question, right, wrong = await encoder.encode(
        ["Who wrote letters to the harbour?", TEXTS[0], "Knead the dough and let it rise overnight."]
    )
    assert question @ right > question @ wrong + 0.2


async def test_spans_and_counts(encoder: Encoder) -> None:
    """Spans are in order, inside the text, and as many as count says, but for special tokens. Both are called in
    threads: a tokenizer may be on another machine."""
    special = (await asyncio.to_thread(encoder.count, [""]))[0]
    counts = await asyncio.to_thread(encoder.count, TEXTS * 10)
    assert counts == counts[: len(TEXTS)] * 10
    for text, count in zip(TEXTS, counts[: len(TEXTS)], strict=True):
        spans = await asyncio.to_thread(encoder.token_spans, text)
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert spans == sorted(spans)
        assert count == len(spans) + special
    assert await asyncio.to_thread(encoder.count, []) == []


@pytest.mark.promise(4)
async def test_nothing_is_truncated(encoder: Encoder) -> None:
    """A text that fills the window is embedded, one beyond it is TooLarge, alone or among others."""
    window = encoder.identity.window
    special = (await asyncio.to_thread(encoder.count, [""]))[0]
    full = " ".join(["word"] * (window - special))
    assert await asyncio.to_thread(encoder.count, [full]) == [window]
    assert (await encoder.encode([full])).shape == (1, encoder.identity.dimensions)
    with pytest.raises(TooLarge):
        await encoder.encode(["short", full + " word"])


@pytest.mark.promise(4)
async def test_the_end_of_a_text_counts(encoder: Encoder) -> None:
    """Words at the end of a long text move its vector: the window is used whole."""
    one, two = await encoder.encode(["plain " * 220 + "lighthouse harbour keeper", "plain " * 223])
    assert one @ two < 0.9999


@pytest.mark.parametrize("url", ["hashing://", "hashing://many", "hashing://5", "onnx://other", "word2vec://x"])
async def test_wrong_settings_are_refused(url: str, tmp_path: Path) -> None:
    """A URL that names nothing there is is Misconfigured, saying what would be right."""
    with pytest.raises(Misconfigured, match="TWIN_ENCODER_URL"):
        await open_adapter("encoder", url, tmp_path)
