"""A PDF: its lines put together again as headings, paragraphs and lists.

Comes in: bytes. Goes out: Extracted. Does not know: where the file came from.

A PDF holds glyphs at places, no structure. Lines come from PDFium in the order in which they were set; size and weight
of the type tell headings, the distance between lines and their ends tell paragraphs, and lines that come back at the
edge of page after page are running headers and footers.
"""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from services.crawler.extract.encoding import normalize
from services.crawler.extract.language import language
from services.crawler.extract.limits import ExtractLimits
from services.crawler.extract.metadata import iso_date, plain
from services.crawler.extract.render import escape, escape_line
from services.domain import Extracted
from services.errors import TooLarge, Unprocessable

_LOCK = threading.Lock()
"""PDFium may be used by one thread of a process at a time; held for a page, not for a document."""
_EDGE = 3
"""Lines at the top and at the bottom of a page among which running headers and footers are looked for."""
_HEADING_LEVELS = 4
_HEADING_SIZE = 1.12
"""Of the body's size, from which a line is a heading."""
_BULLET = re.compile(r"^[•◦▪‣●○■□–·∙]\s*(?=\S)")
_NUMBERED = re.compile(r"^\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]\s+\S")
_PAGE_NUMBER = re.compile(
    r"^\W*(?:page|seite|p\.)?\s*(?:\d{1,4}|[ivxlc]{1,7})(?:\s*(?:/|of|von|sur|de)\s*\d{1,4})?\W*$", re.IGNORECASE
)
_DIVIDED = re.compile(r"[^\W\d_]{2}-$")
_SENTENCE_END = re.compile(r"[.!?:…][\"'”’»)\]]*$")
_SECTION = re.compile(
    r"^(?:\d{1,2}(?:\.\d{1,2}){0,3}\.?|[A-Z]\.|Chapter \d+|Kapitel \d+|Appendix [A-Z]|Anhang [A-Z])\s+\S"
)
_NO_TITLE = re.compile(
    r"^(?:untitled|unbenannt|title|slide \d+|microsoft (?:word|powerpoint)\b.*"
    r"|.*\.(?:docx?|pptx?|tex|pdf|indd|dvi|html?))$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    left: float
    right: float
    top: float
    bottom: float
    """Points from the page's lower left corner."""
    size: float
    bold: bool


def extract_pdf(data: bytes, *, name: str, limits: ExtractLimits) -> Extracted:
    if len(data) > limits.pdf_bytes:
        raise TooLarge(f"The PDF has {len(data):,} bytes, more than {limits.pdf_bytes:,}: split it.")
    pages, properties = _read(data, limits)
    if not any(pages):
        raise Unprocessable("The PDF holds no text, only images: run it through text recognition (OCR) first.")
    body = _body_size(pages)
    pages = _without_running_lines(pages, body)
    blocks = list(_blocks(pages, body))
    text = "\n\n".join(_joined(blocks))
    if not text.strip():
        raise Unprocessable("The PDF holds no text, only images: run it through text recognition (OCR) first.")
    title = plain(properties.get("Title", ""))[:300]
    if not title or _NO_TITLE.match(title):
        title = _largest(pages, body)
    return Extracted(
        text=text,
        title=title or name,
        byline=plain(properties.get("Author", ""))[:120],
        published=_date(properties.get("CreationDate", "")),
        modified=_date(properties.get("ModDate", "")),
        language=language(text),
        media_type="application/pdf",
    )


def _read(data: bytes, limits: ExtractLimits) -> tuple[list[list[_Line]], dict[str, str]]:
    """The lines of each page, and the document's properties."""
    ends_at = time.monotonic() + limits.seconds
    with _LOCK:
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) == pdfium.FPDF_ERR_PASSWORD or "password" in str(error).lower():
                raise Unprocessable("The PDF is encrypted: save it without a password.") from error
            raise Unprocessable("The PDF is broken: open it in a viewer and save or print it to PDF again.") from error
    try:
        with _LOCK:
            count = len(document)
            properties = {key: str(value) for key, value in document.get_metadata_dict().items()}
        if count == 0:
            raise Unprocessable("The PDF has no pages.")
        if count > limits.pdf_pages:
            raise TooLarge(f"The PDF has {count:,} pages, more than {limits.pdf_pages:,}: split it.")
        pages: list[list[_Line]] = []
        characters = 0
        for number in range(count):
            with _LOCK:
                try:
                    lines = _lines(document, number)
                except pypdfium2.PdfiumError:
                    lines = []  # one broken page does not take the others
            characters += sum(len(line.text) for line in lines)
            if characters > limits.characters:
                raise TooLarge(f"The PDF has more than {limits.characters:,} characters: split it.")
            if time.monotonic() > ends_at:
                raise TooLarge(
                    f"The PDF takes more than {limits.seconds:.0f} s to read (page {number + 1} of {count}): split it."
                )
            pages.append(lines)
        return pages, properties
    finally:
        with _LOCK:
            document.close()


