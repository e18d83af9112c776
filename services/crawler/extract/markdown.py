"""A Markdown file: its text as it stands, and its front matter as metadata.

Comes in: Markdown. Goes out: Extracted. Does not know: where the file came from.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime

import yaml

from services.crawler.extract.language import language
from services.crawler.extract.metadata import iso_date, language_code, plain
from services.domain import Extracted
from services.errors import Unprocessable

_YAML = re.compile(r"\A---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.*?\n)?\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT = 64 * 1024
"""Characters of front matter that are read; longer ones are text."""
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_CODE_OR_COMMENT = re.compile(r"`[^`\n]+`|<!--")
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*_`~]{1,3}(?=\S)|(?<=\S)[*_`~]{1,3}|\\(?=[!-/:-@\[-`{-~])")


def extract_markdown(text: str, *, name: str) -> Extracted:
    front, body = front_matter(text)
    body = _without_comments(body).strip("\n")
    if not body.strip():
        raise Unprocessable("The file is empty: there is nothing to bring in.")
    authors = front.get("author") or front.get("authors") or ""
    return Extracted(
        text=body,
        title=_text(front.get("title")) or first_heading(body) or name,
        byline=_text(authors),
        published=_date(front, "date", "published", "pubDate", "publishDate", "created"),
        modified=_date(front, "lastmod", "modified", "updated", "last_modified_at", "last_updated", "date-modified"),
        canonical=_address(front, "canonical", "canonical_url", "canonicalUrl", "canonicalURL"),
        language=language(body, language_code(_text(front.get("lang") or front.get("language")))),
        media_type="text/markdown",
    )


def front_matter(text: str) -> tuple[dict[str, object], str]:
    """(values, the text after them). Front matter that cannot be read is dropped, for it is no text either."""
    for pattern, read in ((_YAML, yaml.safe_load), (_TOML, tomllib.loads)):
        found = pattern.match(text[: _FRONT + 8])
        if found is None:
            continue
        try:
            values = read(found.group(1) or "")
        except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError):
            return {}, text[found.end() :]
        if isinstance(values, dict):
            return {str(key): value for key, value in values.items()}, text[found.end() :]
        return {}, text if values is not None else text[found.end() :]
    return {}, text


def first_heading(text: str) -> str:
    """The text of the first heading of level 1, or of the first heading where there is none; code is passed over."""
    fence = ""
    before = ""
    first = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark.group(1)[0] == fence[0] and len(mark.group(1)) >= len(fence):
                fence = ""
            continue
        if mark:
            fence = mark.group(1)
            continue
        found = _ATX.match(line)
        heading = found.group(2) if found else before if before and _SETEXT.match(line) else ""
        if heading:
            shown = plain(_MARKUP.sub(lambda part: part.group(1) or "", heading))[:300]
            if (found and found.group(1) == "#") or (not found and line.lstrip().startswith("=")):
                return shown
            first = first or shown
        before = line.strip() if not found else ""
    return first


def _without_comments(text: str) -> str:
    """The text without HTML comments, but those in code."""
    if "<!--" not in text:
        return text
    parts: list[str] = []
    prose: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            parts.append(line)
            if mark and mark.group(1).startswith(fence) and not line.strip(" \t\n`~"):
                fence = ""
        elif mark and not _open_comment(prose):
            parts.extend((_strip_comments("".join(prose)), line))
            prose = []
            fence = mark.group(1)
        else:
            prose.append(line)
    return "".join([*parts, _strip_comments("".join(prose))])


def _open_comment(lines: list[str]) -> bool:
    """Whether these lines end inside a comment; the last that says anything of it decides."""
    for line in reversed(lines[-200:]):
        opened, closed = line.rfind("<!--"), line.rfind("-->")
        if opened >= 0 or closed >= 0:
            return opened > closed
    return False


def _strip_comments(prose: str) -> str:
    """By hand, for a pattern that looks for each comment's end takes the square of the time where there is none."""
    kept: list[str] = []
    at = 0
    while found := _CODE_OR_COMMENT.search(prose, at):
        kept.append(prose[at : found.start()])
        if found.group() == "<!--":
            end = prose.find("-->", found.end())
            if end < 0:
                at = found.start()
                break
            at = end + 3
        else:
            kept.append(found.group())
            at = found.end()
    return "".join([*kept, prose[at:]])


def _text(value: object) -> str:
    """A value as a line of text: names of a list, the name of an object."""
    if isinstance(value, list):
        return ", ".join(filter(None, (_text(each) for each in value[:20] if not isinstance(each, list))))
    if isinstance(value, dict):
        named = value.get("name")
        return plain(named)[:300] if isinstance(named, str) else ""
    return plain(str(value))[:300] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def _date(front: dict[str, object], *names: str) -> str | None:
    for name in names:
        value = front.get(name)
        if isinstance(value, (date, datetime)):
            return iso_date(value.isoformat())
        if isinstance(value, str) and (found := iso_date(value)):
            return found
    return None


def _address(front: dict[str, object], *names: str) -> str | None:
    for name in names:
        value = front.get(name)
        if isinstance(value, str) and re.match(r"https?://[^\s/]+", value):
            return value
    return None
