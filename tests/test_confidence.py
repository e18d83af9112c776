"""The numbers by which a search decides whether it answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.confidence import Features, features, largest, share, stem, terms, weights

WEIGHTED = weights(["reefing", "gaff", "sails"], {"reefing": 2, "gaff": 5, "sails": 50}, 100)
TEXT = "Reef a gaff sail before the wind freshens. Reefed sails keep her upright."


def test_terms_are_what_a_question_is_about() -> None:
    """Function words are left out, identifiers split, each once; with nothing else the words themselves."""
    assert terms("How do I set maxTokens and max_tokens?") == ["set", "max", "tokens"]
    assert terms("What does the author mention regarding keels?") == ["author", "keels"]
    assert terms("Who are you?") == ["who", "are", "you"]
    assert terms("") == []


def test_rare_words_weigh_more() -> None:
    """The rarer, the heavier; a word that is in no chunk weighs most, one in every chunk hardly anything."""
    found = weights(["none", "rare", "all"], {"rare": 1, "all": 100}, 100)
    assert found["none"] > found["rare"] > found["all"] > 0


def test_a_passage_with_the_words_is_surer_than_one_without() -> None:
    """Words, near vectors and both together raise the confidence."""
    without = features(WEIGHTED, "", "Bread rises overnight in a cool cellar.", 0.5)
    near = features(WEIGHTED, "", "Bread rises overnight in a cool cellar.", 0.9)
    worded = features(WEIGHTED, "", TEXT, 0.5)
    headed = features(WEIGHTED, "Reefing", TEXT, 0.5)
    assert without.confidence < near.confidence < worded.confidence < headed.confidence < 1


def test_words_met_by_chance_are_not_the_topic() -> None:
    """All of a question's words in a passage that means something else make it less topical than few of them in one
    that is near; of two passages as near the one with the words is surer to answer."""
    chance = features(WEIGHTED, "", "Gaff: reefing the sails of the budget, a metaphor.", 0.1)
    near = features(WEIGHTED, "", "Shorten sail before the wind freshens; sails tear.", 0.6)
    assert chance.topicality < near.topicality
    assert chance.confidence > near.confidence
    assert features(WEIGHTED, "", TEXT, 0.6).confidence > near.confidence


@given(
    st.text(max_size=200),
    st.text(max_size=500),
    st.floats(-1, 1),
    st.lists(st.text(min_size=1, max_size=9), max_size=6),
)
def test_it_is_between_0_and_1(heading: str, text: str, cosine: float, words: list[str]) -> None:
    """Whatever is asked and found."""
    weighted = weights(terms(" ".join(words)), {}, 10)
    found = features(weighted, heading, text, cosine)
    assert 0 <= found.confidence <= 1
    assert 0 <= found.topicality <= 1.0000001
    assert 0 <= share(weighted)(heading) <= 1.0000001


@given(st.lists(st.builds(Features, *(st.floats(0, 1) for _ in range(3))), max_size=5))
def test_more_passages_never_make_it_less_sure(found: list[Features]) -> None:
    """The best of each feature counts."""
    assert all(largest(found).confidence >= each.confidence for each in found)
    assert all(largest(found).topicality >= each.topicality for each in found)
    assert largest([]).confidence == 0


def test_forms_of_a_word_meet() -> None:
    """Commonest English endings don't matter; short words and doubled letters are left alone."""
    assert len({stem(each) for each in ("reef", "reefs", "reefed", "reefing")}) == 1
    assert stem("queries") == stem("query")
    assert stem("running") == stem("run") or stem("running") == "run"
    assert (stem("class"), stem("bus"), stem("this")) == ("class", "bus", "this")
