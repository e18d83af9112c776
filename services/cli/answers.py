"""`twin ask`, `twin chat` and `twin search`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from services.cli.api import Api, connect
from services.cli.options import ApiKey, AuthorOption, Json, Url, err, out, print_json, run
from services.cli.plain import Plain, plain
from services.errors import ModelNotFound, NotFound

NOT_ANSWERED = 7
"""Exit code where the corpus does not speak of it."""

SHOWN = 20
"""Authors that are named where one is not found."""

Source = Annotated[str | None, typer.Option("--source", help="Only from this source: an address, host or id.")]
Language = Annotated[str | None, typer.Option("--language", help="Only in this language: en, de, …")]
Since = Annotated[str | None, typer.Option(help="Only published from this day on: 2024-01-31.")]
Until = Annotated[str | None, typer.Option(help="Only published up to this day.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say the answer's id, for `twin trace`.")]


def register(app: typer.Typer) -> None:
    app.command()(ask)
    app.command()(chat)
    app.command()(search)


def ask(
    question: Annotated[list[str], typer.Argument(help="The question; `-` reads it from stdin.")],
    author: AuthorOption = None,
    source: Source = None,
    language: Language = None,
    since: Since = None,
    until: Until = None,
    k: Annotated[int | None, typer.Option("-k", help="Passages to answer from.", min=1, max=50)] = None,
    support: Annotated[str, typer.Option(help="mark or replace unsupported sentences.")] = "mark",
    verbose: Verbose = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Ask a question; the answer comes with its numbered sources."""
    text = " ".join(question)
    if text == "-":
        text = sys.stdin.read().strip()
    if not text:
        raise typer.BadParameter("Ask something.")
    narrowed = _filter(source, language, since, until)

    async def work() -> dict[str, Any]:
        async with connect(url, api_key) as api:
            body = request([{"role": "user", "content": text}], author, narrowed, k, support)
            async with _known(api, author):
                if as_json:
                    return dict(await api.post("/v1/chat/completions", body))
                return await answer(api, body, verbose=verbose)

    result = run(work())
    if as_json:
        print_json(result)
    evidence = (result.get("twin") or {}).get("evidence")
    raise typer.Exit(NOT_ANSWERED if evidence == "none" else 0)


