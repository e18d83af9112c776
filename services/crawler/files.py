"""Which files of a folder or repository are somebody's writing, and reading them safely.

Comes in: paths, globs. Goes out: yes or no, bytes. Does not know: formats; the extractor decides what it can read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dulwich.ignore import IgnoreFilter

from services.crawler.extract.media import BINARY_SUFFIXES
from services.errors import Forbidden, InvalidInput, NotFound, TooLarge, Unprocessable, UnsupportedMedia

DEFAULT_EXCLUDE = (
    # Hidden files hold settings, credentials and version control; the rest is other people's code, or generated.
    ".*",
    "node_modules/",
    "bower_components/",
    "__pycache__/",
    "site-packages/",
    "vendor/",
    "venv/",
    "Pods/",
    "DerivedData/",
    "htmlcov/",
    "*.egg-info/",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "Cargo.lock",
    "go.sum",
    "composer.lock",
    "Gemfile.lock",
    "*.min.js",
    "*.min.css",
    "*.map",
    "*.svg",
    "*_pb2.py",
    "*_pb2.pyi",
    "*_pb2_grpc.py",
    "*~",
    "*.swp",
    "*.tmp",
)
DEEPEST = 64
"""Folders in folders."""
_GONE = (FileNotFoundError, NotADirectoryError)
"""Errors that say that something went between listing and looking."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which paths, relative and with forward slashes, are taken: as .gitignore files say it."""

    include: IgnoreFilter | None
    exclude: IgnoreFilter

    def takes(self, path: str) -> bool:
        name = _plain(path)
        parts = name.split("/")
        # A folder that is excluded is excluded with all below it.
        if any(self.exclude.is_ignored("/".join(parts[:depth]) + "/") for depth in range(1, len(parts))):
            return False
        if self.exclude.is_ignored(name):
            return False
        return self.include is None or bool(self.include.is_ignored(name))

    def enters(self, path: str) -> bool:
        """Whether a folder's content is looked at; its parents' are taken to be."""
        return not self.exclude.is_ignored(f"{_plain(path)}/")


def _plain(path: str) -> str:
    """A path for matching: bytes that are no UTF-8, and line feeds, match what any character matches."""
    return path.encode("utf-8", "replace").decode().replace("\n", "?").replace("\r", "?")


def selection(options: Mapping[str, str]) -> Selection:
    """Of a source's options `include` and `exclude`: globs, one a line or separated by commas; `!` takes back one of
    the defaults."""
    include, exclude = globs(options.get("include", "")), globs(options.get("exclude", ""))
    defaults = [each.encode() for each in DEFAULT_EXCLUDE]
    return Selection(IgnoreFilter(include) if include else None, IgnoreFilter([*defaults, *exclude]))


def globs(text: str) -> list[bytes]:
    found = [each.strip() for each in re.split(r"[,\n]", text) if each.strip()]
    if len(found) > 100 or any(len(each) > 200 or each.count("*") > 8 for each in found):
        raise InvalidInput("Too many or too intricate globs in include or exclude.", param="options")
    return [each.encode("utf-8", "surrogateescape") for each in found]


def check_readable(path: str, head: bytes) -> None:
    """UnsupportedMedia for binary content that no extractor reads."""
    utf_16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in head[:8192] and not path.lower().endswith(BINARY_SUFFIXES) and not utf_16:
        raise UnsupportedMedia("It is a binary file.")


@dataclass(frozen=True, slots=True)
class FoundFile:
    path: str
    """Below the folder, forward slashes; bytes that are no UTF-8 as surrogate escapes."""
    size: int
    stamp: str
    """Changes with each change of the file; empty where the file is too young to tell."""


def walk(folder: Path, chosen: Selection, unread: list[str], *, most: int, now: float) -> Iterator[FoundFile]:
    """Regular files below a folder, in the order of their paths. Links are not followed: what they lead to is either
    in the folder anyway, or not part of it. TooLarge beyond `most` files.

    `unread` gets the paths that are there and cannot be looked at: what lies there is not known to be gone.
    """
    count = 0
    pending: list[tuple[str, Path, int]] = [("", folder, 0)]
    while pending:
        prefix, directory, depth = pending.pop()
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not prefix:
                raise NotFound("The folder cannot be read: is it still there, and may Twin read it?") from error
            if not isinstance(error, _GONE):
                unread.append(prefix)
            continue
        below: list[tuple[str, Path, int]] = []
        for entry in listed:
            path = f"{prefix}{entry.name}"
            try:
                if entry.is_dir(follow_symlinks=False):
                    if depth < DEEPEST and chosen.enters(path):
                        below.append((f"{path}/", directory / entry.name, depth + 1))
                    continue
                if not entry.is_file(follow_symlinks=False) or not chosen.takes(path):
                    continue
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                if not isinstance(error, _GONE):
                    unread.append(path)
                continue
            count += 1
            if count > most:
                raise TooLarge(f"The folder has more than {most:,} files. Narrow it with include or exclude.")
            yield FoundFile(path, status.st_size, stamp(status, now))
        pending.extend(reversed(below))


def stamp(status: os.stat_result, now: float) -> str:
    """What changes with a file. As Git does, a file changed within the last 2 seconds is not trusted to show its next
    change in its times."""
    if now - max(status.st_mtime, status.st_ctime) < 2.0:
        return ""
    return f"{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def read_below(folder: Path, path: str, limit: int) -> bytes:
    """A regular file's bytes. Forbidden where a link on the way leads out of the folder, or it is a device or pipe:
    it may have become one since it was listed."""
    file = folder / path
    parent = os.path.realpath(file.parent)
    if os.path.commonpath([parent, os.path.realpath(folder)]) != os.path.realpath(folder):
        raise Forbidden("A link leads out of the folder.")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(os.path.join(parent, file.name), flags)
    except FileNotFoundError as error:
        raise NotFound("The file is not there any more.") from error
    except OSError as error:
        raise Forbidden("The file cannot be opened: it is a link, or its permissions do not allow it.") from error
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Forbidden("It is no regular file.")
        try:
            data = opened.read(limit + 1)
        except OSError as error:
            raise Unprocessable("The file cannot be read from the disk.") from error
    if len(data) > limit:
        raise TooLarge(f"The file has more than {limit:,} bytes, which is the limit.")
    return data
