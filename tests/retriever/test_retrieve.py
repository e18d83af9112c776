"""A search from question to passages, on the embedded adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from services import telemetry
from services.domain import EVERYONE, Evidence, Filter, Message, Scope, SearchRequest
from services.errors import (
    DeadlineExceeded,
    InvalidInput,
    Misconfigured,
    NotFound,
    Overloaded,
    TooLarge,
    TwinError,
    Unavailable,
)
from services.retriever import rerank
from services.retriever.retrieve import Retrieve
from tests.retriever.conftest import Library

STEPS = ["understand", "queries", "search", "fuse", "rerank", "threshold", "duplicates", "context"]


def ask(query: str, **more: object) -> SearchRequest:
    return replace(SearchRequest(query, EVERYONE), **more)  # type: ignore[arg-type]


async def test_the_passage_that_answers_is_first_and_every_step_tells_its_effect(library: Library) -> None:
    """The reply holds the passage with its span and each stage's scores, and a note of each of the eight steps."""
    result = await library.retrieve(ask("How is a carvel hull caulked?"))
    first = result.passages[0]
    assert "caulked with cotton" in first.text
    assert (first.document_id, first.version, first.author, first.title) == ("boats", 1, "alpha", "Boats")
    assert (first.start, first.end) == (0, len(first.text))
    assert {"dense", "text", "fused"} <= set(first.scores)
    assert [step.name for step in result.steps] == STEPS == library.observed
    assert all(step.detail and step.milliseconds >= 0 for step in result.steps)
    assert (result.evidence, result.index) == (Evidence.ANSWER, "g1")
    scores = [passage.score for passage in result.passages]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.promise(6)
async def test_off_the_topic_is_none_and_the_nearest_are_offered(library: Library) -> None:
    """Evidence is decided by the thresholds; with `threshold` only the nearest are left of what does not answer."""
    result = await library.retrieve(ask("Which mountain is highest on Mars?", threshold=True))
    assert result.evidence is Evidence.NONE
    assert result.confidence < 0.15
    assert 1 <= len(result.passages) <= 3


@pytest.mark.promise(5)
async def test_uncalibrated_declines_nothing_and_says_so(library: Library) -> None:
    """Without thresholds nothing is declined by score, and a notice says it (promise 5)."""
    await library.indexes.update(replace(library.manifest, thresholds=None))
    result = await library.retrieve(ask("Which mountain is highest on Mars?", threshold=True))
    assert result.evidence is Evidence.UNCALIBRATED
    assert any("not calibrated" in notice for notice in result.notices)
    assert len(result.passages) > 3


@pytest.mark.promise(8)
@pytest.mark.promise(10)
async def test_scope_and_filters_hold(library: Library) -> None:
    """No passage of another author, whatever is asked; filters narrow; the empty scope finds nothing."""
    for request in (
        ask("carvel hull pitch", scope=Scope(authors=("beta",))),
        ask("carvel hull pitch", filter=Filter(authors=("beta",))),
        ask("carvel hull pitch by alpha", scope=Scope(authors=("beta",))),
    ):
        assert {passage.author for passage in (await library.retrieve(request)).passages} == {"beta"}
    nothing = await library.retrieve(ask("carvel hull", scope=Scope()))
    assert (nothing.passages, nothing.evidence) == ((), Evidence.NONE)


async def test_a_filter_in_the_question_is_used_and_shown(library: Library) -> None:
    """An author that exists, named in the question, narrows the search; the phrase is not searched for."""
    result = await library.retrieve(ask("What was written by beta about the rate limit?"))
    assert result.filter == Filter(authors=("beta",))
    assert {passage.author for passage in result.passages} == {"beta"}
    assert "beta" not in result.queries[0]
    as_it_is = await library.retrieve(ask("What was written by beta about the rate limit?", rewrite=False))
    assert as_it_is.filter == Filter()
    assert as_it_is.question == "What was written by beta about the rate limit?"


