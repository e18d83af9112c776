"""A Chromium that drives the page, and the Twins it is served by.

Comes in: nothing. Goes out: fixtures. Does not know: what a test claims. A visitor fails its test when the page asked
anything of another host, broke its content security policy, or threw.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser.served import Served, serve
from tests.generator import engine

AXE = Path(__file__).parents[2] / "services" / "gateway" / "page" / "node_modules" / "axe-core" / "axe.min.js"
SIZES: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "is_mobile": True, "has_touch": True},
}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Chromium's own calls home would be mistaken for the page's, and are refused where there is no network.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def missing(what: str) -> None:
    """Skip, or fail where browser tests are demanded."""
    if os.environ.get("TWIN_REQUIRE_BROWSER") == "1":
        pytest.fail(what)
    pytest.skip(what)


# Not pytest-playwright's session fixtures: those keep an event loop running until the session ends, and every test with
# a loop of its own after these would fail.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        missing("Chromium is not installed (Debian: apt install chromium): the page's tests need it.")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def quotes(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Twin as it comes: it answers with quotations, and may fetch from this machine."""
    directory = tmp_path_factory.mktemp("quotes")
    with serve(directory, crawler_allowed_networks="127.0.0.0/8", crawler_host_delay=0.0) as served:
        yield served


@pytest.fixture(scope="package")
def written(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A Twin whose answers an engine writes: one that says what the test tells it to."""
    directory = tmp_path_factory.mktemp("written")
    with serve(directory, script=engine.saying(""), encoder_url="hashing://384") as served:
        yield served


class Visitor:
    """Opens pages, and watches what they do."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.faults: list[str] = []
        self.allowed_errors: list[str] = []
        """Parts of console errors that the test brings about on purpose."""

    def context(self, served: Served, size: str = "light", *, signed_in: bool = True) -> BrowserContext:
        context = self._browser.new_context(base_url=served.address, **SIZES[size])
        # What a page is waited for it does in a fraction of a second, where the machine has time.
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        self._contexts.append(context)
        if signed_in:
            context.add_cookies(served.cookies(self._browser))
        # Before any script of the page's: what its content security policy held back is told.
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (it) => console.error('policy: ' + it.blockedURI))"
        )
        context.on("request", lambda request: self._requested(served, request))
        context.on("console", self._said)
        context.on("weberror", lambda error: self.faults.append(f"thrown: {error.error}"))
        return context

    def open(self, served: Served, size: str = "light", *, path: str = "/", signed_in: bool = True) -> Page:
        page = self.context(served, size, signed_in=signed_in).new_page()
        page.goto(path)
        return page

    def _requested(self, served: Served, request: Request) -> None:
        if not request.url.startswith((served.address + "/", "blob:")):
            self.faults.append(f"asked another host: {request.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in self.allowed_errors):
            self.faults.append(f"console: {message.text}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    visitor = Visitor(browser)
    yield visitor
    visitor.close()
    assert visitor.faults == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    if not AXE.is_file():
        missing("axe-core is not installed (npm ci in services/gateway/page): accessibility is checked with it.")
    return AXE.read_text()
