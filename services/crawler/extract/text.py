"""Plain text, and source code.

Comes in: text. Goes out: Extracted. Does not know: where the file came from.
"""

from __future__ import annotations

import re

from services.crawler.extract.language import language
from services.crawler.extract.metadata import plain
from services.crawler.extract.render import escape, escape_line, fenced
from services.domain import Extracted
from services.errors import Unprocessable

_LISTED = re.compile(r"^(\s{0,12}(?:[-+*•]|\d{1,9}[.)])\s+)(.*)$")
_UNDERLINE = re.compile(r"^(?:={3,}|-{3,}|~{3,})\s*$")


def extract_text(text: str, *, name: str) -> Extracted:
    """Paragraphs, lists and underlined headings kept; what Markdown would take for something else escaped."""
    if not text.strip():
        raise Unprocessable("The file is empty: there is nothing to bring in.")
    lines = [line.rstrip() for line in text.expandtabs(4).split("\n")]
    written: list[str] = []
    for number, line in enumerate(lines):
        previous = lines[number - 1] if number else ""
        if _UNDERLINE.match(line) and previous and not previous.startswith(" "):
            written.append(line if line[0] != "~" else "-" * len(line))
        elif found := _LISTED.match(line):
            written.append(found.group(1).replace("•", "-") + escape(found.group(2)))
        else:
            indent = len(line) - len(line.lstrip())
            # Four spaces would make code of it; under a list item they are the item's own.
            keep = " " * (indent if previous and indent < 12 and _LISTED.match(previous) else min(indent, 3))
            written.append(keep + escape_line(escape(line.strip())))
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(written)).strip("\n")
    first = next((index for index, line in enumerate(lines) if line.strip()), 0)
    alone = first + 1 >= len(lines) or not lines[first + 1].strip() or _UNDERLINE.match(lines[first + 1]) is not None
    title = plain(lines[first]) if alone and len(lines[first]) <= 100 else ""
    return Extracted(text=body, title=title or name, language=language(body), media_type="text/plain")


def extract_code(text: str, *, path: str, code: str) -> Extracted:
    """The file whole, as one block of code under its path."""
    if not text.strip():
        raise Unprocessable("The file is empty: there is nothing to bring in.")
    return Extracted(
        text=f"# {escape(path)}\n\n{fenced(text.strip(chr(10)), code)}",
        title=path,
        media_type=f"text/x-{code}" if code else "text/plain",
    )
