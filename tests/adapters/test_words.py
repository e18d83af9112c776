"""How an index reads text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from services.adapters import words

DEFINED = re.compile(r"[^\W_]*[^\W\d_A-Z][A-Z][^\W_]*|[^\W_]*[A-Z]{2,}[a-z][^\W_]*")
"""A run of letters and digits with a hump in it: what `identifiers` finds by looking for the humps."""


@given(st.text() | st.text("abAB1_ é.É字²"))
def test_identifiers_are_the_runs_with_a_hump(text: str) -> None:
    """Of any text the same ones as the expression that defines them."""
    assert list(words.identifiers(text)) == DEFINED.findall(text)


def test_the_humps_of_identifiers_stand_apart() -> None:
    """Each identifier once, in the text's order."""
    text = "maxRetries of an HTTPServer, snake_case, again maxRetries; Prose, NASA, v2Beta and i18n are none."
    assert words.parts(text) == ["max Retries", "HTTP Server"]
