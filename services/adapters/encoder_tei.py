"""Text Embeddings Inference (TEI) as the encoder: a model on another machine.

Comes in: `tei+http://host:port` or `tei+https://…`, and the key from TWIN_ENCODER_API_KEY. Goes out: float32 rows of
length 1, and token counts and spans of the model's own tokenizer. Does not know: documents, chunks, models.

`?tokenizer=/path/tokenizer.json` names the model's tokenizer on this machine: counting needs no network then, and
cutting documents is several times faster. It is compared with the server's at start. Without it the server is asked,
by calls that block: `count` and `token_spans` belong into threads, and refuse to stop an event loop.

The server says by /info which model it serves; it is asked again now and then, so that vectors of two models never
meet in one index.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tokenizers import Tokenizer

from services.adapters import address, tei
from services.adapters.batches import batches
from services.adapters.words import storable
from services.domain import EncoderIdentity
from services.errors import Internal, Misconfigured, TwinError, Unavailable
from services.ports import Encoder, Vectors

SETTING = "TWIN_ENCODER"
BATCH_TOKENS = 16_384
"""Of one request, at most, as estimated: a server's own batch is of this size by default."""
PARALLEL = 4
"""Requests of one call at once: while the server computes one it reads the next."""
CHARACTERS_A_TOKEN = 3.0
"""For the estimate; from below for most languages, for a batch too large only waits longer."""
LOOK = 60.0
"""Seconds between two looks at which model is served."""
PROBE = "é é é x"
"""By what its last token's end is, spans are in bytes (10) or in code points (7): versions differ."""
PLACES = ("start", "stop")
SAMPLE = "A lighthouse-keeper's naïve 東京 fooBar() 0.25%"


async def open(url: str, data_dir: Path) -> Encoder:
    """The server must be up: what it serves is the encoder's identity. Unavailable, Misconfigured."""
    base, options = address.parse(url, SETTING, "HOST:PORT", ("tokenizer",))
    tokenizer = await asyncio.to_thread(_load, options["tokenizer"]) if "tokenizer" in options else None
    server = tei.Tei(base, SETTING, tei.key(SETTING))
    try:
        return await _open(f"tei+{base}", server, tokenizer)
    except BaseException:
        await server.close()
        raise


async def _open(url: str, server: tei.Tei, tokenizer: Tokenizer | None) -> Encoder:
    info = await server.info()
    if info.kind != "embedding" or info.pooling == "splade":
        raise Misconfigured(
            f"{SETTING}_URL: {info.model} is served as a {info.pooling or info.kind}, not as an encoder."
        )
    special = sum(each["special"] for each in (await _tokens(server, "x"))[0])
    probe, sample = await _tokens(server, PROBE, SAMPLE)
    ends = [each["stop"] for each in probe if each["stop"] is not None]
    unit = {len(PROBE.encode()): True, len(PROBE): False}.get(ends[-1] if ends else 0)
    if tokenizer is not None and tokenizer.encode(SAMPLE).ids != [each["id"] for each in sample]:
        raise Misconfigured(f"{SETTING}_URL: ?tokenizer= is another one than that of {info.model}, which is served.")
    if tokenizer is None and unit is None:
        raise Misconfigured(f"{SETTING}_URL: the server's tokens have no places in the text: name a ?tokenizer= file.")
    first = _vectors((await server.ask("POST", "/embed", _body([SAMPLE]))).content, 1)
    identity = EncoderIdentity(
        url=url,
        revision=f"{info.model} {info.sha}".strip(),
        precision=info.dtype,
        pooling=info.pooling,
        dimensions=first.shape[1],
        window=info.window,
    )
    return TeiEncoder(server, info, identity, tokenizer, special, in_bytes=bool(unit))


