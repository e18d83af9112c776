"""Extracted text made even: the text that chunks are spans of.

Comes in: Markdown as the extractor found it. Goes out: the same text in Unicode's composed form, with line feeds, and
without control characters and idle white space. Does not know: documents, chunks, where the text came from.

Deterministic, and cleaning twice changes nothing. Code (fenced, or indented by four columns) keeps its white space
exactly; what it shares with the rest is the composed form, the line ends and the missing control characters.
"""

from __future__ import annotations

import re
import unicodedata

from services.feature.blocks import fences, width

CLEANER = "clean/1"
"""Grows with every change that can give another text for the same input."""

_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Control characters, and what is invisible and changes how text reads or hides text in it: soft hyphens, zero-width
# spaces, byte order marks, bidirectional overrides, interlinear annotations, tag characters. Joiners stay: emoji and
# several scripts need them.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"
    r"\U000e0000-\U000e007f]"
)
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_SPACES = re.compile(r"[^\S\n]+")


def clean(text: str) -> str:
    """The text that is kept, chunked and cited. Idempotent; linear in the text."""
    text = _LINE_ENDS.sub("\n", text)
    text = _UNSEEN.sub("", text)
    text = _SURROGATES.sub("\ufffd", text)
    text = unicodedata.normalize("NFC", text)
    lines = text.split("\n")
    fenced = fences(lines)
    kept: list[str] = []
    blank: list[str] = []
    """White lines since the last line with text."""
    indented = False
    """Whether that last line was indented code."""
    number = 0
    while number < len(lines):
        line = lines[number]
        if not line or line.isspace():
            blank.append(line)
            number += 1
            continue
        deep = width(line) >= 4 and number not in fenced
        if not kept:
            blank.clear()
        elif blank:
            # Between two lines of indented code white lines are code; elsewhere one parts as well as five.
            kept.extend(blank if deep and indented else [""])
            blank.clear()
        if number in fenced:
            last = fenced[number]
            kept.extend(lines[number : last + 1])
            number = last + 1
        else:
            kept.append(line if deep else _even(line))
            number += 1
        indented = deep
    return "\n".join(kept)


def _even(line: str) -> str:
    """A line outside code: one space where there were several; its indentation stays, for lists are made of it."""
    body = line.lstrip(" \t")
    indentation = line[: len(line) - len(body)]
    if "`" in body:
        return indentation + body.strip()  # inline code keeps its spaces
    return indentation + _SPACES.sub(" ", body.strip())
