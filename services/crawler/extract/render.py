"""A tree written as Markdown that CommonMark (with tables) reads back as the same structure.

Comes in: an lxml tree and which of its leaves are wanted. Goes out: Markdown. Does not know: pages, main text.

Emphasis is left out: it splits words for those who search and quote. Same-site links keep their text alone: they are a
site's navigation far more often than its evidence. Images are left out, so that nothing calls out when it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from lxml.html import HtmlElement as Element

from services.crawler.extract.tree import BLOCKS, HEADINGS, is_data_table, text_of

NESTING = 8
"""Lists and quotations inside one another; deeper ones are written flat, for parsers stop at some depth (CommonMark's
usual implementations at 20 to 100)."""
TABLE_COLUMNS = 100

_PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_ESCAPES = re.compile(
    rf"\\(?=[{_PUNCTUATION}])"  # would escape what follows
    r"|`"
    r"|(?<![ ])\*|\*(?![ ])"  # no emphasis can open or close at a * between spaces
    r"|(?<![^\W_])_|_(?![^\W_])"  # nor at a _ inside a word
    r"|<(?=[a-zA-Z/!?])"
    r"|&(?=#?\w{1,32};)"
    r"|\](?=[(\[:])"
    r"|~(?=~)|(?<=~)~"
)
_LINE_START = re.compile(
    r"^(?:"
    r"(?P<bullet>[-+*](?=\s|$))|(?P<heading>#{1,6}(?=\s|$))|(?P<quote>>)|(?P<number>\d{1,9})(?=[.)](?:\s|$))"
    r"|(?P<rule>[-=_*](?=[-=_* ]*$))|(?P<delimiter>[|:-](?=[|:\- ]*$))|(?P<fence>~(?=~~))"
    r")"
)
_TRACKING = re.compile(r"^(?:utm_|fbclid$|gclid$|mc_cid$|mc_eid$|ref_src$|source$)")
_CODE_CLASS = re.compile(
    r"(?:^|\s)(?:language|lang|highlight(?:-source|-text)?|brush:?|code|src|source|prettyprint\s+lang)[-: ]\s*"
    r"([a-zA-Z][\w+#.-]*)",
    re.IGNORECASE,
)
_LANGUAGES = frozenset(
    str.split(
        "bash sh shell console powershell python py pycon python3 javascript js typescript ts jsx tsx json yaml yml "
        "toml ini "
        "html xml css scss sql java kotlin scala groovy go golang rust c cpp c++ csharp cs swift objectivec ruby rb "
        "php perl r "
        "julia lua haskell elixir erlang clojure dart dockerfile makefile cmake nginx diff graphql protobuf latex tex "
        "markdown md http vim matlab fortran terraform hcl zig nim ocaml fsharp"
    )
)
_NO_LANGUAGE = frozenset(
    str.split("none plain plaintext text txt default wrapper block container highlighter nohighlight auto snippet")
)


def escape(text: str) -> str:
    """Text, its white space folded, so that Markdown reads it as it is (but for the start of a line)."""
    return _ESCAPES.sub(lambda found: "\\" + found.group(), text)


def escape_line(line: str) -> str:
    """An escaped line that is to begin as text."""
    found = _LINE_START.match(line)
    if found is None:
        return line
    if found["number"]:
        return found["number"] + "\\" + line[len(found["number"]) :]
    return "\\" + line


def paragraph(text: str) -> str:
    """Escaped text as a paragraph's lines; an empty line in it begins another paragraph."""
    lines = [escape_line(" ".join(line.split())) for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def fenced(code: str, language: str = "") -> str:
    """A block of code, as it stands, in a fence longer than any inside."""
    code = code.rstrip()
    runs = [len(run) for run in re.findall(r"^[ ]{0,3}(`{3,})", code, re.MULTILINE)]
    fence = "`" * max([3, *(run + 1 for run in runs)])
    return f"{fence}{language}\n{code}\n{fence}"


@dataclass(frozen=True, slots=True)
class _Markdown:
    """What is written already, and not to be escaped."""

    text: str


_BREAK = "\x00"
"""A line break of the page's, in text that has no control characters."""


class Writer:
    """Writes one tree. `base` is the page's address, against which its links are resolved."""

    def __init__(self, base: str, wanted: Callable[[Element], bool]) -> None:
        self._base = base
        self._host = _site(base)
        self._wanted = wanted

    def write(self, root: Element) -> str:
        return "\n\n".join(self._blocks(root, 0)).strip()

    # Blocks ────────────────────────────────────────────────────────────────────────────────────────

    def _blocks(self, element: Element, nesting: int) -> list[str]:
        """The wanted blocks in an element, one string each."""
        if self._wanted(element):
            written = self._leaf(element)
            return [written] if written else []
        written_blocks: list[str] = []
        items: list[list[str]] = []
        last_list = ""
        for child in element:
            if not isinstance(child.tag, str):
                continue
            if child.tag in ("ul", "ol", "li") and nesting < NESTING:
                if child.tag == "li":
                    item = self._blocks(child, nesting + 1)
                    if item:
                        items.append(item)
                    continue
                if items:
                    written_blocks.append(_list(items, "-" if last_list != "-" else "*", None))
                    items = []
                marker = ("-" if last_list != "-" else "*") if child.tag == "ul" else ("." if last_list != "." else ")")
                listed = self._list(child, nesting, marker)
                if listed:
                    written_blocks.append(listed)
                    last_list = marker
                continue
            if items:
                written_blocks.append(_list(items, "-" if last_list != "-" else "*", None))
                items = []
            found = self._quote(child, nesting) if child.tag == "blockquote" else self._blocks(child, nesting)
            if found:
                last_list = ""
            written_blocks.extend(found)
        if items:
            written_blocks.append(_list(items, "-" if last_list != "-" else "*", None))
        return written_blocks

    def _quote(self, element: Element, nesting: int) -> list[str]:
        inner = self._blocks(element, nesting + 1)
        if not inner or nesting >= NESTING:
            return inner
        quoted = "\n\n".join(inner)
        return ["\n".join(f"> {line}".rstrip() for line in quoted.split("\n"))]

    def _list(self, element: Element, nesting: int, marker: str) -> str:
        items: list[list[str]] = []
        for child in element:
            if not isinstance(child.tag, str):
                continue
            found = self._blocks(child, nesting + 1)
            if not found:
                continue
            if child.tag in ("ul", "ol"):
                # A list directly in a list is meant for the item before it.
                inner = self._list(child, nesting + 1, "-") if nesting + 1 < NESTING else "\n\n".join(found)
                if items:
                    items[-1].append(inner)
                else:
                    items.append([inner])
            else:
                items.append(found)
        start = element.get("start") or ""
        return _list(items, marker, int(start) if re.fullmatch(r"\d{1,8}", start) else None)

    def _leaf(self, leaf: Element) -> str:
        if leaf.tag == "pre":
            code = code_text(leaf)
            return fenced(code, code_language(leaf)) if code.strip() else ""
        if leaf.tag == "table" and is_data_table(leaf):
            return self._table(leaf)
        if leaf.tag == "hr":
            return ""
        if leaf.tag in HEADINGS:
            text = " ".join(self._inline(leaf, links=False).split()).strip(" ¶#§🔗")
            return f"{'#' * int(leaf.tag[1])} {text}" if text else ""
        text = paragraph(self._inline(leaf, links=True))
        if leaf.tag == "blockquote" and text:
            return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
        return text

    def _table(self, table: Element) -> str:
        rows: list[list[str]] = []
        for row in table.iter("tr"):
            cells: list[str] = []
            for cell in row:
                if cell.tag not in ("td", "th") or len(cells) >= TABLE_COLUMNS:
                    continue
                text = " ".join(self._inline(cell, links=True).split())
                cells.append(text.replace("|", "\\|"))
                span = cell.get("colspan") or "1"
                cells.extend(
                    [""] * (min(int(span), TABLE_COLUMNS - len(cells)) - 1 if re.fullmatch(r"\d{1,3}", span) else 0)
                )
            if any(cells):
                rows.append(cells)
        if not rows:
            return ""
        width = max(len(row) for row in rows)
        lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in rows]
        written = "\n".join([lines[0], f"|{' --- |' * width}", *lines[1:]])
        caption = table.find("caption")
        if caption is not None and text_of(caption):
            written = f"{paragraph(self._inline(caption, links=False))}\n\n{written}"
        return written

    # Inline ────────────────────────────────────────────────────────────────────────────────────────

    def _inline(self, element: Element, *, links: bool) -> str:
        """The element's text, escaped; with \\n where the page breaks a line."""
        written: list[str] = []
        text = ""
        for piece in [*self._pieces(element, links=links), None]:
            if isinstance(piece, str):
                text += piece
                continue
            # Text is escaped in whole runs: what a character does depends on its neighbours.
            escaped = "\n".join(escape(_fold(line)) for line in text.split(_BREAK))
            if piece is not None and ((escaped.endswith("!") and piece.text.startswith("[")) or text.endswith("\\")):
                escaped = f"{escaped[:-1]}\\{escaped[-1]}"
            written.append(escaped)
            text = ""
            if piece is not None:
                written.append(piece.text)
        return "".join(written)

    def _pieces(self, element: Element, *, links: bool) -> Iterator[str | _Markdown]:
        """The element's content in order: text to be escaped, and what is Markdown already."""
        if element.text:
            yield element.text
        for child in element:
            if isinstance(child.tag, str):
                yield from self._child(child, links=links)
            if child.tail:
                yield child.tail

    def _child(self, child: Element, *, links: bool) -> Iterator[str | _Markdown]:
        tag = child.tag
        if tag == "br":
            yield _BREAK
        elif tag in ("code", "kbd", "samp", "tt"):
            yield _Markdown(_code_span("".join(child.itertext())))
        elif tag == "q":
            yield "“"
            yield from self._pieces(child, links=links)
            yield "”"
        elif tag == "a":
            yield from self._link(child, links=links)
        elif tag in BLOCKS:
            yield " "
            yield from self._pieces(child, links=links)
            yield " "
        elif tag not in ("img", "wbr"):
            yield from self._pieces(child, links=links)

    def _link(self, anchor: Element, *, links: bool) -> Iterator[str | _Markdown]:
        href = (anchor.get("href") or "").strip()
        shown = text_of(anchor)
        if href.startswith("#") and re.fullmatch(r"\W*\d{0,3}\W*", shown):
            return  # a footnote's mark, or the sign that names a heading's address
        address = self._address(href) if links else ""
        if not address or not shown or _looks_like_address(shown, address):
            yield from self._pieces(anchor, links=False)
            return
        label = " ".join(self._inline(anchor, links=False).split())
        label = re.sub(r"(?<!\\)([\[\]])", r"\\\1", label)
        content = "".join(anchor.itertext())
        yield " " if content[:1].isspace() else ""
        yield _Markdown(f"[{label}]({address})")
        yield " " if content[-1:].isspace() else ""

    def _address(self, href: str) -> str:
        """Where a link to another site leads, without tracking; empty for all other links."""
        try:
            parts = urlsplit(urljoin(self._base, href))
            host = parts.hostname
        except ValueError:
            return ""
        if parts.scheme not in ("http", "https") or not host or _site(parts.geturl()) == self._host:
            return ""
        if any(_TRACKING.match(name) for name, _ in parse_qsl(parts.query)):
            kept = [(name, value) for name, value in parse_qsl(parts.query) if not _TRACKING.match(name)]
            parts = parts._replace(query=urlencode(kept))
        if len(parts.geturl()) > 500:
            return ""
        return re.sub(r"[\s()<>\\`*\[\]]", lambda found: quote(found.group(), safe=""), parts.geturl())


