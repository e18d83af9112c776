"""The blocks that a Markdown text is made of: headings, paragraphs, lists, tables and code, as spans of it.

Comes in: a text whose lines end in "\\n". Goes out: spans in code points that tile it. Does not know: tokens, chunks,
documents.

A scanner of lines, linear in the text and without recursion, for it meets ten megabytes of whatever people wrote: a
grammar's finer points (what a fence in a quotation in a list is) decide nothing here, where a chunk may end does.
Follows CommonMark 0.31 and GFM's tables, but for two things: a fence that is never closed is no fence (a careless
crawler's cut-off would make code of the rest of the document), and MediaWiki's headings (`== History ==`) count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"[^\S\n]*(?:[-*+>][^\S\n]+|\d{1,9}[.)][^\S\n]+)?(`{3,}|~{3,})([^\n]*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_CLOSING_HASHES = re.compile(r"(?:^|[ \t]+)#+$")
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-{2,})[ \t]*$")
_WIKI = re.compile(r" ?((?:=[ ]?){1,6})([^=].*?)((?:[ ]?=){1,6}) ?$")
_ITEM = re.compile(r"([ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]+\S")
LONGEST_HEADING = 300
"""Characters: a longer line that begins with # is text."""


@dataclass(frozen=True, slots=True)
class Block:
    start: int
    end: int
    """Behind the newline of the last line; white lines belong to no block."""
    kind: str
    """heading, prose, list, table or code."""
    level: int = 0
    """Of a heading, 1 to 6."""
    title: str = ""
    """A heading's words."""
    item: bool = False
    """list: begins a new item of the outermost level."""


def width(line: str) -> int:
    """Columns of white space before the text; a tab is four."""
    columns = 0
    for character in line:
        if character == " ":
            columns += 1
        elif character == "\t":
            columns += 4 - columns % 4
        else:
            break
    return columns


def fences(lines: Sequence[str]) -> dict[int, int]:
    """First line → last line of each fenced block, both with its fence."""
    marks: list[tuple[int, str, bool]] = []
    for number, line in enumerate(lines):
        if ("```" in line or "~~~" in line) and (found := _FENCE.match(line)):
            mark, info = found[1], found[2]
            if mark[0] == "`" and "`" in info:
                continue  # ```inline```
            closes = not info.strip() and not line[: found.start(1)].strip()
            marks.append((number, mark, closes))
    # The longest closing mark of each kind from here to the end: an opening one above it stays open, known at once.
    longest = {"`": 0, "~": 0}
    ahead: list[dict[str, int]] = [{}] * len(marks)
    for place in range(len(marks) - 1, -1, -1):
        ahead[place] = dict(longest)
        _, mark, closes = marks[place]
        if closes:
            longest[mark[0]] = max(longest[mark[0]], len(mark))
    found_blocks: dict[int, int] = {}
    place = 0
    while place < len(marks):
        first, mark, _ = marks[place]
        if ahead[place][mark[0]] < len(mark):
            place += 1
            continue
        place += 1
        while not (marks[place][2] and marks[place][1][0] == mark[0] and len(marks[place][1]) >= len(mark)):
            place += 1
        found_blocks[first] = marks[place][0]
        place += 1
    return found_blocks


def heading(line: str) -> tuple[int, str] | None:
    """(level, words) of a line that is a heading by itself."""
    if len(line) > LONGEST_HEADING or ("#" not in line and "=" not in line):
        return None
    if found := _ATX.match(line):
        return len(found[1]), _CLOSING_HASHES.sub("", (found[2] or "").strip()).strip()
    if found := _WIKI.match(line):
        opening, closing = found[1].count("="), found[3].count("=")
        if opening == closing and (words := found[2].strip()):
            return opening, words
    return None


def _table_rule(line: str) -> bool:
    """Whether this is the |---|:--| row below a table's header."""
    return "|" in line and "-" in line and not line.strip("|:- \t")


def blocks(text: str) -> list[Block]:
    """In order; together they hold every character of the text that is not white space."""
    lines = text.split("\n")
    starts: list[int] = []
    at = 0
    for line in lines:
        starts.append(at)
        at += len(line) + 1
    starts.append(len(text))
    fenced = fences(lines)
    found: list[Block] = []
    number = 0
    outermost = -1
    """Indentation of the list that the next line may belong to; -1: in none."""

    def add(first: int, end: int, kind: str, level: int = 0, title: str = "", item: bool = False) -> None:
        found.append(Block(starts[first], min(starts[end], len(text)), kind, level, title, item))

    def ends_paragraph(number: int) -> bool:
        line = lines[number]
        return (
            not line
            or line.isspace()
            or number in fenced
            or heading(line) is not None
            or _ITEM.match(line) is not None
            or (number + 1 < len(lines) and "|" in line and _table_rule(lines[number + 1]))
        )

    while number < len(lines):
        line = lines[number]
        first = number
        if not line or line.isspace():
            number += 1
        elif number in fenced:
            number = fenced[number] + 1
            add(first, number, "code")
        elif (words := heading(line)) is not None:
            outermost = -1
            number += 1
            add(first, number, "heading", *words)
        elif number + 1 < len(lines) and "|" in line and _table_rule(lines[number + 1]):
            number += 2
            while number < len(lines) and "|" in lines[number] and number not in fenced:
                number += 1
            add(first, number, "table")
        elif item := _ITEM.match(line):
            depth = width(item[1])
            begins = outermost < 0 or depth <= outermost + 1
            if begins:
                outermost = depth
            number += 1
            while number < len(lines) and not ends_paragraph(number):
                number += 1
            add(first, number, "list", item=begins)
        elif outermost >= 0 and width(line) > outermost:
            # A further paragraph of a list's item.
            number += 1
            while number < len(lines) and not ends_paragraph(number):
                number += 1
            add(first, number, "list")
        elif width(line) >= 4:
            # Indented code; white lines inside belong to it.
            outermost = -1
            last = number
            while number < len(lines) and number not in fenced:
                if lines[number].strip():
                    if width(lines[number]) < 4:
                        break
                    last = number
                number += 1
            number = last + 1
            add(first, number, "code")
        else:
            outermost = -1
            number += 1
            underline = _UNDERLINE.match(lines[number]) if number < len(lines) else None
            if underline and len(line) <= LONGEST_HEADING:
                number += 1
                add(first, number, "heading", 1 if underline[1] else 2, line.strip())
                continue
            while number < len(lines) and not ends_paragraph(number):
                number += 1
            add(first, number, "prose")
    return found
