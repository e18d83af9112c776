"""`twin keys`, `twin reindex`, `twin calibrate`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from services.cli.api import connect
from services.cli.options import ApiKey, Json, Url, Yes, confirm, err, out, print_json, run

_POLL = 0.5
"""Seconds between looks at a reindex job."""


def register(app: typer.Typer) -> None:
    app.add_typer(keys, name="keys")
    app.command()(reindex)
    app.command()(calibrate)


keys = typer.Typer(help="API keys: who may do what.", no_args_is_help=True)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[str, typer.Option(help="reader, writer or admin.")] = "reader",
    author: Annotated[
        list[str] | None, typer.Option("--author", "-a", help="Only these authors (may be repeated).")
    ] = None,
    expires: Annotated[int | None, typer.Option(help="Days until it expires.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Requests a minute.", min=1)] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown this once."""
    body = {
        "name": name,
        "role": role,
        "authors": author or None,
        "expires_in_days": expires,
        "requests_per_minute": limit,
    }

    async def work() -> dict[str, Any]:
        async with connect(url, api_key) as api:
            return dict(await api.post("/v1/api-keys", body))

    made = run(work())
    if as_json:
        print_json(made)
        return
    out.print(made["secret"], markup=False)
    err.print("Keep it: it is not shown again. Use it as TWIN_API_KEY, or as the key of an OpenAI client.")


@keys.command("list")
def list_keys(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List keys; never their secrets."""

    async def work() -> list[dict[str, Any]]:
        async with connect(url, api_key) as api:
            return list((await api.get("/v1/api-keys"))["data"])

    found = run(work())
    if as_json:
        print_json({"data": found})
        return
    table = Table("id", "name", "role", "authors", "used", "state", box=None, pad_edge=False)
    for each in found:
        authors = "all" if each["authors"] is None else ", ".join(each["authors"])
        state = "revoked" if each.get("revoked_at") else "valid"
        table.add_row(each["id"], each["name"], each["role"], authors, str(each.get("used_at") or "never"), state)
    out.print(table)


@keys.command()
def revoke(
    id: Annotated[str, typer.Argument(help="Its id, as `twin keys list` shows it.")],
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Make a key worthless."""
    confirm(f"Revoke {id}?", yes)

    async def work() -> None:
        async with connect(url, api_key) as api:
            await api.delete(f"/v1/api-keys/{id}")

    run(work())


def reindex(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Build the index anew with the encoder that the settings name, beside the old one, then switch."""

    async def work() -> dict[str, Any]:
        async with connect(url, api_key, workers=True) as api:
            job = await api.post("/v1/reindex-jobs")
            with Progress(console=err, disable=as_json or not err.is_terminal, transient=True) as progress:
                bar = progress.add_task("reindexing", total=None)
                while job["state"] in ("queued", "running"):
                    await asyncio.sleep(_POLL)
                    job = await api.get(f"/v1/reindex-jobs/{job['id']}")
                    progress.update(bar, completed=job["progress"]["seen"], total=job["progress"]["total"])
            return dict(job)

    job = run(work())
    if as_json:
        print_json(job)
    else:
        out.print(f"{job['state']}: {job['progress']['seen']} documents. {job['failure'] or ''}", markup=False)
    raise typer.Exit(0 if job["state"] == "done" else 1)


def calibrate(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Fit the scores from which on passages count as an answer to the corpus itself."""

    async def work() -> dict[str, Any]:
        async with connect(url, api_key) as api:
            return dict(await api.post("/v1/calibrations"))

    made = run(work())
    if as_json:
        print_json(made)
        return
    fitted = made["thresholds"]
    out.print(
        f"Declines below a topicality of {fitted['decline']:.3f}, answers from a confidence of {fitted['answer']:.3f} "
        f"on: {fitted['origin']}."
    )
