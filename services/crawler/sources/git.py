"""A Git repository, remote (http, https) or on the machine's own disk: its prose and code at a ref.

Comes in: an address, and the options `ref`, `include`, `exclude`. Goes out: its files, by path. Does not know: history;
a document's address has no ref, so the same file on another branch is the same document's next version.

The commit of the last crawl that went through is kept in the option `commit`: while the ref names it, no file is
fetched.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from services.crawler.address import git_address
from services.crawler.folders import is_local
from services.crawler.page import Links
from services.crawler.sandbox import Frame
from services.crawler.sources import Item, Kind, Listing, Payload, Tools
from services.crawler.tasks import EXTRACTOR
from services.domain import Source
from services.errors import InvalidInput, NotFound, Unprocessable, by_code

KIND = Kind(
    on_web=True,
    on_machine=True,
    options=frozenset({"ref", "include", "exclude"}),
    notes=frozenset({"commit"}),
)


async def open(source: Source, tools: Tools) -> Listing:
    address = source.address
    if is_local(address):
        address = str(await asyncio.to_thread(tools.folders.resolve, address))
    ref = source.options.get("ref", "")
    if len(ref) > 250 or any(each in ref for each in "\0\n ~^:?*[\\"):
        raise InvalidInput("The option ref is the name of a branch or tag, or a commit id.", param="options.ref")
    # Another extractor reads the same commit anew.
    commit, _, extractor = source.options.get("commit", "").partition(" ")
    header: dict[str, Any] = {
        "address": address,
        "ref": ref,
        "networks": tools.networks,
        "user_agent": tools.user_agent,
        "options": {name: source.options[name] for name in ("include", "exclude") if name in source.options},
        "known_commit": commit if extractor == EXTRACTOR else "",
        "most_files": tools.bounds.files,
        "most_bytes": tools.bounds.repository_bytes,
        "most_file_bytes": tools.bounds.file_bytes,
        "seconds": tools.bounds.repository_seconds,
    }
    directory = await asyncio.to_thread(tempfile.mkdtemp, prefix="twin-git-")
    header["directory"] = directory
    frames = tools.repositories.stream("git", header, seconds=tools.bounds.repository_seconds)
    try:
        first, _ = await anext(frames)
    except BaseException as error:
        await frames.aclose()
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        if isinstance(error, StopAsyncIteration):
            raise Unprocessable("The repository cannot be read.") from error
        raise
    if first["total"] is None:
        async for _ in frames:  # to its end, so that the child can be used again
            pass
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    return _Repository(source, first["commit"], first["total"], frames, directory)


class _Repository:
    complete = True
    wants_links = False

    def __init__(
        self, source: Source, commit: str, total: int | None, frames: AsyncGenerator[Frame, None], directory: str
    ) -> None:
        self.total = total
        self.unchanged = total is None
        self.notes = {"commit": f"{commit} {EXTRACTOR}"}
        self._source = source
        self._frames = frames
        self._directory = directory

    async def items(self) -> AsyncGenerator[Item, None]:
        try:
            async with aclosing(self._frames):
                async for answer, data in self._frames:
                    path: str = answer["path"]
                    yield Item(
                        (git_address(self._source.address, path),),
                        read=_reader(path, data, answer.get("code"), answer.get("message", "")),
                        stamp=answer["sha"],
                        size=len(data),
                    )
        finally:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    def handled(self, item: Item, links: Links | None) -> None:
        return None


def _reader(path: str, data: bytes, code: str | None, message: str) -> Callable[[], Awaitable[Payload]]:
    async def read() -> Payload:
        if code is not None:
            raise by_code().get(code, NotFound)(message)
        return Payload(data, name=path.rpartition("/")[2])

    return read
