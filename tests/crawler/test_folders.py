"""Folders, files, repositories and uploads."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from dulwich import porcelain
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from services.clients import SourceSpec
from services.crawler.spool import Spool
from services.domain import EVERYONE, JobState, Scope, Source, SourceKind, source_id
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.ports import Sources
from tests.crawler.conftest import Opener
from tests.crawler.site import Site
from tests.crawler.world import World, counts

pytestmark = pytest.mark.asyncio(loop_scope="package")


def write(folder: Path, **files: str) -> Path:
    """Files by name, `__` for /, and `_` before the suffix."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(".".join(path.name.rsplit("_", 1)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def words(seed: int, count: int = 60) -> str:
    return " ".join(f"word{(seed * 7919 + number * number * 31) % 50021}" for number in range(count))


def write_bytes(folder: Path, name: bytes, text: str) -> None:
    (Path(os.fsdecode(bytes(folder) + b"/" + name))).write_text(text)


_opened: list[list[str]] = []


def _open(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened:
        _opened[-1].append(os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else "")


@pytest.fixture(scope="module")
def hearing() -> None:
    """A hook that Python keeps for as long as the process lives."""
    sys.addaudithook(_open)


@pytest.fixture
def opened(hearing: None) -> Iterator[list[str]]:
    """Paths of the files that this process opens, in their order."""
    _opened.append([])
    yield _opened[-1]
    _opened.pop()


def age(folder: Path) -> None:
    """Make files old enough to be known by their times."""
    time.sleep(2.1)


@pytest.mark.promise(3)
async def test_a_folder_comes_in_by_path(world: World, tmp_path: Path) -> None:
    """Prose and code below a folder; hidden files, other people's code and binaries stay out."""
    notes = write(
        tmp_path / "notes",
        a_md=f"# A\n\n{words(1)}",
        deep__b_txt=words(2),
        code_py="def f():\n    return 1\n",
        node_modules__x_md=words(4),
    )
    (notes / "image.png").write_bytes(b"\x89PNG\0\0\0")
    (notes / ".env").write_text("SECRET=1")
    (notes / ".hidden.md").write_text(words(3))
    crawl = await world.ingest(str(notes))
    assert (crawl.sources[0].kind, counts(crawl)) == ("folder", (3, 0, 0, 1, 0))
    assert set(await world.documents()) == {"file:a.md", "file:deep/b.txt", "file:code.py"}
    assert "    return 1" in await world.text("file:code.py")


async def test_include_and_exclude_narrow_a_folder(world: World, tmp_path: Path) -> None:
    """Globs as .gitignore has them."""
    notes = write(tmp_path / "notes", a_md=words(1), b_txt=words(2), drafts__c_md=words(3))
    await world.ingest(SourceSpec(str(notes), options={"include": "*.md", "exclude": "drafts/"}))
    assert set(await world.documents()) == {"file:a.md"}


@pytest.mark.promise(3)
async def test_a_second_ingest_of_unchanged_files_reads_nothing(
    world: World, opened: list[str], tmp_path: Path
) -> None:
    """The short way: known by their times, 300 files are looked at and nothing is read or handed on."""
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(300):
        write_bytes(notes, f"{number}.md".encode(), f"# {number}\n\n{words(number, 20)}")
    await asyncio.to_thread(age, notes)
    assert counts(await world.ingest(str(notes)))[0] == 300
    assert len({each for each in opened if each.startswith(str(notes))}) == 300
    handed_on = len(world.index.handed_on)
    opened.clear()
    assert counts(await world.ingest(str(notes))) == (0, 0, 300, 0, 0)
    assert len(world.index.handed_on) == handed_on
    assert not [each for each in opened if each.startswith(str(notes))]


async def test_changed_new_and_vanished_files(world: World, tmp_path: Path) -> None:
    """What changed is a new version, what came is new, what went is taken, and comes back with its file."""
    notes = write(tmp_path / "notes", a_md=words(1), b_md=words(2))
    crawl = await world.ingest(str(notes))
    write(notes, a_md=words(11), c_md=words(3))
    (notes / "b.md").unlink()
    assert counts(await world.refresh(crawl)) == (1, 1, 0, 0, 0)
    assert set(await world.documents()) == {"file:a.md", "file:c.md"}
    write(notes, b_md=words(2))
    assert counts(await world.refresh(crawl)) == (1, 0, 2, 0, 0)
    assert (await world.documents())["file:b.md"].state == "indexed"


async def test_an_emptied_folder_loses_nothing(world: World, tmp_path: Path) -> None:
    """A disk that is not mounted looks like an empty folder: the documents are kept, and that is told."""
    notes = write(tmp_path / "notes", a_md=words(1))
    crawl = await world.ingest(str(notes))
    (notes / "a.md").unlink()
    again = await world.refresh(crawl)
    assert (again.state, set(await world.documents())) == (JobState.FAILED, {"file:a.md"})


@pytest.mark.parametrize(
    ("error", "kept"),
    [(OSError(errno.EIO, "no"), True), (PermissionError(errno.EACCES, "no"), True), (FileNotFoundError(), False)],
)
async def test_a_folder_that_cannot_be_read_loses_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, kept: bool
) -> None:
    """Below the source's own too: while a part of it cannot be read, what the rest has comes in, and no document is
    taken for gone. A folder that went while the others were listed is gone."""
    notes = write(tmp_path / "notes", a_md=words(1))
    write(notes / "sub", b_md=words(2))
    crawl = await world.ingest(str(notes))
    write(notes, c_md=words(3))
    scandir = os.scandir

    def failing(path: Path) -> Any:
        if path == notes / "sub":
            raise error
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    assert counts(await world.refresh(crawl))[0] == 1
    assert set(await world.documents()) == {"file:a.md", "file:c.md"} | ({"file:sub/b.md"} if kept else set())
    monkeypatch.setattr(os, "scandir", scandir)
    (notes / "a.md").unlink()
    await world.refresh(crawl)
    assert set(await world.documents()) == {"file:c.md", "file:sub/b.md"}


