"""The page before the real Twin: everything that `twin up` runs, with the encoder that it comes with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from services import embedded
from tests.browser.conftest import Visitor
from tests.browser.served import Served

NOTE = """# Bread

## Sourdough

A sourdough starter is fed once a day with equal weights of flour and water. It is ready when it doubles in four hours.

## Rye

Rye dough is never kneaded for long, because its starch and not its gluten holds the gas.
"""


@pytest.fixture(scope="module")
def real(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A whole Twin in a thread of its own."""
    data = tmp_path_factory.mktemp("twin")
    ready = threading.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()
        async with embedded.running(data_dir=data, gateway_port=0, llm_url="quotes://") as twin:
            found["address"], found["link"], found["secret"] = await twin.serve(), twin.page_link(), twin.secret
            ready.set()
            await found["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(60)
    headers = {"Authorization": f"Bearer {found['secret']}"}
    with httpx.Client(base_url=found["address"], headers=headers, timeout=60, trust_env=False) as client:
        job = client.post("/v1/documents", data={"author": "alpha"}, files={"file": ("bread.md", NOTE.encode())}).json()
        with client.stream("GET", f"/v1/ingest-jobs/{job['id']}/events") as events:
            for _ in events.iter_lines():
                pass
    yield Served(found["address"], found["link"], None)  # type: ignore[arg-type]  # the stub's hooks are not used here
    found["loop"].call_soon_threadsafe(found["stop"].set)
    thread.join(30)


def test_a_question_is_answered_with_its_place(real: Served, visitor: Visitor) -> None:
    """The one-time link opens the page; an answer's number opens the source at the words that it quotes."""
    page = visitor.open(real)
    page.get_by_role("textbox").first.fill("How often is a sourdough starter fed?")
    page.keyboard.press("Enter")
    answer = page.locator("article.answer").last
    expect(answer.locator(".chip").first).to_be_visible(timeout=20_000)
    expect(answer).to_contain_text("fed once a day")
    answer.locator(".chip").first.click()
    marked = page.locator("dialog.drawer mark:not(.syntax)")
    expect(marked.first).to_be_visible()
    assert "fed once a day" in "".join(marked.all_text_contents())


def test_a_dropped_file_becomes_searchable(real: Served, visitor: Visitor, tmp_path: Path) -> None:
    """A chosen file shows its progress, and stands in the library as searchable."""
    file = tmp_path / "cheese.md"
    file.write_text("# Cheese\n\nA cheddar is turned every day of its first week.\n", encoding="utf-8")
    page = visitor.open(real)
    page.get_by_role("link", name="Library").click()
    page.locator("input[type=file]").first.set_input_files(str(file))
    expect(page.get_by_role("button", name="Cheese", exact=True)).to_be_visible(timeout=20_000)
