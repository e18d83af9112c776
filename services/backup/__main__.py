"""`python -m services.backup`: what a deployment does with its stores from time to time, without the `twin` command.

Comes in: the settings, and one of

    migrate              open every store, which brings it to this version; what is newer or broken is refused
    backup DIRECTORY     write twin-TIME.twin there, and keep the newest `--keep`

Goes out: the exit code; 1 and one line on stderr where it did not succeed. Does not know: when it is called.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

import structlog

from services import settings, telemetry
from services.backup import backup as work
from services.backup import bootstrap
from services.errors import InvalidInput, TwinError

log = structlog.get_logger()


async def migrate() -> None:
    """Open every store and close it: adapters migrate what they open."""
    stores = await bootstrap.build(settings.read(bootstrap.Settings))
    await stores.close()
    log.info("migrated")


async def backup(directory: Path, keep: int) -> Path:
    """A backup into the directory, and none there but the newest `keep`. The new one's path. InvalidInput."""
    if not await asyncio.to_thread(directory.is_dir):
        raise InvalidInput(f"{directory} is no directory: name one that is there.")
    file = directory / time.strftime("twin-%Y%m%d-%H%M%S.twin", time.gmtime())
    stores = await bootstrap.build(settings.read(bootstrap.Settings))
    try:
        contents = await work.backup(stores, file, lambda kind, count: None)
    finally:
        await stores.close()
    log.info("backed up", file=file.name, counts=contents.counts)
    await asyncio.to_thread(_drop, directory, keep)
    return file


def _drop(directory: Path, keep: int) -> None:
    # Names begin with the time; only whole ones end so.
    for old in sorted(directory.glob("twin-*.twin"))[:-keep]:
        old.unlink()
        log.info("dropped", file=old.name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.backup")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("migrate")
    backing = verbs.add_parser("backup")
    backing.add_argument("directory", type=Path)
    backing.add_argument("--keep", type=int, default=7)
    given = parser.parse_args()
    if given.verb == "backup" and given.keep < 1:
        parser.error("--keep is 1 or more")
    telemetry.configure_logs()
    try:
        asyncio.run(migrate() if given.verb == "migrate" else backup(given.directory, given.keep))
    except TwinError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
