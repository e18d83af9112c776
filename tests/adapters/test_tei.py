"""Text Embeddings Inference: what its dialect adds to what every encoder and reranker promises."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from services import telemetry
from services.adapters import encoder_tei, open_adapter
from services.errors import (
    Internal,
    InvalidInput,
    Misconfigured,
    Overloaded,
    TooLarge,
    TwinError,
    Unavailable,
)
from services.ports import Encoder, Reranker
from tests.servers import tei

LINES = ["naïve café 🙂 東京 Миру мир", "plain text", "é" * 30 + " end", "a\u0301 b\u0301", "🙂🙂 x"]


async def encoder(url: str, data: Path) -> Encoder:
    opened: Encoder = await open_adapter("encoder", url, data)
    return opened


async def reranker(url: str, data: Path) -> Reranker:
    opened: Reranker = await open_adapter("reranker", url, data)
    return opened


async def test_says_what_it_serves(tmp_path: Path) -> None:
    """Model, precision, pooling and window are the server's; the tokenizer's place on this machine is no part of it."""
    with tei.running(tei.Tei(model_id="some/encoder", model_dtype="float16", pooling="cls")) as server:
        file = tmp_path / "tokenizer.json"
        file.write_text(server._tokenizer.to_str())
        for url in (server.url, f"{server.url}?tokenizer={file}"):
            opened = await encoder(url, tmp_path)
            identity = opened.identity
            assert identity.url == server.url
            assert (identity.revision, identity.precision, identity.pooling) == ("some/encoder", "float16", "cls")
            assert (identity.dimensions, identity.window) == (384, 256)
            await opened.close()


@pytest.mark.parametrize("in_bytes", [True, False])
async def test_spans_are_in_code_points(in_bytes: bool, tmp_path: Path) -> None:
    """Whether a version counts in bytes or in code points, spans are what the tokenizer itself gives."""
    with tei.running(tei.Tei(in_bytes=in_bytes)) as server:
        opened = await encoder(server.url, tmp_path)
        for text in LINES:
            expected = server._tokenizer.encode(text, add_special_tokens=False).offsets
            assert await asyncio.to_thread(opened.token_spans, text) == expected
        await opened.close()


async def test_requests_stay_within_the_servers_limits(tmp_path: Path) -> None:
    """No request has more texts than the server takes, nothing is cut, all rows stand in their places."""
    texts = [f"text number {number} " + "word " * (number * 3 % 100) for number in range(36)]
    with tei.running(tei.Tei(max_client_batch_size=8, max_batch_tokens=512)) as server:
        opened = await encoder(server.url, tmp_path)
        vectors = await opened.encode(texts)
        counts = await asyncio.to_thread(opened.count, texts)
        expected = await server._encoder.encode(texts)
        await opened.close()
    assert (np.sum(vectors * expected, axis=1) > 0.98).all()
    assert counts == server._encoder.count(texts)
    embedded = [given for path, given in server.requests if path == "/embed"]
    assert all(given["truncate"] is False and given["normalize"] is True for given in embedded)
    assert max(len(given["inputs"]) for _, given in server.requests) == 8


async def test_counting_does_not_stop_a_loop(tmp_path: Path) -> None:
    """Counting over the network in an event loop is refused; with the tokenizer here it needs no network at all."""
    with tei.running(tei.Tei()) as server:
        opened = await encoder(server.url, tmp_path)
        with pytest.raises(Internal, match="thread"):
            opened.count(["text"])
        await opened.close()
        file = tmp_path / "tokenizer.json"
        file.write_text(server._tokenizer.to_str())
        opened = await encoder(f"{server.url}?tokenizer={file}", tmp_path)
        asked = len(server.requests)
        assert opened.count(["text", ""]) == [3, 2]
        assert opened.token_spans("text") == [(0, 4)]
        assert len(server.requests) == asked
        await opened.close()


async def test_another_tokenizer_is_found_out(tmp_path: Path) -> None:
    """A tokenizer file that is not the served model's is refused at start."""
    file = tmp_path / "tokenizer.json"
    with tei.running(tei.Tei()) as server:
        from tokenizers import Tokenizer

        small = Tokenizer.from_str(server._tokenizer.to_str())
        small.normalizer = None
        file.write_text(small.to_str())
        with pytest.raises(Misconfigured, match="tokenizer"):
            await encoder(f"{server.url}?tokenizer={file}", tmp_path)
        file.write_text("no tokenizer")
        with pytest.raises(Misconfigured, match="tokenizer"):
            await encoder(f"{server.url}?tokenizer={file}", tmp_path)


