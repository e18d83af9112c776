"""How much one document may ask of the extractor.

Comes in: nothing. Goes out: ExtractLimits. Does not know: formats.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExtractLimits:
    """Beyond a limit extraction ends in TooLarge, before the memory or the time is spent."""

    html_bytes: int = 16 * MIB
    """A page: its tree takes some ten times as much memory. The longest real ones (whole books) have 5 to 10 MiB."""
    html_elements: int = 300_000
    """Elements of a page: the selection of the main text walks them a few dozen times."""
    text_bytes: int = 32 * MIB
    """Markdown, plain text, source code, notebooks."""
    pdf_bytes: int = 256 * MIB
    pdf_pages: int = 5_000
    docx_bytes: int = 64 * MIB
    docx_unpacked_bytes: int = 256 * MIB
    """Sum over the archive's members, as they really decompress."""
    docx_xml_bytes: int = 24 * MIB
    """The archive's XML parts alone, without its media: what is parsed into a tree."""
    characters: int = 16_000_000
    """Of the extracted text."""
    seconds: float = 120.0
    """For a PDF, looked at after each page."""
