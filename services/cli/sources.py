"""`twin sources`: what is crawled again, and when."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from services.cli import ingest
from services.cli.api import Api, connect
from services.cli.options import ApiKey, AuthorOption, Json, Url, Yes, confirm, out, print_json, run, whole_id


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="sources")


commands = typer.Typer(help="What is crawled again, and when.", no_args_is_help=True)


@commands.command("list")
def show(author: AuthorOption = None, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List the sources."""

    async def work() -> list[dict[str, object]]:
        async with connect(url, api_key) as api:
            return list((await api.get("/v1/sources", author=author))["data"])

    found = run(work())
    if as_json:
        print_json({"data": found})
        return
    table = Table("id", "author", "kind", "address", "every", "crawled", box=None, pad_edge=False)
    for each in found:
        every = f"{each['every']:.0f} s" if each["every"] else "watched" if each["watch"] else "by hand"
        table.add_row(
            str(each["id"])[:12], str(each["author"]), str(each["kind"] or "?"), str(each["address"]), every,
            str(each["crawled_at"] or "never"),
        )  # fmt: skip
    out.print(table)


@commands.command()
def refresh(
    ids: Annotated[list[str] | None, typer.Argument(help="Their ids (or the beginnings); none: all of them.")] = None,
    author: AuthorOption = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Crawl sources again now; what is unchanged is not downloaded again."""

    async def work() -> list[dict[str, object]]:
        async with connect(url, api_key, workers=True) as api:
            chosen = await _choose(api, ids, author)
            jobs = [await api.post(f"/v1/sources/{id}/refresh") for id in chosen]
            return [await ingest.follow(api, job, quiet=as_json) for job in jobs]

    ended = run(work())
    if as_json:
        print_json({"data": ended})
    else:
        for each in ended:
            ingest.report(each)
    raise typer.Exit(ingest.outcomes(ended))


@commands.command()
def remove(
    ids: Annotated[list[str], typer.Argument(help="Their ids (or the beginnings).")],
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Stop crawling sources; what they brought stays."""
    confirm(f"Remove {len(ids)} source(s)?", yes)

    async def work() -> None:
        async with connect(url, api_key) as api:
            for id in await _choose(api, ids, None):
                await api.delete(f"/v1/sources/{id}")

    run(work())


async def _choose(api: Api, ids: list[str] | None, author: str | None) -> list[str]:
    """Whole ids for beginnings of ids."""
    known = [str(each["id"]) for each in (await api.get("/v1/sources", author=author))["data"]]
    if not ids:
        return known
    return list(dict.fromkeys(whole_id(each, known, "sources") for each in ids))
