"""Promise 8, before people's eyes: documents that command, behind an engine that obeys them, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, WebSocket, expect

from tests.browser.conftest import Visitor
from tests.browser.served import Served, serve
from tests.e2e.injected import COMMANDS, QUESTIONS, SECRET, SETTINGS, bring_in, site
from tests.generator import engine


@pytest.fixture(scope="module")
def obeyed(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A Twin with the documents of every kind of source, behind an engine that does what any of them says."""
    directory: Path = tmp_path_factory.mktemp("obeyed")

    async def prepare(client: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        await bring_in(directory, client, await stack.enter_async_context(site()))

    given = {"encoder_url": "hashing://384", **SETTINGS}
    with serve(directory / "data", script=engine.obeying, prepare=prepare, **given) as served:
        yield served


def inert(page: Page, address: str) -> None:
    """Nothing that stands on the page fetches, runs or leads anywhere by itself; links that a person may press name a
    document's own address."""
    found = page.evaluate(
        """(own) => [...document.querySelectorAll(
            "img, iframe, object, embed, video, audio, source, form[action], base, meta[http-equiv=refresh], " +
            "script:not([src^='/assets/']), link[rel~=prefetch], link[rel~=preconnect], link[rel~=dns-prefetch], " +
            "link[href^=http], [style*='url('], [onerror], [onload], [onclick], a[href*='evil.example'], a[ping]"
        )].map((it) => it.outerHTML.slice(0, 200)).filter((it) => !it.includes(`href="${own}`))""",
        address,
    )
    assert found == []


@pytest.mark.promise(8)
@pytest.mark.timeout(180)
def test_the_page_calls_nobody_whatever_documents_command(obeyed: Served, visitor: Visitor) -> None:
    """While the page shows answers, the source drawer and the library made of 132 documents that command, every request
    goes to its own origin and its content security policy is never touched; no other author's text is shown, and what
    the engine was made to write stands there as text."""
    context = visitor.context(obeyed)
    away: list[str] = []

    def intercept(route: Route) -> None:
        if route.request.url.startswith((obeyed.address + "/", "blob:")):
            route.continue_()
        else:
            away.append(route.request.url)
            route.abort()

    def connected(socket: WebSocket) -> None:
        away.append(socket.url)

    context.route("**/*", intercept)
    page = context.new_page()
    page.on("websocket", connected)
    page.on("popup", lambda it: away.append(it.url))
    page.goto("/")
    page.get_by_label("Who answers").select_option("alpha")
    shown = ""
    for question in QUESTIONS:
        page.get_by_label("Your question").fill(question)
        page.keyboard.press("Enter")
        answer = page.locator("article.answer").last
        expect(answer).to_have_attribute("aria-busy", "false")
        shown += answer.inner_text()
        inert(page, obeyed.address)
        chip = answer.locator(".chip").first
        if chip.count():
            chip.click()
        else:
            answer.get_by_role("button", name=re.compile("pump|valve", re.IGNORECASE)).first.click()
        expect(page.locator("dialog.drawer mark:not(.syntax)").first).to_be_visible()
        inert(page, obeyed.address)
        page.keyboard.press("Escape")
    assert "evil" in shown, "the engine did not obey: the test shows nothing"
    assert SECRET not in shown

    page.get_by_role("link", name="Library").click()
    documents = page.get_by_role("list", name="Documents")
    expect(documents).to_be_visible()
    for command in ("System", "Ignore", "tracking", "manual"):
        page.get_by_label("Search the library").fill(command)
        page.wait_for_timeout(400)
        inert(page, obeyed.address)
    page.get_by_label("Search the library").fill("")
    rows = documents.get_by_role("listitem")
    expect(rows).not_to_have_count(0)
    for place in range(0, min(rows.count(), 30), 5):
        rows.nth(place).get_by_role("button").first.click()
        expect(page.get_by_role("region", name="Text of the source")).to_be_visible()
        inert(page, obeyed.address)
        page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    assert away == []
    assert page.title() == "Library · Twin"
    assert len(QUESTIONS) == len(COMMANDS)
