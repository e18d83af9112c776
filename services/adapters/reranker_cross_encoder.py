"""Any cross-encoder of sentence-transformers, in the process, on a CPU or a GPU.

Comes in: `cross-encoder://ORG/NAME` or `cross-encoder:///path/of/a/folder`; weights.py says the rest. Goes out: a score
a text, on the model's own scale. Does not know: passages. A text that does not fit the model's window together with
the query is read as far as it fits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.adapters import weights
from services.adapters.batches import batches
from services.adapters.words import storable
from services.errors import Misconfigured
from services.ports import Reranker

SETTING = "TWIN_RERANKER_URL"
BATCH_TOKENS = 4096
"""Of one run, padding included, as estimated: another question waits for one at most."""
BATCH = 32
"""Texts of one run."""
CHARACTERS_A_TOKEN = 3.0


async def open(url: str, data_dir: Path) -> Reranker:
    return await asyncio.to_thread(_load, url)


def _load(url: str) -> Reranker:
    found = weights.find(url, SETTING)
    model = weights.load(found, "CrossEncoder", SETTING)
    if model.num_labels != 1:
        raise Misconfigured(f"{SETTING}: {found.name} gives {model.num_labels} numbers a text, a reranker gives one.")
    return CrossEncoderReranker(model, found.name)


class CrossEncoderReranker:
    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name
        # One run at a time: the model's tokenizer keeps state, and a run uses every core.
        self._free = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._name

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        scores = [0.0] * len(texts)
        window = int(self._model.max_seq_length or 512)
        lengths = [min(window, int((len(query) + len(text)) / CHARACTERS_A_TOKEN)) for text in texts]
        for batch in batches(lengths, BATCH_TOKENS, BATCH):
            pairs = [(storable(query), storable(texts[each])) for each in batch]
            async with self._free:
                found = await asyncio.to_thread(self._run, pairs)
            for place, score in zip(batch, found, strict=True):
                scores[place] = score
        return scores

    async def close(self) -> None:
        """The model goes with its last reference."""

    def _run(self, pairs: list[tuple[str, str]]) -> list[float]:
        found = self._model.predict(pairs, batch_size=len(pairs), prompt="", show_progress_bar=False)
        return [float(each) for each in found]
