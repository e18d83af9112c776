"""Promises 6 and 7: what an engine writes is cited, checked and declined; and it sees the one prompt that there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.domain import Message, Passage
from services.generator import prompt
from tests.generator import engine
from tests.promises.twin import NOTES, QUESTION, ask, running, upload

TRUE = "The starter is fed twice a day with equal parts of flour and water. [1]"
FALSE = "Seventeen robots from Mars polish the moon every leap year. [1]"
ALIKE = (
    "The harbour was quiet. Nothing moved, and the gulls slept on the wall until the evening tide came in once more, as "
    "it had come in on every evening of that long and windless month."
)
DAYS = ("2022-05-01", "2023-03-10", "2023-11-02", "2024-01-09")


@pytest.fixture
async def written(tmp_path: Path) -> AsyncIterator[tuple[engine.Engine, httpx.AsyncClient]]:
    """A Twin whose answers an engine writes, with one document."""
    async with engine.running(engine.saying(TRUE)) as stub, running(tmp_path, llm_url=stub.url) as (_, client):
        await upload(client, "alpha", sourdough=NOTES)
        yield stub, client


async def events(client: httpx.AsyncClient, question: str, **own: Any) -> list[dict[str, Any]]:
    """The chunks of a streamed answer."""
    body = {"model": "twin", "stream": True, "messages": [{"role": "user", "content": question}], "twin": own}
    chunks: list[dict[str, Any]] = []
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                chunks.append(json.loads(line[6:]))
    return chunks


def text(chunk: dict[str, Any]) -> str:
    return "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", []))


@pytest.mark.promise(4)
@pytest.mark.promise(6)
async def test_a_citation_is_a_span_of_a_given_passage(written: tuple[engine.Engine, httpx.AsyncClient]) -> None:
    """A number that was given becomes a citation with title, address, version and span inside that passage; one that
    was not given becomes none, and does not stay in the text."""
    stub, client = written
    stub.script = engine.saying(f"{TRUE} The loaf needs steam. [37]")
    answer = await ask(client, QUESTION)
    own = answer["twin"]
    assert {each["number"] for each in own["citations"]} == {1}
    assert "[37]" not in answer["choices"][0]["message"]["content"]
    for citation in own["citations"]:
        passage = own["passages"][citation["number"] - 1]
        assert citation["document_id"] == passage["document"]["id"]
        assert citation["version"] == passage["version"] == 1
        assert (citation["title"], citation["url"]) == ("Keeping a sourdough", "upload:sourdough.md")
        assert passage["start"] <= citation["start"] < citation["end"] <= passage["end"]
        document = (await client.get(f"/v1/documents/{citation['document_id']}?version={citation['version']}")).json()
        assert document["text"][citation["start"] : citation["end"]] == citation["quote"]


@pytest.mark.promise(6)
async def test_marking_streams_and_judges_each_sentence(written: tuple[engine.Engine, httpx.AsyncClient]) -> None:
    """By default text comes as it is written, a verdict comes after each sentence, before the next one is whole, and
    tells the supported sentence from the one that the passage does not hold."""
    stub, client = written
    stub.script, stub.pause = engine.saying(f"{TRUE} {FALSE}"), 0.005
    chunks = await events(client, QUESTION)
    shown = "".join(text(each) for each in chunks)
    verdicts = [each["twin"]["support"] for each in chunks if "support" in each.get("twin", {})]
    judged = {shown[each["start"] : each["end"]].split()[0]: each["verdict"] for each in verdicts}
    assert judged == {"The": "supported", "Seventeen": "unsupported"}
    first = next(place for place, each in enumerate(chunks) if "support" in each.get("twin", {}))
    before = "".join(text(each) for each in chunks[:first])
    assert "twice a day" in before
    assert "leap year" not in before
    assert sum(1 for each in chunks[:first] if text(each)) > 3


@pytest.mark.promise(6)
async def test_replacing_gives_the_passages_own_words(written: tuple[engine.Engine, httpx.AsyncClient]) -> None:
    """In `replace` whole sentences come, and in the place of an unsupported one the passage's own words, quoted."""
    stub, client = written
    stub.script = engine.saying(f"{FALSE} {TRUE}")
    answer = await ask(client, QUESTION, support="replace")
    shown = answer["choices"][0]["message"]["content"]
    assert "robots" not in shown
    verdicts = {each["verdict"] for each in answer["twin"]["support"]}
    assert "unsupported" not in verdicts
    assert "quoted" in verdicts
    quoted = [each["quote"] for each in answer["twin"]["citations"]]
    assert quoted
    assert all(each in NOTES for each in quoted)


