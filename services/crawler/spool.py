"""Where the files of an upload wait until the last of them is whole.

Comes in: names and pieces of bytes, as they arrive. Goes out: each file's size, hash and place in one temporary file.
Does not know: authors, stores, what is done with them.

The temporary file (in TMPDIR) has no name that outlives this process's hold of it, so that a broken-off upload and a
killed process leave nothing behind: the system takes it back.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Self, cast

from services.errors import InvalidInput

MOST_FILES = 1000
"""Of one upload."""


@dataclass(slots=True)
class SpooledFile:
    name: str
    media_type: str
    start: int
    """Of its bytes in the temporary file."""
    size: int = 0
    hash: Any = field(default_factory=hashlib.sha256)


class Spool:
    """One upload's files. To be closed."""

    def __init__(self) -> None:
        self.files: list[SpooledFile] = []
        self._file = cast(BinaryIO, tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  held until it is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def begin(self, name: str, media_type: str) -> None:
        """A file whose pieces come next. InvalidInput."""
        if len(self.files) == MOST_FILES:
            raise InvalidInput(f"More than {MOST_FILES} files: send fewer at once.", param="file")
        start = self.files[-1].start + self.files[-1].size if self.files else 0
        self.files.append(SpooledFile(name, media_type, start))

    async def write(self, piece: bytes) -> None:
        """Of the file begun last."""
        file = self.files[-1]

        def write() -> None:
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
            file.hash.update(piece)

        await asyncio.to_thread(write)
        file.size += len(piece)

    def opened(self, file: SpooledFile) -> tuple[BinaryIO, int]:
        """The temporary file where this one begins, and its size."""
        self._file.seek(file.start)
        return self._file, file.size
