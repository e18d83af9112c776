"""Thresholds fitted to the corpus itself: from which confidence on its passages answer.

Comes in: the documents, the live index and its encoder. Goes out: Thresholds. Does not know: how a search ranks; it
computes what a search decides by with the same functions (services/confidence.py).

Two sets of questions are asked. Those of offtopic.txt, about everyday things: almost no corpus answers them, and a few
that one does answer don't move the quantile. And questions made of the corpus' own sentences, each asked twice: as it
is, and as if the section it was made from were not there, so that what is left is near the topic and no answer.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.confidence import PASSAGES, Features, features, largest, looked_at, terms, weights
from services.domain import EVERYONE, Filter, Hit, Thresholds
from services.errors import Unprocessable
from services.ports import DocumentQuery, Documents, Encoder, Index

QUESTIONS = 200
"""Made of the corpus, at most."""
FEWEST = 20
"""With fewer, nothing can be said about the corpus."""
DOCUMENTS = 200
"""Looked at, at most, the newest changes first."""
SENTENCE = range(6, 40)
"""Words of a sentence that a question is made of."""
WORDS = 7
"""Content words that a question takes over, at most: every second, for people don't ask in the text's own words."""
DEPTH = 50
OFF_TOPIC = 0.98
"""Share of the questions of offtopic.txt that `decline` goes by."""
POOR = 0.1
"""Share of the corpus' own questions that may be worth nothing: words out of one sentence, not chosen by anyone. In
four corpora all real questions but 2 % lay above this quantile of the topicality."""
EASIER = 0.75
"""How far `answer` lies, from the confidence of what is off the topic, towards the one that tells own questions from
near ones. Not all the way: people don't use the text's own words. In three of four corpora 97 % of the real questions
lay above it, and 16 to 30 % of those whose passages were hidden below."""
AROUND = 3
"""Chunks on either side of the one that a question was made from: they may answer it too."""
BATCH = 20
"""Questions encoded at once."""


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    document_id: str
    ordinal: int


async def calibrate(documents: Documents, index: Index, encoder: Encoder, seed: int = 1) -> Thresholds:
    """Unprocessable where the corpus is too small to tell. The same corpus gives the same thresholds."""
    made = await _questions(documents, index, random.Random(seed))
    if len(made) < FEWEST:
        raise Unprocessable(
            f"Only {len(made)} questions could be made of what is indexed, {FEWEST} are needed: bring in more first."
        )
    off = [line for line in (Path(__file__).parent / "offtopic.txt").read_text().splitlines() if line]
    strange = [whole for whole, _ in await _found(index, encoder, [_Question(each, "", 0) for each in off])]
    own = await _found(index, encoder, made)
    documents_asked = len({each.document_id for each in made})
    return fit([whole for whole, _ in own], [rest for _, rest in own], strange, documents_asked)


def fit(
    answerable: Sequence[Features], near: Sequence[Features], off: Sequence[Features], documents: int
) -> Thresholds:
    """`decline` is midway between what is off the topic and the own questions, and above hardly any of these where the
    corpus speaks of both; `answer` goes towards where own questions are told best from near ones (Youden 1950: most of
    the one kept and of the other refused)."""
    lowest = float(np.quantile([each.topicality for each in answerable], POOR))
    highest = float(np.quantile([each.topicality for each in off], OFF_TOPIC))
    decline = min((lowest + highest) / 2, lowest)
    sure = [each.confidence for each in answerable]
    own, other = np.array(sure), np.array([each.confidence for each in near])
    candidates = np.unique(np.concatenate([own, other]))
    told = [(own >= each).mean() + (other < each).mean() for each in candidates]
    least = float(min(np.median([each.confidence for each in off]), own.min()))
    telling = max(float(candidates[int(np.argmax(told))]), least)
    answer = least + EASIER * (telling - least)
    return Thresholds(round(decline, 4), round(answer, 4), f"calibrated on {documents} documents")


async def _questions(documents: Documents, index: Index, chance: random.Random) -> list[_Question]:
    """Of sentences from all over the corpus, as many from each document."""
    page = await documents.find(DocumentQuery(EVERYONE, state="indexed", limit=DOCUMENTS))
    each = -(-QUESTIONS // max(1, len(page.documents)))
    made = []
    for document in page.documents:
        places = chance.sample(range(document.chunks), min(document.chunks, each))
        for hit in await index.neighbours({document.id: places}):
            question = _question(hit, chance)
            if question:
                made.append(_Question(question, document.id, hit.chunk.ordinal))
    return chance.sample(made, min(len(made), QUESTIONS))


def _question(hit: Hit, chance: random.Random) -> str:
    if hit.chunk.kind not in ("prose", "list"):
        return ""
    lines = [line for line in hit.chunk.text.splitlines() if not line.lstrip().startswith("#")]
    sentences = [each for line in lines for each in re.split(r"(?<=[.!?])\s+", line)]
    fitting = [each for each in sentences if len(each.split()) in SENTENCE]
    if not fitting:
        return ""
    words = terms(chance.choice(fitting))
    return " ".join(words[chance.randrange(2) :: 2][:WORDS]) if len(words) >= 4 else ""


async def _found(index: Index, encoder: Encoder, questions: Sequence[_Question]) -> list[tuple[Features, Features]]:
    """The best found for each question, and the best without the section that it was made from."""
    found: list[tuple[Features, Features]] = []
    for start in range(0, len(questions), BATCH):
        some = questions[start : start + BATCH]
        vectors = await encoder.encode([each.text for each in some])
        for question, vector in zip(some, vectors, strict=True):
            words = terms(question.text)
            dense, text, (frequencies, chunks) = await asyncio.gather(
                index.dense(vector, DEPTH, EVERYONE, Filter()),
                index.text(question.text, DEPTH, EVERYONE, Filter()),
                index.document_frequencies(words),
            )
            weighted = weights(words, frequencies, chunks)

            def elsewhere(hits: list[Hit], own: _Question = question) -> list[Hit]:
                return [
                    hit
                    for hit in hits
                    if hit.chunk.document_id != own.document_id or abs(hit.chunk.ordinal - own.ordinal) > AROUND
                ]

            found.append((_best(weighted, dense, text), _best(weighted, elsewhere(dense), elsewhere(text))))
    return found


def _best(weighted: dict[str, float], dense: list[Hit], text: list[Hit]) -> Features:
    seen = looked_at(dense[: DEPTH - PASSAGES], text).values()
    return largest(features(weighted, hit.chunk.heading, hit.chunk.text, cosine) for hit, cosine in seen)
