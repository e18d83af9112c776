"""The embedded encoder: many texts at once, each core for itself, and who comes between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from services.adapters import encoder_onnx, open_adapter
from services.errors import TooLarge
from services.ports import Encoder

LINES = [f"The harbour of town {number} " + "closes early in winter. " * (number % 9 + 1) for number in range(80)]


@pytest.fixture
async def encoder(tmp_path: Path) -> Encoder:
    opened: Encoder = await open_adapter("encoder", "onnx://", tmp_path)
    return opened


async def test_many_texts_have_each_its_own_vector(encoder: Encoder) -> None:
    together = await encoder.encode(LINES)
    for number in range(0, len(LINES), 13):
        (alone,) = await encoder.encode([LINES[number]])
        assert float(together[number] @ alone) > 0.98
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


async def test_who_has_few_batches_does_not_wait_for_all_of_anothers(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_onnx, "BATCH_TOKENS", 64)
    ended: list[str] = []

    async def encode(name: str, texts: list[str]) -> None:
        await encoder.encode(texts)
        ended.append(name)

    await asyncio.gather(encode("many", LINES * 4), encode("few", LINES[70:]))
    assert ended == ["few", "many"]


async def test_encoders_of_one_process_share_the_model(encoder: Encoder, tmp_path: Path) -> None:
    another = await open_adapter("encoder", "onnx://", tmp_path)
    assert another._session is encoder._session  # type: ignore[attr-defined]


async def test_a_text_beyond_the_window_is_refused_and_the_others_can_be_tried_again(encoder: Encoder) -> None:
    with pytest.raises(TooLarge, match="window of 256"):
        await encoder.encode([*LINES, "harbour " * 300])
    assert len(await encoder.encode(LINES)) == len(LINES)


async def test_what_was_counted_is_encoded_without_being_tokenised_again(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunker counts what goes to the encoder next; kept tokens are bounded, and gone once they are used."""
    expected = await encoder.encode(LINES)
    tokenised: list[str] = []
    tokenize = encoder._tokenize  # type: ignore[attr-defined]

    def noted(texts: list[str]) -> object:
        tokenised.extend(texts)
        return tokenize(texts)

    monkeypatch.setattr(encoder, "_tokenize", noted)
    encoder.count(["harbour " * 300, *LINES])
    tokenised.clear()
    assert np.array_equal(await encoder.encode(LINES), expected)
    assert tokenised == []
    assert np.array_equal(await encoder.encode(LINES), expected)
    assert tokenised == LINES

    monkeypatch.setattr(encoder_onnx, "KEPT", 40)
    encoder.count(LINES)
    tokenised.clear()
    assert np.array_equal(await encoder.encode(LINES), expected)
    assert tokenised == LINES[:40]

    encoder.count(LINES[-1:])
    tokenised.clear()
    once, again = (await encoder.encode([*LINES, LINES[-1]]))[-2:]
    assert float(once @ again) > 0.98
    assert tokenised == LINES
