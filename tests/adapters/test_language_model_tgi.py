"""Text Generation Inference: what its dialect adds to what every language model promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse
from structlog.testing import capture_logs

from services import telemetry
from services.adapters import open_adapter
from services.domain import Message, Usage
from services.errors import InvalidInput, Misconfigured, Overloaded, TooLarge, TwinError, Unavailable
from services.generator.pool import Pool
from services.ports import LanguageModel, Sampling
from tests.generator.engine import saying
from tests.servers import tgi

GREETING = (Message("system", "You are brief."), Message("user", "Say hello."))


async def opened(url: str, data: Path) -> LanguageModel:
    model: LanguageModel = await open_adapter("language_model", url, data, setting="TWIN_LLM_URL")
    return model


async def said(model: LanguageModel, **options: object) -> list[str | Usage]:
    return [piece async for piece in model.stream(GREETING, Sampling(max_tokens=20, **options))]  # type: ignore[arg-type]


async def test_only_known_fields_and_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not set is not sent; the model is "tgi", for another name is read as an adapter's; a top_p of 1, which
    the engine refuses, is left out. The key is Twin's, the trace the caller's, and the hub's saved token stays here."""
    monkeypatch.setenv("TWIN_LLM_API_KEY", "k-1")
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    with tgi.running(tgi.Tgi(saying("Hello there."))) as stub:
        model = await opened(stub.url, tmp_path)
        with telemetry.span("question", telemetry.SpanKind.INTERNAL):
            trace = telemetry.trace_id()
            await said(model, top_p=1.0, seed=3, stop=("END",), temperature=0.0)
        await model.close()
    assert stub.requests[0].keys() == {
        *("model", "messages", "max_tokens", "stream", "stream_options"),
        *("seed", "stop", "temperature"),
    }
    assert stub.requests[0]["model"] == "tgi"
    assert stub.headers[0]["authorization"] == "Bearer k-1"
    assert trace in stub.headers[0]["traceparent"]


