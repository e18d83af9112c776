"""`twin documents` and `twin authors`: what has come in."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from services.cli.api import Api, connect
from services.cli.options import ApiKey, AuthorOption, Json, Url, Yes, confirm, err, out, print_json, run, whole_id
from services.errors import NotFound

_PAGE = 100
WHOLE = 32
"""Characters of a whole id."""


def register(app: typer.Typer) -> None:
    app.add_typer(documents, name="documents")
    app.add_typer(authors, name="authors")


documents = typer.Typer(help="The documents that have come in.", no_args_is_help=True)
authors = typer.Typer(help="Whose writing there is.", no_args_is_help=True)


@documents.command("list")
def list_documents(
    author: AuthorOption = None,
    state: Annotated[str | None, typer.Option(help="queued, indexed, updating, failed, duplicate or deleted.")] = None,
    text: Annotated[str | None, typer.Option("--text", "-q", help="In title or address.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    whole: Annotated[bool, typer.Option("--all", help="All of them, whatever --limit says.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List documents, the newest change first."""

    async def work() -> tuple[list[dict[str, Any]], bool]:
        found: list[dict[str, Any]] = []
        cursor = ""
        async with connect(url, api_key) as api:
            while whole or len(found) < limit:
                page = await api.get(
                    "/v1/documents",
                    author=author,
                    state=state,
                    q=text,
                    limit=_PAGE if whole else min(_PAGE, limit - len(found)),
                    cursor=cursor or None,
                )
                found += page["data"]
                cursor = page["next"]
                if not cursor:
                    break
        return found, bool(cursor)

    found, more = run(work())
    if as_json:
        print_json({"data": found})
    else:
        show_table(found)
    if more:
        err.print(f"There are more than these {len(found)}: --limit NUMBER or --all shows them, --text searches them.")


def show_table(found: list[dict[str, Any]]) -> None:
    table = Table("id", "state", "author", "title", "address", box=None, pad_edge=False)
    for each in found:
        table.add_row(each["id"][:12], each["state"], each["author"], each["title"], each["url"])
    out.print(table)


@documents.command("show")
def show_document(
    id: Annotated[str, typer.Argument(help="Its id (or the beginning).")],
    version: Annotated[int | None, typer.Option(help="Which version; the newest if not said.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Print a document's cleaned text, with what is known of it on stderr."""

    async def work() -> dict[str, Any]:
        async with connect(url, api_key) as api:
            (whole,) = await _whole(api, [id])
            return dict(await api.get(_path(whole), version=version))

    found = run(work())
    if as_json:
        print_json(found)
    else:
        out.print(found["text"], markup=False)


@documents.command("delete")
def delete_documents(
    ids: Annotated[list[str], typer.Argument(help="Their ids (or the beginnings).")],
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Take documents everywhere: text, chunks, and their passages in kept answers."""
    confirm(f"Delete {len(ids)} document(s) for good?", yes)

    async def work() -> None:
        async with connect(url, api_key, workers=True) as api:
            for id in await _whole(api, ids):
                try:
                    found = await api.get(_path(id))
                except NotFound:
                    found = {"title": "", "url": ""}  # deleted before, perhaps not to its end: this ends it
                await api.delete(_path(id))
                out.print(f"deleted {id[:12]}  {found['title']}  {found['url']}".rstrip(), markup=False)

    run(work())


@authors.command("list")
def list_authors(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List authors."""

    async def work() -> list[dict[str, Any]]:
        async with connect(url, api_key) as api:
            return list((await api.get("/v1/authors"))["data"])

    found = run(work())
    if as_json:
        print_json({"data": found})
        return
    table = Table("author", "documents", "searchable", "sources", box=None, pad_edge=False)
    for each in found:
        table.add_row(each["name"], str(each["documents"]), str(each["indexed"]), str(each["sources"]))
    out.print(table)


@authors.command("delete")
def delete_author(
    name: Annotated[str, typer.Argument(help="Whose writing is to go.")],
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Take an author with everything of theirs."""
    confirm(f"Delete {name} with every document and source for good?", yes)

    async def work() -> None:
        async with connect(url, api_key, workers=True) as api:
            await api.delete(f"/v1/authors/{name}")

    run(work())


async def _whole(api: Api, ids: list[str]) -> list[str]:
    """Whole ids for the beginnings that `list` shows, each once; all of them before anything is done to the first."""
    known: list[str] = []
    if not all(len(each) == WHOLE for each in ids):
        cursor = None
        while True:
            page = await api.get("/v1/documents", limit=_PAGE, cursor=cursor)
            known += (str(each["id"]) for each in page["data"])
            cursor = page["next"]
            if not cursor:
                break
    found = (each if len(each) == WHOLE else whole_id(each, known, "documents") for each in ids)
    return list(dict.fromkeys(found))


def _path(id: str) -> str:
    return f"/v1/documents/{quote(id, safe='')}"
