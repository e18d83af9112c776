"""The second step: what to search for.

Comes in: a question that stands alone. Goes out: one query for the vectors and one for the words. Does not know: the
index, models.

Measured and left out, for none moved recall by more than a question in a hundred: compound questions searched in
parts, the question's key words embedded beside it, and expansion by the first hits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

COURTESY = re.compile(
    r"^\s*(?:(?:please|hi|hello|hey|ok(?:ay)?|so|well)[\s,!.]+)*"
    r"(?:(?:can|could|would|will) you (?:please |kindly )?(?:tell|explain|show|remind|give|help)"
    r"(?: to)?(?: me| us)?(?: out)?(?: about)?\s+"
    r"|i(?:'d| would) (?:like|love) (?:to (?:know|understand|learn|hear)|you to (?:tell|explain)(?: me)?)"
    r"(?: about)?\s+"
    r"|i (?:want|need|wish) to (?:know|understand|learn)(?: about)?\s+"
    r"|(?:please )?(?:tell|explain to|show) (?:me|us)(?: about)?\s+"
    r"|do you (?:know|remember)\s+)?",
    re.IGNORECASE,
)
THANKS = re.compile(r"[\s,.]*(?:\bplease|\bthanks|\bthank you|\bcheers)[\s.!]*(?P<mark>\??)[\s.!]*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Queries:
    dense: str
    text: str

    @property
    def all(self) -> tuple[str, ...]:
        return (self.dense,) if self.dense == self.text else (self.dense, self.text)


def queries(question: str) -> Queries:
    """Without what is said for politeness: it would be searched too."""
    plain = THANKS.sub(r"\g<mark>", COURTESY.sub("", question, count=1)).strip() or question
    return Queries(dense=plain, text=plain)
