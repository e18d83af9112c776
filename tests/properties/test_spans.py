"""Promise 4: chunks are exact spans that lose no text, fit the window whole, and stay where they are when other places
change. For every text and for encoders of different vocabularies."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.adapters.encoder_hashing import HashingEncoder
from services.domain import Chunk, EncoderIdentity, chunk_id
from services.feature.blocks import blocks
from services.feature.chunk import chunk
from services.feature.clean import clean
from services.ports import Vectors

ENCODER = HashingEncoder(16)


class Letters(HashingEncoder):
    """Every character is a token, and the window is small: the hardest to fit."""

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity("letters://", "1", "float32", "sum", 16, 40)

    def count(self, texts: object) -> list[int]:
        return [len(text) + 2 for text in texts]  # type: ignore[attr-defined]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(len(text))]

    async def encode(self, texts: object) -> Vectors:
        raise NotImplementedError


WORDS = (
    "the crawler writes versions, and indexes them. Why? So that search finds one! e.g. v1.2 `code  here` naïve Größe "
    "日本語の文章です。次の文。 中文没有空格的句子 😀 👩\u200d👩\u200d👧 🇩🇪 ก็ e\u0301 [link](https://a.org/a_b) a|b"
)
words = st.sampled_from(WORDS.split(" "))
prose = st.lists(words, min_size=1, max_size=60).map(" ".join)
lines = st.one_of(
    prose,
    st.builds("{} {}".format, st.sampled_from(["#", "##", "###", "######"]), prose.map(lambda each: each[:60])),
    st.builds("- {}".format, prose),
    st.builds("  1. {}".format, prose),
    st.builds("    {}".format, prose),
    st.sampled_from(
        [
            "",
            " \t",
            "```python",
            "```",
            "~~~",
            "> quoted",
            "---",
            "===",
            "\tcode\twith\ttabs  ",
            "x" * 300,
            "== Wiki ==",
        ]
    ),
    st.just("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"),
    st.just("```\ndef f():\n    return  1\n\n\n\n# comment\n```"),
)
markdown = st.lists(lines, max_size=40).flatmap(
    lambda each: st.sampled_from(["\n", "\n\n", "\r\n", "\r\n\r\n\r\n"]).map(lambda end: end.join(each))
)
anything = st.one_of(markdown, st.text(max_size=400))
generous = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_tiling(text: str, chunks: list[Chunk]) -> None:
    at = 0
    for each in chunks:
        assert each.start >= at
        assert each.start < each.end
        assert not text[at : each.start].strip()
        assert each.text == text[each.start : each.end]
        at = each.end
    assert not text[at:].strip()


@generous
@given(anything)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    """clean is idempotent, and leaves nothing that has no UTF-8."""
    once = clean(text)
    assert clean(once) == once
    once.encode()


@pytest.mark.promise(4)
@generous
@given(
    st.lists(
        st.text(
            st.characters(exclude_characters="`~", exclude_categories=("C", "Z")) | st.sampled_from(" \t\n"),
            max_size=60,
        )
    )
)
def test_code_keeps_its_white_space(lines: list[str]) -> None:
    """What stands in a fence comes out as it went in, but for Unicode's composed form."""
    import unicodedata

    code = "\n".join(lines)
    assert f"\n{unicodedata.normalize('NFC', code)}\n```" in clean(f"Before.\n\n```text\n{code}\n```\n\n\n\nAfter.")


@pytest.mark.promise(4)
@generous
@given(anything)
def test_blocks_hold_all_text(text: str) -> None:
    """Blocks are in order and what lies between them is white space."""
    at = 0
    for each in blocks(text):
        assert at <= each.start < each.end <= len(text)
        assert not text[at : each.start].strip()
        at = each.end
    assert not text[at:].strip()


