"""Documents → Markdown, each against files that are read by people."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from services.crawler.extract import extract
from services.domain import Extracted

GOLDEN = Path(__file__).parents[2] / "golden"
DOCUMENTS = sorted(each for each in GOLDEN.glob("*/*") if each.suffix not in (".md", ".json"))
"""Of every folder, a kind of file each. What is expected of a document stands beside it: NAME.md and NAME.json."""
CHROME = tuple(
    str.split("Sign up,Sign in,Open in app,min read,Subscribe,cookies,Share,Copy link,All rights,Tweet", ",")
)


def read(document: Path) -> Extracted:
    return extract(
        document.read_bytes(),
        url=f"https://notes.example.org/{document.stem}/",
        media_type=None,
        name=document.name,
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: f"{document.parent.name}/{document.stem}")
def test_a_document_gives_its_golden_markdown(document: Path) -> None:
    """Text and metadata are exactly those of the golden files. TWIN_WRITE_GOLDEN=1 writes them anew, to be read."""
    found = read(document)
    known = {key: value for key, value in dataclasses.asdict(found).items() if key != "text"}
    expected = document.with_suffix(".md")
    expected_known = document.with_suffix(".json")
    if os.environ.get("TWIN_WRITE_GOLDEN"):
        expected.write_text(found.text + "\n", encoding="utf-8")
        expected_known.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found.text + "\n" == expected.read_text(encoding="utf-8")
    assert known == json.loads(expected_known.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: f"{document.parent.name}/{document.stem}")
def test_no_document_keeps_its_chrome(document: Path) -> None:
    """What platforms put around a text is in none of the texts."""
    found = read(document)
    assert [each for each in CHROME if each in found.text] == []
