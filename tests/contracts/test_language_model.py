"""What every language model promises; an engine joins by one more entry in ENGINES.

The engine in the process needs a model file. It is looked for in the folder `models` below TWIN_TEST_MODELS (by
default below ~/.twin, where `twin models fetch smollm2` puts it); without it its tests say so and skip.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse, Response, StreamingResponse
from structlog.testing import capture_logs

from services.adapters import language_model_openai, open_adapter
from services.domain import Message, Usage
from services.errors import (
    DeadlineExceeded,
    InvalidInput,
    Misconfigured,
    Overloaded,
    TooLarge,
    TwinError,
    Unavailable,
)
from services.ports import LanguageModel, Sampling
from tests.generator import engine
from tests.servers import tgi

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENGINES = ["openai", "tgi", "llamacpp", "openai over llama.cpp", "tgi over llama.cpp"]
MODELS = Path(os.environ.get("TWIN_TEST_MODELS", "~/.twin")).expanduser()
GREETING = (Message("system", "You are brief."), Message("user", "Say hello."))


def model_file() -> Path:
    files = sorted((MODELS / "models").glob("SmolLM2*.gguf"))
    if not files:
        pytest.skip("no small model: `twin models fetch smollm2`, or name its folder in TWIN_TEST_MODELS")
    return files[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LanguageModel]:
    data = tmp_path_factory.mktemp("data")
    if request.param == "openai":
        async with engine.running(engine.saying("Hello there, reader. " * 40), pause=0.01) as stub:
            opened: LanguageModel = await open_adapter("language_model", stub.url, data)
            yield opened
            await opened.close()
        return
    if request.param == "tgi":
        with tgi.running(tgi.Tgi(engine.saying("Hello there, reader. " * 40), pause=0.01)) as router:
            opened = await open_adapter("language_model", router.url, data)
            yield opened
            await opened.close()
        return
    inner = await open_adapter("language_model", f"llamacpp://{model_file()}?window=1024", data)
    if request.param == "llamacpp":
        opened = inner
    elif request.param == "tgi over llama.cpp":
        behind = tgi.Tgi(behind=(str(inner._client.base_url), dict(inner._client.headers)), max_total_tokens=1024)
        with tgi.running(behind) as router:
            opened = await open_adapter("language_model", router.url, data)
            yield opened
            await opened.close()
        await inner.close()
        return
    else:
        # Another client to the same server, with the key that only this process has.
        os.environ["TWIN_LLM_API_KEY"] = inner._client.headers["authorization"].removeprefix("Bearer ")
        opened = await open_adapter("language_model", f"openai+{inner._client.base_url}/v1", data)
        del os.environ["TWIN_LLM_API_KEY"]
    yield opened
    await opened.close()
    await opened.close()
    await inner.close()


async def test_streams_text_then_usage(model: LanguageModel) -> None:
    """Pieces of text come one by one, the usage last and once."""
    pieces = [piece async for piece in model.stream(GREETING, Sampling(max_tokens=12, temperature=0.0))]
    assert isinstance(pieces[-1], Usage)
    assert len(pieces) > 2
    assert all(isinstance(piece, str) and piece for piece in pieces[:-1])
    assert pieces[-1].prompt_tokens > 0
    assert pieces[-1].completion_tokens > 0


async def test_has_a_name_and_a_window(model: LanguageModel) -> None:
    """It says what is served and how much it holds."""
    assert model.name
    assert model.window >= 512


async def test_counts_from_above(model: LanguageModel) -> None:
    """More text never counts less, and nothing counts as a prompt too small."""
    short, long = await model.count(GREETING), await model.count((*GREETING[:1], Message("user", "word " * 200)))
    assert 5 <= short < long
    assert long >= 200
    assert await model.count(()) == 0


@pytest.mark.promise(9)
async def test_closing_stops_the_engine(model: LanguageModel) -> None:
    """Closing the iterator frees the engine for the next at once."""
    long = (Message("user", "Count from one to five hundred in words."),)
    seconds = []
    for _ in range(3):
        pieces = model.stream(long, Sampling(max_tokens=700, temperature=0.0))
        await anext(aiter(pieces))
        await pieces.aclose()
        began = time.perf_counter()
        assert [piece async for piece in model.stream(GREETING, Sampling(max_tokens=2))]
        seconds.append(time.perf_counter() - began)
    # An engine that went on would keep each of them waiting for all of the long answer.
    assert min(seconds) < 5


async def test_two_at_once(model: LanguageModel) -> None:
    """Answers asked for together both come."""

    async def answer() -> int:
        return len([piece async for piece in model.stream(GREETING, Sampling(max_tokens=4))])

    assert all(count > 1 for count in await asyncio.gather(answer(), answer()))


# ── What the OpenAI dialect adds: other programs' faults ────────────────────────────────────────────


async def _failure(script: engine.Script, tmp_path: Path) -> TwinError:
    async with engine.running(script) as stub:
        opened = await open_adapter("language_model", stub.url, tmp_path)
        try:
            async for _ in opened.stream(GREETING, Sampling(max_tokens=5)):
                pass
        except TwinError as error:
            return error
        finally:
            await opened.close()
    raise AssertionError("no error")


def _status(status: int, text: str = "secret prompt /etc/passwd", **headers: str) -> engine.Script:
    return lambda messages: JSONResponse({"error": {"message": text}}, status, headers)


async def _pieces(*events: str) -> AsyncIterator[str]:
    for event in events:
        yield f"data: {event}\n\n"


def _streaming(*events: str) -> engine.Script:
    return lambda messages: StreamingResponse(_pieces(*events), media_type="text/event-stream")


HALF = '{"choices": [{"delta": {"content": "Half"}}]}'


async def _broken() -> AsyncIterator[str]:
    yield 'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
    yield 'data: {"error": {"message": "secret", "type": "overloaded"}}\n\n'


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (_status(429), Overloaded),
        (_status(401), Misconfigured),
        (_status(404), Misconfigured),
        (_status(400), InvalidInput),
        (_status(400, "maximum context length is 4096"), TooLarge),
        (_status(504), DeadlineExceeded),
        (_status(500), Unavailable),
        (_status(302, location="http://127.0.0.1:1/"), Unavailable),
        (lambda messages: Response("<html>", media_type="text/html"), Unavailable),
        (lambda messages: Response("data: {half\n\n", media_type="text/event-stream"), Unavailable),
        (lambda messages: StreamingResponse(_broken(), media_type="text/event-stream"), Unavailable),
        (_streaming(HALF), Unavailable),
        (_streaming(HALF, '{"choices": ["secret"]}', "[DONE]"), Unavailable),
        (_streaming('{"choices": [], "usage": "secret"}', "[DONE]"), Unavailable),
    ],
)
async def test_an_engines_faults(script: engine.Script, expected: type[TwinError], tmp_path: Path) -> None:
    """Each is the error it means, says what to do, and repeats nothing of the engine's."""
    error = await _failure(script, tmp_path)
    assert type(error) is expected
    assert "secret" not in error.message
    assert "passwd" not in error.message


