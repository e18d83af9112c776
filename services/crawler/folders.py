"""Which of the machine's own folders may be read.

Comes in: the setting, paths that callers name. Goes out: real paths, or Forbidden. Does not know: who asks; the gateway
lets only administrators name paths.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.errors import Forbidden, InvalidInput, NotFound


class Folders:
    def __init__(self, allowed: Sequence[Path] | None) -> None:
        """`allowed`: what lies in these may be read; None: everything that the process may read."""
        self._allowed = None if allowed is None else [Path(os.path.realpath(each.expanduser())) for each in allowed]

    def resolve(self, address: str) -> Path:
        """The real path of an address: an absolute path, `~/…` or `file:///…`. InvalidInput, Forbidden, NotFound.

        Links are resolved before the check, so none leads out of an allowed folder; and what may not be read is
        refused whether it exists or not.
        """
        if "\0" in address:
            raise InvalidInput("The path holds a zero byte.", param="sources")
        if address.startswith("file://"):
            parts = urlsplit(address)
            if parts.netloc not in ("", "localhost"):
                raise InvalidInput("A file:// address names no other host.", param="sources")
            address = unquote(parts.path)
        path = Path(os.path.expanduser(address))
        if not path.is_absolute() and address.startswith("~"):
            raise NotFound("There is no such user's home on the server's machine.", param="sources")
        if not path.is_absolute():
            raise InvalidInput("Give a whole path, beginning with / or ~, or an address beginning with http(s)://.")
        real = Path(os.path.realpath(path))
        if self._allowed is not None and not any(real.is_relative_to(each) for each in self._allowed):
            raise Forbidden(
                "This path may not be read. The server's TWIN_CRAWLER_FOLDERS names the folders that may: "
                "upload the file, or have its folder added there.",
                param="sources",
            )
        # Unlike pathlib's, these two bear `~nobody` and names beyond the file system's limit.
        if not os.path.exists(real):
            raise NotFound("There is nothing at this path.", param="sources")
        return real


def is_local(address: str) -> bool:
    """Whether an address is meant as a path of the server's machine."""
    scheme, separator, _ = address.partition("://")
    return scheme.lower() == "file" if separator else not address.startswith("upload:")
