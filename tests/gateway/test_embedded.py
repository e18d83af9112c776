"""The gateway before the real services, all in one process: the official OpenAI client, and schemathesis on the
OpenAPI document."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openai import OpenAI
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from services import embedded
from services.gateway.routes import ROUTES, Route

NOTES = """# Sources

A source is added with the command `twin sources add`. Twin finds out by itself whether an address is a page, a feed or
a sitemap.

# Schedules

A feed is crawled again every day unless its schedule says otherwise. A folder is watched when that was asked for.
"""


class Running:
    """A Twin in a thread of its own, on the embedded adapters without any model."""

    def __init__(self, data_dir: Path, *, workers: bool) -> None:
        self._data_dir = data_dir
        self._workers = workers
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.address = ""
        self.secret = ""

    def __enter__(self) -> Running:
        self._thread.start()
        self._ready.wait(60)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # handed to the test's own thread
            self._failure = error
            raise
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with embedded.running(
            workers=self._workers,
            data_dir=self._data_dir,
            gateway_port=0,
            encoder_url="hashing://384",
            llm_url="quotes://",
        ) as twin:
            self.address = await twin.serve()
            self.secret = twin.secret
            self.app = twin.gateway.app
            self._ready.set()
            await self._stop.wait()


@dataclass
class Filled:
    """A running Twin that knows the notes, as a caller sees it."""

    address: str
    secret: str
    app: Any
    document_id: str

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers={"Authorization": f"Bearer {self.secret}"}, timeout=60)

    def openai(self) -> OpenAI:
        return OpenAI(api_key=self.secret, base_url=f"{self.address}/v1", max_retries=0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Filled with workers; then served without: nothing that schemathesis asks to be crawled is."""
    data_dir = tmp_path_factory.mktemp("twin")
    with Running(data_dir, workers=True) as running:
        headers = {"Authorization": f"Bearer {running.secret}"}
        with httpx.Client(base_url=running.address, headers=headers, timeout=60) as client:
            made = client.post("/v1/documents", data={"author": "alpha"}, files={"file": ("notes.md", NOTES.encode())})
            assert made.status_code == 202, made.text
            until = time.monotonic() + 120
            job = made.json()
            while job["state"] in ("queued", "running") and time.monotonic() < until:
                time.sleep(0.05)
                job = client.get(made.headers["location"]).json()
            assert job["state"] == "done", job
            (document,) = client.get("/v1/documents").json()["data"]
    with Running(data_dir, workers=False) as running:
        yield Filled(running.address, running.secret, running.app, document["id"])


