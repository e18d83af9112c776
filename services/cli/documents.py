"""`twin documents` and `twin authors`: what has come in."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from services.cli.api import connect
from services.cli.options import ApiKey, AuthorOption, Json, Url, Yes, confirm, out, print_json, run

_PAGE = 100


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
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List documents, the newest change first."""

    async def work() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        async with connect(url, api_key) as api:
            while len(found) < limit:
                page = await api.get(
                    "/v1/documents",
                    author=author,
                    state=state,
                    q=text,
                    limit=min(_PAGE, limit - len(found)),
                    cursor=cursor or None,
                )
                found += page["data"]
                cursor = page["next"]
                if not cursor:
                    break
        return found

    found = run(work())
    if as_json:
        print_json({"data": found})
        return
    table = Table("id", "state", "author", "title", "address", box=None, pad_edge=False)
    for each in found:
        table.add_row(each["id"][:12], each["state"], each["author"], each["title"], each["url"])
    out.print(table)


@documents.command("show")
def show_document(
    id: Annotated[str, typer.Argument(help="Its id.")],
    version: Annotated[int | None, typer.Option(help="Which version; the newest if not said.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Print a document's cleaned text, with what is known of it on stderr."""

    async def work() -> dict[str, Any]:
        async with connect(url, api_key) as api:
            return dict(await api.get(f"/v1/documents/{await _whole(api, id)}", version=version))

    found = run(work())
    if as_json:
        print_json(found)
    else:
        out.print(found["text"], markup=False)


@documents.command("delete")
def delete_documents(
    ids: Annotated[list[str], typer.Argument(help="Their ids.")],
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Take documents everywhere: text, chunks, and their passages in kept answers."""
    confirm(f"Delete {len(ids)} document(s) for good?", yes)

    async def work() -> None:
        async with connect(url, api_key, workers=True) as api:
            for id in ids:
                await api.delete(f"/v1/documents/{await _whole(api, id)}")

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


async def _whole(api: Any, id: str) -> str:
    """The whole id for the beginning that `list` shows."""
    if len(id) == 32:
        return id
    cursor = None
    while True:
        page = await api.get("/v1/documents", limit=_PAGE, cursor=cursor)
        for each in page["data"]:
            if each["id"].startswith(id):
                return str(each["id"])
        cursor = page["next"]
        if not cursor:
            return id