async def test_retry_after_is_passed_on(tmp_path: Path) -> None:
    """The engine's own delay reaches the caller."""
    error = await _failure(_status(429, **{"retry-after": "17"}), tmp_path)
    assert error.retry_after == 17


async def test_an_engine_that_is_away(tmp_path: Path) -> None:
    """Twin starts without it, and a question says what to do."""
    opened = await open_adapter("language_model", "openai+http://127.0.0.1:9/v1", tmp_path)
    with pytest.raises(Unavailable, match="TWIN_LLM_URL"):
        await anext(aiter(opened.stream(GREETING, Sampling(max_tokens=5))))
    await opened.close()


async def test_an_engine_that_takes_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be connected to within its time is away, as one that refuses is."""
    monkeypatch.setattr(language_model_openai, "CONNECT", 0.2)
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # What the kernel takes on its own account; from then on it answers nobody.
        for _ in range(4):
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        url = f"openai+http://127.0.0.1:{full.getsockname()[1]}/v1?model=stub"
        opened = await open_adapter("language_model", url, tmp_path)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await anext(aiter(opened.stream(GREETING, Sampling(max_tokens=5))))
        await opened.close()


async def _cut_after_done() -> AsyncIterator[str]:
    yield f"data: {HALF}\n\ndata: [DONE]\n\n"
    await asyncio.sleep(0.05)
    raise OSError("the engine's connection breaks")


FINISHED = '{"choices": [{"delta": {}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (_streaming(HALF, FINISHED), 0),
        (_streaming(HALF, "[DONE]"), 0),
        (_streaming(HALF, "[DONE]", '{"error": {"message": "secret"}}'), 1),
        (lambda messages: StreamingResponse(_cut_after_done(), media_type="text/event-stream"), 1),
    ],
)
async def test_where_an_answer_ends(
    script: engine.Script, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reason to finish ends an answer, and so does [DONE]: what goes wrong after it takes nothing from the answer, and
    the log is told of it."""
    monkeypatch.setattr(language_model_openai, "CLOSING", 60.0)
    async with engine.running(script) as stub:
        opened = await open_adapter("language_model", stub.url, tmp_path)
        with capture_logs() as logs:
            pieces = [piece async for piece in opened.stream(GREETING, Sampling(max_tokens=5))]
        await opened.close()
    assert pieces[0] == "Half"
    assert isinstance(pieces[1], Usage)
    assert len(logs) == told
    assert "secret" not in str(logs)