@pytest.mark.promise(4)
@generous
@given(anything, st.sampled_from(["", "A title", "t" * 500]), st.sampled_from([ENCODER, Letters(16)]))
def test_spans_rebuild_the_text(text: str, title: str, encoder: HashingEncoder) -> None:
    """Promise 4: spans are exact, in order, lose nothing but white space, and fit the window whole."""
    text = clean(text)
    chunks = chunk(text, "document", title, encoder)
    check_tiling(text, chunks)
    counts = encoder.count([each.embedded_text for each in chunks])
    assert all(count <= encoder.identity.window for count in counts)
    assert [each.tokens for each in chunks] == counts
    assert [each.ordinal for each in chunks] == list(range(len(chunks)))
    assert len({each.id for each in chunks}) == len(chunks)


@pytest.mark.promise(3)
@generous
@given(anything)
def test_chunks_are_derived(text: str) -> None:
    """The same text gives the same chunks with the same ids; another document's ids differ."""
    text = clean(text)
    first, again, other = (chunk(text, document, "T", ENCODER) for document in ("a", "a", "b"))
    assert first == again
    assert not {each.id for each in first} & {each.id for each in other}
    if first:
        assert first[0].id == chunk_id("a", first[0].embedded_text, 1)


@pytest.mark.promise(3)
@generous
@given(st.lists(st.lists(prose, min_size=1, max_size=4), min_size=3, max_size=12), st.data())
def test_a_change_stays_in_its_section(sections: list[list[str]], data: st.DataObject) -> None:
    """Promise 3: a changed paragraph gives new chunks in its own section and next to it, nowhere else."""

    def render(bodies: list[list[str]]) -> str:
        parts = [f"## Section {number}\n\n" + "\n\n".join(body) for number, body in enumerate(bodies)]
        return clean("\n\n".join(parts))

    changed = data.draw(st.integers(0, len(sections) - 1))
    place = data.draw(st.integers(0, len(sections[changed]) - 1))
    edited = [list(body) for body in sections]
    edited[changed][place] = data.draw(prose) + " edited"
    before, after = (chunk(render(each), "d", "T", ENCODER) for each in (sections, edited))
    known = {each.id for each in before}
    fresh = [each for each in after if each.id not in known]
    section = len(chunk(render([edited[changed]]), "d", "T", ENCODER))
    assert len(fresh) <= section + 6


def long_text(paragraphs: int, edited: int = -1) -> str:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    made = []
    for number in range(paragraphs):
        body = " ".join(
            f"{words[(number * 7 + place * 3) % 10]}{(number * 31 + place) % 97}"
            for place in range(20 + number * 13 % 60)
        )
        made.append(
            f"Paragraph {number} says {body}." + (" And one thing more was added here." if number == edited else "")
        )
    return "\n\n".join(made)


@pytest.mark.promise(3)
@pytest.mark.parametrize("edited", [0, 57, 150, 299])
def test_a_change_stays_local_without_headings(edited: int) -> None:
    """Promise 3: in a text without any heading, a longer paragraph changes few chunks, and those near it."""
    before = chunk(long_text(300), "d", "", ENCODER)
    after = chunk(long_text(300, edited), "d", "", ENCODER)
    known = {each.id for each in before}
    fresh = [each.ordinal for each in after if each.id not in known]
    assert len(before) > 60
    assert len(fresh) <= 8
    assert fresh[-1] - fresh[0] <= 12


def test_time_is_linear() -> None:
    """Four times the text takes about four times as long, whatever it is made of: no pattern is quadratic."""
    hostile = [
        "~~~~a\n",
        "# x\n",
        "a" * 50,
        "| a |\n|-|\n",
        "- x\n",
        "    c\n\n",
        "= = = ",
        "``` ",
        "\t \t",
        "。",
        "😀",
    ]
    for piece in hostile:
        took = []
        for size in (20_000, 80_000):
            text = clean((piece * (size // len(piece) + 1))[:size])
            best = 1e9
            for _ in range(2):
                began = time.process_time()
                chunk(text, "d", "T", ENCODER)
                best = min(best, time.process_time() - began)
            took.append(best)
        assert took[1] < 12 * max(took[0], 0.02), (piece, took)