def _list(items: list[list[str]], marker: str, start: int | None) -> str:
    """Items of blocks as a list: close together where each is a paragraph, perhaps with a list under it.

    A numbered list that begins elsewhere than at 1 needs an empty line before it.
    """
    if not items:
        return ""
    written: list[str] = []
    close = all(len(item) == 1 or (len(item) == 2 and re.match(r"(?:[-*]|1[.)]) ", item[1])) for item in items)
    close = close and not any("\n\n" in block for item in items for block in item[:1])
    number = 1 if start is None else start
    for item in items:
        lead = f"{marker} " if marker in "-*" else f"{number}{marker} "
        number += 1
        body = ("\n" if close else "\n\n").join(item)
        indent = " " * len(lead)
        lines = body.split("\n")
        written.append("\n".join([lead + lines[0], *(indent + line if line else "" for line in lines[1:])]))
    return ("\n" if close else "\n\n").join(written)


def _fold(text: str) -> str:
    """White space of any kind and length as one space."""
    return re.sub(r"\s+", " ", text)


def _code_span(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        return ""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _site(url: str) -> str:
    """A host without its first www."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def _looks_like_address(text: str, address: str) -> bool:
    bare = re.sub(r"^https?://(?:www\.)?|\\|/$|…$|\.\.\.$", "", text.strip())
    return " " not in bare and "." in bare and bare[:20].lower() in address.lower()


# ── Code ────────────────────────────────────────────────────────────────────────────────────────────


def code_text(pre: Element) -> str:
    """A block's code with its white space, a line of its own for what the page sets as one."""
    parts: list[str] = []
    pending: list[Element | str] = [pre]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            parts.append(each)
            continue
        if each.tag == "br":
            parts.append("\n")
            continue
        if each.tag in ("div", "p", "li", "tr") and parts and not parts[-1].endswith("\n"):
            parts.append("\n")
        after: list[Element | str] = [each.text or ""]
        for child in each:
            if isinstance(child.tag, str):
                after.append(child)
            after.append(child.tail or "")
        pending.extend(reversed([each for each in after if not isinstance(each, str) or each]))
    code = "".join(parts).replace("\xa0", " ")
    lines = [line.rstrip() for line in code.split("\n")]
    return "\n".join(lines).strip("\n")


def code_language(pre: Element) -> str:
    """The language that a block's classes name, as sites and highlighters write it; empty where none does."""
    chain = [*islice(pre.iter("code"), 1), pre]
    parent = pre.getparent()
    own = [*chain, parent]
    for _ in range(7):
        if parent is None or parent.tag in ("body", "article", "main"):
            break
        chain.append(parent)
        parent = parent.getparent()
    for element in chain:
        for attribute in ("data-lang", "data-language", "data-code-language", "lang"):
            value = (element.get(attribute) or "").lower()
            if value in _LANGUAGES:
                return value
        classes = element.get("class") or ""
        for found in _CODE_CLASS.finditer(classes):
            language = found.group(1).lower().rstrip(";.")
            if language not in _NO_LANGUAGE and len(language) <= 20:
                return language
        for name in classes.lower().split():
            if name in _LANGUAGES and element in own:
                return name
    return ""
