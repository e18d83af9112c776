"""The documentation and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.crawler import bootstrap as crawler
from services.feature import bootstrap as feature
from services.gateway import settings as gateway
from services.generator import bootstrap as generator
from services.retriever import bootstrap as retriever

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_setting_is_described() -> None:
    """docs/settings.md has a line for every setting of every service, and none for one that is not there."""
    known = {
        f"TWIN_{name.upper()}"
        for service in (crawler, feature, gateway, generator, retriever)
        for name in service.Settings.model_fields
    }
    said = set(re.findall(r"`(TWIN_[A-Z_]+)`", (ROOT / "docs/settings.md").read_text(encoding="utf-8")))
    assert known <= said
    assert said - known == {
        *("TWIN_SETTINGS", "TWIN_URL", "TWIN_API_KEY", "TWIN_AUTHOR"),
        *("TWIN_LLM_API_KEY", "TWIN_ENCODER_API_KEY", "TWIN_RERANKER_API_KEY"),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """Every path of this repository that a page names in backticks is there; NAME stands for one to be written."""
    for target in re.findall(
        r"`((?:services|tests|docs|proto|benchmarks)/[\w./-]+)`", page.read_text(encoding="utf-8")
    ):
        if "NAME" not in target:
            assert (ROOT / target).exists(), target
