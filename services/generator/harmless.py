"""Markdown that makes no machine call out: what an answer shows of a passage's or an engine's text.

Comes in: text, whole or in pieces as an engine makes it. Goes out: the same text in which images are their description,
links their words, HTML tags and bare addresses code spans, and citation marks only numbers of passages that were given.
Does not know: sentences, passages' texts, who wrote the text.

While streaming it holds back one open construct at a time, at most to the end of its line; the result does not depend
on how the text was cut. What it passes untouched stands in a fenced block that begins at the first column (a list or
a quotation around it cannot end it early) or in a code span within one line. No link definition survives, so brackets
that are left are only brackets.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_OPENER = re.compile(r"!\[|\[|<|`+|【|\\|(?i:https?://|ftp://|www\.)")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^`\n]*)$")
_COULD_BE_FENCE = re.compile(r"[ \t]*(?:`{0,2}|~{0,2}|(?:`{3,}|~{3,})[^\n]*)$")
_MARK = re.compile(r"\s*\^?(\d{1,3})(?:\s*([,;–-])\s*\^?(\d{1,3}))*\s*$")
_LENTICULAR = re.compile(r"\s*\d{1,3}\s*(?:[†:].*)?$")
_NUMBER = re.compile(r"\d{1,3}")
_ADDRESS = re.compile(r"[^\s<>`\"'\[\])}|*\\]+")
_COULD_BE_ADDRESS = re.compile(r"(?i)(?:h|ht|htt|https?|https?:|https?:/|f|ft|ftp|ftp:|ftp:/|w|ww|www)$")
_WAIT = None


def harmless(text: str, citable: Collection[int] = (), addresses: Collection[str] = ()) -> str:
    """The whole text at once."""
    settling = Settling(citable, addresses)
    return settling.feed(text) + settling.end()


def label(text: str) -> str:
    """A title or heading as one line of plain words, safe inside bold text and brackets."""
    plain = harmless(" ".join(text.replace("`", "'").replace("~", "-").split())).replace("`", "")
    return re.sub(r"\\.|[*_~#|\[\]<]", lambda found: found[0] if len(found[0]) == 2 else f"\\{found[0]}", plain)


class Settling:
    """A text that grows. `citable`: numbers that marks may name; `addresses`: those that may stay links."""

    def __init__(self, citable: Collection[int] = (), addresses: Collection[str] = ()) -> None:
        self._citable = frozenset(citable)
        self._addresses = frozenset(each for each in addresses if each.startswith(("http://", "https://")))
        self._pending = ""
        self._return = ""
        """A carriage return whose line feed may come yet."""
        self._fence = ""
        self._line_start = True
        self._space = ""
        self._last = ""
        self._ended = False

    def feed(self, piece: str) -> str:
        """What is settled by now and was not given yet."""
        piece = self._return + piece
        self._return = "\r" if piece.endswith("\r") and not self._ended else ""
        whole = piece.removesuffix(self._return) if self._return else piece
        self._pending += whole.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
        out: list[str] = []
        while self._pending:
            taken = self._fenced() if self._fence else self._step()
            if taken is _WAIT:
                break
            length, text = taken
            consumed, self._pending = self._pending[:length], self._pending[length:]
            self._line_start = consumed.endswith("\n")
            out.append(self._emit(text))
        return "".join(out)

    def end(self) -> str:
        """What was held back; an open code block is closed."""
        self._ended = True
        out = self.feed("")
        if self._fence:
            out += ("" if self._last == "\n" or (out and out[-1] == "\n") else "\n") + self._fence
            self._fence = ""
        return out + (self._space if not out.endswith("\n") and "\n" in self._space else "")

    def _emit(self, text: str) -> str:
        """Spaces wait for what follows, for a mark that is dropped takes them along; two code spans never
        touch, no backslash stands before one, and no bracket opens a link's address or a definition."""
        if not text:
            return ""
        body = text.rstrip(" ")
        if not body:
            self._space += text
            return ""
        if self._last in ("`", "\\") and not self._space and body[0] == "`" and not self._fence:
            self._space = " "
        if self._last == "]" and not self._space and body[0] in ":(" and not self._fence:
            self._space = " "
        if self._last == "<" and not self._space and (body[0].isalpha() or body[0] in "/!?") and not self._fence:
            self._space = " "  # what stood between, a dropped mark, kept it from being a tag
        given = self._space + body
        self._space = text[len(body) :]
        self._last = "" if body == "\\<" else given[-1]
        return given

    def _fenced(self) -> tuple[int, str] | None:
        line, newline, _ = self._pending.partition("\n")
        closing = line.strip()
        if newline or self._ended:
            if self._line_start and closing.startswith(self._fence) and not closing.strip(self._fence[0]):
                self._fence = ""
                return len(line) + len(newline), closing + newline
            return len(line) + len(newline), line + newline
        if self._line_start and not closing.strip("`~"):
            return _WAIT
        return len(line), line

    def _step(self) -> tuple[int, str] | None:
        text = self._pending
        if self._line_start:
            line, newline, _ = text.partition("\n")
            if not newline and not self._ended and _COULD_BE_FENCE.match(line):
                return _WAIT
            if opening := _FENCE.match(line):
                self._fence = opening[1]
                return len(line) + len(newline), f"{opening[1]}{_info(opening[2])}{newline or chr(10)}"
        opener = _OPENER.search(text)
        if opener is None:
            return self._plain(text)
        if opener.start() > 0:
            if "\n" in text[: opener.start()]:
                return self._plain(text)
            return opener.start(), _parted(text[: opener.start()])
        mark = opener.group()
        if mark == "\\":
            return self._escape(text)
        if mark.startswith("`"):
            return self._code(text)
        if mark == "<":
            return self._tag(text)
        if mark == "【":
            return self._lenticular(text)
        if mark in ("[", "!["):
            return self._bracket(text, len(mark) - 1)
        return self._address(text)

    def _plain(self, text: str) -> tuple[int, str] | None:
        if "\n" in text:
            end = text.index("\n") + 1
            return end, _parted(text[:end])
        if self._ended:
            return len(text), _parted(text)
        held = _COULD_BE_ADDRESS.search(text)
        length = held.start() if held else len(text) - text.endswith("!")
        return (length, _parted(text[:length])) if length else _WAIT

    def _escape(self, text: str) -> tuple[int, str] | None:
        if len(text) < 2:
            return (1, "\\\\") if self._ended else _WAIT
        if text[1] == "`":
            return 2, "'"
        if text[1] == "\n" or text[1].isalnum() or text[1].isspace() or not text[1].isascii():
            return 1, "\\"
        return 2, text[:2]

    def _line(self, text: str) -> tuple[str, bool]:
        """The rest of the line, and whether it is whole."""
        line, newline, _ = text.partition("\n")
        return line, bool(newline) or self._ended

    def _code(self, text: str) -> tuple[int, str] | None:
        line, whole = self._line(text)
        run = len(line) - len(line.lstrip("`"))
        if run == len(line) and not whole:
            return _WAIT
        closing = re.compile(rf"(?<!`)`{{{run}}}(?!`)").search(line, run)
        if closing is not None and (closing.end() < len(line) or whole):
            return closing.end(), text[: closing.end()]
        return (run, "'" * run) if whole else _WAIT

    def _tag(self, text: str) -> tuple[int, str] | None:
        line, whole = self._line(text)
        if len(line) < 2:
            return (1, "<") if whole else _WAIT
        if not (line[1].isalpha() or line[1] in "/!?"):
            return 1, "<"
        end = line.find(">")
        if end < 0:
            return (1, "\\<") if whole else _WAIT
        inside = line[1:end].replace("`", "'").strip()
        shown = inside if inside.startswith(("http:", "https:", "mailto:")) else f"<{inside}>"
        return end + 1, self._shown(shown)

    def _shown(self, address: str) -> str:
        return address if address in self._addresses else f"`{address}`"

    def _lenticular(self, text: str) -> tuple[int, str] | None:
        line, whole = self._line(text)
        end = line.find("】")
        if end < 0:
            return (1, "【") if whole else _WAIT
        inside = line[1:end]
        if not _LENTICULAR.match(inside):
            return 1, "【"
        return end + 1, self._cite([int(_NUMBER.findall(inside)[0])])

    def _bracket(self, text: str, bang: int) -> tuple[int, str] | None:
        line, whole = self._line(text)
        end = _closing(line, bang, "[", "]")
        if end < 0:
            return (1 + bang, "\\[") if whole else _WAIT
        if end + 1 == len(line) and not whole:
            return _WAIT
        inside = line[bang + 1 : end]
        after = line[end + 1 : end + 2]
        length = end + 1
        address = ""
        if after == "(":
            close = _closing(line, end + 1, "(", ")")
            if close < 0 and not whole:
                return _WAIT
            if close >= 0:
                length = close + 1
                address = line[end + 2 : close].strip().partition(" ")[0].strip("<>")
        if _MARK.match(inside) and not bang:
            return length, self._cite(_numbers(inside))
        words = harmless(inside)
        if after == "(":
            kept = address in self._addresses and not bang and "[" not in words
            return length, f"[{words}]({address})" if kept and length > end + 1 else words
        if bang:
            return length, words
        return length, f"[{words}]"

    def _cite(self, numbers: list[int]) -> str:
        kept = [number for number in dict.fromkeys(numbers) if number in self._citable]
        if not kept:
            self._space = ""
        return "".join(f"[{number}]" for number in kept)

    def _address(self, text: str) -> tuple[int, str] | None:
        line, whole = self._line(text)
        found = _ADDRESS.match(line)
        if found is None or (found.end() == len(line) and not whole):
            return _WAIT if found is not None else (1, text[0])
        address = found.group().rstrip(".,;:!?")
        return len(address), self._shown(address)


def _parted(plain: str) -> str:
    """Plain text whose brackets open no link's address and no definition."""
    return plain.replace("](", "] (").replace("]:", "] :")


def _info(info: str) -> str:
    """Of a code block: its language, and nothing else."""
    word = info.strip().partition(" ")[0]
    return word if re.fullmatch(r"[\w+#.-]{1,20}", word) else ""


def _numbers(inside: str) -> list[int]:
    """`1, 3-5` → 1, 3, 4, 5."""
    found: list[int] = []
    for part in re.split(r"[,;]", inside):
        ends = [int(each) for each in _NUMBER.findall(part)]
        found.extend(range(ends[0], min(ends[-1], ends[0] + 20) + 1))
    return found


def _closing(line: str, start: int, opening: str, closing: str) -> int:
    """Place of the bracket that closes the one at `start`; -1: none on this line."""
    depth = 0
    place = start
    while place < len(line):
        character = line[place]
        if character == "\\":
            place += 1
        elif character == opening:
            depth += 1
        elif character == closing:
            depth -= 1
            if depth == 0:
                return place
        place += 1
    return -1
