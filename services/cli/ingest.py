"""`twin ingest`: bring text in and watch it arrive."""

from __future__ import annotations

import asyncio
import getpass
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
from services.errors import InvalidInput, Misconfigured, Unavailable, Unprocessable, UnsupportedMedia

_BATCH = 50
"""Files of one upload."""
_ANY = "application/octet-stream"
_UNDER_WAY = ("queued", "running")
_ENDINGS = tuple(
    ".md .markdown .mdx .qmd .rmd .txt .text .rst .adoc .log .html .htm .xhtml .pdf .doc .docx .odt .rtf .epub .ipynb "
    ".tex .json .jsonl .csv .tsv .xml .yaml .yml .toml .ini .py .js .ts .tsx .jsx .java .kt .go .c .h .cpp .hpp .sql "
    ".css".split()
)
"""Of names that are files' rather than hosts'. Not .org, .rs, .pl and the like, under which many hosts are."""
PATIENCE = 60.0
"""Seconds for which a job is followed whose gateway is away: a restart takes less."""
_MOST = 100_000
"""Files of a folder that is uploaded; a gateway's own folders have a limit of their own."""
_GLOBS = {"include", "exclude"}
"""Options that choose files, here as in the crawler."""


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
    # A gateway elsewhere has not this machine's disk: what is on it is sent.
    paths = [each for each in sources if url and not _is_address(each) and Path(each).expanduser().exists()]
    specs = [
        {"address": _address(each), "kind": kind, "options": options, "every": seconds, "watch": watch}
        for each in sources
        if each not in paths
    ]
    here = [Path(each).expanduser() for each in paths]
    if here:
        _check_sent({"--kind": kind, "--every": every, "--watch": watch}, options, here)
    files = _chosen(here, options)

    async def work() -> dict[str, Any]:
        async with connect(url, api_key, workers=True) as api:
            jobs = []
            if specs:
                jobs.append(await api.post("/v1/ingest-jobs", {"author": name, "sources": specs}))
            jobs.extend(await _upload(api, name, files))
            ended = [each if detach and url else await follow(api, each, quiet=as_json) for each in jobs]
            return ended[0] if len(ended) == 1 else {"data": ended}

    result = run(work())
    jobs = result.get("data", [result])
    if as_json:
        print_json(result)
    else:
        for each in jobs:
            report(each)
    raise typer.Exit(outcomes(jobs))


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
    """A job's end in a few lines; of one that is not waited for, that it is under way."""
    for source in job["sources"]:
        seen = source["progress"]
        counts = ", ".join(
            f"{seen[each]} {each}" for each in ("new", "changed", "unchanged", "skipped", "failed") if seen[each]
        )
        if not counts and source["state"] not in _UNDER_WAY:
            counts = "nothing found"
        out.print(": ".join(filter(None, (f"{source['state']:9} {source['address']}", counts))), markup=False)
        if source["failure"]:
            out.print(f"          {source['failure']}", markup=False)
    for failure in job["failures"]:
        err.print(f"  {failure['address']}: {failure['message']}", markup=False)
    documents = job["documents"]
    if documents["queued"] and job["state"] not in _UNDER_WAY:
        out.print(f"{documents['queued']} documents are still on their way into the index.")


def outcome(job: dict[str, Any]) -> int:
    """The exit code of a job: 0, 3 where some failed, 1 where nothing came in."""
    failed = bool(job["failures"]) or job["documents"]["failed"] > 0
    if job["state"] in ("failed", "cancelled"):
        return 1
    return 3 if failed else 0


def outcomes(jobs: list[dict[str, Any]]) -> int:
    """The exit code of several jobs: as one's, so 3 where something came in of some and not of others."""
    codes = {outcome(each) for each in jobs}
    return codes.pop() if len(codes) == 1 else 3 if codes else 0


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


def _check_sent(given: dict[str, Any], options: dict[str, str], paths: list[Path]) -> None:
    """InvalidInput for what would be said in vain: the gateway is sent bytes once, and cannot look again."""
    vain = [name for name, value in given.items() if value]
    meant = _GLOBS if any(each.is_dir() for each in paths) else set()
    vain += [f"-o {name}" for name in options if name not in meant]
    if vain:
        raise InvalidInput(
            f"{', '.join(vain)}: not for files and folders that are uploaded to a gateway, which has no way back to "
            "them. Leave it out, or bring them in on the gateway's machine."
        )


def _chosen(paths: list[Path], options: dict[str, str]) -> list[tuple[str, Path]]:
    """(name to upload it under, file) of files and folders. Unprocessable where there is none, InvalidInput where one
    would take another's place."""
    found = [each for path in paths for each in _files(path, options)]
    files: dict[str, Path] = {}
    for name, file in found:
        if files.setdefault(name, file).resolve() != file.resolve():
            raise InvalidInput(
                f"Two of these files would be upload:{name}, the second in the place of the first: name a folder that "
                "has both, or rename one."
            )
    found = list(files.items())
    if paths and not found:
        raise Unprocessable("There is no file to take in what was named.")
    return found


def _files(path: Path, options: dict[str, str]) -> list[tuple[str, Path]]:
    """A file; of a folder what the crawler takes of one on its own machine. Names have the folder's before the path
    below it: many a folder has a README.md."""
    if path.is_file():
        try:
            path.open("rb").close()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read here ({error.strerror}): nothing was sent.") from error
        return [(path.name, path)]
    try:
        from services.crawler.files import selection, walk  # what only folders need
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"Choosing a folder's files needs the Python package {error.name}: install Twin with the extra crawler."
        ) from error

    root = path.resolve()
    unread: list[str] = []
    found = [
        (f"{root.name}/{each.path}".lstrip("/"), root / each.path)
        for each in walk(root, selection(options), unread, most=_MOST, now=time.time())
        if _is_readable(root / each.path)
    ]
    for each in unread:
        err.print(f"  {root / each}: it cannot be read here, and is not sent.", markup=False, soft_wrap=True)
    return found


def _is_readable(file: Path) -> bool:
    """Whether a file of a folder may be read at all: a picture among notes is passed over, as the crawler does."""
    from services.crawler.files import check_readable

    try:
        with file.open("rb") as opened:
            check_readable(file.name, opened.read(8192))
    except (OSError, UnsupportedMedia):
        return False
    return True


async def _upload(api: Api, author: str, found: list[tuple[str, Path]]) -> list[dict[str, Any]]:
    jobs = []
    for start in range(0, len(found), _BATCH):
        with ExitStack() as stack:
            # Of no media type: what a file is, the crawler sees by its first bytes and its name, as on its own machine.
            files = [
                (name.encode("utf-8", "replace").decode(), stack.enter_context(file.open("rb")), _ANY)
                for name, file in found[start : start + _BATCH]
            ]
            jobs.append(await api.upload("/v1/documents", {"author": author}, files))  # type: ignore[arg-type]
    return jobs


def _is_address(text: str) -> bool:
    return "://" in text or bool(re.match(r"[\w.-]+@[\w.-]+:", text))


def _address(text: str) -> str:
    """Addresses as they are; paths made absolute, for the work may be done elsewhere than here."""
    if _is_address(text):
        return text
    path = Path(text).expanduser()
    if path.exists():
        return str(path.resolve())
    if "/" not in text and text.lower().endswith(_ENDINGS):
        raise InvalidInput(f"There is no file {text!r} here. If it is an address, say https://{text}.")
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
