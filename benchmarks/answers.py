"""How good answers are: `make bench-answers`.

Reads retrieval/ and chunking/questions.jsonl of the folder in TWIN_TEST_DATA, and off_topic.txt beside this file. The
passages are cut, indexed and searched as they are in `make bench-retrieval`, and answered by the generator itself.

    quotations  how many of the reference answers' words they hold, in how many, and whether from a relevant passage
    citations   whether each is an exact span of a passage that was given
    declining   of questions off the topic, near it (their passages hidden), and answerable: outright, or by saying that
                nothing answers outright before the closest passages
    support     whether the check tells the passages an answer rests on from others found for the same question

What was chosen on data was chosen on questions of even number; both halves are reported. The peer of quotations: the
first sentences of the best passage, as many words. Intervals are of 95 %.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.retrieval import build, lines, wilson
from services.adapters import open_adapter
from services.clients import Embedded
from services.domain import (
    EVERYONE,
    Citation,
    Delta,
    Evidence,
    Filter,
    GenerateRequest,
    Hit,
    Message,
    Passage,
    Scope,
    SearchRequest,
    SearchResult,
    Started,
)
from services.generator.generate import Budget, Generate
from services.generator.journal import Record
from services.generator.segment import sentences
from services.generator.support import THRESHOLD, Checker
from services.generator.vectors import SentenceVectors
from services.ports import Encoder, Index, Vectors
from services.retriever.live import Live
from services.retriever.retrieve import Retrieve

SAMPLES = 2000
"""Of a bootstrap."""
_WORD = re.compile(r"[a-z0-9]+")


class Hiding:
    """An index in which some documents are not there."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.hidden: Collection[str] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def dense(self, vector: Vectors, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        return [hit for hit in await self._index.dense(vector, k, scope, filter) if hit.url not in self.hidden]

    async def text(self, query: str, k: int, scope: Scope, filter: Filter) -> list[Hit]:
        return [hit for hit in await self._index.text(query, k, scope, filter) if hit.url not in self.hidden]


class Indexes:
    """Opens the one index through Hiding."""

    def __init__(self, indexes: Any, hiding: Hiding) -> None:
        self._indexes = indexes
        self._hiding = hiding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._indexes, name)

    async def open(self, name: str) -> Any:
        return self._hiding


class Retriever:
    """The retriever without the wire."""

    def __init__(self, retrieve: Retrieve, encoder: Encoder) -> None:
        self.search: Callable[[SearchRequest], Any] = retrieve
        self._encoder = encoder

    async def embed(self, texts: Sequence[str]) -> Embedded:
        return Embedded(await self._encoder.encode(texts), self._encoder.identity.url, ())


# ── Figures ─────────────────────────────────────────────────────────────────────────────────────────


def held(reference: str, text: str) -> float:
    """Share of the reference's different words that the text holds."""
    wanted = set(_WORD.findall(reference.lower()))
    return len(wanted & set(_WORD.findall(text.lower()))) / len(wanted)