async def test_another_model_later_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of two models never meet: a server that came back with another one is refused."""
    monkeypatch.setattr(encoder_tei, "LOOK", 0.0)
    with tei.running(tei.Tei()) as server:
        opened = await encoder(server.url, tmp_path)
        await opened.encode(["text"])
        server.model_id = "another/model"
        with pytest.raises(Misconfigured, match="reindex"):
            await opened.encode(["text"])
        await opened.close()


@pytest.mark.promise(11)
async def test_key_and_trace_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key goes in its header, the caller's trace beside it; a wrong key is said, and not repeated."""
    with tei.running(tei.Tei(api_key="k-1")) as server, tei.running(tei.Tei(api_key="k-2", reranker=True)) as ranks:
        monkeypatch.setenv("TWIN_ENCODER_API_KEY", "k-1")
        monkeypatch.setenv("TWIN_RERANKER_API_KEY", "k-2")
        opened, reads = await encoder(server.url, tmp_path), await reranker(ranks.url, tmp_path)
        with telemetry.span("question", telemetry.SpanKind.INTERNAL):
            trace = telemetry.trace_id()
            await opened.encode(["text"])
            await asyncio.to_thread(opened.count, ["text"])
            await reads.score("text", ["text"])
        await opened.close()
        await reads.close()
        monkeypatch.setenv("TWIN_ENCODER_API_KEY", "wrong")
        with pytest.raises(Misconfigured, match="TWIN_ENCODER_API_KEY") as error:
            await encoder(server.url, tmp_path)
    assert "wrong" not in error.value.message
    assert all(trace in each["traceparent"] for each in (*server.headers[-3:-1], ranks.headers[-1]))


def _fault(status: int, kind: str = "", **headers: str) -> Response:
    return JSONResponse({"error": "secret text /etc/passwd", "error_type": kind}, status, headers)