async def test_the_hubs_token_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key none is sent, though one for the hub is saved on this machine."""
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    with tgi.running(tgi.Tgi(saying("Hello."))) as stub:
        model = await opened(stub.url, tmp_path)
        await said(model)
        await model.close()
    assert "authorization" not in stub.headers[0]
    assert "hf_canary" not in str(stub.headers)


async def test_offline_is_about_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub is switched off (HF_HUB_OFFLINE), an engine is still asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with tgi.running(tgi.Tgi(saying("Hello."))) as stub:
        model = await opened(stub.url, tmp_path)
        assert "".join(piece for piece in await said(model) if isinstance(piece, str)) == "Hello."
        await model.close()


async def test_takes_window_and_name_from_the_engine(tmp_path: Path) -> None:
    """The window is what the engine holds, or less where the address asks for less; the name is what it serves."""
    with tgi.running(tgi.Tgi(saying("Hi."), max_total_tokens=2048)) as stub:
        model = await opened(f"tgi+{stub.base}", tmp_path)
        less = await opened(f"{stub.url}&window=1024", tmp_path)
        for each in (model, less):
            await each.prove()
        assert (model.name, model.window) == ("stub/instruct", 2048)
        assert less.window == 1024
        for each in (model, less):
            await each.close()


@pytest.mark.promise(9)
async def test_another_model_is_refused(tmp_path: Path) -> None:
    """An engine that serves another model than the one named is found out before it answers for it."""
    with tgi.running(tgi.Tgi(saying("Hi."))) as stub:
        model = await opened(f"tgi+{stub.base}?model=some/other", tmp_path)
        with pytest.raises(Misconfigured, match="stub/instruct"):
            await model.prove()
        with pytest.raises(Misconfigured, match="some/other"):
            await said(model)
        await model.close()
    assert stub.requests == []


async def test_an_engine_that_comes_up_later(tmp_path: Path) -> None:
    """Twin starts without the engine, says that it is away, and uses it once it is there."""
    with tgi.running(tgi.Tgi(saying("Hi."))) as gone:
        pass
    model = await opened(gone.url, tmp_path)
    with pytest.raises(Unavailable, match="TWIN_LLM_URL"):
        await said(model)
    assert await model.waiting() is None
    assert await model.count(GREETING) > 5
    await model.close()


async def test_counts_by_the_engines_template(tmp_path: Path) -> None:
    """The engine counts, under its template; one of a version without that route is estimated, from above."""
    with tgi.running(tgi.Tgi(saying("Hi."))) as stub:
        model = await opened(stub.url, tmp_path)
        assert await model.count(GREETING) == 9
        await model.close()
    with tgi.running(tgi.Tgi(saying("Hi."), chat_tokenize=False)) as stub:
        model = await opened(stub.url, tmp_path)
        assert await model.count(GREETING) > 9
        await model.close()


async def test_tells_its_queue(tmp_path: Path) -> None:
    """The gauge of its own queue is read."""
    with tgi.running(tgi.Tgi(saying("Hi."), queue=7)) as stub:
        model = await opened(stub.url, tmp_path)
        assert await model.waiting() == 7
        await model.close()


@pytest.mark.promise(9)
async def test_closing_stops_the_engine_at_once(tmp_path: Path) -> None:
    """Of twenty streams that are left after their first piece, the engine goes on with none: by closing the iterator,
    and by cancelling who reads it."""
    # What was not stopped, but ended by itself, is not counted.
    with tgi.running(tgi.Tgi(saying("word " * 2000), pause=0.02)) as stub:
        model = await opened(stub.url, tmp_path)

        async def left() -> None:
            pieces = model.stream(GREETING, Sampling(max_tokens=700))
            await anext(aiter(pieces))
            await pieces.aclose()

        async def read() -> None:
            async for _ in model.stream(GREETING, Sampling(max_tokens=700)):
                first.release()

        await asyncio.gather(*(left() for _ in range(10)))
        first = asyncio.Semaphore(0)
        readers = [asyncio.create_task(read()) for _ in range(10)]
        for _ in readers:
            await first.acquire()
        while len(stub.requests) < 20:
            await asyncio.sleep(0.01)
        for each in readers:
            each.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        began = time.perf_counter()
        while stub.cancelled < 20 and time.perf_counter() - began < 60:
            await asyncio.sleep(0.01)
        assert stub.cancelled == 20
        await model.close()


async def test_connections_are_kept(tmp_path: Path) -> None:
    """Questions one after the other share a connection."""
    with tgi.running(tgi.Tgi(saying("Hi."))) as stub:
        model = await opened(stub.url, tmp_path)
        for _ in range(3):
            await said(model)
        await model.close()
    assert len(set(stub.clients)) == 1


async def test_characters_that_look_like_line_ends(tmp_path: Path) -> None:
    """Unicode's own line ends are text, wherever the network cuts their bytes apart."""
    text = "one\u2028two\u2029three\x85four … é \u2027 \u0084"

    async def bytewise() -> AsyncIterator[bytes]:
        for byte in (tgi.event(text) + tgi.event("!", finish_reason="stop") + "data: [DONE]\n\n").encode():
            yield bytes([byte])

    with tgi.running(tgi.Tgi(lambda messages: StreamingResponse(bytewise(), media_type="text/event-stream"))) as stub:
        model = await opened(stub.url, tmp_path)
        pieces = await said(model)
        await model.close()
    assert pieces[:-1] == [text, "!"]


async def test_a_fault_after_the_end(tmp_path: Path) -> None:
    """An answer that ended is whole, though its connection breaks then: the log is told of it."""

    async def cut() -> AsyncIterator[str]:
        yield tgi.event("Hello.", finish_reason="stop") + "data: [DONE]\n\n"
        await asyncio.sleep(0.05)
        raise OSError("the engine's connection breaks")

    with tgi.running(tgi.Tgi(lambda messages: StreamingResponse(cut(), media_type="text/event-stream"))) as stub:
        model = await opened(stub.url, tmp_path)
        with capture_logs() as logs:
            pieces = await said(model)
        await model.close()
    assert pieces[0] == "Hello."
    assert isinstance(pieces[1], Usage)
    assert [each["log_level"] for each in logs] == ["warning"]