def chat(
    author: AuthorOption = None,
    support: Annotated[str, typer.Option(help="mark or replace unsupported sentences.")] = "mark",
    verbose: Verbose = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Ask one question after another; an empty line or Ctrl-D ends it."""

    async def work() -> None:
        messages: list[dict[str, str]] = []
        async with connect(url, api_key) as api:
            while True:
                try:
                    question = (await asyncio.to_thread(input, "\n› " if sys.stdin.isatty() else "")).strip()
                except EOFError:
                    return
                if not question:
                    return
                messages.append({"role": "user", "content": question})
                async with _known(api, author):
                    result = await answer(api, request(messages, author, {}, None, support), verbose=verbose)
                messages.append({"role": "assistant", "content": result["text"]})

    run(work())


def search(
    query: Annotated[list[str], typer.Argument(help="What to look for.")],
    author: AuthorOption = None,
    source: Source = None,
    language: Language = None,
    since: Since = None,
    until: Until = None,
    k: Annotated[int, typer.Option("-k", help="Passages to show.", min=1, max=100)] = 8,
    explain: Annotated[bool, typer.Option(help="Show each step and each stage's scores.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Find passages, with every stage's scores."""
    narrowed = _filter(source, language, since, until)
    if author:
        narrowed["author"] = author

    async def work() -> dict[str, Any]:
        async with connect(url, api_key) as api:
            found = dict(await api.post("/v1/search", {"query": " ".join(query), "k": k, "filter": narrowed}))
            if author and not found["passages"] and author not in (names := await _authors(api)):
                raise _nobody(author, names)
            return found

    result = run(work())
    if as_json:
        print_json(result)
        return
    for number, passage in enumerate(result["passages"], 1):
        document = passage["document"]
        out.print(f"[bold]{number}[/]  {passage['score']:.3f}  ", end="")
        out.print(place(document["title"] or document["url"], passage["heading"]), markup=False, style="bold")
        out.print(f"   {document['url']}", markup=False, style="dim")
        out.print("   " + " ".join(plain(passage["text"]).split())[:300], markup=False)
        if explain:
            out.print(
                "   " + "  ".join(f"{name} {value:.3f}" for name, value in passage["scores"].items()), style="dim"
            )
    if explain:
        for step in result["steps"]:
            out.print(f"{step['name']:12} {step['milliseconds']:7.1f} ms  {step['detail']}", markup=False, style="dim")
    if not result["passages"]:
        err.print("Nothing found.")


def request(
    messages: list[dict[str, str]], author: str | None, narrowed: dict[str, str], k: int | None, support: str
) -> dict[str, Any]:
    """The body of a chat completion."""
    own: dict[str, Any] = {"support": support}
    if narrowed:
        own["filter"] = narrowed
    if k is not None:
        own["k"] = k
    return {"model": author or "twin", "messages": messages, "twin": own}


async def answer(api: Api, body: dict[str, Any], *, verbose: bool = False) -> dict[str, Any]:
    """Stream an answer to stdout, its sources after it; what it was made from."""
    text: list[str] = []
    citations: dict[int, dict[str, Any]] = {}
    unsupported = 0
    started: dict[str, Any] = {}
    asked = str(body["messages"][-1]["content"]).strip()
    # Into a file or another program goes the Markdown as it is.
    shown = Plain() if sys.stdout.isatty() else None
    async for _, chunk in api.events("POST", "/v1/chat/completions", {**body, "stream": True}):
        own = chunk.get("twin") or {}
        if not started and "started" in own:
            started = own["started"]
            understood = str(started.get("question") or asked).strip()
            if understood != asked:
                # Before the answer: whoever meant something else need not read it.
                err.print(f"Understood as: {understood}", markup=False, style="dim", soft_wrap=True)
        for choice in chunk["choices"]:
            piece = choice["delta"].get("content")
            if piece:
                text.append(piece)
                sys.stdout.write(shown.feed(piece) if shown else piece)
                sys.stdout.flush()
        if "citation" in own:
            citations.setdefault(own["citation"]["number"], own["citation"])
        if "support" in own:
            unsupported += own["support"]["verdict"] == "unsupported"
    sys.stdout.write((shown.end() if shown else "") + "\n")
    if citations:
        out.print()
    for number, citation in sorted(citations.items()):
        out.print(f"[{number}] {place(citation['title'], citation['heading'])}", markup=False)
        out.print(f"    {citation['url']}", markup=False, style="dim")
    if unsupported:
        err.print(f"{unsupported} sentence(s) are not supported by what they cite.")
    for notice in started.get("notices", []):
        err.print(notice, markup=False, style="dim")
    if verbose and started:
        err.print(f"How this was made: twin trace {started['generation_id']}", style="dim")
    return {"text": "".join(text), "twin": started}


def place(title: str, heading: str) -> str:
    """A document's title and the headings above a passage, which often begin with the title."""
    heading = plain(heading)
    return heading if heading.startswith(title) else " › ".join(filter(None, (title, heading)))


@asynccontextmanager
async def _known(api: Api, author: str | None) -> AsyncIterator[None]:
    """An author that is not there is called one: to the gateway each is a model, as OpenAI's clients name them."""
    try:
        yield
    except ModelNotFound:
        raise _nobody(author or "", await _authors(api)) from None


async def _authors(api: Api) -> list[str]:
    return [str(each["name"]) for each in (await api.get("/v1/authors"))["data"]]


def _nobody(author: str, names: list[str]) -> NotFound:
    shown = ", ".join(names[:SHOWN]) + (", … (`twin authors list`)" if len(names) > SHOWN else "")
    there = f"there are: {shown}" if names else "nothing has come in yet, or not for this key"
    return NotFound(f"There is no author {author!r}; {there}.")


def _filter(source: str | None, language: str | None, since: str | None, until: str | None) -> dict[str, str]:
    given = {"source": source, "language": language, "since": since, "until": until}
    return {name: value for name, value in given.items() if value}
