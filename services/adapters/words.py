"""How an index reads text: words folded and stemmed, identifiers taken apart, scripts without spaces letter by letter.

Comes in: the text of a chunk or of a query. Goes out: words. Does not know: which index searches for them, scores.

All indexes fold with the one tokenizer that SQLite's FTS5 has, so the same query finds the same chunks in each.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import apsw

TOKENIZER = ("porter", "unicode61", "remove_diacritics", "2")
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about above after again against all am an and any are as at be because been before being below between both "
        "but by can could did do does doing down during each few for from further had has have having he her here hers "
        "him his how i if in into is it its itself just me more most my no nor not now of off on once only or other "
        "our ours out over own same she should so some such than that the their theirs them then there these they this "
        "those through to too under until up very was we were what when where which while who whom why will with would "
        "you your yours s t d ll m re ve don",
    )
)
"""English function words, left out of a query that has others: they cost time and find nothing."""
HUMP = re.compile(r"[^\W\d_A-Z][A-Z]|[A-Z]{2}[a-z]")
"""What makes an identifier of a run of letters and digits."""
RUN = re.compile(r"[^\W_]*")
HUMPS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z\d_]+|\d+")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Letters of scripts that don't part words by spaces: each is a word of its own here, and pairs are searched."""
LONE_SURROGATES = re.compile("[\ud800-\udfff]")
HOST = re.compile(r"(?:\w+:)?[a-z][a-z0-9+.-]*://(?:[^/@]*@)?(?:www\.)?([^/:?#]+)", re.IGNORECASE)
LONGEST = 200
"""Characters of a word that count: a longer one is no word that anybody types."""


def storable(text: str) -> str:
    """The same number of code points, all of which have a UTF-8 (lone surrogates have none)."""
    return text if text.isascii() else LONE_SURROGATES.sub("\ufffd", text)


def spaced(text: str) -> str:
    """Letters of scripts without spaces between words, each a word of its own."""
    return text if text.isascii() else UNSPACED.sub(r" \g<0> ", text)


def identifiers(text: str) -> Iterator[str]:
    """The runs of letters and digits with a hump in them. Humps are searched, not runs: most of a text has none."""
    end = 0
    for hump in HUMP.finditer(text):
        start = hump.start()
        if start >= end:
            while start and text[start - 1].isalnum():
                start -= 1
            end = RUN.match(text, start).end()  # type: ignore[union-attr]
            yield text[start:end]


def parts(text: str) -> list[str]:
    """The camelCase identifiers of a text, each once and with its humps apart."""
    return list(dict.fromkeys(" ".join(HUMPS.findall(each)) for each in identifiers(text)))


def host(url: str) -> str:
    """The host of an address without `www.`; empty for files and uploads."""
    found = HOST.match(url)
    return unquote(found[1]).lower() if found else ""


def tokenizer(connection: apsw.Connection) -> apsw.FTS5Tokenizer:
    return connection.fts5_tokenizer(TOKENIZER[0], list(TOKENIZER[1:]))


def tokens(tokenizer: apsw.FTS5Tokenizer, text: str) -> list[tuple[str, str]]:
    """The tokens of a text as the index holds them, folded and stemmed, each with the word it was made of."""
    raw = spaced(storable(text)).encode()
    found: Any = tokenizer(raw, apsw.FTS5_TOKENIZE_QUERY, None)
    return [(token, raw[start:end].decode()) for start, end, token in found]


class Words:
    """For an index whose engine has no tokenizer like FTS5's and no phrases: texts and queries as plain tokens.

    Where SQLite looks for a phrase (`retry_policy`, two letters of Japanese), each two neighbours within one run of
    non-blank characters are a token too, joined by `_`, which is in no other token.
    """

    def __init__(self) -> None:
        self._tokenizer = tokenizer(apsw.Connection(":memory:"))
        self._lock = threading.Lock()

    def of_chunk(self, title: str, heading: str, text: str) -> str:
        """All tokens of a chunk, parted by spaces; the heading's count twice, as the words of an index in SQLite do."""
        found: list[str] = []
        with self._lock:
            title_tokens = [] if title in heading else self._read(title)
            heading_tokens = self._read(heading)
            found += title_tokens + heading_tokens + heading_tokens + self._read(text)
            for humps in parts(f"{heading}\n{text}"):
                each = self._tokens(humps)
                found += each + _pairs(each)
        return " ".join(found)

    def of_query(self, query: str) -> list[str]:
        """The telling tokens of a query, each once; none: there is nothing to search for."""
        words: dict[str, str] = {}
        phrases: list[str] = []
        with self._lock:
            for piece in query.split():
                found = tokens(self._tokenizer, piece)
                unspaced = [token for token, word in found if UNSPACED.fullmatch(word)]
                if len(unspaced) > 1:
                    phrases += _pairs([token[:LONGEST] for token in unspaced])
                    found = [each for each in found if not UNSPACED.fullmatch(each[1])]
                elif len(found) > 1:
                    phrases += _pairs([token[:LONGEST] for token, _ in found])
                for humps in parts(piece):
                    phrases += _pairs(self._tokens(humps))
                for token, word in found:
                    words.setdefault(token[:LONGEST], word)
        telling = [each for each, word in words.items() if word.lower() not in STOP_WORDS] or list(words)
        return list(dict.fromkeys([*telling, *phrases]))

    def of_term(self, term: str) -> list[str]:
        """The tokens that a chunk has where the term stands in it."""
        with self._lock:
            found = self._tokens(term)
        return found if len(found) < 2 else _pairs(found)

    def _tokens(self, text: str) -> list[str]:
        return [token[:LONGEST] for token, _ in tokens(self._tokenizer, text)]

    def _read(self, text: str) -> list[str]:
        found = self._tokens(text)
        for piece in text.split():
            if not (piece.isascii() and piece.isalnum()):
                found += _pairs(self._tokens(piece))
        return found


def _pairs(tokens: Sequence[str]) -> list[str]:
    return [f"{one}_{two}" for one, two in pairwise(tokens)]
