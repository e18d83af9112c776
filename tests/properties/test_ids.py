"""Promise 3: ids are derived from what they name, and from nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import chunk_id, digest, document_id, source_id

PARTS = st.lists(st.text(max_size=12), min_size=1, max_size=4)


@pytest.mark.promise(3)
@given(PARTS, PARTS)
def test_ids_tell_apart_what_differs(one: list[str], other: list[str]) -> None:
    """The same parts give the same id; other parts, also ones that join to the same text, another."""
    assert (digest(*one) == digest(*other)) is (one == other)


@pytest.mark.promise(3)
@given(st.text(max_size=20), st.text(max_size=40), st.text(max_size=20), st.text(max_size=40))
def test_authors_never_collide(author: str, address: str, other: str, elsewhere: str) -> None:
    """A document's and a source's id come of author and address together: no two of either share one."""
    same = (author, address) == (other, elsewhere)
    assert (document_id(author, address) == document_id(other, elsewhere)) is same
    assert (source_id(author, address) == source_id(other, elsewhere)) is same
    assert document_id(author, address) != source_id(author, address)


@pytest.mark.promise(3)
@given(st.text(max_size=20), st.text(max_size=60), st.integers(0, 5), st.integers(0, 5))
def test_a_chunk_is_named_by_document_text_and_occurrence(document: str, text: str, first: int, second: int) -> None:
    """The same text twice in a document is two chunks, and the same chunk each time it is looked at."""
    assert (chunk_id(document, text, first) == chunk_id(document, text, second)) is (first == second)
    assert chunk_id(document, text, first) != chunk_id(document + "x", text, first)
