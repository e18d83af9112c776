"""Files of a Git repository at a ref: read in the sandbox, without a git program and without a work tree.

Comes in: an address (http, https, or a path), a ref, limits. Goes out: frames, first the commit, then each file with
its bytes. Does not know: documents, what was known before.

A remote is fetched shallow, one commit, over connections that go to checked addresses only, redirects included. Nothing
of a repository is written under its own names, so no path in it can do harm.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import urllib3
from dulwich.client import HTTPUnauthorized, Urllib3HttpGitClient
from dulwich.errors import GitProtocolError, NotGitRepository
from dulwich.object_store import iter_tree_contents
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.objectspec import parse_commit
from dulwich.repo import Repo
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from services.crawler.files import check_readable, selection
from services.crawler.guard import Guard, parse_networks
from services.errors import Forbidden, NotFound, TooLarge, Unavailable, Unprocessable, UnsupportedMedia

_REGULAR = (0o100644, 0o100755, 0o100664)


def read(
    *,
    address: str,
    directory: str,
    ref: str,
    networks: str,
    user_agent: str,
    options: Mapping[str, str],
    known_commit: str,
    most_files: int,
    most_bytes: int,
    most_file_bytes: int,
    seconds: float,
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Frames: {"commit", "total"}, then {"path", "sha"} with bytes, or {"path", "sha", "code", "message"} for a file
    that is left out. Where the ref still names `known_commit`, the first frame is all there is, with total None.

    `directory`: an empty one, where a remote's objects are kept meanwhile; who made it removes it, for this process may
    be killed. Raises NotFound, Forbidden, Unavailable, TooLarge, Unprocessable.
    """
    if "://" in address:
        remote = _Remote(address, networks, user_agent, most_bytes, seconds)
        commit_id = remote.find(ref)
        if commit_id.decode() == known_commit:
            yield {"commit": known_commit, "total": None}, b""
            return
        repository = remote.fetch(commit_id, directory)
        commit = repository[commit_id]
    else:
        repository, commit = _local(address, ref)
        if commit.id.decode() == known_commit:
            yield {"commit": known_commit, "total": None}, b""
            return
    while not isinstance(commit, Commit):
        if not hasattr(commit, "object"):
            raise Unprocessable("The ref names no commit.")
        commit = repository[commit.object[1]]  # an annotated tag
    chosen = selection(options)
    files: list[tuple[str, ObjectID]] = []
    for number, entry in enumerate(iter_tree_contents(repository.object_store, commit.tree)):
        # Trees that hold one another over and over multiply without end (a "git bomb").
        if number > most_files * 10:
            raise TooLarge(f"The repository has more than {most_files * 10:,} entries.")
        path = entry.path.decode("utf-8", "surrogateescape")
        if entry.mode in _REGULAR and len(path) <= 4096 and chosen.takes(path):
            files.append((path, entry.sha))
        if len(files) > most_files:
            raise TooLarge(f"More than {most_files:,} files are chosen. Narrow them with include or exclude.")
    yield {"commit": commit.id.decode(), "total": len(files)}, b""
    for path, sha in files:
        frame = {"path": path, "sha": sha.decode()}
        try:
            yield frame, _content(repository, path, sha, most_file_bytes)
        except (TooLarge, UnsupportedMedia, Unprocessable) as error:
            yield {**frame, "code": error.code, "message": error.message}, b""


def _content(repository: Repo, path: str, sha: ObjectID, limit: int) -> bytes:
    try:
        blob = repository.object_store[sha]
    except KeyError as error:
        raise Unprocessable("The repository lacks this file's content.") from error
    except MemoryError as error:
        raise TooLarge("The file needs more memory to be read than is allowed.") from error
    if not isinstance(blob, Blob):
        raise Unprocessable("The repository's entry for this file is no file.")
    data: bytes = blob.data
    if len(data) > limit:
        raise TooLarge(f"The file has more than {limit:,} bytes, which is the limit.")
    check_readable(path, data[:8192])
    return data


def _local(path: str, ref: str) -> tuple[Repo, Any]:
    try:
        repository = Repo(path)
    except (NotGitRepository, OSError) as error:
        raise NotFound("There is no Git repository at this path.") from error
    try:
        return repository, parse_commit(repository, ref or "HEAD")
    except (KeyError, ValueError) as error:
        raise NotFound("The repository has no such ref, or no commit yet.") from error


