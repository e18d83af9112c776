"""A page's bytes made a tree of bounded size and depth, in which every text stands in a block of its own.

Comes in: HTML as text. Goes out: an lxml tree, and its blocks in reading order. Does not know: which blocks matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import lxml.html
from lxml import etree
from lxml.html import HtmlElement as Element

from services.crawler.extract.limits import ExtractLimits
from services.errors import TooLarge, Unprocessable

DEPTH = 250
"""Levels of nesting that are kept: real pages have 20 to 60, and the libraries' own recursion ends near 1,000."""

CONTAINERS = frozenset(
    str.split(
        "body main article section div header footer aside nav figure blockquote ul ol dl li dd details fieldset form "
        "center address hgroup table thead tbody tfoot tr td th caption menu summary search"
    )
)
LEAVES = frozenset(str.split("p h1 h2 h3 h4 h5 h6 pre dt figcaption hr legend"))
BLOCKS = CONTAINERS | LEAVES
HEADINGS = frozenset(str.split("h1 h2 h3 h4 h5 h6"))
INVISIBLE = frozenset(
    str.split(
        "script style noscript template iframe frame frameset noframes object embed applet canvas audio video source "
        "track "
        "map area head link meta base title button input select option optgroup textarea datalist output progress "
        "meter "
        "dialog svg"
    )
)

_OF_HEAD = frozenset(str.split("base basefont bgsound link meta noframes noscript script style template title"))

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]*+)[^<>]*+>")
_PLAIN = LEAVES | frozenset(str.split("html head title meta link body li code br script style"))
_STRUCTURE = _PLAIN | frozenset(
    str.split("blockquote ul ol dl dd table thead tbody tr td th caption figure nav aside a")
)
"""What a page keeps of its markup that nests beyond all measure: structure at first, then blocks of text alone."""
_CONTROL = re.compile("[\xad\u200b\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>", re.IGNORECASE)
_HIDDEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)


