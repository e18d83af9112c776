"""Names of authors.

Comes in: what a caller wrote. Goes out: the name, or InvalidInput with the rule. Does not know: who exists; an author
comes into being with the first document that an explicit ingest brings, never by a question that mentions one.
"""

from __future__ import annotations

import re
import unicodedata

from services.errors import InvalidInput

LONGEST = 64
RESERVED = frozenset({"twin"})
"""`twin` is the model that answers for every author the key may see."""
_ALLOWED = re.compile(r"\w([\w .\-]*[\w.\-])?")


def check_author(name: str) -> str:
    """The name in NFC. 1 to 64 letters, digits, spaces, `.`, `_`, `-`; it starts with a letter, digit or `_`."""
    normal = unicodedata.normalize("NFC", name)
    if not 1 <= len(normal) <= LONGEST or not _ALLOWED.fullmatch(normal):
        raise InvalidInput(
            f"An author's name has 1 to {LONGEST} letters, digits, spaces, '.', '_' or '-', "
            "and starts with a letter or digit.",
            param="author",
        )
    if normal.casefold() in RESERVED:
        raise InvalidInput(f"The name {normal!r} is reserved: it asks every author. Choose another.", param="author")
    return normal
