"""Cutting texts into the units that can be quoted."""

from __future__ import annotations

import pytest

from services.generator.segment import segments


@pytest.mark.parametrize(
    "sentences",
    [
        ["Die Miete beträgt z. B. 740 Euro inkl. Heizung.", "Sie ist hoch."],
        ["Ich habe die Küche am 3. Mai 2022 blau gestrichen.", "Das war gut."],
        ["See sec. 2.1 for the table, i.e. the one with approx. 40 rows.", "Then go on."],
        ["It took 10 min.", "Then it ended.", "There were 3.", "Junior developers left."],
        ["The answer is no.", "He left at last."],
    ],
)
def test_a_full_stop_that_ends_no_sentence(sentences: list[str]) -> None:
    """Abbreviations and German dates, in a text whose language is not known."""
    text = " ".join(sentences)
    assert [text[each.start : each.end] for each in segments(text)] == sentences
