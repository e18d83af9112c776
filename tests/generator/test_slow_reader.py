"""Who reads an answer slowly, or not at all, holds nobody up."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from services.adapters import open_adapter
from services.clients import Embedded
from services.domain import EVERYONE, Delta, Finished, GenerateRequest, Message, SearchRequest, SearchResult
from services.generator.generate import Budget, Generate
from services.generator.journal import Record
from tests.generator import engine

WORDS = 50


class Unasked:
    """With k = 0 nothing is looked for."""

    async def search(self, request: SearchRequest) -> SearchResult:
        raise AssertionError

    async def embed(self, texts: object) -> Embedded:
        raise AssertionError


def question(number: int) -> GenerateRequest:
    return GenerateRequest((Message("user", f"Write about the sea, part {number}."),), EVERYONE, k=0)


async def test_a_slow_reader_keeps_no_place_and_no_engine(tmp_path: Path) -> None:
    """There is one place. The first reader takes one event and stops reading; the answer is made all the same and the
    next question has its turn. What the first one did not read is there, whole, when it reads on."""
    async with engine.running(lambda messages: ["word "] * WORDS) as stub:
        model = await open_adapter("language_model", stub.url, tmp_path)
        journal = await open_adapter("journal", "sqlite:///", tmp_path)
        record = Record(journal, 3600)
        budget = Budget(passages=1, answer_tokens=WORDS, history_tokens=100, concurrent=1, patience=60)
        generate = Generate(Unasked(), model, record, budget)
        async with aclosing(generate(question(1))) as slow:
            await anext(slow)
            async with asyncio.timeout(100):
                assert isinstance([event async for event in generate(question(2))][-1], Finished)
                rest = [event async for event in slow]
        assert isinstance(rest[-1], Finished)
        said = "".join(event.text for event in rest if isinstance(event, Delta))
        assert said.split() == ["word"] * WORDS
        await record.close()
        await journal.close()
        await model.close()