@pytest.mark.promise(6)
def test_an_answer_quotes_the_documents_own_text(filled: Filled) -> None:
    """The client gets an answer whose citations are exact spans of the document's text, streamed and whole alike."""
    client = filled.openai()
    ask: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "How is a source added?"}]
    whole = client.chat.completions.create(model="alpha", messages=ask)
    stream = client.chat.completions.create(
        model="twin", messages=ask, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    content = whole.choices[0].message.content or ""
    assert content == streamed
    assert "twin sources add" in content
    twin = (whole.model_extra or {})["twin"]
    assert twin["citations"]
    for citation in twin["citations"]:
        path = f"/v1/documents/{citation['document_id']}?version={citation['version']}"
        text = filled.client().get(path).json()["text"]
        assert text[citation["start"] : citation["end"]] == citation["quote"]
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert filled.client().get(f"/v1/generations/{twin['generation_id']}").json()["answer"] == content


def test_models_and_embeddings(filled: Filled) -> None:
    """Models are the authors; a vector has the encoder's dimensions and length 1."""
    client = filled.openai()
    assert [model.id for model in client.models.list()] == ["twin", "alpha"]
    (vector,) = (each.embedding for each in client.embeddings.create(model="twin", input="a source").data)
    assert len(vector) == 384
    assert sum(each * each for each in vector) == pytest.approx(1, abs=1e-3)


def test_errors_of_the_real_services(filled: Filled) -> None:
    """What the services refuse reaches the client as its own classes."""
    client = filled.openai()
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with pytest.raises(openai.APIStatusError) as large:
        client.embeddings.create(model="twin", input="word " * 100_000)
    assert large.value.status_code == 413
    assert filled.client().get("/v1/documents/none").status_code == 404
    assert filled.client().get(f"/v1/documents/{filled.document_id}?version=99").status_code == 404


@pytest.fixture(scope="module")
def described(filled: Filled) -> Any:
    return schemathesis.openapi.from_dict(filled.app.openapi())


def _asks(case: Any) -> None:
    """The last message is the question, and stream_options goes with a stream: a schema has no word for what is last,
    and OpenAI's clients are typed by one that does not tie the two."""
    case.body["messages"].append({"role": "user", "content": "How is a source added?"})
    case.body["model"] = "twin"
    if not case.body.get("stream"):
        case.body.pop("stream_options", None)


def _as_long_as_they_are(case: Any) -> None:
    """The dimensions are the encoder's own number, which changes with the index."""
    case.body["model"] = "twin"
    case.body.pop("dimensions", None)


def _plain_sources(case: Any) -> None:
    """Which addresses and options a kind of source takes is the crawler's to say."""
    for each in case.body.get("sources", [case.body]):
        if isinstance(each, dict):
            for name in ("kind", "options", "watch"):
                each.pop(name, None)


def _from_the_start(case: Any) -> None:
    """A cursor is a page's before."""
    case.query.pop("cursor", None)


def _author_first(case: Any) -> None:
    """A form's parts come in an order, which a schema's properties don't."""
    case.body["file"] = case.body.pop("file")


WITHIN: dict[tuple[str, str], Callable[[Any], None]] = {
    ("POST", "/v1/chat/completions"): _asks,
    ("POST", "/v1/embeddings"): _as_long_as_they_are,
    ("POST", "/v1/ingest-jobs"): _plain_sources,
    ("POST", "/v1/sources"): _plain_sources,
    ("POST", "/v1/documents"): _author_first,
    ("GET", "/v1/documents"): _from_the_start,
}
"""What a schema cannot say of what fits it: then it is accepted."""
BY_STATE = {
    ("POST", "/v1/calibrations"): "refused where too little is indexed: it takes no data",
}
"""Routes that may refuse what fits, and why."""

FAIR, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
MODES = [(route, FAIR) for route in ROUTES] + [(route, WRONG) for route in ROUTES if 415 in route.refuses]
"""What fits the document is sent to every route, what doesn't to those that take a body."""


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("route", "mode"), [pytest.param(*each, id=f"{each[0].method} {each[0].path} {each[1].value}") for each in MODES]
)
def test_the_document_holds(route: Route, mode: GenerationMode, described: Any, filled: Filled) -> None:
    """Whatever is sent to a route, its answer is one that the OpenAPI document declares, and never a fault; what fits
    the document is accepted."""
    name = (route.method, route.path)
    within = WITHIN.get(name)
    operation = described[route.path][route.method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def holds(case: Any) -> None:
        if within is not None and mode is FAIR:
            within(case)
        case.call_and_validate(
            base_url=filled.address,
            headers={"Authorization": f"Bearer {filled.secret}"},
            allow_redirects=False,
            # What it calls a rejection leaves out 413; and an address's pattern says what surely is one, no more.
            excluded_checks=[negative_data_rejection, *([positive_data_acceptance] if name in BY_STATE else [])],
        )

    holds()


def test_a_repeated_upload_is_one_job(filled: Filled) -> None:
    """An idempotency key makes the same upload again the same job, and another key's is not touched by it."""
    with filled.client() as client:
        secret = client.post("/v1/api-keys", json={"name": "other", "role": "writer"}).json()["secret"]
        ids = [
            client.post(
                "/v1/documents",
                data={"author": "alpha"},
                files={"file": ("more.md", b"# More\n\nMore text.")},
                headers={"Idempotency-Key": "once", "Authorization": f"Bearer {each}"},
            ).json()["id"]
            for each in (filled.secret, filled.secret, secret)
        ]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("address", ["~no-such-user/notes", "/" + "x" * 300, "/nothing/here"])
def test_a_path_that_leads_nowhere(filled: Filled, address: str) -> None:
    """A path without a home, beyond the file system's names or with nothing at it is refused, and is no fault."""
    with filled.client() as client:
        response = client.post("/v1/sources", json={"author": "alpha", "address": address})
    assert response.status_code in (400, 404), response.text