@pytest.mark.promise(6)
async def test_the_scores_decline_and_not_the_model(tmp_path: Path) -> None:
    """Off the topic the engine, which would say anything, is not asked: the answer says so and offers the nearest."""
    async with (
        engine.running(engine.saying("Rocket won. [1]")) as stub,
        running(tmp_path, llm_url=stub.url, encoder_url="onnx://") as (_, client),
    ):
        await upload(client, "alpha", sourdough=NOTES)
        answer = await ask(client, "Which locomotive won the Rainhill trials?")
        assert answer["twin"]["evidence"] == "none"
        assert "Rocket" not in answer["choices"][0]["message"]["content"]
        assert answer["twin"]["passages"]
        assert stub.requests == []
        answer = await ask(client, QUESTION)
        assert answer["twin"]["evidence"] in ("answer", "closest")
        assert len(stub.requests) == 1


@pytest.mark.promise(5)
async def test_uncalibrated_nothing_is_declined_and_that_is_said(tmp_path: Path) -> None:
    """With an encoder that has no thresholds an answer is given whatever is asked, and its notice names calibrating."""
    async with running(tmp_path) as (_, client):
        await upload(client, "alpha", sourdough=NOTES)
        answer = await ask(client, "Which locomotive won the Rainhill trials?")
    assert answer["twin"]["evidence"] == "uncalibrated"
    assert "calibrate" in " ".join(answer["twin"]["notices"])


HOUSEKEEPING = [
    "### Task:\nGenerate a concise title of 3 to 5 words for the chat.\n<chat_history>\nUSER: Feeding a starter\n"
    "</chat_history>",
    "### Task:\nSuggest 3-5 relevant follow-up questions for the conversation.\n<chat_history>\nUSER: Feeding\n"
    "</chat_history>",
]


@pytest.mark.promise(6)
async def test_what_is_no_question_is_not_declined(tmp_path: Path) -> None:
    """Greetings, thanks and a program's housekeeping get their plain answer: no passages, no citation, no regret."""
    async with running(tmp_path, encoder_url="onnx://") as (_, client):
        await upload(client, "alpha", sourdough=NOTES)
        for said in ("Hello!", "Thank you", "Who are you?", *HOUSEKEEPING):
            answer = await ask(client, said)
            assert answer["choices"][0]["message"]["content"].strip(), said
            assert answer["twin"]["evidence"] == "answer", said
            assert answer["twin"]["passages"] == [], said
            assert answer["twin"]["citations"] == [], said


@pytest.mark.promise(7)
async def test_what_a_system_message_wishes_reaches_the_engine(
    written: tuple[engine.Engine, httpx.AsyncClient],
) -> None:
    """An application's instructions stand below the rules, their control words apart; without passages they are told as
    they are."""
    stub, client = written
    wish = {"role": "developer", "content": "Answer in French. <|im_end|>"}
    for own in ({}, {"k": 0}):
        body = {"model": "twin", "messages": [wish, {"role": "user", "content": QUESTION}], "twin": own}
        (await client.post("/v1/chat/completions", json=body)).raise_for_status()
    (system, *_), (plain, *_) = (each["messages"] for each in stub.requests)
    rules = prompt.RULES.partition("{author}")[0]
    assert system["role"] == plain["role"] == "system"
    assert system["content"].startswith(rules)
    assert system["content"].index("Answer in French.") > len(rules)
    assert "<|im_end|>" not in system["content"] + plain["content"]
    assert plain["content"].startswith("Answer in French.")


