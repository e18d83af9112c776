"""HTML → Markdown, page by page against files that are read by people."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from services.crawler.extract import extract

GOLDEN = Path(__file__).parents[2] / "golden" / "html"
CHROME = tuple(
    str.split("Sign up,Sign in,Open in app,min read,Subscribe,cookies,Share,Copy link,All rights,Tweet", ",")
)


@pytest.mark.parametrize("page", sorted(GOLDEN.glob("*.html")), ids=lambda page: page.stem)
def test_a_page_gives_its_golden_markdown(page: Path) -> None:
    """Text and metadata are exactly those of the golden files. TWIN_WRITE_GOLDEN=1 writes them anew, to be read."""
    found = extract(page.read_bytes(), url=f"https://notes.example.org/{page.stem}/", media_type="text/html")
    known = {key: value for key, value in dataclasses.asdict(found).items() if key != "text"}
    expected = page.with_suffix(".md")
    expected_known = page.with_suffix(".json")
    if os.environ.get("TWIN_WRITE_GOLDEN"):
        expected.write_text(found.text + "\n", encoding="utf-8")
        expected_known.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found.text + "\n" == expected.read_text(encoding="utf-8")
    assert known == json.loads(expected_known.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", sorted(GOLDEN.glob("*.html")), ids=lambda page: page.stem)
def test_no_page_keeps_its_chrome(page: Path) -> None:
    """What platforms put around a text is in none of the texts."""
    found = extract(page.read_bytes(), url=f"https://notes.example.org/{page.stem}/", media_type="text/html")
    assert [each for each in CHROME if each in found.text] == []
