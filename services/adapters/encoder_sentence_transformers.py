"""Any encoder of sentence-transformers, in the process, on a CPU or a GPU.

Comes in: `sentence-transformers://ORG/NAME` or `sentence-transformers:///path/of/a/folder`; weights.py says the rest.
Goes out: float32 rows of length 1, and token counts and spans of the model's own tokenizer. Does not know: documents,
chunks. A prompt that a model names as its default is not put before a text: spans would not be the text's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from services.adapters import weights
from services.adapters.batches import batches
from services.adapters.words import storable
from services.domain import EncoderIdentity
from services.errors import Misconfigured, TooLarge
from services.ports import Encoder, Vectors

SETTING = "TWIN_ENCODER_URL"
BATCH_TOKENS = 4096
"""Of one run, padding included: larger ones are no faster on a CPU, and a query waits for one at most."""
BATCH = 64
"""Texts of one run."""


async def open(url: str, data_dir: Path) -> Encoder:
    return await asyncio.to_thread(_load, url)


def _load(url: str) -> Encoder:
    found = weights.find(url, SETTING)
    model = weights.load(found, "SentenceTransformer", SETTING)
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None or not model.max_seq_length:
        raise Misconfigured(f"{SETTING}: {found.name} has no fast tokenizer, or says no max_seq_length.")
    # Of our own: transformers sets truncation on the one it uses, from whichever thread.
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pooling = next((each.pooling_mode for each in model if hasattr(each, "pooling_mode")), "none")
    identity = EncoderIdentity(
        url=found.url,
        revision=f"{found.name} {found.revision}",
        precision=str(model.dtype).removeprefix("torch."),
        pooling=pooling if isinstance(pooling, str) else "+".join(pooling),
        dimensions=int(model.get_embedding_dimension()),
        window=int(model.max_seq_length),
    )
    return SentenceTransformersEncoder(model, tokenizer, identity)


class SentenceTransformersEncoder:
    def __init__(self, model: Any, tokenizer: Tokenizer, identity: EncoderIdentity) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._identity = identity
        # One run at a time: the model's own tokenizer keeps state, and a run uses every core.
        self._free = asyncio.Lock()

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(each) for each in self._tokenizer.encode_batch([storable(text) for text in texts])]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        offsets = self._tokenizer.encode(storable(text), add_special_tokens=False).offsets
        return [(int(start), int(end)) for start, end in offsets]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self._identity.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        lengths = await asyncio.to_thread(self.count, texts)
        if max(lengths) > self._identity.window:
            raise TooLarge(
                f"A text of {max(lengths)} tokens does not fit the encoder's window of {self._identity.window}: "
                f"split it, nothing is cut."
            )
        for batch in batches(lengths, BATCH_TOKENS, BATCH):
            async with self._free:
                vectors[batch] = await asyncio.to_thread(self._run, [storable(texts[each]) for each in batch])
        return vectors

    async def close(self) -> None:
        """The model goes with its last reference."""

    def _run(self, texts: list[str]) -> Vectors:
        rows = self._model.encode(texts, batch_size=len(texts), prompt="", show_progress_bar=False)
        rows = np.asarray(rows, dtype=np.float32)
        normalised: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return normalised