async def test_finds_the_model_and_sends_only_what_all_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ?model= the engine is asked; the key goes in its header; fields that are not set are not sent."""
    monkeypatch.setenv("TWIN_LLM_API_KEY", "k-1")
    async with engine.running(engine.saying("Hi."), models=("first", "second")) as stub:
        opened = await open_adapter("language_model", f"openai+{stub.base}/v1", tmp_path)
        assert opened.name == "first"
        assert [piece async for piece in opened.stream(GREETING, Sampling(max_tokens=5, seed=3))]
        await opened.close()
    assert stub.headers[0]["authorization"] == "Bearer k-1"
    assert stub.requests[0].keys() == {"model", "messages", "max_tokens", "stream", "stream_options", "seed"}


@pytest.mark.parametrize(
    "url",
    [
        "openai://host/v1",
        "openai+ftp://host/v1",
        "openai+http:///v1",
        "openai+http://user:pass@host/v1",
        "openai+http://host/v1?models=x",
        "openai+http://host/v1?window=many",
        "llamacpp://unknown",
        "llamacpp:///no/such/file.gguf",
        "llamacpp://smollm2?threads=4",
        "quotes://model",
    ],
)
async def test_wrong_addresses(url: str, tmp_path: Path) -> None:
    """Refused at start with the setting's name, without a password."""
    with pytest.raises(Misconfigured, match="TWIN_LLM_URL") as error:
        await open_adapter("language_model", url, tmp_path, setting="TWIN_LLM_URL")
    assert "pass@" not in error.value.message


async def test_quotes_need_no_engine(tmp_path: Path) -> None:
    """`quotes://` opens as no model at all."""
    assert await open_adapter("language_model", "quotes://", tmp_path) is None


async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    """A wrong file is refused at start, not at the first question."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(Misconfigured, match="GGUF"):
        await open_adapter("language_model", f"llamacpp://{file}", tmp_path)


@pytest.mark.parametrize("closed", [1, 2])
@pytest.mark.parametrize("kind", ["openai", "tgi"])
async def test_a_connection_that_is_closed_as_it_is_used_again(kind: str, closed: int, tmp_path: Path) -> None:
    """The request is made once more over another connection; where that is closed too, the engine is away."""
    event = {"choices": [{"delta": {"content": "Half"}, "finish_reason": "stop"}]}
    events = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode()
    said = {
        b"/info": (b"application/json", b'{"model_id": "stub", "max_total_tokens": 2048, "version": "3.0.0"}'),
        b"/v1/chat/completions": (b"text/event-stream", events),
    }
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            path = head.split()[1]
            asked += path.endswith(b"completions")
            if path.endswith(b"completions") and 1 < asked <= 1 + closed:
                break
            media, body = said.get(path, (b"text/plain", b"unknown"))
            status = b"200 OK" if path in said else b"404 Not Found"
            writer.write(b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status, media, len(body)))
            writer.write(body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = {"openai": f"openai+http://127.0.0.1:{port}/v1?model=stub", "tgi": f"tgi+http://127.0.0.1:{port}"}[kind]
        model: LanguageModel = await open_adapter("language_model", url, tmp_path)
        whole = ["Half", Usage(await model.count(GREETING), 1)]
        assert [piece async for piece in model.stream(GREETING, Sampling(max_tokens=5))] == whole
        if closed == 1:
            assert [piece async for piece in model.stream(GREETING, Sampling(max_tokens=5))] == whole
        else:
            with pytest.raises(Unavailable):
                await anext(model.stream(GREETING, Sampling(max_tokens=5)))
        await model.close()
    assert asked == 3
