"""How well passages are found, and how well it is known that they answer: `make bench-retrieval`.

Reads retrieval/ and chunking/questions.jsonl of the folder in TWIN_TEST_DATA. Each passage is a document, cut by Twin's
chunker, indexed by the embedded adapters and searched by the retriever itself; a hit counts for its document. Beside
it, in the same run and over the same chunks: each search alone, reciprocal rank fusion, plain relative-score fusion.

Declining is judged on the half of the questions that its threshold was not fitted on, many halves, with 95 % intervals,
and by the shipped thresholds; over these passages and over each text of chunking/ by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.adapters import open_adapter
from services.confidence import terms, weights
from services.domain import EVERYONE, Filter, Hit, Manifest, SearchRequest, Thresholds, document_id
from services.feature.chunk import CHUNKER, chunk
from services.feature.clean import CLEANER
from services.ports import Encoder, Index, IndexedDocument, Indexes
from services.retriever.live import Live
from services.retriever.queries import queries
from services.retriever.retrieve import Retrieve
from services.retriever.search import DEPTH, Found, search
from services.retriever.threshold import DEFAULTS, SURE, Judging, judge

Scores = npt.NDArray[np.float64]
K = 60
"""Of reciprocal rank fusion, as usual."""
LOST = 0.02
"""Share of the answerable that declining what is off the topic may cost."""
HALVES = 200
"""Random halves that thresholds are fitted on."""


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def build(data: Path, directory: Path) -> tuple[Indexes, Index, Encoder]:
    """The passages of retrieval/, each a document."""
    indexes: Indexes = await open_adapter("index", "sqlite:///", directory)
    encoder: Encoder = await open_adapter("encoder", "onnx://", directory)
    made = []
    for passage in lines(data / "retrieval/chunks.jsonl"):
        heading, text = passage["heading"], passage["text"].removeprefix(passage["heading"]).strip()
        made.append((passage["id"], heading, f"# {heading}\n\n{text}" if heading else text))
    return indexes, await built(indexes, "bench", made, encoder), encoder


async def built(indexes: Indexes, name: str, texts: Sequence[tuple[str, str, str]], encoder: Encoder) -> Index:
    """An index of (address, title, text)."""
    # Live indexes are one: those that come later stand beside it.
    state = "live" if name == "bench" else "building"
    await indexes.create(Manifest(name, encoder.identity, CLEANER, CHUNKER, state))
    index = await indexes.open(name)
    made = []
    for url, title, text in texts:
        id = document_id("author", url)
        made.append((IndexedDocument(id, 1, "author", url, title, "source"), chunk(text, id, "", encoder)))
    chunks = [each for _, each_chunks in made for each in each_chunks]
    vectors = await encoder.encode([each.embedded_text for each in chunks])
    by_id = {each.id: vector for each, vector in zip(chunks, vectors, strict=True)}
    for document, each_chunks in made:
        await index.stage(document, each_chunks, by_id)
        await index.publish(document, len(each_chunks))
    tokens = sum(each.tokens for each in chunks) / len(chunks)
    print(f"{len(made)} texts, {len(chunks)} chunks of {tokens:.0f} tokens, encoder {encoder.identity.url}")
    return index


# ── Ranking ─────────────────────────────────────────────────────────────────────────────────────────


def metrics(ranked: Sequence[Sequence[str]], relevant: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """R@3, R@10, MRR; ranked and relevant are documents' addresses."""
    rows: list[tuple[float, float, float]] = []
    for found, wanted in zip(ranked, relevant, strict=True):
        places = {url: place for place, url in enumerate(dict.fromkeys(found))}
        ranks = [places.get(url, 10**6) for url in wanted]
        within = [sum(rank < depth for rank in ranks) / len(ranks) for depth in (3, 10)]
        rows.append((within[0], within[1], 1 / (1 + min(ranks))))
    r3, r10, mrr = np.mean(rows, axis=0)
    return float(r3), float(r10), float(mrr)


def reciprocal(found: Found) -> list[str]:
    scores: dict[str, float] = {}
    urls = {}
    for hits in (found.dense, found.text):
        for rank, hit in enumerate(hits):
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + 1 / (K + rank + 1)
            urls[hit.chunk.id] = hit.url
    return [urls[id] for id in sorted(scores, key=lambda id: -scores[id])]


