"""Server-sent events of an engine, however a network cuts them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from services.adapters.language_model_openai import _events

EVENTS = [
    (b'data: {"a": 1}', ['{"a": 1}']),
    (b"data:no space", ["no space"]),
    (b": a comment", []),
    (b"event: note\nid: 3\ndata: x", ["x"]),
    (b"data: two\ndata: lines", ["two\nlines"]),
    ("data: sea \u2028 \x85 é".encode(), ["sea \u2028 \x85 é"]),
    (b"data: broken \xff", ["broken \ufffd"]),
    (b"data: [DONE]", ["[DONE]"]),
]
"""As they are sent, without the empty line that ends each, and what they hold."""


class Pieces:
    """What a connection gives, in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@given(
    st.lists(st.sampled_from(EVENTS), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 200), max_size=8),
    st.booleans(),
)
async def test_events_are_the_same_however_they_are_cut(
    events: list[tuple[bytes, list[str]]], newline: bytes, cuts: list[int], half: bool
) -> None:
    """Lines end in any of the standard's three ways, pieces anywhere; an event that the stream breaks off is none."""
    text = b"".join(sent.replace(b"\n", newline) + 2 * newline for sent, _ in events)
    text += b"data: half" if half else b""
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    pieces = [text[start:end] for start, end in zip(places, places[1:], strict=False)]
    found = [each async for together in _events(Pieces(pieces)) for each in together]  # type: ignore[arg-type]
    assert found == [each for _, held in events for each in held]
