"""Follow-ups made standalone, and filters recognised only against what exists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import Facets, Filter, Message
from services.retriever.queries import queries
from services.retriever.understand import follows_up, understand

FACETS = Facets(
    authors=("alpha", "beta two"),
    sources=("example.org", "https://example.org/feed", "news.example.com"),
    languages=("de", "en"),
    earliest="2020-01-15",
    latest="2024-12-31",
)
NONE = Filter()


@pytest.mark.parametrize(
    ("query", "expected", "question"),
    [
        ("What did the posts by alpha say about sails?", Filter(authors=("alpha",)), "What did the say about sails?"),
        ("according to Alpha, what is a reef?", Filter(authors=("alpha",)), "what is a reef?"),
        ("alpha's articles on sails", Filter(authors=("alpha",)), "articles on sails"),
        ("notes by beta two on bread", Filter(authors=("beta two",)), "on bread"),
        ("What is said about tides on example.org?", Filter(sources=("example.org",)), "What is said about tides?"),
        ("tides from www.example.org", Filter(sources=("example.org",)), "tides"),
        ("What was published in German about bread?", Filter(languages=("de",)), "What was about bread?"),
        ("articles in 2023 about tides", Filter(since="2023-01-01", until="2023-12-31"), "articles about tides"),
        ("posts since March 2024 on tides", Filter(since="2024-03-01"), "posts on tides"),
        ("posts before 2022 on tides", Filter(until="2021-12-31"), "posts on tides"),
        ("posts after Feb 2024 on tides", Filter(since="2024-03-01"), "posts on tides"),
        ("essays between 2021 and June 2022 on tides", Filter(since="2021-01-01", until="2022-06-30"), "essays on tides"),
        ("notes from 2022-05-04 on tides", Filter(since="2022-05-04", until="2022-05-04"), "notes on tides"),
        ("texts by alpha in 2023 on tides",
         Filter(authors=("alpha",), since="2023-01-01", until="2023-12-31"), "on tides"),
    ],
)  # fmt: skip
def test_filters_are_recognised_and_taken_out(query: str, expected: Filter, question: str) -> None:
    """What exists, named in a phrase that can only mean a filter, becomes one; the rest is the question."""
    found = understand(query, (), NONE, FACETS)
    assert found.filter == expected
    assert found.recognised
    if "by alpha in 2023" not in query:
        assert found.question == question


@pytest.mark.parametrize(
    "query",
    [
        "What did gamma write about sails?",
        "posts by gamma",
        "What is on example.net?",
        "What is said about example.org.evil.test?",
        "Who won the election in 2008?",
        "articles from 1999 about tides",
        "articles in 2023-13 about tides",
        "How do I say hello in French?",
        "What does alphabet by alphabetical order mean?",
        "by the way, what is a reef?",
    ],
)
def test_nothing_is_created(query: str) -> None:
    """Names that don't exist, dates outside of what there is and ordinary words are no filters."""
    found = understand(query, (), NONE, FACETS)
    assert (found.filter, found.question, found.recognised) == (NONE, query, ())


def test_one_language_is_no_filter() -> None:
    """Where all is in one language, naming it is part of the question."""
    query = "How do I say bread in German?"
    assert understand(query, (), NONE, Facets(languages=("de",))).filter == NONE


def test_what_was_asked_for_explicitly_stands() -> None:
    """A filter of the request is not replaced by one in the words."""
    asked = Filter(authors=("beta two",))
    assert understand("posts by alpha on sails", (), asked, FACETS).filter == asked


def test_a_question_that_is_only_a_filter_keeps_its_words() -> None:
    """With the phrase taken out nothing would be left to search for."""
    found = understand("by alpha", (), NONE, FACETS)
    assert (found.filter.authors, found.question) == (("alpha",), "by alpha")


PAIRS = [
    ("What is a gaff sail?", "How is it reefed?", {"gaff", "sail"}),
    ("How does the rate limiter work?", "And in Python?", {"rate", "limiter"}),
    ("How do I configure streaming?", "What about timeouts?", {"configure", "streaming"}),
    ("What are the limits of the batch API?", "Why?", {"limits", "batch", "API"}),
    ("How do I train a LoRA adapter?", "Can you give an example?", {"LoRA", "adapter"}),
    ("What is retrieval-augmented generation?", "What are its drawbacks?", {"retrieval-augmented", "generation"}),
    ("Tell me about sourdough starters", "How long do they last?", {"sourdough", "starters"}),
    ("What does max_tokens do?", "How does that affect latency?", {"max_tokens"}),
    ("Who founded the observatory?", "When did she found it?", {"observatory"}),
    ("How do webhooks sign requests?", "Does this work with proxies?", {"webhooks", "requests"}),
]


@pytest.mark.parametrize(("before", "query", "carried"), PAIRS)
def test_follow_ups_take_over_what_they_are_about(before: str, query: str, carried: set[str]) -> None:
    """A question that points back gets the telling words of the one before, and keeps its own."""
    history = (Message("user", before), Message("assistant", "An answer about something else entirely."))
    found = understand(query, history, NONE, Facets())
    assert carried <= set(found.carried)
    assert found.question.startswith(query)


@pytest.mark.parametrize(
    "query",
    [
        "How do I reef a gaff sail?",
        "What is the difference between SFT and DPO?",
        "How do I configure the encoder so that it uses int8?",
        "Which engines support streaming and how do they report errors?",
        "What is the model that writes answers?",
        "Where are backups of the data directory kept?",
    ],
)
def test_questions_that_stand_alone_are_left_alone(query: str) -> None:
    """A new subject takes nothing over from the old one."""
    history = (Message("user", "How does sourdough bread rise?"),)
    assert not follows_up(query)
    assert understand(query, history, NONE, Facets()).question == query


def test_a_chain_of_follow_ups_reaches_its_subject() -> None:
    """Two follow-ups in a row still know what it is all about."""
    history = (Message("user", "What is a gaff sail?"), Message("user", "How is it hoisted?"))
    assert {"gaff", "sail"} <= set(understand("And why is that?", history, NONE, Facets()).carried)


def test_no_history_carries_nothing() -> None:
    """A first question is taken as it is, whatever it points to."""
    assert understand("What is it?", (), NONE, Facets()).question == "What is it?"


@given(st.text(max_size=200), st.lists(st.text(max_size=80), max_size=4))
def test_any_text_is_understood(query: str, before: list[str]) -> None:
    """No text fails, and a question with something in it stays one."""
    found = understand(query, [Message("user", each) for each in before], NONE, FACETS)
    assert bool(found.question.strip()) == bool(query.strip()) or found.carried
    assert found.filter == NONE or found.recognised


@pytest.mark.parametrize(
    ("question", "plain"),
    [
        ("Could you please tell me about gaff sails?", "gaff sails?"),
        ("Hi, I would like to know how sails are reefed", "how sails are reefed"),
        ("How are sails reefed, please?", "How are sails reefed?"),
        ("Please", "Please"),
        ("Can you tell", "Can you tell"),
        ("How do I show me-too comments?", "How do I show me-too comments?"),
    ],
)
def test_politeness_is_not_searched_for(question: str, plain: str) -> None:
    """What is said for politeness is taken off, unless it is all there is."""
    assert queries(question).dense == plain
