"""Each format's structure and metadata."""

from __future__ import annotations

import io
import json

import pytest
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from services.crawler.extract import extract
from tests.crawler.extract.test_hostile import word_document

URL = "https://notes.example.org/files/page"


def test_markdown_keeps_its_text_and_gives_its_front_matter() -> None:
    """Front matter becomes metadata; the text under it stays, but for comments outside code."""
    data = b"""---
title: "A <b>bold</b> plan"
author: [Author Alpha, {name: Author Beta}]
date: 2024-02-03
lastmod: 2024-03-04T10:00:00Z
lang: en-GB
canonical_url: https://notes.example.org/plan
---
<!-- a note to self -->
# Another heading

Text with `<!-- code -->`.

```python
# <!-- kept -->
x  =  1
```
"""
    found = extract(data, url=URL, media_type="text/plain", name="notes/plan.md")
    assert (found.title, found.byline) == ("A bold plan", "Author Alpha, Author Beta")
    assert (found.published, found.modified, found.language) == ("2024-02-03", "2024-03-04", "en")
    assert found.canonical == "https://notes.example.org/plan"
    assert found.text.startswith("# Another heading\n\nText with `<!-- code -->`.")
    assert "# <!-- kept -->\nx  =  1" in found.text
    assert "note to self" not in found.text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("## Second\n\ntext\n\n# First `code` of *all*\n", "First code of all"),
        ("Underlined\n==========\n\ntext", "Underlined"),
        ("```\n# in code\n```\n\ntext", "a plan"),
        ("+++\ntitle = 'From TOML'\n+++\ntext", "From TOML"),
    ],
)
def test_markdown_without_front_matter_is_named_by_its_heading(text: str, title: str) -> None:
    """A title is the front matter's, the first heading's, or the file's name."""
    assert extract(text.encode(), url=URL, media_type=None, name="a_plan.md").title == title


@pytest.mark.promise(4)
def test_source_code_is_kept_whole_under_its_path() -> None:
    """White space, and fences inside the file, survive."""
    code = 'def f():\n\treturn """\n```\n"""\n\n\n    # end\n'
    found = extract(code.encode(), url=URL, media_type="text/plain", name="src/my_module.py")
    assert found.title == "src/my_module.py"
    assert found.text == "# src/my_module.py\n\n````python\n" + code.rstrip() + "\n````"


def test_plain_text_reads_the_same_as_markdown() -> None:
    """What Markdown would take for something else is escaped; lists stay lists."""
    text = "A title\n\n# no heading\n1 * 2 * 3 and snake_case\n\n- one\n- two\n"
    found = extract(text.encode(), url=URL, media_type="text/plain", name="a.txt")
    assert found.title == "A title"
    assert found.text == "A title\n\n\\# no heading\n1 * 2 * 3 and snake_case\n\n- one\n- two"


def test_a_notebook_is_prose_and_code() -> None:
    """Cells in order, code in the kernel's language, outputs left out."""
    book = {
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {"cell_type": "markdown", "source": ["# A study\n", "of things"]},
            {"cell_type": "code", "source": "x  = 1\n", "outputs": [{"text": "noise"}]},
        ],
    }
    found = extract(json.dumps(book).encode(), url=URL, media_type="application/json", name="study.ipynb")
    assert found.title == "A study"
    assert found.text == "# A study\nof things\n\n```python\nx  = 1\n```"