def _lines(document: Any, number: int) -> list[_Line]:
    """The lines of a page in the order in which they were set."""
    page = document[number]
    text_page = page.get_textpage()
    try:
        raw = text_page.raw
        found: list[_Line] = []
        at = 0
        for piece in re.split("(\r\n|\r|\n)", text_page.get_text_range()):
            start, at = at, at + len(piece.encode("utf-16-le")) // 2
            text = " ".join(normalize(piece.replace("\x02", "\xad").replace("\ufffe", "\xad"), hyphens=True).split())
            if not text:
                continue
            leading = len(piece) - len(piece.lstrip())
            trailing = len(piece) - len(piece.rstrip("\x02\ufffe \t"))
            first = _box(raw, start + leading)
            last = _box(raw, max(at - 1 - trailing, start))
            middle = pdfium.FPDFText_GetCharIndexFromTextIndex(raw, (start + leading + at) // 2)
            if first is None or last is None:
                continue
            size = pdfium.FPDFText_GetFontSize(raw, middle)
            # The size of the type is before the page's own scaling: the loose box is what is seen.
            seen = _height(raw, middle) or size
            found.append(
                _Line(
                    text=text,
                    left=min(first[0], last[0]),
                    right=max(first[1], last[1]),
                    top=max(first[3], last[3]),
                    bottom=min(first[2], last[2]),
                    size=round(seen, 1),
                    bold=pdfium.FPDFText_GetFontWeight(raw, middle) >= 600 or _bold_font(raw, middle),
                )
            )
        return found
    finally:
        text_page.close()
        page.close()


def _box(raw: Any, text_index: int) -> tuple[float, float, float, float] | None:
    """(left, right, bottom, top) of a character."""
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(raw, text_index)
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    if index < 0 or not pdfium.FPDFText_GetCharBox(raw, index, left, right, bottom, top):
        return None
    return left.value, right.value, bottom.value, top.value


def _height(raw: Any, index: int) -> float:
    box = pdfium.FS_RECTF()
    if index < 0 or not pdfium.FPDFText_GetLooseCharBox(raw, index, box):
        return 0.0
    return abs(float(box.top) - float(box.bottom))


def _bold_font(raw: Any, index: int) -> bool:
    buffer = ctypes.create_string_buffer(64)
    flags = ctypes.c_int()
    length = pdfium.FPDFText_GetFontInfo(raw, index, buffer, 64, flags) if index >= 0 else 0
    return length > 0 and b"bold" in buffer.raw.lower()


def _without_running_lines(pages: Sequence[list[_Line]], body: float) -> list[list[_Line]]:
    """The pages without running headers, footers and page numbers.

    They are looked for from the edge inwards: a line that stands at the same height on page after page, in type that is
    no heading's, goes; the first line that does not ends the search.
    """

    def key(line: _Line) -> tuple[str, int]:
        return re.sub(r"\d+|\b[ivxlc]+\b", "#", line.text.lower()), round(line.bottom / 4)

    def edges(page: list[_Line]) -> tuple[list[int], list[int]]:
        order = sorted(range(len(page)), key=lambda index: -page[index].top)
        return order[:_EDGE], order[::-1][:_EDGE]

    counted: Counter[tuple[str, int]] = Counter()
    for page in pages:
        top, bottom = edges(page)
        counted.update({key(page[index]) for index in {*top, *bottom}})
    often = max(3, 0.3 * len(pages))
    cleaned = []
    for page in pages:
        gone: set[int] = set()
        for edge in edges(page):
            for index in edge:
                line = page[index]
                runs = counted[key(line)] >= often and line.size < _HEADING_SIZE * body
                if not runs and not (len(pages) > 1 and _PAGE_NUMBER.match(line.text)):
                    break
                gone.add(index)
        cleaned.append([line for index, line in enumerate(page) if index not in gone])
    return cleaned


def _body_size(pages: Sequence[list[_Line]]) -> float:
    """The size in which most of the letters are set."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page:
            sizes[line.size] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 10.0


@dataclass(slots=True)
class _Block:
    lines: list[_Line]
    size: float
    """0: text; otherwise a heading of this size."""
    left: float
    """Where its lines begin."""


def _blocks(pages: Sequence[list[_Line]], body: float) -> Iterator[_Block]:
    """Lines that belong together, over the ends of columns and pages too."""
    block: _Block | None = None
    for page in pages:
        if not page:
            continue
        gaps = [a.top - b.top for a, b in pairwise(page) if 0 < a.top - b.top < 4 * body]
        leading = median(gaps) if gaps else 1.2 * body
        right = _margin([line.right for line in page])
        for index, line in enumerate(page):
            heading = _heading_size(page, index, body, leading)
            if block is None:
                block = _Block([line], heading, line.left)
                continue
            if _continues(block, line, heading, leading, right):
                block.lines.append(line)
                block.left = min(block.left, line.left)
            else:
                yield block
                block = _Block([line], heading, line.left)
    if block is not None:
        yield block


def _margin(rights: Sequence[float]) -> float:
    """Where full lines end: what a tenth of the lines reaches."""
    return sorted(rights)[int(len(rights) * 0.9) if len(rights) > 1 else 0]


def _heading_size(page: Sequence[_Line], index: int, body: float, leading: float) -> float:
    """The size of a line that is a heading, 0 of one that is not."""
    line = page[index]
    if len(line.text) > 150 or not any(map(str.isalpha, line.text)) or len(line.text) < 2:
        return 0.0
    if line.size >= _HEADING_SIZE * body:
        return line.size
    above = page[index - 1] if index else None
    apart = above is None or not 0 < above.top - line.top < 1.25 * leading
    ends = _SENTENCE_END.search(line.text[-8:]) is not None and not line.text.endswith("?")
    if (
        line.bold
        and line.size >= 0.97 * body
        and not ends
        and len(line.text) <= 90
        and (apart or _SECTION.match(line.text))
    ):
        following = page[index + 1] if index + 1 < len(page) else None
        if following is None or not following.bold:
            return body
    return 0.0


def _continues(block: _Block, line: _Line, heading: float, leading: float, right: float) -> bool:
    last = block.lines[-1]
    if (block.size > 0) != (heading > 0):
        return False
    gap = last.top - line.top
    if heading:
        same = abs(heading - block.size) <= 0.05 * heading and line.bold == last.bold
        return same and 0 < gap <= 1.7 * line.size and len(block.lines) < 4 and not _SECTION.match(line.text)
    if _BULLET.match(line.text) or (_NUMBERED.match(line.text) and _SENTENCE_END.search(last.text[-8:])):
        return False
    if abs(line.size - last.size) > 0.1 * last.size:
        return False
    if -0.5 * last.size <= gap <= 0.3 * last.size:
        return True  # the same line, set in pieces
    ended = _SENTENCE_END.search(last.text[-8:]) is not None
    if gap < 0 or gap > 4 * leading:
        return not ended  # another column or page: a sentence goes on, a new one does not
    if gap > 1.35 * leading:
        return False
    width = max(right - block.left, 1.0)
    short = last.right < right - 0.15 * width
    indented = line.left > last.left + 0.02 * width and line.left < last.left + 0.15 * width
    return not (ended and (short or (indented and len(block.lines) > 1)))


def _joined(blocks: Sequence[_Block]) -> Iterator[str]:
    """The blocks as Markdown."""
    sizes = sorted({round(block.size) for block in blocks if block.size}, reverse=True)
    level = {size: min(place + 1, _HEADING_LEVELS) for place, size in enumerate(sizes)}
    items: list[str] = []
    for block in blocks:
        text = _unbroken([line.text for line in block.lines])
        bullet = _BULLET.match(text)
        if bullet and not block.size:
            items.append(f"- {escape(text[bullet.end() :])}")
            continue
        if items:
            yield "\n".join(items)
            items = []
        yield f"{'#' * level[round(block.size)]} {escape(text)}" if block.size else escape_line(escape(text))
    if items:
        yield "\n".join(items)


def _unbroken(lines: Sequence[str]) -> str:
    """Lines as one, words that were divided at their ends whole again."""
    parts: list[str] = []
    end = ""
    # The last characters so far: looking at more would take time with the square of the lines.
    for line in lines:
        if end.endswith("\xad") or (_DIVIDED.search(end) and line[:1].islower()):
            parts[-1] = parts[-1][:-1]
        elif parts and not (end.endswith(("-", "–", "/")) and end[-2:-1].isalnum()):
            parts.append(" ")
        parts.append(line)
        end = line[-3:]
    return "".join(parts).replace("\xad", "")


def _largest(pages: Sequence[list[_Line]], body: float) -> str:
    """The text set largest on the first page that has any."""
    page = next((page for page in pages if page), [])
    size = max((line.size for line in page if any(map(str.isalpha, line.text))), default=0.0)
    if size < _HEADING_SIZE * body:
        return ""
    return plain(" ".join(line.text for line in page if abs(line.size - size) < 0.5)).replace("\xad", "")[:300]


def _date(value: str) -> str | None:
    """The day of a PDF date, D:YYYYMMDD…"""
    found = re.match(r"D?:?(\d{4})(\d{2})(\d{2})", value)
    return iso_date("-".join(found.groups())) if found else None
