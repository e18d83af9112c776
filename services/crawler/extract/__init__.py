"""Bytes of many kinds made one kind of text: clean, structured Markdown.

Comes in: a document's bytes, its address, and what its source says of its kind. Goes out: Extracted, or an error that
says what is wrong with the document. Does not know: fetching, storage, chunks, models.

One file a format (html, markdown, text, notebook, pdf, docx); media tells them apart, encoding makes text of bytes,
tree and select find a page's main text, render writes Markdown. All of it is computation without waiting: an
asynchronous caller runs it in a thread or a process.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from services.crawler.extract.limits import ExtractLimits
from services.crawler.extract.media import Kind, detect, file_of, split_type
from services.domain import Extracted
from services.errors import TooLarge, Unprocessable

__all__ = ["ExtractLimits", "extract"]

DEFAULTS = ExtractLimits()


def extract(
    data: bytes, *, url: str, media_type: str | None, name: str | None = None, limits: ExtractLimits = DEFAULTS
) -> Extracted:
    """One document's text and what is known of it.

    `url` is its address, against which links are resolved; `media_type` a Content-Type, parameters included; `name` a
    path or file name, where the address says less than it. For source code the name is the heading.
    Raises UnsupportedMedia (no kind that can be read), TooLarge (beyond a limit), Unprocessable (broken, encrypted, or
    without text).
    """
    if not data.strip(b" \t\r\n\x00"):
        raise Unprocessable("The document is empty: there is nothing to bring in.")
    essence, charset = split_type(media_type)
    kind, code = detect(data, essence, name or url)
    stem = PurePosixPath(file_of(name or url)).stem.replace("_", " ")
    match kind:
        case Kind.HTML:
            from services.crawler.extract.html import extract_html

            found = extract_html(data, url=url, charset=charset, name=stem, limits=limits)
        case Kind.PDF:
            from services.crawler.extract.pdf import extract_pdf

            found = extract_pdf(data, name=stem, limits=limits)
        case Kind.DOCX:
            from services.crawler.extract.docx import extract_docx

            found = extract_docx(data, name=stem, limits=limits)
        case Kind.MARKDOWN | Kind.TEXT | Kind.CODE | Kind.NOTEBOOK:
            found = _extract_plain(kind, data, charset, code, name or file_of(url), stem, limits)
    if len(found.text) > limits.characters:
        raise TooLarge(f"The document has {len(found.text):,} characters, more than {limits.characters:,}: split it.")
    return found


def _extract_plain(
    kind: Kind, data: bytes, charset: str | None, code: str, path: str, stem: str, limits: ExtractLimits
) -> Extracted:
    from services.crawler.extract.encoding import decode
    from services.crawler.extract.markdown import extract_markdown
    from services.crawler.extract.notebook import extract_notebook
    from services.crawler.extract.text import extract_code, extract_text

    if len(data) > limits.text_bytes:
        raise TooLarge(f"The file has {len(data):,} bytes, more than {limits.text_bytes:,}: split it.")
    text = decode(data, charset)
    if kind is Kind.MARKDOWN:
        return extract_markdown(text, name=stem)
    if kind is Kind.NOTEBOOK:
        return extract_notebook(text, name=stem)
    if kind is Kind.CODE:
        return extract_code(text, path=path, code=code)
    return extract_text(text, name=stem)
