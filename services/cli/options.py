"""Options that several commands share, and the console they write on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from services.errors import InvalidInput, NotFound

T = TypeVar("T")

VERSION = version("twin")

Url = Annotated[
    str | None, typer.Option("--url", envvar="TWIN_URL", help="A running gateway, such as http://127.0.0.1:8000.")
]
ApiKey = Annotated[str | None, typer.Option("--api-key", envvar="TWIN_API_KEY", help="Its key.", show_envvar=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AuthorOption = Annotated[str | None, typer.Option("--author", "-a", envvar="TWIN_AUTHOR", help="Whose writing.")]

# A pipe has no width: tables are not cut for it.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 1000)
err = Console(stderr=True, highlight=False)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part."""
    return asyncio.run(work)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone; without a terminal and without --yes it is refused."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("This cannot be undone: say --yes to do it without being asked.")
    typer.confirm(question, abort=True, err=True)


def whole_id(beginning: str, known: Sequence[str], things: str) -> str:
    """The one id that begins so, as `list` shows beginnings; refused where it may be several, or any."""
    if not beginning.strip():
        raise InvalidInput(f"An empty id names nothing: `twin {things} list` shows them.", param="id")
    matching = {each for each in known if each.startswith(beginning)}
    if len(matching) != 1:
        found = f"{len(matching)} {things} have" if matching else f"None of the {things} has"
        raise NotFound(f"{found} an id that begins with {beginning}: `twin {things} list` shows them.")
    return matching.pop()
