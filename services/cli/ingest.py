"""`twin ingest`: bring text in and watch it arrive."""

from __future__ import annotations

import asyncio
import getpass
import mimetypes
import re
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from services.cli.api import Api, connect
from services.cli.options import ApiKey, AuthorOption, Json, Url, err, out, print_json, run
from services.domain import NAMED_KINDS
from services.errors import InvalidInput, Unavailable, Unprocessable

_BATCH = 50
"""Files of one upload."""
PATIENCE = 60.0
"""Seconds for which a job is followed whose gateway is away: a restart takes less."""
_SKIPPED = {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"}


def register(app: typer.Typer) -> None:
    app.command()(ingest)


def ingest(
    sources: Annotated[
        list[str], typer.Argument(help="Addresses (page, feed, sitemap, Git repository), files, folders.")
    ],
    author: AuthorOption = None,
    kind: Annotated[str | None, typer.Option(help=f"{', '.join(NAMED_KINDS)}: where guessing is wrong.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE: max_pages, depth, ref, include, …")
    ] = None,
    every: Annotated[str | None, typer.Option(help="Crawl again every 30m, 12h, 7d.")] = None,
    watch: Annotated[bool, typer.Option(help="Watch a folder for changes while `twin up` runs.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="With --url: do not wait for the end.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Bring in what someone wrote: crawl, clean, chunk, embed, index."""
    options = dict(_pair(each) for each in option or [])
    seconds = duration(every) if every else None
    name = author or default_author()

    async def work() -> dict[str, Any]:
        async with connect(url, api_key, workers=True) as api:
            remote = bool(url)
            files = [Path(each) for each in sources if remote and not _is_address(each)]
            specs = [
                {"address": _address(each), "kind": kind, "options": options, "every": seconds, "watch": watch}
                for each in sources
                if not (remote and not _is_address(each))
            ]
            jobs = []
            if specs:
                jobs.append(await api.post("/v1/ingest-jobs", {"author": name, "sources": specs}))
            if files:
                jobs.extend(await _upload(api, name, files))
            ended = [each if detach and remote else await follow(api, each, quiet=as_json) for each in jobs]
            return ended[0] if len(ended) == 1 else {"data": ended}

    result = run(work())
    jobs = result.get("data", [result])
    if as_json:
        print_json(result)
    else:
        for each in jobs:
            report(each)
    raise typer.Exit(max(map(outcome, jobs)))


async def follow(api: Api, job: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Show a job's progress until it ends; its last state. Interrupting leaves the job to go on or to be resumed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
        bars: dict[str, TaskID] = {}
        async for state in _states(api, job["id"]):
            job = state
            for source in state["sources"]:
                bar = bars.get(source["source_id"])
                if bar is None:
                    bar = bars[source["source_id"]] = progress.add_task(_shorten(source["address"]), total=None)
                seen = source["progress"]
                progress.update(bar, completed=seen["seen"], total=seen["total"])
            documents = state["documents"]
            total = sum(documents.values())
            if total:
                bar = bars.get("")
                if bar is None:
                    bar = bars[""] = progress.add_task("searchable", total=total)
                progress.update(bar, completed=total - documents["queued"], total=total)
    return job


async def _states(api: Api, id: str) -> AsyncIterator[dict[str, Any]]:
    """A job after each change, to its end. A gateway that is restarted ends the stream before that: another one, or
    the same when it is back, goes on with it."""
    last = time.monotonic()
    while True:
        try:
            async for name, state in api.events("GET", f"/v1/ingest-jobs/{id}/events"):
                last = time.monotonic()
                yield state
                if name == "end":
                    return
        except Unavailable:
            if time.monotonic() - last > PATIENCE:
                raise
        await asyncio.sleep(1)


def report(job: dict[str, Any]) -> None:
    """A job's end in a few lines."""
    for source in job["sources"]:
        seen = source["progress"]
        counts = ", ".join(
            f"{seen[each]} {each}" for each in ("new", "changed", "unchanged", "skipped", "failed") if seen[each]
        )
        out.print(f"{source['state']:9} {source['address']}: {counts or 'nothing found'}", markup=False)
        if source["failure"]:
            out.print(f"          {source['failure']}", markup=False)
    for failure in job["failures"]:
        err.print(f"  {failure['address']}: {failure['message']}", markup=False)
    documents = job["documents"]
    if documents["queued"]:
        out.print(f"{documents['queued']} documents are still on their way into the index.")


def outcome(job: dict[str, Any]) -> int:
    """The exit code of a job: 0, 3 where some failed, 1 where nothing came in."""
    failed = bool(job["failures"]) or job["documents"]["failed"] > 0
    if job["state"] in ("failed", "cancelled"):
        return 1
    return 3 if failed else 0


def default_author() -> str:
    """Whose writing it is where nobody says: the user's name on this machine."""
    try:
        name = re.sub(r"[^\w .-]", "", getpass.getuser()).strip(". ")
    except (OSError, KeyError):
        name = ""
    return name or "me"


def duration(text: str) -> float:
    """`90`, `90s`, `30m`, `12h` or `7d` → seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not match:
        raise InvalidInput(f"{text!r} is no length of time: say 30m, 12h or 7d.", param="every")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


async def _upload(api: Api, author: str, paths: list[Path]) -> list[dict[str, Any]]:
    jobs = []
    found = [(name, file) for path in paths for name, file in _files(path)]
    if not found:
        raise Unprocessable("There is no file in what was named.")
    for start in range(0, len(found), _BATCH):
        with ExitStack() as stack:
            files = []
            for name, file in found[start : start + _BATCH]:
                media = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                files.append((name, stack.enter_context(file.open("rb")), media))
            jobs.append(await api.upload("/v1/documents", {"author": author}, files))  # type: ignore[arg-type]
    return jobs


def _files(path: Path) -> list[tuple[str, Path]]:
    """(name to upload it under, file): paths below a folder keep their folders in the name."""
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise InvalidInput(f"{path} is neither an address nor a file or folder here.")
    root = path.resolve()
    return sorted(
        (file.relative_to(root).as_posix(), file)
        for file in root.rglob("*")
        if file.is_file() and not file.is_symlink() and not _SKIPPED.intersection(file.relative_to(root).parts)
    )


def _is_address(text: str) -> bool:
    return "://" in text or bool(re.match(r"[\w.-]+@[\w.-]+:", text))


def _address(text: str) -> str:
    """Addresses as they are; paths made absolute, for the work may be done elsewhere than here."""
    if _is_address(text):
        return text
    path = Path(text).expanduser()
    if path.exists():
        return str(path.resolve())
    if re.fullmatch(r"[\w-]+(\.[\w-]+)+(/\S*)?", text):
        return f"https://{text}"
    raise InvalidInput(f"{text!r} is neither an address nor a file or folder here.")


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise InvalidInput(f"--option takes NAME=VALUE, not {text!r}.", param="option")
    return name, value


def _shorten(address: str, width: int = 48) -> str:
    return address if len(address) <= width else f"…{address[-width + 1 :]}"