@pytest.mark.parametrize(
    ("question", "listed"),
    [
        ("What did I write in 2022?", ["boats"]),
        ("Which articles were published since 2022?", ["brot", "api", "boats"]),
        ("List everything by alpha", ["api", "boats"]),
        ("What topics did I write about in 2023?", ["api"]),
    ],
)
async def test_what_there_is_is_listed(library: Library, question: str, listed: list[str]) -> None:
    """A question that asks for nothing but what a filter names gets the beginnings of its documents, newest first, and
    is not declined."""
    result = await library.retrieve(ask(question, threshold=True))
    assert result.listing
    assert result.evidence is Evidence.ANSWER
    assert [passage.document_id for passage in result.passages] == listed
    assert all(passage.start == 0 for passage in result.passages)
    assert result.question == question
    short = await library.retrieve(ask(question, k=1))
    assert [passage.document_id for passage in short.passages] == listed[:1]
    assert [f"{len(listed)} documents" in each for each in short.notices] == [True] * (len(listed) > 1)


@pytest.mark.parametrize(
    "question", ["Which articles since 2022 are about halyards?", "What did I write about the moon in 2023?"]
)
async def test_what_is_asked_under_a_filter_is_no_list(library: Library, question: str) -> None:
    """With a word that says what about, it is a question as any other; so is one under a filter that was given."""
    assert not (await library.retrieve(ask(question))).listing
    given = await library.retrieve(ask("What did I write?", filter=Filter(since="2022-01-01"), threshold=True))
    assert not given.listing
    assert given.evidence is Evidence.NONE


async def test_a_recognised_filter_that_finds_nothing_is_dropped(library: Library) -> None:
    """Where a phrase leaves nothing, everything is searched, and a notice says so."""
    result = await library.retrieve(ask("articles from June 2023 about reefing a gaff sail"))
    assert result.passages[0].document_id == "boats"
    assert result.filter == Filter()
    assert "June 2023" in result.notices[0]


async def test_a_follow_up_is_made_standalone(library: Library) -> None:
    """The question before lends its words, so that the follow-up finds its passage."""
    history = (Message("user", "What is a gaff sail?"), Message("assistant", "A sail that hangs from a spar."))
    result = await library.retrieve(ask("And why is it reefed early?", history=history))
    assert "Reefing" in result.passages[0].text
    assert "gaff sail" in result.question


async def test_near_duplicates_are_shown_once(library: Library) -> None:
    """Of two passages that say the same in the same words one is left, and the step counts it."""
    result = await library.retrieve(ask("What does the server answer at the rate limit?"))
    assert sum("429" in passage.text for passage in result.passages) == 1
    assert next(step for step in result.steps if step.name == "duplicates").detail.startswith("1 ")


async def test_a_broken_passage_gets_its_neighbour(library: Library) -> None:
    """A passage that begins in the middle of a sentence comes with the text before it, outside its span."""
    result = await library.retrieve(ask("painted seams sun", k=1))
    (passage,) = result.passages
    assert passage.text.startswith("and then the seams")
    assert passage.before.startswith("A carvel hull")


async def test_identifiers(library: Library) -> None:
    """camelCase and snake_case are found by their parts."""
    assert "maxTokens" in (await library.retrieve(ask("max tokens"))).passages[0].text
    assert "retry_after" in (await library.retrieve(ask("retryAfter retry after"))).passages[0].text


class Backwards:
    """A reranker that likes what was last."""

    name = "backwards"

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(place) for place in range(len(texts))]

    async def close(self) -> None: ...


async def test_a_reranker_has_the_last_word_unless_refused(library: Library) -> None:
    """With a reranker its order stands and its scores are shown; rerank=False leaves the fused order."""
    reranked = Retrieve(library.live, Backwards(), lambda step, seconds: None)
    plain = await library.retrieve(ask("gaff sail", k=20))
    turned = await reranked(ask("gaff sail", k=20))
    refused = await reranked(ask("gaff sail", k=20, rerank=False))
    ids = [passage.chunk_id for passage in plain.passages]
    assert turned.passages[-1].chunk_id == ids[0]
    assert all("rerank" in passage.scores for passage in turned.passages)
    assert [passage.chunk_id for passage in refused.passages] == ids