@pytest.mark.promise(6)
async def test_what_there_is_of_a_period_is_listed(tmp_path: Path) -> None:
    """Who asks what was written in a year gets its documents, newest first, each with its date and a cited sentence;
    with an engine, it gets their beginnings."""
    notes = {day: f"---\ndate: {day}\n---\n\n# Note of {day}\n\n{ALIKE}" for day in DAYS}
    async with engine.running(engine.saying("Two notes. [1]")) as stub:
        for url in ("quotes://", stub.url):
            async with running(tmp_path / url[:5], llm_url=url, encoder_url="onnx://") as (_, client):
                await upload(client, "alpha", **notes)
                answer = await ask(client, "What did I write in 2023?")
                assert answer["twin"]["evidence"] == "answer"
                titles = [each["document"]["title"] for each in answer["twin"]["passages"]]
                assert titles == ["Note of 2023-11-02", "Note of 2023-03-10"]
                declined = await ask(client, "Which locomotive won the Rainhill trials in articles of 2023?")
                assert declined["twin"]["evidence"] == "none"
                if url == "quotes://":
                    first = answer["choices"][0]["message"]["content"].splitlines()[0]
                    assert first == "- **Note of 2023-11-02** (2023-11-02): The harbour was quiet. [1]"
                    assert [each["quote"] for each in answer["twin"]["citations"]] == ["The harbour was quiet."] * 2


async def test_a_filter_that_leaves_nothing_is_named(tmp_path: Path) -> None:
    """It is not said that nothing is there; a period that ends before it begins is refused; and what is wrong with the
    question is said of the messages that it came in."""
    async with running(tmp_path) as (_, client):
        await upload(client, "alpha", sourdough=NOTES)
        answer = await ask(client, QUESTION, filter={"source": "nosuch", "language": "xx"})
        said = answer["choices"][0]["message"]["content"]
        assert "No document matches the source nosuch, the language xx." in said
        messages = [{"role": "user", "content": QUESTION}]
        period = {"filter": {"since": "2024-12-01", "until": "2023-01-01"}}
        wrong = await client.post("/v1/chat/completions", json={"model": "twin", "messages": messages, "twin": period})
        assert wrong.status_code == 400
        messages = [{"role": "user", "content": "long " * 2000}]
        wrong = await client.post("/v1/chat/completions", json={"model": "twin", "messages": messages})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (413, "messages")


@pytest.mark.promise(7)
async def test_the_engine_sees_what_the_one_builder_makes(written: tuple[engine.Engine, httpx.AsyncClient]) -> None:
    """The messages that reach the engine are, to the byte, what `prompt.build` makes of the question and the passages
    that the answer names; the journal keeps the same."""
    stub, client = written
    answer = await ask(client, QUESTION)
    own = answer["twin"]
    passages = [
        Passage(
            chunk_id=each["chunk_id"], document_id=each["document"]["id"], version=each["version"],
            start=each["start"], end=each["end"], text=each["text"], heading=each["heading"],
            title=each["document"]["title"], url=each["document"]["url"], author=each["document"]["author"],
            score=each["score"], published=each["document"]["published"],
        )
        for each in own["passages"]
    ]  # fmt: skip
    made = prompt.build(QUESTION, passages)
    assert [Message(each["role"], each["content"]) for each in stub.requests[-1]["messages"]] == list(made)
    kept = (await client.get(f"/v1/generations/{own['generation_id']}")).json()["prompt"]
    assert kept == "\n\n".join(f"{each.role}: {each.content}" for each in made)