async def test_several_are_a_pool(tmp_path: Path) -> None:
    """One that is overloaded before its first token has its question taken over by the other; one that serves another
    model is refused at start."""
    full = tgi.Tgi(_event('{"error": "full", "error_type": "overloaded"}', begun=False), model_id="m")
    with tgi.running(full), tgi.running(tgi.Tgi(saying("Hello."), model_id="m")) as free:
        pool = Pool([full.url, free.url], lambda url: opened(url, tmp_path))
        await pool.start()
        for number in range(20):
            asked = (Message("user", f"Question {number}?"),)
            pieces = [piece async for piece in pool.stream(asked, Sampling(max_tokens=5))]
            assert "".join(piece for piece in pieces if isinstance(piece, str)) == "Hello."
        assert pool.window == 4096
        await pool.close()
        assert full.requests, "twenty questions are some of each one's"
        wrong = Pool([full.url, f"tgi+{free.base}?model=other"], lambda url: opened(url, tmp_path))
        with pytest.raises(Misconfigured, match="other"):
            await wrong.start()
        await wrong.close()


# ── Faults ──────────────────────────────────────────────────────────────────────────────────────────


def _status(status: int, kind: str = "", text: str = "secret prompt /etc/passwd", **headers: str) -> tgi.Script:
    return lambda messages: JSONResponse({"error": text, "error_type": kind}, status, headers)


def _event(data: str, *, begun: bool = True) -> tgi.Script:
    async def stream() -> AsyncIterator[str]:
        if begun:
            yield tgi.event("Half")
        yield f"data: {data}\n\n"

    return lambda messages: StreamingResponse(stream(), media_type="text/event-stream")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (_status(422, "validation"), InvalidInput),
        (
            _status(422, "validation", "Input validation error: `inputs` must have less than 9 tokens. Given: 12"),
            TooLarge,
        ),
        (_status(422, "template_error", "Template error: template not found"), Misconfigured),
        (_status(424, "generation"), Unavailable),
        (_status(429, "overloaded"), Overloaded),
        (_status(500, "incomplete_generation"), Unavailable),
        (_status(401), Misconfigured),
        (_status(404), Misconfigured),
        (_status(302, location="http://127.0.0.1:1/"), Unavailable),
        (lambda messages: Response("<html>", media_type="text/html"), Unavailable),
        (_event('{"error": "secret", "error_type": "generation"}'), Unavailable),
        (_event('{"error": "secret", "error_type": "overloaded"}', begun=False), Overloaded),
        (_event('{"error": "secret", "error_type": "validation"}', begun=False), InvalidInput),
        (_event('{"error": {"message": "secret", "http_status_code": 429}}', begun=False), Overloaded),
        (_event('{"error": {"message": "secret", "http_status_code": 500}}'), Unavailable),
        (_event("{half"), Unavailable),
        (_event("[1]"), Unavailable),
        (_event("[DONE]"), Unavailable),
    ],
)
async def test_an_engines_faults(script: tgi.Script, expected: type[TwinError], tmp_path: Path) -> None:
    """Each is the error it means, before the answer or in it, and repeats nothing of the engine's."""
    with tgi.running(tgi.Tgi(script)) as stub:
        model = await opened(stub.url, tmp_path)
        with pytest.raises(TwinError) as error:
            await said(model)
        await model.close()
    assert type(error.value) is expected
    assert "secret" not in error.value.message
    assert "passwd" not in error.value.message


async def test_retry_after_is_passed_on(tmp_path: Path) -> None:
    """The engine's own delay reaches the caller."""
    with tgi.running(tgi.Tgi(_status(429, **{"retry-after": "17"}))) as stub:
        model = await opened(stub.url, tmp_path)
        with pytest.raises(Overloaded) as error:
            await said(model)
        await model.close()
    assert error.value.retry_after == 17


async def test_a_prompt_too_long(tmp_path: Path) -> None:
    """What does not fit the engine is TooLarge."""
    with tgi.running(tgi.Tgi(saying("Hi."), max_total_tokens=25)) as stub:
        model = await opened(stub.url, tmp_path)
        with pytest.raises(TooLarge):
            await said(model)
        await model.close()


@pytest.mark.parametrize(
    "url",
    [
        "tgi://host",
        "tgi+ftp://host",
        "tgi+http:///v1",
        "tgi+http://user:pass@host",
        "tgi+http://host?models=x",
        "tgi+http://host?window=many",
        "tgi+http://host?window=100",
    ],
)
async def test_wrong_addresses(url: str, tmp_path: Path) -> None:
    """Refused at start with the setting's name, without a password."""
    with pytest.raises(Misconfigured, match="TWIN_LLM_URL") as error:
        await opened(url, tmp_path)
    assert "pass@" not in error.value.message
