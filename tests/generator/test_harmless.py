"""What an answer shows of a passage's or an engine's text (promise 8)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.generator.harmless import Settling, harmless, label

renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_parts = st.sampled_from(
    ["[", "]", "(", ")", "!", "<", ">", "`", "``", "```", "~~~", "\n", "\n\n", " ", "    ", "- ", "> ", "1", "9", "a",
     "\\", ":", "http://e.example/x", "https://", "www.e.example", "img src=x", "a href='http://e.example'", "[1]",
     "[1, 2]", "【1†a】", "![a](b)", "[a](http://e.example)", "[x]: http://e.example", "<http://e.example>", "|", "*",
     "\t", "#", "&lt;", "/", "\r\n", '"']
)  # fmt: skip
hostile = st.lists(_parts, max_size=24).map("".join)


def live(tokens: list[Token]) -> Iterator[str]:
    """Everything that a renderer would make a link, an image or raw HTML of."""
    for token in tokens:
        if token.type in ("link_open", "image", "html_inline", "html_block"):
            yield token.type
        yield from live(token.children or [])


@pytest.mark.promise(8)
@settings(max_examples=1500, deadline=None)
@given(hostile)
def test_nothing_calls_out(text: str) -> None:
    """Whatever the text, a Markdown renderer finds no link, image or HTML in what is left of it."""
    assert list(live(renderer.parse(harmless(text, citable=(1, 2))))) == []


@pytest.mark.promise(8)
@settings(max_examples=600, deadline=None)
@given(st.lists(hostile, max_size=5), st.lists(st.integers(0, 60), max_size=6))
def test_the_same_however_it_is_cut(parts: list[str], cuts: list[int]) -> None:
    """Streaming in any pieces gives what the whole text at once gives."""
    text = "".join(parts)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    settling = Settling((1,), ("http://e.example/x",))
    streamed = "".join(settling.feed(text[a:b]) for a, b in pairwise(places)) + settling.end()
    assert streamed == harmless(text, (1,), ("http://e.example/x",))


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("See ![a chart](http://e.example/x.png).", "See a chart."),
        ("See [the guide](http://e.example/x).", "See the guide."),
        ("Use <thinking> tags.", "Use `<thinking>` tags."),
        ("At https://e.example/x.", "At `https://e.example/x`."),
        ("`<b>` stays, a[b] too.", "`<b>` stays, a[b] too."),
        ("Right [1], wrong [7].", "Right [1], wrong."),
        ("Both [1, 2], 【2†source】 and [1-2].", "Both [1][2], [2] and [1][2]."),
        ("[1](http://e.example)", "[1]"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("```python\nx[1] <b>\n```\n[9] after", "```python\nx[1] <b>\n```\n after"),
        ("```\nnever closed", "```\nnever closed\n```"),
    ],
)
def test_reads_as_before(given: str, shown: str) -> None:
    """Words stay, only what calls out goes; marks name given passages only."""
    assert harmless(given, citable=(1, 2)) == shown


def test_a_cited_address_stays_a_link() -> None:
    """The address of a passage that was given may be linked; another not."""
    text = "[mine](https://a.example/p) and [theirs](https://b.example/p)"
    assert harmless(text, addresses=("https://a.example/p",)) == "[mine](https://a.example/p) and theirs"


@settings(max_examples=400, deadline=None)
@given(hostile)
def test_labels_stay_within_a_line(text: str) -> None:
    """A title cannot leave its bold line."""
    shown = label(text)
    assert "\n" not in shown
    assert list(live(renderer.parse(f"**{shown}**"))) == []


def test_text_streams() -> None:
    """Plain words come at once; only an open construct waits."""
    settling = Settling((1,))
    assert settling.feed("Plain words") == "Plain words"
    assert settling.feed(" and [") == " and"
    assert settling.feed("1") == ""
    assert settling.feed("].") == " [1]."