def test_a_word_document_keeps_structure_and_properties() -> None:
    """Headings, lists and tables come by way of mammoth; the title from the core properties."""
    heading = b'<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>The plan</w:t></w:r></w:p>'
    styles = (
        b'<w:styles xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:style w:type="paragraph" '
        b'w:styleId="Heading1"><w:name w:val="heading 1"/></w:style></w:styles>'
    )
    cell = b"<w:tc><w:p><w:r><w:t>%s</w:t></w:r></w:p></w:tc>"
    table = b"<w:tbl>" + (b"<w:tr>" + cell % b"a" + cell % b"b" + b"</w:tr>") * 2 + b"</w:tbl>"
    relations = (
        b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r2" '
        b'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/>'
        b"</Relationships>"
    )
    core = (
        b'<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"><dc:title>Core title'
        b"</dc:title><dc:creator>Author Alpha</dc:creator><dcterms:created>2024-01-02T00:00:00Z</dcterms:created>"
        b"</cp:coreProperties>"
    )
    body = heading + b"<w:p><w:r><w:t>One *star* of text.</w:t></w:r></w:p>" + table
    others = {"word/styles.xml": styles, "word/_rels/document.xml.rels": relations, "docProps/core.xml": core}
    data = word_document(body, **others)
    found = extract(data, url=URL, media_type=None, name="plan.docx")
    assert (found.title, found.byline, found.published) == ("Core title", "Author Alpha", "2024-01-02")
    assert found.text == "# The plan\n\nOne \\*star\\* of text.\n\n| a | b |\n| --- | --- |\n| a | b |"


def pdf_report(pages: int) -> bytes:
    """A report with running header and footer, a heading a page, and a paragraph that divides a word."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=True)
    canvas.setTitle("The yearly report")
    canvas.setAuthor("Author Alpha")
    for number, word in enumerate(("alpha", "beta", "gamma", "delta", "epsilon")[:pages], start=1):
        canvas.setFont("Helvetica", 8)
        canvas.drawString(72, 810, "The yearly report, confidential")
        canvas.setFont("Helvetica-Bold", 18)
        canvas.drawString(72, 760, f"Chapter {number} opens")
        canvas.setFont("Helvetica", 11)
        lines = (
            f"The {word} paragraph of this chapter is long enough to be broken, and it holds a docu-",
            f"ment that was divided at the {word} end of a line, so that it has to be put together again.",
            f"It ends {word} here.",
        )
        for place, line in enumerate(lines):
            canvas.drawString(72, 720 - 14 * place, line)
        canvas.drawString(72, 660, f"• a {word} point")
        canvas.drawString(72, 646, f"• {word} more")
        canvas.setFont("Helvetica", 8)
        canvas.drawString(290, 30, f"{number}")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def test_a_pdf_is_put_together_again() -> None:
    """Headings by size, paragraphs joined, divided words whole, running headers and page numbers gone."""
    found = extract(pdf_report(5), url=URL, media_type="application/pdf")
    assert (found.title, found.byline) == ("The yearly report", "Author Alpha")
    assert "# Chapter 3 opens\n\nThe gamma paragraph" in found.text
    assert "it holds a document that was divided at the gamma end of a line, so that" in found.text
    assert "- a gamma point\n- gamma more" in found.text
    assert "confidential" not in found.text
    assert "\n\n3\n" not in found.text


def test_the_kind_is_found_from_bytes_type_and_name() -> None:
    """Bytes are believed over the media type, a media type that says something over the name."""
    assert extract(pdf_report(1), url=URL, media_type="text/html").media_type == "application/pdf"
    assert extract(b"<!doctype html><p>Some words of a page.</p>", url=URL, media_type=None).media_type == "text/html"
    assert extract(b"# T\n\ntext", url=URL, media_type="text/markdown; charset=utf-8").media_type == "text/markdown"
    assert extract(b"FROM scratch\n", url=URL, media_type=None, name="Dockerfile").media_type == "text/x-dockerfile"


@pytest.mark.parametrize(
    ("tag", "heading", "title"),
    [
        ("Queues that lie | A Site", "", "Queues that lie"),
        ("A Site - Queues that lie", "Queues that lie", "Queues that lie"),
        ("Queues that lie – notes.example.org", "", "Queues that lie"),
        ("C++ - a love story", "", "C++ - a love story"),
        ("Read | Write", "Read | Write", "Read | Write"),
    ],
)
def test_a_site_name_goes_from_a_title(tag: str, heading: str, title: str) -> None:
    """Only what is the site's, by its own word, its address, its heading or a sign that titles do not use."""
    page = f"<title>{tag}</title><h1>{heading}</h1><p>Some words of a page that is not long.</p>"
    assert extract(page.encode(), url=URL, media_type="text/html").title == title
