"""Markdown on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.plain import Plain, plain


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        (r"1\. The snake\_case rule", "1. The snake_case rule"),
        (r"a path C:\new and \* a star", r"a path C:\new and * a star"),
        (r"`\d\_` is code, \_ is not", r"`\d\_` is code, _ is not"),
        ("```\nre\\.match\n```\n\\# no heading", "```\nre\\.match\n```\n# no heading"),
        (r"``a ` \_`` \_", r"``a ` \_`` _"),
        (r"an escaped \` opens no code \_", "an escaped ` opens no code _"),
        ("\\\\", "\\"),
        ("ends in \\", "ends in \\"),
    ],
)
def test_escapes(markdown: str, shown: str) -> None:
    assert plain(markdown) == shown


@given(st.lists(st.text(alphabet="ab\\`_.\n", max_size=6), max_size=8))
def test_pieces_are_as_the_whole(pieces: list[str]) -> None:
    """Wherever a stream is cut."""
    growing = Plain()
    assert "".join(map(growing.feed, pieces)) + growing.end() == plain("".join(pieces))