def relative(found: Found, alpha: float) -> list[str]:
    scores: dict[str, float] = {}
    urls = {}
    for hits, weight in ((found.dense, alpha), (found.text, 1 - alpha)):
        low, high = (hits[-1].score, hits[0].score) if hits else (0.0, 1.0)
        for hit in hits:
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + weight * (hit.score - low) / (high - low or 1.0)
            urls[hit.chunk.id] = hit.url
    return [urls[id] for id in sorted(scores, key=lambda id: -scores[id])]


# ── Declining ───────────────────────────────────────────────────────────────────────────────────────


def interval(values: Sequence[float]) -> str:
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"


def wilson(hits: int, of: int) -> str:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    spread = z / (1 + z * z / of) * float(np.sqrt(p * (1 - p) / of + z * z / (4 * of * of)))
    return f"{p:.3f} [{middle - spread:.3f}, {middle + spread:.3f}]"


def halves(answerable: Scores, unanswerable: Scores, fit: Callable[[Scores, Scores], float]) -> tuple[str, str]:
    """(declined, lost) on the halves that the threshold was not fitted on."""
    random = np.random.default_rng(7)
    declined, lost = [], []
    for _ in range(HALVES):
        own, other = random.permutation(answerable), random.permutation(unanswerable)
        threshold = fit(own[: len(own) // 2], other[: len(other) // 2])
        declined.append(float((other[len(other) // 2 :] < threshold).mean()))
        lost.append(float((own[len(own) // 2 :] < threshold).mean()))
    return interval(declined), interval(lost)


def midway(answerable: Scores, off: Scores) -> float:
    """Between nearly all that is off the topic and nearly all that is answerable."""
    return float((np.quantile(off, 0.98) + np.quantile(answerable, 0.02)) / 2)


def losing(answerable: Scores, _: Scores) -> float:
    """What 3 % of the answerable lie below: of the other half it is 5 %."""
    return float(np.quantile(answerable, 0.03))


@dataclass(slots=True)
class Judged:
    """Topicality and confidence of each question of a group."""

    topicality: Scores
    confidence: Scores

    def below(self, thresholds: Thresholds) -> str:
        """How many are declined outright, and how many are not answered outright."""
        none = (self.topicality < thresholds.decline) & (self.confidence < max(thresholds.answer, SURE))
        short = none | (self.confidence < thresholds.answer)
        return f"{wilson(int(none.sum()), len(none)):22} {wilson(int(short.sum()), len(short))}"


async def judged(
    index: Index, encoder: Encoder, questions: Sequence[str], hidden: Sequence[Callable[[Hit], bool]] = ()
) -> Judged:
    """`hidden`: for each question, which hits are treated as if they were not there."""
    best = []
    for number, question in enumerate(questions):
        found = await search(index, encoder, queries(question), EVERYONE, Filter())
        if hidden:
            gone = hidden[number]
            dense, text = ([hit for hit in hits if not gone(hit)] for hits in (found.dense, found.text))
            found = Found(dense, text, found.vector)
        words = terms(question)
        frequencies, size = await index.document_frequencies(words)
        best.append(judge(found, Judging(weights(words, frequencies, size))))
    return Judged(np.array([each.topicality for each in best]), np.array([each.confidence for each in best]))


def documents(urls: Collection[str]) -> Callable[[Hit], bool]:
    return lambda hit: hit.url in urls


def spans(places: Sequence[Any]) -> Callable[[Hit], bool]:
    return lambda hit: any(each["start"] < hit.chunk.end and hit.chunk.start < each["end"] for each in places)


async def declining(
    name: str, index: Index, encoder: Encoder, answerable: Judged, near: Judged, off: Sequence[str]
) -> Judged:
    """By thresholds fitted on halves, and by the shipped ones; the questions off the topic are given back."""
    strange = await judged(index, encoder, off)
    print(f"\n{name}: {len(answerable.confidence)} answerable, {len(off)} off the topic")
    declined, lost = halves(answerable.topicality, strange.topicality, midway)
    print(f"  fitted on halves:  off the topic declined {declined}   answerable lost {lost}")
    declined, lost = halves(answerable.confidence, near.confidence, losing)
    print(f"  fitted on halves: near the topic declined {declined}   answerable lost {lost}")
    print(f"  {'with the shipped thresholds:':32} declined outright      that, or not answered outright")
    for group, each in (("answerable", answerable), ("near the topic", near), ("off the topic", strange)):
        print(f"  {group:>30}   {each.below(DEFAULTS['onnx://'])}")
    return strange


def left_out(own: Mapping[str, Scores], off: Mapping[str, Scores]) -> None:
    """Each corpus by the highest topicality that costs the others 2 % of their answerable questions, on average."""
    print("\nDeclining off the topic by a threshold fitted on the other corpora alone:")
    for name in own:
        others = [scores for other, scores in own.items() if other != name]
        fitting = [
            each for each in np.concatenate(others) if np.mean([(scores < each).mean() for scores in others]) <= LOST
        ]
        threshold = max(fitting)
        declined, lost = (int((scores[name] < threshold).sum()) for scores in (off, own))
        print(f"  {name:28} {threshold:.3f}: declined {wilson(declined, len(off[name]))}", end="   ")
        print(f"answerable lost {wilson(lost, len(own[name]))}")


async def main() -> None:
    folder = os.environ.get("TWIN_TEST_DATA")
    if not folder or not (Path(folder) / "retrieval/chunks.jsonl").is_file():
        sys.exit("Skipped: TWIN_TEST_DATA names no folder with retrieval/chunks.jsonl.")
    data = Path(folder)
    questions = lines(data / "retrieval/questions.jsonl")
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        indexes, index, encoder = await build(data, Path(directory))
        print(f"indexed in {time.perf_counter() - began:.0f} s\n")

        async def shared(url: str) -> Encoder:
            return encoder

        live = Live(indexes, shared)
        retrieve = Retrieve(live, None, lambda step, seconds: None)
        relevant = [each["relevant"] for each in questions]
        found, ours = [], []
        for each in questions:
            found.append(await search(index, encoder, queries(each["question"]), EVERYONE, Filter()))
            result = await retrieve(SearchRequest(each["question"], EVERYONE, k=100))
            ours.append([passage.url for passage in result.passages])

        rows: list[tuple[str, Callable[[Found], list[str]]]] = [
            ("dense alone", lambda each: [hit.url for hit in each.dense]),
            ("BM25 alone", lambda each: [hit.url for hit in each.text]),
            ("reciprocal rank fusion", reciprocal),
            ("relative-score fusion, .5", lambda each: relative(each, 0.5)),
            ("relative-score fusion, .6", lambda each: relative(each, 0.6)),
        ]
        print(f"{len(questions)} questions{'':16} R@3   R@10    MRR")
        for name, rank in rows:
            print(f"{name:28}" + "  ".join(f"{x:.3f}" for x in metrics([rank(each) for each in found], relevant)))
        print(f"{'Twin':28}" + "  ".join(f"{x:.3f}" for x in metrics(ours, relevant)))

        everyday = Path(__file__).with_name("off_topic.txt").read_text().splitlines()
        others = lines(data / "chunking/questions.jsonl")
        asked = [each["question"] for each in questions]
        print(f"\nDeclining. Near the topic: the answerable without the passages that answer them (of {DEPTH} hits).")
        print(
            f"Off the topic: about the other texts, and {len(everyday)} of everyday life. 95 % intervals, {HALVES} halves."
        )
        answerable = await judged(index, encoder, asked)
        near = await judged(index, encoder, asked, [documents(each["relevant"]) for each in questions])
        strange = [*(each["question"] for each in others), *everyday]
        off = await declining("retrieval", index, encoder, answerable, near, strange)
        topical, strangers = {"retrieval": answerable.topicality}, {"retrieval": off.topicality}
        for corpus in sorted({each["corpus"] for each in others}):
            own = [each for each in others if each["corpus"] == corpus]
            text = (data / f"chunking/{corpus}.md").read_text()
            other = await built(indexes, corpus, [(corpus, "", text)], encoder)
            about = [each["question"] for each in own]
            answerable = await judged(other, encoder, about)
            near = await judged(other, encoder, about, [spans(each["spans"]) for each in own])
            strange = [*asked, *(each["question"] for each in others if each["corpus"] != corpus), *everyday]
            off = await declining(f"chunking/{corpus}", other, encoder, answerable, near, strange)
            topical[f"chunking/{corpus}"], strangers[f"chunking/{corpus}"] = answerable.topicality, off.topicality
        left_out(topical, strangers)
        await live.close()


if __name__ == "__main__":
    asyncio.run(main())