@pytest.mark.promise(3)
async def test_two_folders_with_the_same_file_names_stay_apart(world: World, tmp_path: Path) -> None:
    """Another folder's README is another document, in every later crawl too."""
    one, two = write(tmp_path / "one", README_md=words(1)), write(tmp_path / "two", README_md=words(2))
    await world.ingest(str(one))
    await world.ingest(str(two))
    assert set(await world.documents()) == {"file:README.md", "file:two/README.md"}
    assert counts(await world.ingest(str(one), str(two))) == (0, 0, 2, 0, 0)


async def test_a_file_stays_the_document_that_it_is_when_one_of_the_same_name_goes(
    world: World, tmp_path: Path
) -> None:
    """The other folder's README goes as it was: this one's address, and what cites it, is not moved to it."""
    one, two = write(tmp_path / "one", README_md=words(1)), write(tmp_path / "two", README_md=words(2), b_md=words(3))
    write(one, b_md=words(4))
    await world.ingest(str(one))
    await world.ingest(str(two))
    before = await world.documents()
    (one / "README.md").unlink()
    assert counts(await world.ingest(str(two))) == (0, 0, 2, 0, 0)
    assert {each.id: each.version for each in (await world.documents()).values()} == {
        each.id: each.version for each in before.values()
    }
    assert await world.text("file:README.md") != await world.text("file:two/README.md")
    await world.ingest(str(one))
    assert set(await world.documents("indexed")) == {"file:b.md", "file:two/README.md", "file:two/b.md"}


async def test_a_deleted_file_stays_deleted_when_one_of_the_same_name_goes(world: World, tmp_path: Path) -> None:
    """By the schedule, that is: an ingest that is asked for brings it back, as the document that it was."""
    one, two = write(tmp_path / "one", README_md=words(1)), write(tmp_path / "two", README_md=words(2), b_md=words(3))
    write(one, b_md=words(4))
    await world.ingest(str(one))
    crawl = await world.ingest(str(two))
    theirs = (await world.documents())["file:two/README.md"]
    await world.crawler.library.delete(theirs.id, EVERYONE)
    (one / "README.md").unlink()
    write(two, README_md=words(5))
    await world.refresh(crawl)
    assert await world.text("file:README.md") == words(1)
    assert "file:two/README.md" not in await world.documents("indexed")
    await world.ingest(str(two))
    back = (await world.documents("indexed"))["file:two/README.md"]
    assert (back.id, await world.text(back.url)) == (theirs.id, words(5))