FAULTS = [
    (_fault(413, "Validation"), TooLarge),
    (PlainTextResponse("length limit exceeded", 413), TooLarge),
    (_fault(422, "Tokenizer"), InvalidInput),
    (_fault(424, "Backend"), Unavailable),
    (_fault(429, "Overloaded"), Overloaded),
    (_fault(503, "Unhealthy"), Unavailable),
    (_fault(401), Misconfigured),
    (_fault(404), Misconfigured),
    (_fault(302, location="http://127.0.0.1:1/"), Misconfigured),
]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *FAULTS,
        (PlainTextResponse("<html>"), Unavailable),
        (JSONResponse([]), Unavailable),
        (JSONResponse([[0.0] * 384]), Unavailable),
        (PlainTextResponse("[[NaN" + ", 1" * 383 + "]]"), Unavailable),
        (JSONResponse([[1.0] * 100]), Misconfigured),
    ],
)
async def test_an_encoders_faults(answer: Response, expected: type[TwinError], tmp_path: Path) -> None:
    """Each is the error it means, says what to do, and repeats nothing of the server's."""
    with tei.running(tei.Tei()) as server:
        opened = await encoder(server.url, tmp_path)
        server.fault = lambda path: answer if path == "/embed" else None
        with pytest.raises(TwinError) as error:
            await opened.encode(["text"])
        await opened.close()
    assert type(error.value) is expected
    assert "secret" not in error.value.message


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *FAULTS,
        (PlainTextResponse("<html>"), Misconfigured),
        (JSONResponse({"x": 1}), Misconfigured),
        (JSONResponse([]), Misconfigured),
        (JSONResponse([[{"id": 1}]]), Misconfigured),
        (JSONResponse([[], []]), Misconfigured),
    ],
)
async def test_a_tokenizers_faults(answer: Response, expected: type[TwinError], tmp_path: Path) -> None:
    """Counting, and cutting, trust the server no more than encoding does."""
    with tei.running(tei.Tei()) as server:
        opened = await encoder(server.url, tmp_path)
        server.fault = lambda path: answer if path == "/tokenize" else None
        for ask in (lambda: opened.count(["text"]), lambda: opened.token_spans("text")):
            with pytest.raises(TwinError) as error:
                await asyncio.to_thread(ask)
            assert type(error.value) is expected
            assert "secret" not in error.value.message
        placeless = JSONResponse([[{"id": 1, "special": False, "start": None, "stop": None}]])
        server.fault = lambda path: placeless if path == "/tokenize" else None
        assert await asyncio.to_thread(opened.count, ["text"]) == [1]
        with pytest.raises(Misconfigured):
            await asyncio.to_thread(opened.token_spans, "text")
        await opened.close()


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("answer", "expected"), [*FAULTS, (JSONResponse([]), Misconfigured), (JSONResponse({"x": 1}), Misconfigured)]
)
async def test_a_rerankers_faults(answer: Response, expected: type[TwinError], tmp_path: Path) -> None:
    """Each is the error it means, says what to do, and repeats nothing of the server's."""
    with tei.running(tei.Tei(reranker=True)) as server:
        opened = await reranker(server.url, tmp_path)
        server.fault = lambda path: answer if path == "/rerank" else None
        with pytest.raises(TwinError) as error:
            await opened.score("query", ["text"])
        await opened.close()
    assert type(error.value) is expected
    assert "secret" not in error.value.message


async def test_servers_that_are_away(tmp_path: Path) -> None:
    """Without its encoder nothing can be opened, and that is said; without its reranker a search says so when it
    needs one, and finds it once it is there."""
    with tei.running(tei.Tei(reranker=True)) as gone:
        pass
    with pytest.raises(Unavailable, match="TWIN_ENCODER_URL"):
        await encoder(gone.url, tmp_path)
    opened = await reranker(gone.url, tmp_path)
    with pytest.raises(Unavailable, match="TWIN_RERANKER_URL"):
        await opened.score("query", ["text"])
    await opened.close()


async def test_the_wrong_kind_of_model(tmp_path: Path) -> None:
    """A reranker is no encoder, an encoder no reranker, and something else neither."""
    with tei.running(tei.Tei(reranker=True)) as ranks, tei.running(tei.Tei()) as encodes:
        with pytest.raises(Misconfigured, match="TWIN_ENCODER_URL"):
            await encoder(ranks.url, tmp_path)
        with pytest.raises(Misconfigured, match="TWIN_RERANKER_URL"):
            await reranker(encodes.url, tmp_path)
        encodes.fault = lambda path: JSONResponse({"model_id": "x"})
        with pytest.raises(Misconfigured, match="Text Embeddings Inference"):
            await encoder(encodes.url, tmp_path)


@pytest.mark.parametrize("port", ["encoder", "reranker"])
@pytest.mark.parametrize(
    "address", ["://host", "+ftp://host", "+http://", "+http://a:pass@host", "+http://host?model=x"]
)
async def test_wrong_addresses(port: str, address: str, tmp_path: Path) -> None:
    """Refused at start with the setting's name, without a password."""
    with pytest.raises(Misconfigured, match=f"TWIN_{port.upper()}_URL") as error:
        await open_adapter(port, f"tei{address}", tmp_path)
    assert "pass@" not in error.value.message