class TeiEncoder:
    def __init__(
        self,
        server: tei.Tei,
        info: tei.Info,
        identity: EncoderIdentity,
        tokenizer: Tokenizer | None,
        special: int,
        *,
        in_bytes: bool,
    ) -> None:
        self._server = server
        self._info = info
        self._identity = identity
        self._tokenizer = tokenizer
        self._special = special
        self._in_bytes = in_bytes
        self._looked = time.monotonic()

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def count(self, texts: Sequence[str]) -> list[int]:
        if self._tokenizer is not None:
            return [len(each) for each in self._tokenizer.encode_batch([storable(text) for text in texts])]
        asked = [text for text in texts if text]
        found: list[int] = []
        for at in range(0, len(asked), self._info.client_batch):
            found += map(len, self._tokenize(asked[at : at + self._info.client_batch], special=True))
        counts = iter(found)
        return [next(counts) if text else self._special for text in texts]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        if self._tokenizer is not None:
            offsets = self._tokenizer.encode(storable(text), add_special_tokens=False).offsets
            return [(int(start), int(end)) for start, end in offsets]
        if not text:
            return []
        (tokens,) = self._tokenize([text], special=False)
        if not self._in_bytes or text.isascii():
            return [(int(each["start"]), int(each["stop"])) for each in tokens]
        # Byte at which each code point begins; a token that ends within one reaches to its end.
        starts = np.fromiter(
            accumulate((len(each.encode()) for each in storable(text)), initial=0), np.int64, len(text) + 1
        )
        begins = np.searchsorted(starts, [each["start"] for each in tokens], side="right") - 1
        ends = np.searchsorted(starts, [each["stop"] for each in tokens])
        return list(zip(begins.tolist(), ends.tolist(), strict=True))

    async def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self._identity.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        await self._still_the_same()
        lengths = [int(len(text) / CHARACTERS_A_TOKEN) + self._special for text in texts]
        tokens = min(BATCH_TOKENS, self._info.batch_tokens)
        parts = list(batches(lengths, tokens, self._info.client_batch))
        # All are waited for: none goes on for a caller who has already been told of another's failure.
        room = asyncio.Semaphore(PARALLEL)
        done = await asyncio.gather(
            *(self._embed([texts[at] for at in part], room) for part in parts), return_exceptions=True
        )
        for part, rows in zip(parts, done, strict=True):
            if isinstance(rows, BaseException):
                raise rows
            vectors[part] = rows
        return vectors

    async def close(self) -> None:
        await self._server.close()

    async def _embed(self, texts: Sequence[str], room: asyncio.Semaphore) -> Vectors:
        async with room:
            try:
                answer = await self._server.ask("POST", "/embed", _body(texts))
            except Unavailable:
                self._looked -= LOOK  # what is there next may be another one
                raise
        if len(texts) == 1:
            rows = _vectors(answer.content, 1)
        else:
            rows = await asyncio.to_thread(_vectors, answer.content, len(texts))
        if rows.shape[1] != self._identity.dimensions:
            raise self._other()
        return rows

    async def _still_the_same(self) -> None:
        if time.monotonic() - self._looked < LOOK:
            return
        info = await self._server.info()
        if (info.model, info.sha, info.dtype, info.pooling) != (
            *(self._info.model, self._info.sha),
            *(self._info.dtype, self._info.pooling),
        ):
            raise self._other()
        self._looked = time.monotonic()

    def _other(self) -> TwinError:
        return Misconfigured(
            f"The server that {SETTING}_URL names serves another model now than {self._info.model}: restart Twin, then "
            f"run `twin reindex`."
        )

    def _tokenize(self, texts: Sequence[str], *, special: bool) -> list[list[dict[str, Any]]]:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise Internal("Tokens were counted over the network in an event loop, which would stop: use a thread.")
        body = {"inputs": [storable(text) for text in texts], "add_special_tokens": special}
        found = _read(self._server, self._server.ask_blocking("/tokenize", body), len(texts))
        if not special and any(type(token[end]) is not int for each in found for token in each for end in PLACES):
            raise self._server.strange()
        return found


async def _tokens(server: tei.Tei, *texts: str) -> list[list[dict[str, Any]]]:
    body = {"inputs": list(texts), "add_special_tokens": True}
    return _read(server, await server.ask("POST", "/tokenize", body), len(texts))


def _read(server: tei.Tei, answer: httpx.Response, texts: int) -> list[list[dict[str, Any]]]:
    """The tokens of each text, all that is read of them there."""
    try:
        found = [[dict(token) for token in tokens] for tokens in answer.json()]
        if len(found) != texts or any({"id", "special", *PLACES} - token.keys() for each in found for token in each):
            raise ValueError("not TEI's tokens")
    except (ValueError, TypeError) as error:
        raise server.strange() from error
    return found


def _body(texts: Sequence[str]) -> dict[str, Any]:
    # The server refuses an empty text, and cuts long ones by default.
    return {"inputs": [storable(text) or " " for text in texts], "normalize": True, "truncate": False}


def _vectors(content: bytes, count: int) -> Vectors:
    """Normalised again: a server that computes in half precision is off by a thousandth."""
    try:
        rows: Vectors = np.array(json.loads(content), dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise Unavailable(f"What {SETTING}_URL names answered with what are no vectors. Try again.") from error
    if rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all() or not rows.any(axis=1).all():
        raise Unavailable(f"What {SETTING}_URL names answered with what are no vectors. Try again.")
    normalised: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


def _load(path: str) -> Tokenizer:
    if not Path(path).is_file():
        raise Misconfigured(f"{SETTING}_URL: ?tokenizer= names no file. Give the whole path of a tokenizer.json.")
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing narrower
        raise Misconfigured(f"{SETTING}_URL: ?tokenizer= names a file that is no tokenizer.json.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