@pytest.mark.promise(3)
async def test_a_moved_folder_keeps_its_documents(world: World, tmp_path: Path) -> None:
    """The address is the path below the folder, so nothing is embedded again after a move."""
    notes = write(tmp_path / "notes", a_md=words(1))
    await world.ingest(str(notes))
    notes.rename(tmp_path / "moved")
    assert counts(await world.ingest(str(tmp_path / "moved"))) == (0, 0, 1, 0, 0)
    assert len(world.index.handed_on) == 1


async def test_links_do_not_lead_out_of_the_folder(world: World, tmp_path: Path) -> None:
    """Links to files and folders outside, to oneself in a circle, pipes and devices are not followed."""
    secret = write(tmp_path / "outside", secret_md="the secret " + words(9))
    notes = write(tmp_path / "notes", a_md=words(1))
    (notes / "file.md").symlink_to(secret / "secret.md")
    (notes / "folder").symlink_to(secret)
    (notes / "circle").symlink_to(notes)
    (notes / "device.md").symlink_to("/dev/zero")
    os.mkfifo(notes / "pipe.md")
    assert counts(await world.ingest(str(notes))) == (1, 0, 0, 0, 0)
    assert set(await world.documents()) == {"file:a.md"}


async def test_odd_file_names(world: World, tmp_path: Path) -> None:
    """Line feeds, bytes that are no UTF-8, percent signs, quotes and 200 characters have addresses like any other."""
    notes = tmp_path / "notes"
    notes.mkdir()
    names = [
        b"a\nb.md",
        b"\xff\xfe.md",
        b"100%.md",
        b"'\".md",
        "\u0065\u0301.md".encode(),
        b"x" * 200 + b".md",
        b"-rf.md",
    ]
    for number, name in enumerate(names):
        write_bytes(notes, name, words(number))
    crawl = await world.ingest(str(notes))
    assert (crawl.failures, counts(crawl)) == ((), (len(names), 0, 0, 0, 0))
    addresses = set(await world.documents())
    assert len(addresses) == len(names)
    assert all(address.isprintable() for address in addresses)
    assert counts(await world.ingest(str(notes))) == (0, 0, len(names), 0, 0)


async def test_only_named_folders_may_be_read(open_crawler: Opener, tmp_path: Path) -> None:
    """What is outside TWIN_CRAWLER_FOLDERS is refused alike whether it exists or not, links resolved first."""
    inside = write(tmp_path / "inside", a_md=words(1))
    write(tmp_path / "outside", b_md=words(2))
    (inside / "link").symlink_to(tmp_path / "outside")
    world = await open_crawler(crawler_folders=str(inside))
    assert counts(await world.ingest(str(inside / "a.md"))) == (1, 0, 0, 0, 0)
    refused = [tmp_path / "outside", tmp_path / "no", inside / "link", inside / ".." / "outside", Path("/etc/passwd")]
    for each in [*map(str, refused), f"file://{tmp_path}/outside"]:
        with pytest.raises(Forbidden):
            await world.ingest(each)


async def test_a_watched_folder_is_crawled_when_it_changes(world: World, tmp_path: Path) -> None:
    """A new file in a watched folder comes in by itself: the first may be found by the crawl with which the watching
    begins, the second by the watching alone."""
    notes = write(tmp_path / "notes", a_md=words(1))
    await world.ingest(SourceSpec(str(notes), watch=True))
    write(notes, b_md=words(2))
    await world.until("file:b.md")
    write(notes, c_md=words(3))
    await world.until("file:c.md")


async def test_a_source_that_is_due_is_crawled_once(world: World, tmp_path: Path) -> None:
    """By schedule: crawled when due, by one of the lookers, and due again afterwards."""
    notes = write(tmp_path / "notes", a_md=words(1))
    source = await world.crawler.ingests.put_source("alpha", SourceSpec(str(notes), every=3600.0), EVERYONE)
    # The world's own looker may have been here already: as it saw the source, so do these.
    await asyncio.gather(*(world.crawler.ingests.due(source) for _ in range(3)))
    await world.until("file:a.md")
    assert len(await world.crawler.ingests.find(EVERYONE, 10)) == 1
    crawled = await world.crawler.sources.get(source.id)
    assert crawled is not None
    assert crawled.due_at is not None
    assert crawled.due_at > time.time() + 3000


