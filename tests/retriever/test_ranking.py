"""The pure steps: fusion, thresholds, duplicates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.confidence import Features
from services.domain import Chunk, EncoderIdentity, Evidence, Hit, Thresholds
from services.retriever.duplicates import distinct
from services.retriever.fuse import LEADERS, WITHIN, Candidate, fuse
from services.retriever.threshold import evidence, thresholds_for


def hit(id: str, score: float, heading: str = "", text: str = "", ordinal: int = 0, document: str = "") -> Hit:
    chunk = Chunk(id, document or f"d-{id}", ordinal, 0, len(text), text or f"text of {id}", heading)
    return Hit(chunk, score, "alpha", "", "", "", 1)


hits = st.lists(
    st.tuples(st.integers(0, 60).map(str), st.floats(0, 30)), unique_by=lambda each: each[0], max_size=40
).map(lambda pairs: [hit(id, score) for id, score in sorted(pairs, key=lambda each: -each[1])])


@given(hits, hits)
def test_fusion_loses_nothing_and_orders_by_score(dense: list[Hit], text: list[Hit]) -> None:
    """Every hit is a candidate once, scores fall, and the leaders of each search are within the first ranks."""
    ranked = fuse(dense, text, {})
    ids = [each.hit.chunk.id for each in ranked]
    assert sorted(ids) == sorted({each.chunk.id for each in (*dense, *text)})
    assert all(one.score >= two.score for one, two in zip(ranked, ranked[1:], strict=False))
    for each in (*dense[:LEADERS], *text[:LEADERS]):
        assert ids.index(each.chunk.id) < WITHIN


def test_found_by_both_beats_found_by_one() -> None:
    """What both searches find well stands before what only one finds best."""
    dense = [hit("one", 0.8), hit("both", 0.75), hit("low", 0.2)]
    text = [hit("other", 9.0), hit("both", 8.5), hit("low2", 1.0)]
    assert fuse(dense, text, {})[0].hit.chunk.id == "both"


@pytest.mark.promise(4)
def test_the_heading_counts() -> None:
    """Of two equal passages the one below a heading that has the question's words is first."""
    dense = [hit("a", 0.5, "Oceans"), hit("b", 0.5, "Reefing sails"), hit("c", 0.1)]
    assert fuse(dense, [], {"reefing": 3.0, "sails": 2.0})[0].hit.chunk.id == "b"


def test_the_document_counts() -> None:
    """Of two equal passages the one whose document has others that fit is first; much better it need not be."""
    dense = [
        hit("a", 0.7),
        hit("b", 0.7, "One", ordinal=1, document="whole"),
        hit("c", 0.6, "Two", ordinal=2, document="whole"),
        hit("d", 0.1),
    ]
    assert fuse(dense, [], {})[0].hit.chunk.id == "b"
    dense[0] = hit("a", 0.9)
    assert fuse(dense, [], {})[0].hit.chunk.id == "a"


def test_duplicates() -> None:
    """A passage that repeats a better one is dropped; one that shares a phrase is not."""
    words = "the quick brown fox jumps over the lazy dog and runs into the deep dark wood at night"
    candidates = [
        Candidate(hit("a", 1, text=words)),
        Candidate(hit("b", 1, text=words.upper() + "!")),
        Candidate(hit("c", 1, text="The quick brown fox jumps over hills and sleeps beside the river until noon.")),
        Candidate(hit("d", 1, text="the quick brown fox")),
    ]
    kept, dropped = distinct(candidates, 10)
    assert ([each.hit.chunk.id for each in kept], dropped) == (["a", "c", "d"], 1)
    assert len(distinct(candidates, 1)[0]) == 1


@pytest.mark.promise(5)
def test_evidence_by_thresholds() -> None:
    """Too little of the topic for `decline` is none, unless its words make it sure; too little confidence for `answer`
    the closest, else an answer; without thresholds uncalibrated."""
    bounds = Thresholds(0.2, 0.4)
    off, near, right = Features(0.1, 0.6, 0.1), Features(0.6, 0.3, 0.3), Features(0.6, 0.5, 0.5)
    note = Features(0.1, 0.9, 0.1)
    assert max(off.confidence, near.confidence) < 0.4 < min(note.confidence, right.confidence)
    assert max(off.topicality, note.topicality) < 0.2 < near.topicality
    assert [evidence(each, bounds, True) for each in (off, near, right, note)] == [
        Evidence.NONE, Evidence.CLOSEST, Evidence.ANSWER, Evidence.ANSWER,
    ]  # fmt: skip
    low = replace(bounds, answer=0.1)
    assert evidence(Features(0.1, 0.5, 0.1), low, True) is Evidence.NONE, "a low `answer` alone makes nothing sure"
    assert evidence(right, None, True) is Evidence.UNCALIBRATED
    assert evidence(right, None, False) is Evidence.NONE


@pytest.mark.promise(5)
def test_defaults_are_for_known_encoders_only() -> None:
    """The embedded encoder has defaults that say so, calibration wins over them, another encoder has none."""
    known = EncoderIdentity("onnx://", "1", "int8", "mean", 384, 256)
    default = thresholds_for(known, None)
    assert default is not None
    assert default.origin.startswith("default for")
    assert thresholds_for(known, Thresholds(0.1, 0.2)) == Thresholds(0.1, 0.2)
    assert thresholds_for(EncoderIdentity("hashing://384", "1", "", "", 384, 256), None) is None