class Failing(Backwards):
    """A reranker that fails, or never answers."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize("error", [Unavailable("away"), Overloaded("full"), DeadlineExceeded("slow"), None])
async def test_a_reranker_that_is_away(
    library: Library, error: TwinError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused order stands, the result says so, and it is counted: a search without reranking is better than none."""
    # Only who never answers is waited for in vain.
    monkeypatch.setattr(rerank, "PATIENCE", 60.0 if error else 0.05)
    labels = {"step": "rerank", "code": error.code if error else "deadline_exceeded"}
    before = telemetry.REGISTRY.get_sample_value("twin_search_step_failures_total", labels) or 0
    plain = await library.retrieve(ask("gaff sail", k=20))
    found = await Retrieve(library.live, Failing(error), lambda step, seconds: None)(ask("gaff sail", k=20))
    assert found.passages == plain.passages
    assert found.evidence == plain.evidence
    assert any("reranker" in notice for notice in found.notices)
    assert [step.name for step in found.steps] == STEPS
    assert "the fused order stands" in found.steps[STEPS.index("rerank")].detail
    assert telemetry.REGISTRY.get_sample_value("twin_search_step_failures_total", labels) == before + 1


async def test_a_reranker_that_is_set_wrong(library: Library) -> None:
    """What only another setting mends is said, and not passed over."""
    with pytest.raises(Misconfigured):
        await Retrieve(library.live, Failing(Misconfigured("wrong")), lambda step, seconds: None)(ask("gaff sail"))


@pytest.mark.parametrize(("request_", "error"), [
    (ask("  "), InvalidInput),
    (ask("x" * 8001), TooLarge),
    (ask("gaff", k=0), InvalidInput),
    (ask("gaff", k=101), InvalidInput),
])  # fmt: skip
async def test_wrong_requests(library: Library, request_: SearchRequest, error: type[Exception]) -> None:
    """An empty or endless question and a k out of range are the caller's errors."""
    with pytest.raises(error):
        await library.retrieve(request_)


async def test_a_question_longer_than_the_window_is_searched_whole(library: Library) -> None:
    """Nothing of a long question is cut off: its end counts too."""
    long = "some words that say little " * 80 + " carvel hull caulked with cotton"
    assert "carvel" in (await library.retrieve(ask(long))).passages[0].text


@pytest.mark.promise(5)
async def test_the_live_index_is_followed(library: Library) -> None:
    """After a switch searches run on the new index; with the old one dropped they don't fail."""
    await library.retrieve(ask("gaff sail"))
    other = replace(library.manifest, name="g2", chunker="chunk/2", state="building")
    await library.indexes.create(other)
    await library.indexes.update(replace(other, state="live"))
    await library.indexes.drop("g1")
    result = await library.retrieve(ask("gaff sail"))
    assert (result.index, result.passages) == ("g2", ())


async def test_no_index_yet(library: Library) -> None:
    """Without a live index the error says what to do."""
    await library.indexes.update(replace(library.manifest, state="retired"))
    with pytest.raises(NotFound, match="twin ingest"):
        await library.retrieve(ask("gaff sail"))


@pytest.mark.promise(5)
async def test_another_revision_of_the_encoder_is_refused(library: Library) -> None:
    """Vectors of another revision are not comparable: refused, saying how to mend it."""
    identity = replace(library.encoder.identity, revision="0")
    strange = replace(library.manifest, name="g2", encoder=identity, state="live")
    await library.indexes.create(strange)
    with pytest.raises(Misconfigured, match="twin reindex"):
        await library.retrieve(ask("gaff sail"))
