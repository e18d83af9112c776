"""`twin backup` and `twin restore`: everything in one file, from and into the stores that the settings name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from services.cli.options import Json, err, out, print_json, run


def register(app: typer.Typer) -> None:
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to make.")],
    as_json: Json = False,
) -> None:
    """Write everything into one file: documents, vectors, sources, journal, keys. Writes may go on meanwhile."""
    from services.backup import backup as work

    _report(run(_with_stores(file, work.backup, "Backing up", quiet=as_json)), file, as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `twin backup` made.", exists=True, dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Fill empty stores from a backup; nothing is embedded again. Stop Twin first."""
    from services.backup import restore as work

    _report(run(_with_stores(file, work.restore, "Restoring", quiet=as_json)), file, as_json)


async def _with_stores(
    file: Path, work: Callable[..., Awaitable[object]], what: str, *, quiet: bool
) -> dict[str, object]:
    from services.backup import bootstrap
    from services.backup.records import plain
    from services.settings import read

    stores = await bootstrap.build(read(bootstrap.Settings))
    try:
        with Progress(console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
            bar = progress.add_task(what, total=None)

            def say(kind: str, count: int) -> None:
                progress.update(bar, description=f"{what}: {count} {kind}")

            return dict(plain(await work(stores, file, say)))
    finally:
        await stores.close()


def _report(contents: dict[str, object], file: Path, as_json: bool) -> None:
    if as_json:
        print_json({**contents, "file": str(file), "bytes": file.stat().st_size})
        return
    counts = contents["counts"]
    assert isinstance(counts, dict)  # noqa: S101  of Contents
    held = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    out.print(f"{file}: {held}. Counts and digests hold.", markup=False)
