"""Markdown that is written reads back as the structure that it was written from."""

from __future__ import annotations

import html
from collections.abc import Sequence

import lxml.html
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.crawler.extract.render import Writer
from services.crawler.extract.tree import separate

SIGNS = st.text(alphabet=st.sampled_from("ab1 .*_`[]()<>!&;#+-=~|\\\"':/\n"), min_size=1, max_size=40)
TEXT = SIGNS.map(lambda text: " ".join(text.split())).filter(bool)
CODE = SIGNS.map(lambda text: text.strip("\n")).filter(lambda text: bool(text.strip()))


def written(source: str) -> str:
    root = lxml.html.document_fromstring(f"<html><body>{source}</body></html>")
    leaves = set(separate(root))
    return Writer("https://notes.example.org/", leaves.__contains__).write(root)


def parsed(markdown: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(markdown)


def shown(tokens: Sequence[Token]) -> str:
    pieces = (each for token in tokens if token.type == "inline" for each in token.children or ())
    return "".join(" " if each.type == "softbreak" else each.content for each in pieces)


def kinds(tokens: Sequence[Token]) -> list[str]:
    return [f"{token.tag}:{token.type}" for token in tokens if token.type.endswith("_open") or token.type == "fence"]


@given(TEXT)
def test_a_paragraph_reads_back(text: str) -> None:
    """Any text in a paragraph is one paragraph of that text, whatever signs it holds."""
    tokens = parsed(written(f"<p>{html.escape(text)}</p>"))
    assert kinds(tokens) == ["p:paragraph_open"]
    assert shown(tokens) == text


@given(TEXT, TEXT, CODE)
def test_blocks_read_back(heading: str, item: str, code: str) -> None:
    """A heading, a list and code keep their kinds and their text."""
    if not heading.strip(" ¶#§") or heading != heading.strip(" ¶#§"):
        heading = "heading"
    source = f"<h2>{html.escape(heading)}</h2><ul><li>{html.escape(item)}</li></ul><pre>\n{html.escape(code)}</pre>"
    tokens = parsed(written(source))
    assert kinds(tokens) == [
        "h2:heading_open",
        "ul:bullet_list_open",
        "li:list_item_open",
        "p:paragraph_open",
        "code:fence",
    ]
    fence = next(token for token in tokens if token.type == "fence")
    assert fence.content == "\n".join(line.rstrip() for line in code.split("\n")).strip("\n") + "\n"
    assert shown(tokens) == heading + item


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), min_size=2, max_size=3))
def test_a_table_reads_back(rows: list[list[str]]) -> None:
    """Cells keep their text, signs of tables included."""
    source = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    tokens = parsed(written(f"<table>{source}</table>"))
    assert kinds(tokens)[0] == "table:table_open"
    assert [shown([token]) for token in tokens if token.type == "inline"] == [cell for row in rows for cell in row]


def test_a_link_reads_back() -> None:
    """A link to another site keeps text and address; one to the same site its text alone."""
    text = written(
        '<p>See <a href="https://other.example/a_(b)?utm_source=x">the [thing]</a>! And <a href="/x">this</a>.</p>'
    )
    assert text == "See [the \\[thing\\]](https://other.example/a_%28b%29)! And this."


def test_lists_nest_and_stand_apart() -> None:
    """Nested lists are nested, and two lists in a row are two."""
    text = written("<ul><li>a<ol start=3><li>b</li></ol></li></ul><ul><li>c</li></ul>")
    tokens = parsed(text)
    assert [token.type for token in tokens if token.type.endswith("list_open")] == [
        "bullet_list_open",
        "ordered_list_open",
        "bullet_list_open",
    ]
    assert next(token for token in tokens if token.type == "ordered_list_open").attrs == {"start": 3}
