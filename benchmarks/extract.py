"""Main text of real pages, beside trafilatura's in the same run.

    TWIN_TEST_DATA=… python -m benchmarks.extract [--misses]

Reads pages.jsonl: pages with phrases that their main text must hold (`with`) and must not hold (`without`). As in
trafilatura's own evaluation a phrase of `with` that is found is a true positive, one that is not a false negative; a
phrase of `without` that is found is a false positive. White space is folded on both sides. Twin's Markdown is judged
twice: as it stands (where a link's address may part a phrase), and rendered to text. The halves are every second page:
rules that only fit one half show there.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trafilatura
from markdown_it import MarkdownIt

from services.crawler.extract import extract

TARGET = 0.935


@dataclass(frozen=True, slots=True)
class Page:
    url: str
    html: bytes
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    precision: float
    recall: float
    f1: float
    misses: tuple[tuple[str, str, str], ...]


def folded(text: str) -> str:
    return " ".join(text.split())


def load(folder: Path) -> list[Page]:
    lines = (folder / "pages.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Page(each["url"].strip(), (folder / each["file"]).read_bytes(), tuple(each["with"]), tuple(each["without"]))
        for each in map(json.loads, lines)
    ]


def judge(pages: Sequence[Page], texts: Sequence[str]) -> Score:
    true_positives = false_negatives = false_positives = 0
    misses = []
    for page, text in zip(pages, texts, strict=True):
        found = folded(text)
        for phrase in page.wanted:
            if folded(phrase) in found:
                true_positives += 1
            else:
                false_negatives += 1
                misses.append((page.url, "missed", phrase))
        for phrase in page.unwanted:
            if folded(phrase) in found:
                false_positives += 1
                misses.append((page.url, "chrome", phrase))
    precision = true_positives / max(true_positives + false_positives, 1)
    recall = true_positives / max(true_positives + false_negatives, 1)
    return Score(precision, recall, 2 * precision * recall / max(precision + recall, 1e-9), tuple(misses))


def rendered(markdown: str) -> str:
    """The text that a reader of the Markdown sees."""
    lines = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "inline":
            pieces = [" " if each.type in ("softbreak", "hardbreak") else each.content for each in token.children or ()]
            lines.append("".join(pieces))
        elif token.type in ("fence", "code_block"):
            lines.append(token.content)
    return "\n".join(lines)


def timed(pages: Sequence[Page], reading: Callable[[Page], str]) -> tuple[list[str], float]:
    """(texts, milliseconds a page)."""
    started = time.perf_counter()
    texts = [reading(page) for page in pages]
    return texts, (time.perf_counter() - started) * 1000 / len(pages)


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument(
        "--misses", action="store_true", help="list what Twin misses and what it keeps of the chrome"
    )
    options = arguments.parse_args()
    folder = os.environ.get("TWIN_TEST_DATA")
    if not folder or not (Path(folder) / "pages.jsonl").exists():
        print("Skipped: set TWIN_TEST_DATA to the folder that holds pages.jsonl.")
        return 0
    logging.disable(logging.CRITICAL)
    pages = load(Path(folder))
    readings: dict[str, Callable[[Page], str]] = {
        "own": lambda page: extract(page.html, url=page.url, media_type="text/html").text,
        "default": lambda page: trafilatura.extract(page.html) or "",
    }
    for reading in readings.values():
        reading(pages[0])  # models and tables are loaded outside the clock
    own, own_time = timed(pages, readings["own"])
    default, default_time = timed(pages, readings["default"])
    no_comments, _ = timed(pages, lambda page: trafilatura.extract(page.html, include_comments=False) or "")
    with_metadata, full_time = timed(
        pages, lambda page: trafilatura.extract(page.html, output_format="markdown", with_metadata=True) or ""
    )
    plain = [rendered(text) for text in own]
    print(f"{len(pages)} pages, trafilatura {trafilatura.__version__}, one process; F1 of phrases\n")
    print(f"{'':44}{'precision':>10}{'recall':>8}{'F1':>8}{'even':>8}{'odd':>8}")
    for label, texts in (
        ("trafilatura, as it comes", default),
        ("trafilatura, without comments", no_comments),
        ("trafilatura, Markdown with metadata", with_metadata),
        ("Twin, its Markdown rendered", plain),
        ("Twin, its Markdown as it stands", own),
    ):
        score = judge(pages, texts)
        even, odd = judge(pages[::2], texts[::2]), judge(pages[1::2], texts[1::2])
        print(f"{label:44}{score.precision:10.3f}{score.recall:8.3f}{score.f1:8.3f}{even.f1:8.3f}{odd.f1:8.3f}")
    print(f"\nTwin {own_time:.1f} ms a page; trafilatura {default_time:.1f} ms (ratio {own_time / default_time:.2f}),")
    print(
        f"{full_time:.1f} ms for Markdown with metadata (ratio {own_time / full_time:.2f}), which is what Twin makes."
    )
    ours, theirs = judge(pages, plain), judge(pages, default)
    if options.misses:
        for url, kind, phrase in ours.misses:
            print(f"{kind}  {phrase!r}  {url}")
    failed = [page.url for page, text in zip(pages, own, strict=True) if not text]
    passed = ours.f1 >= TARGET and ours.f1 > theirs.f1 and not failed
    print(f"\n{'met' if passed else 'NOT MET'}: F1 ≥ {TARGET} and above trafilatura's, no page failing")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