async def test_a_source_is_due_again_at_a_time_at_which_it_was(world: World, site: Site) -> None:
    """A crawl fails, and the source is put again: due when it was the last time, it is crawled once more, and is due
    an hour later then."""
    ingests, sources = world.crawler.ingests, world.crawler.sources
    spec = SourceSpec(site.url("/feed"), kind="feed", every=3600.0)
    source = await ingests.put_source("alpha", spec, EVERYONE)

    async def crawls(count: int) -> None:
        async with asyncio.timeout(60):
            while len(found := await ingests.find(EVERYONE, 10)) < count or not all(each.state.ended for each in found):
                await asyncio.sleep(0.02)
        assert [each.state for each in found] == [JobState.FAILED] * count

    await crawls(1)
    stored = await sources.get(source.id)
    assert stored is not None
    crawled_at = time.time() - 4000
    await sources.save(replace(stored, crawled_at=crawled_at, due_at=crawled_at + 3600))
    await crawls(2)
    assert (await ingests.put_source("alpha", spec, EVERYONE)).due_at == crawled_at + 3600
    await crawls(3)
    stored = await sources.get(source.id)
    assert stored is not None
    assert stored.due_at is not None
    assert stored.due_at > time.time() + 3000


async def test_a_look_undoes_nothing(world: World, tmp_path: Path) -> None:
    """What a person deletes or takes off the schedule while a look is under way stays deleted, and off it."""
    notes = str(write(tmp_path / "notes", a_md=words(1)))
    ingests, sources = world.crawler.ingests, world.crawler.sources
    seen = await ingests.put_source("alpha", SourceSpec(notes, every=3600.0), EVERYONE)
    await world.until("file:a.md")
    await ingests.put_source("alpha", SourceSpec(notes), EVERYONE)
    await ingests.due(seen)
    stored = await sources.get(seen.id)
    assert stored is not None
    assert (stored.every, stored.due_at) == (None, None)
    await ingests.delete_source(seen.id, EVERYONE)
    await ingests.due(stored)
    await ingests.due(seen)
    assert await sources.get(seen.id) is None


class Meddled:
    """The sources as a crawl sees them; what is given happens right after it has read one for the last time."""

    def __init__(self, sources: Sources, reads: int, meddle: Callable[[], Awaitable[object]]) -> None:
        self._sources = sources
        self._reads = reads
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sources, name)

    async def get(self, id: str) -> Source | None:
        found = await self._sources.get(id)
        self._reads -= 1
        if self._reads == 0:
            await self._meddle()
        return found


@pytest.mark.parametrize("reads", [1, 2, 3])
async def test_a_crawl_undoes_nothing(world: World, tmp_path: Path, reads: int) -> None:
    """What a person changes or deletes while a crawl looks at the source, finds out its kind or writes what it knows
    now: the person's word stands."""
    notes = write(tmp_path / "notes", a_md=words(1), b_txt=words(2))
    ingests, sources = world.crawler.ingests, world.crawler.sources
    id = source_id("alpha", str(notes))

    async def changed() -> None:
        await ingests.put_source("alpha", SourceSpec(str(notes), options={"include": "*.md"}), EVERYONE)

    world.crawler.crawler.sources = Meddled(sources, reads, changed)  # type: ignore[assignment]
    await world.ingest(SourceSpec(str(notes), every=3600.0))
    stored = await sources.get(id)
    assert stored is not None
    assert (stored.every, stored.due_at, stored.options) == (None, None, {"include": "*.md"})
    assert stored.crawled_at is not None
    await sources.delete(id)
    world.crawler.crawler.sources = Meddled(sources, reads, lambda: sources.delete(id))  # type: ignore[assignment]
    await world.ingest(SourceSpec(str(notes), every=3600.0))
    assert await sources.get(id) is None


# ── Repositories ────────────────────────────────────────────────────────────────────────────────────


def repository(path: Path, **files: str) -> Repo:
    path.mkdir()
    made = porcelain.init(str(path))
    commit(made, path, **files)
    return made