class _Remote:
    def __init__(self, address: str, networks: str, user_agent: str, most_bytes: int, seconds: float) -> None:
        self._path = "/"
        self._until = time.monotonic() + seconds
        self._client = _Client(
            address.rstrip("/") + "/",
            pool_manager=_pool(Guard(parse_networks(networks)), user_agent, min(seconds, 60.0)),
            quiet=True,
        )
        self._client.allow(most_bytes, self._until)

    def find(self, ref: str) -> ObjectID:
        """The commit that a branch, tag, full ref or commit id names."""
        wanted = ref.encode()
        if re.fullmatch(rb"[0-9a-f]{40}", wanted):
            return ObjectID(wanted)
        refs = self._do(lambda: self._client.get_refs("")).refs
        names = [b"HEAD"] if not wanted else [b"refs/heads/" + wanted, b"refs/tags/" + wanted, wanted]
        for name in names:
            # A tag's own object first, then what it points at: the latter is the commit.
            found = refs.get(name + b"^{}") or refs.get(name)
            if found:
                return ObjectID(found)
        raise NotFound("The repository has no such branch or tag." if ref else "The repository has no commit yet.")

    def fetch(self, commit: ObjectID, directory: str) -> Repo:
        target = Repo.init_bare(directory)

        def wants(refs: Mapping[Any, ObjectID], depth: int | None = None) -> list[ObjectID]:
            return [commit]

        self._do(lambda: self._client.fetch("", target, determine_wants=wants, depth=1))
        if commit not in target.object_store:
            raise Unprocessable("The server did not send the commit that was asked for.")
        return target

    def _do(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except NotGitRepository as error:
            raise NotFound("There is no Git repository at this address, or it is not public.") from error
        except HTTPUnauthorized as error:
            raise Forbidden("The repository is not public.") from error
        except (TooLarge, Forbidden, Unavailable):
            raise
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable("The Git server cannot be reached.") from error
        except (GitProtocolError, ValueError, KeyError, AssertionError, EOFError) as error:
            refusal = _cause(error)
            if refusal is not None:
                raise refusal from error
            raise Unprocessable("The server does not answer as a Git server does.") from error


def _cause(error: BaseException) -> Forbidden | Unavailable | None:
    """The guard's refusal, under the library's wrappings."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Forbidden | Unavailable):
            return seen
        reason = getattr(seen, "reason", None)
        seen = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
    return None


class _Client(Urllib3HttpGitClient):
    """With an end to what a server may send, and to how long it may take."""

    def allow(self, most_bytes: int, until: float) -> None:
        self._left = most_bytes
        self._most = most_bytes
        self._until = until

    def _http_request(self, *args: Any, **kwargs: Any) -> Any:
        response, inner = super()._http_request(*args, **kwargs)

        def counted(size: int = -1) -> bytes:
            if time.monotonic() > self._until:
                raise Unavailable("The Git server took too long.")
            data = inner(size if size >= 0 else 1 << 16)
            self._left -= len(data)
            if self._left < 0:
                raise TooLarge(f"The repository has more than {self._most:,} bytes, which is the limit.")
            return data

        return response, counted


def _pool(guard: Guard, user_agent: str, timeout: float) -> urllib3.PoolManager:
    """urllib3's pools over connections that go where the guard has looked, as fetch.py's do."""

    def connect(host: str, port: int) -> socket.socket:
        try:
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"The host {host[:253]} is not known.") from error
        failed: OSError | None = None
        for address in guard.checked(host, found)[:4]:
            try:
                return socket.create_connection((address, port), timeout=timeout)
            except OSError as error:
                failed = error
        raise Unavailable("The Git server cannot be reached: no connection.") from failed

    class GuardedConnection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self.host, self.port)

    class GuardedSecureConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self.host, self.port)

    class GuardedPool(HTTPConnectionPool):
        ConnectionCls = GuardedConnection

    class GuardedSecurePool(HTTPSConnectionPool):
        ConnectionCls = GuardedSecureConnection

    manager = urllib3.PoolManager(
        headers={"User-Agent": user_agent},
        timeout=urllib3.Timeout(connect=20.0, read=20.0),
        retries=urllib3.Retry(total=3, connect=1, read=0, redirect=3, status=0, raise_on_redirect=True),
        ssl_context=httpx.create_ssl_context(trust_env=True),
    )
    manager.pool_classes_by_scheme = {"http": GuardedPool, "https": GuardedSecurePool}
    return manager