def mean(values: Sequence[float]) -> str:
    """With its bootstrap interval."""
    random = np.random.default_rng(7)
    drawn = random.choice(np.array(values), (SAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{statistics.mean(values):.3f} [{low:.3f}, {high:.3f}]"


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Under the ROC curve: how often a right one scores above a wrong one."""
    above = (positive[:, None] > negative[None, :]).mean()
    return float(above + (positive[:, None] == negative[None, :]).mean() / 2)


# ── The parts ───────────────────────────────────────────────────────────────────────────────────────


async def answer(generate: Generate, question: str) -> tuple[Started, str, list[Citation]]:
    text, citations, started = "", [], None
    async for event in generate(GenerateRequest((Message("user", question),), EVERYONE)):
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Delta):
            text += event.text
        elif isinstance(event, Citation):
            citations.append(event)
    assert started is not None
    return started, text, citations


def exact(citation: Citation, passages: Sequence[Passage]) -> bool:
    given = passages[citation.number - 1]
    first, last = citation.start - given.start, citation.end - given.start
    inside = 0 <= first < last <= len(given.text)
    return inside and given.document_id == citation.document_id and given.text[first:last] == citation.quote


async def quotations(generate: Generate, questions: Sequence[Any]) -> None:
    spans, exactly, milliseconds = 0, 0, []
    rows: list[tuple[float, float, float, int, bool]] = []
    for each in questions:
        began = time.perf_counter()
        started, text, citations = await answer(generate, each["question"])
        milliseconds.append((time.perf_counter() - began) * 1000)
        spans += len(citations)
        exactly += sum(exact(citation, started.passages) for citation in citations)
        quoted = " ".join(citation.quote for citation in citations)
        urls = {citation.url for citation in citations}
        count = len(quoted.split())
        lead = " ".join(started.passages[0].text.split()[:count]) if started.passages else ""
        rows.append(
            (
                held(each["answer"], quoted),
                held(each["answer"], text),
                held(each["answer"], lead),
                count,
                bool(urls & set(each["relevant"])),
            )
        )
    print(f"citations: {exactly} of {spans} are exact spans of given passages\n")
    print(
        f"{'quotations':20} {'words held':22} {'shown, headings too':22} {'peer: same length, best passage':31} words  relevant"
    )
    for name, some in (("all", rows), ("even (chosen on)", rows[::2]), ("odd (held out)", rows[1::2])):
        ours, shown, peer, words, relevant = zip(*some, strict=True)
        print(
            f"{name:20} {mean(ours):22} {mean(shown):22} {mean(peer):31} {statistics.mean(words):5.1f}  "
            f"{wilson(sum(relevant), len(relevant))}"
        )
    print(
        f"longest {max(row[3] for row in rows)} words; {statistics.median(milliseconds):.0f} ms an answer, the median\n"
    )


async def declining(generate: Generate, hiding: Hiding, questions: Sequence[Any], off: Sequence[Sequence[str]]) -> None:
    async def judged(question: str, hidden: Collection[str] = ()) -> Evidence:
        hiding.hidden = hidden
        return (await answer(generate, question))[0].evidence

    def shares(name: str, verdicts: Sequence[Evidence]) -> None:
        none, closest = verdicts.count(Evidence.NONE), verdicts.count(Evidence.CLOSEST)
        print(f"{name:34} {wilson(none, len(verdicts)):22} {wilson(none + closest, len(verdicts))}")

    others = [await judged(question) for question in off[0]]
    everyday = [await judged(question) for question in off[1]]
    print("by the shipped thresholds (`make bench-retrieval` fits and judges them on halves)")
    print(f"{'':34} {'declined outright':22} that, or said not to be answered outright")
    shares(f"{len(off[0])} about other texts", others)
    shares(f"{len(off[1])} of everyday life", everyday)
    shares(f"{len(others) + len(everyday)} off the topic together", others + everyday)
    shares(
        f"{len(questions)} near it, passages hidden", [await judged(e["question"], e["relevant"]) for e in questions]
    )
    shares(f"{len(questions)} answerable", [await judged(each["question"]) for each in questions])
    print()


async def supports(search: Callable[[SearchRequest], Any], vectors: SentenceVectors, questions: Sequence[Any]) -> None:
    """The sentences of the reference answers, against the found passages of a relevant document and against those of
    the best one that is not."""
    scores: list[tuple[int, float, float]] = []
    for number, each in enumerate(questions):
        found: SearchResult = await search(SearchRequest(each["question"], EVERYONE, k=20))
        urls = list(dict.fromkeys(passage.url for passage in found.passages))
        right = [url for url in urls if url in each["relevant"]]
        wrong = [url for url in urls if url not in each["relevant"]]
        if not right or not wrong:
            continue
        checker = Checker(each["question"], found.passages, vectors)
        for start, end in sentences(each["answer"], 0, len(each["answer"])):
            sentence = each["answer"][start:end]
            pair = []
            for urls in (right, wrong[:1]):
                seen = [await checker.features(sentence, _places(found.passages, url)) for url in urls]
                pair.append(max((each.score for each in seen if each is not None), default=0.0))
            scores.append((number, pair[0], pair[1]))
    halves = {
        "all": scores,
        "even (chosen on)": [row for row in scores if row[0] % 2 == 0],
        "odd (held out)": [row for row in scores if row[0] % 2],
    }
    print("support: sentences of reference answers, relevant against also-found passages")
    for name, some in halves.items():
        values = np.array([row[1:] for row in some])
        random = np.random.default_rng(7)
        drawn = [values[random.integers(0, len(values), len(values))] for _ in range(300)]
        low, high = np.quantile([area(each[:, 0], each[:, 1]) for each in drawn], [0.025, 0.975])
        kept, passed = (values >= THRESHOLD).mean(axis=0)
        print(
            f"{name:18} {len(some):4} sentences  AUC {area(values[:, 0], values[:, 1]):.3f} [{low:.3f}, {high:.3f}]  "
            f"at {THRESHOLD}: {kept:.2f} of the right kept, {passed:.2f} of the others passed"
        )


def _places(passages: Sequence[Passage], url: str) -> list[int]:
    return [place for place, passage in enumerate(passages) if passage.url == url]


async def main() -> None:
    folder = os.environ.get("TWIN_TEST_DATA")
    if not folder or not (Path(folder) / "retrieval/chunks.jsonl").is_file():
        sys.exit("Skipped: TWIN_TEST_DATA names no folder with retrieval/chunks.jsonl.")
    data = Path(folder)
    questions = lines(data / "retrieval/questions.jsonl")
    own = Path(__file__).with_name("off_topic.txt").read_text().splitlines()
    off = [[each["question"] for each in lines(data / "chunking/questions.jsonl")], own]
    with tempfile.TemporaryDirectory() as directory:
        indexes, index, encoder = await build(data, Path(directory))
        print()

        async def shared(url: str) -> Encoder:
            return encoder

        hiding = Hiding(index)
        live = Live(Indexes(indexes, hiding), shared)
        retriever = Retriever(Retrieve(live, None, lambda step, seconds: None), encoder)
        record = Record(await open_adapter("journal", "sqlite:///", Path(directory)), 1e9)
        generate = Generate(retriever, None, record, Budget(8, 600, 1000, 8))
        await quotations(generate, questions)
        await declining(generate, hiding, questions, off)
        hiding.hidden = ()
        await supports(retriever.search, SentenceVectors(retriever), questions)
        await record.close()
        await live.close()


if __name__ == "__main__":
    asyncio.run(main())