def commit(made: Repo, path: Path, **files: str) -> bytes:
    write(path, **files)
    porcelain.add(made, [str(each) for each in path.rglob("*") if each.is_file() and ".git" not in each.parts])
    return bytes(porcelain.commit(made, message=b"m", author=b"A <a@example.org>", committer=b"A <a@example.org>"))


@pytest.mark.promise(3)
async def test_a_local_repository_at_a_ref(world: World, tmp_path: Path) -> None:
    """Prose and code at HEAD, or as of a commit; the address names no ref."""
    made = repository(tmp_path / "project", README_md=words(1), src__f_py="def f():\n    pass\n")
    first = made.head().decode()
    commit(made, tmp_path / "project", README_md=words(2))
    await world.ingest(SourceSpec(str(tmp_path / "project"), kind="git"))
    assert set(await world.documents()) == {"git:project/README.md", "git:project/src/f.py"}
    newest = await world.text("git:project/README.md")
    await world.ingest(SourceSpec(str(tmp_path / "project"), kind="git", options={"ref": first}))
    document = (await world.documents())["git:project/README.md"]
    assert document.version == 2
    assert await world.text(document.url) != newest


async def test_a_remote_repository_is_fetched_shallow_and_once(world: World, tmp_path: Path) -> None:
    """Over HTTP from loopback: files at the default branch; while the commit is the same nothing is fetched again."""
    made = repository(tmp_path / "project", README_md=words(1), docs__a_md=words(2))
    commit(made, tmp_path / "project", docs__a_md=words(3))
    with serving(made) as (url, requests):
        crawl = await world.ingest(url)
        assert (crawl.sources[0].kind, counts(crawl)) == ("git", (2, 0, 0, 0, 0))
        fetched = len(requests)
        assert counts(await world.ingest(url))[4] == 0
        assert len([each for each in requests[fetched:] if "upload-pack" in each and each.startswith("POST")]) <= 1
        missing = await world.ingest(SourceSpec(url, options={"ref": "nowhere"}))
        assert (missing.state, "no such branch" in missing.failures[0].message) == (JobState.FAILED, True)


async def test_a_remote_repository_obeys_the_guard(open_crawler: Opener, tmp_path: Path) -> None:
    """Without leave, no Git server on loopback is connected to."""
    made = repository(tmp_path / "project", README_md=words(1))
    world = await open_crawler(crawler_allowed_networks="")
    with serving(made) as (url, requests):
        crawl = await world.ingest(url)
    assert (crawl.state, requests) == (JobState.FAILED, [])
    assert "private" in crawl.failures[0].message