def clean_characters(text: str) -> str:
    """Without NULs, soft hyphens, other characters that nobody sees and lone surrogates; line ends as \\n."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def parse(text: str, limits: ExtractLimits) -> Element:
    """The page's root element. Raises TooLarge, and Unprocessable where there is no element in it."""
    text = _DECLARATION.sub("", clean_characters(text))
    if not text.strip():
        raise Unprocessable("The page is empty: there is nothing to bring in.")
    if text.count("<") > limits.html_elements * 4:
        raise TooLarge(f"The page has more than {limits.html_elements:,} elements: bring in a smaller part of it.")
    parser = lxml.html.HTMLParser(huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        root = lxml.html.document_fromstring(text, parser=parser)
        # Past a depth of its own the parser drops all that follows: take wrappers away in the source, and try again.
        for kept in (_STRUCTURE, _PLAIN):
            if not any("depth" in entry.message for entry in parser.error_log):
                break
            text = _with_tags(text, kept)
            parser = lxml.html.HTMLParser(huge_tree=True, remove_comments=True, remove_pis=True)
            root = lxml.html.document_fromstring(text, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as error:
        raise Unprocessable("The page holds no HTML that can be read.") from error
    if sum(1 for _ in root.iter()) > limits.html_elements:
        raise TooLarge(f"The page has more than {limits.html_elements:,} elements: bring in a smaller part of it.")
    _start_body(root)
    _flatten(root)
    return root


def _start_body(root: Element) -> None:
    """Put what the parser, which knows the elements of HTML 4 alone, has left in the head into the body: a page may
    leave out the tags of both, and then an `article` is where its body starts."""
    head = root.find("head")
    stray = [] if head is None else [each for each in head if isinstance(each.tag, str) and each.tag not in _OF_HEAD]
    if head is None or not stray:
        return
    body = root.find("body")
    if body is None:
        body = etree.SubElement(root, "body")
    # Text that began the body stands behind them.
    stray[-1].tail = f"{stray[-1].tail or ''}{body.text or ''}"
    body.text = None
    body[:0] = stray


def _with_tags(text: str, kept: frozenset[str]) -> str:
    """The source with these elements' tags alone."""
    return _TAG.sub(lambda found: found[0] if found[2].lower() in kept else " ", text)


def _flatten(root: Element) -> None:
    """Lift what lies below DEPTH to that level, in reading order."""
    pending: list[tuple[Element, int]] = [(root, 0)]
    deep: list[Element] = []
    while pending:
        element, depth = pending.pop()
        if depth >= DEPTH:
            deep.append(element)
            continue
        pending.extend((child, depth + 1) for child in element)
    for element in deep:
        parts = [part for part in element.itertext() if part.strip()]
        for child in list(element):
            element.remove(child)
        element.text = " ".join(parts)


def hidden(element: Element) -> bool:
    """Whether the page itself says that a reader is not to see it."""
    if element.get("hidden") is not None and element.get("hidden") != "until-found":
        return True
    style = element.get("style")
    return style is not None and _HIDDEN_STYLE.search(style) is not None


def text_of(element: Element) -> str:
    """The element's text with its white space folded."""
    return " ".join("".join(element.itertext()).split())


def remove(element: Element) -> None:
    """Take the element out; the text behind it stays."""
    if element.getparent() is not None:
        element.drop_tree()


def is_data_table(table: Element) -> bool:
    """Whether a table tabulates, rather than lays the page out."""
    if table.get("role") in ("presentation", "none") or table.find(".//table") is not None:
        return False
    rows = list(table.iter("tr"))
    width = max((sum(1 for cell in row if cell.tag in ("td", "th")) for row in rows), default=0)
    if width < 2 or len(rows) < 2:
        return False
    if any(True for _ in table.iter("h1", "h2", "h3", "pre", "form", "article", "section")):
        return False
    cells = list(table.iter("td", "th"))
    lengths = sorted(len(text_of(cell)) for cell in cells)
    return bool(lengths) and lengths[-1] <= 1500 and lengths[len(lengths) // 2] <= 200


def separate(body: Element) -> list[Element]:
    """Give every run of text that stands beside blocks a paragraph of its own; the leaves in reading order.

    A leaf holds text and inline elements only, or is a `pre` or a table of data, taken whole.
    """
    whole: set[Element] = set()
    inside: set[Element] = set()
    for element in body.iter("pre", "table"):
        if element in inside:
            continue
        if element.tag == "pre" or is_data_table(element):
            whole.add(element)
            inside.update(element.iterdescendants())
    order = [element for element in body.iter() if isinstance(element.tag, str) and element not in inside]
    blocky: set[Element] = set()
    for element in reversed(order):
        if element in whole or element.tag in BLOCKS or any(child in blocky for child in element):
            blocky.add(element)
    for element in order:
        if element in blocky and element not in whole and any(child in blocky for child in element):
            _wrap_runs(element, blocky)
    return list(_leaves(body, blocky, whole))


def _wrap_runs(element: Element, blocky: set[Element]) -> None:
    """Put the inline runs among a container's blocks into paragraphs."""
    children = list(element)
    run: Element | None = None
    if element.text and element.text.strip():
        run = etree.SubElement(element, "p")
        run.text = element.text
        element.text = None
        element.insert(0, run)
    for child in children:
        tail, child.tail = child.tail, None
        if child in blocky:
            run = None
            if tail and tail.strip():
                run = lxml.html.Element("p")
                run.text = tail
                child.addnext(run)
        else:
            if run is None:
                run = lxml.html.Element("p")
                child.addprevious(run)
            run.append(child)
            child.tail = tail


def _leaves(body: Element, blocky: set[Element], whole: set[Element]) -> Iterator[Element]:
    pending = [body]
    while pending:
        element = pending.pop()
        if element not in whole and any(child in blocky for child in element):
            pending.extend(reversed(element))
        elif (
            element.tag == "hr" or element in whole or next((part for part in element.itertext() if part.strip()), None)
        ):
            yield element