class serving:
    """A repository over smart HTTP on loopback."""

    def __init__(self, made: Repo) -> None:
        self._made = made

    def __enter__(self) -> tuple[str, list[str]]:
        requests: list[str] = []

        class Quiet(WSGIRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                requests.append(str(args[0]))

        self._server = make_server(
            "127.0.0.1",
            0,
            make_wsgi_chain(DictBackend({b"/project.git": self._made, "/project.git": self._made})),  # type: ignore[arg-type]
            handler_class=Quiet,
        )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/project.git", requests

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# ── Uploads ─────────────────────────────────────────────────────────────────────────────────────────


async def uploaded(*files: tuple[str, bytes]) -> Spool:
    spool = Spool()
    for name, data in files:
        spool.begin(name, "")
        await spool.write(data)
    return spool


@pytest.mark.promise(3)
async def test_the_same_name_again_is_a_new_version(world: World) -> None:
    """Uploads: `upload:` and the name; other bytes are a new version, the same bytes are nothing."""
    for number, expected in ((1, (1, 0, 0, 0, 0)), (1, (0, 0, 1, 0, 0)), (2, (0, 1, 0, 0, 0))):
        crawl = await world.crawler.ingests.upload(
            "alpha", await uploaded(("notes/a.md", words(number).encode())), EVERYONE, ""
        )
        assert counts(await world.ended(crawl)) == expected
    assert (await world.documents())["upload:notes/a.md"].version == 2


async def test_an_idempotency_key_makes_a_repeated_request_the_same_job(world: World, tmp_path: Path) -> None:
    """The same key and sources: the same ingest. The same key and others: refused."""
    notes = write(tmp_path / "notes", a_md=words(1))
    start = world.crawler.ingests.start
    one = await start("alpha", [SourceSpec(str(notes))], EVERYONE, "k")
    two = await start("alpha", [SourceSpec(str(notes))], EVERYONE, "k")
    assert one.id == two.id
    with pytest.raises(Conflict):
        await start("alpha", [SourceSpec(str(notes / "a.md"))], EVERYONE, "k")


# ── Who may, and what is refused ────────────────────────────────────────────────────────────────────


async def test_what_is_out_of_scope_is_not_there(world: World, tmp_path: Path) -> None:
    """Another author's documents, ingests and sources are not found, and nothing is begun for them."""
    crawl = await world.ingest(str(write(tmp_path / "notes", a_md=words(1))))
    document = (await world.documents())["file:a.md"]
    beta = Scope(authors=("beta",))
    ingests, library = world.crawler.ingests, world.crawler.library
    for call in (
        ingests.get(crawl.id, beta),
        ingests.cancel(crawl.id, beta),
        ingests.retry(crawl.id, beta),
        ingests.refresh(crawl.sources[0].source_id, beta),
        ingests.delete_source(crawl.sources[0].source_id, beta),
        library.text(document.id, beta, version=None, start=0, end=0),
        library.delete(document.id, beta),
        library.delete_author("alpha", beta),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(Forbidden):
        await ingests.start("alpha", [SourceSpec("https://example.org/")], beta)


@pytest.mark.parametrize("name", ["", ".hidden", "twin", "Twin", "a/b", "a" * 65, "a\n", " a", "a "])
async def test_names_that_are_no_authors(world: World, name: str) -> None:
    """1 to 64 letters, digits, spaces, '.', '_', '-'; not `twin`."""
    with pytest.raises(InvalidInput):
        await world.ingest("https://example.org/", author=name)
    assert await world.crawler.library.authors(EVERYONE) == []


@pytest.mark.parametrize(
    "spec",
    [
        SourceSpec(""),
        SourceSpec("ftp://example.org/a"),
        SourceSpec("javascript:alert(1)"),
        SourceSpec("http://"),
        SourceSpec("http://example.org:0/"),
        SourceSpec("http://example.org/\x00"),
        SourceSpec("http://exa mple.org/"),
        SourceSpec("git@example.org:a/b.git"),
        SourceSpec("ssh://example.org/a.git"),
        SourceSpec("relative/path"),
        SourceSpec("upload:a.md"),
        SourceSpec("https://example.org/", kind="nonsense"),
        SourceSpec("https://example.org/", kind="upload"),
        SourceSpec("https://example.org/", kind="folder"),
        SourceSpec("/tmp", kind="feed"),
        SourceSpec("https://example.org/", options={"dept": "1"}),
        SourceSpec("https://example.org/", options={"depth": "-1"}),
        SourceSpec("https://example.org/", every=1.0),
        SourceSpec("https://example.org/", every=float("nan")),
        SourceSpec("https://example.org/", watch=True),
        SourceSpec("http://example.org/" + "a" * 3000),
    ],
)
async def test_sources_that_are_refused_at_once(world: World, spec: SourceSpec) -> None:
    """A wrong address, kind, option or schedule is the caller's error, and begins no job."""
    with pytest.raises(InvalidInput):
        await world.ingest(spec)
    assert await world.crawler.ingests.find(EVERYONE, 10) == []


async def test_an_author_goes_with_everything(world: World, tmp_path: Path) -> None:
    """Sources, documents, texts and originals; another author's stay."""
    notes = write(tmp_path / "notes", a_md=words(1), b_md=words(2))
    await world.ingest(str(notes))
    await world.ingest(str(notes), author="beta")
    document = (await world.documents())["file:a.md"]
    gone = await world.crawler.library.delete_author("alpha", EVERYONE)
    assert (gone.documents, gone.sources) == (2, 1)
    assert [each.name for each in await world.crawler.library.authors(EVERYONE)] == ["beta"]
    alphas = [each for each in (await world.documents("deleted")).values() if each.author == "alpha"]
    assert len(alphas) == 2
    for each in alphas:
        with pytest.raises(NotFound):
            await world.crawler.blobs.get(each.id)
        with pytest.raises(NotFound):
            await world.crawler.documents.text(each.id, each.version)
    assert document.kind is SourceKind.FOLDER
