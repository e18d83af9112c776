"""Hostile input: each case ends in a clear error or a clean result, and the crawler goes on working."""

from __future__ import annotations

import asyncio
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from services.clients import SourceSpec
from services.crawler.fetch import Fetcher, FetchLimits, inflate, unhindered
from services.crawler.guard import Guard, parse_networks
from services.crawler.page import feed, links, sitemap, sniff
from services.crawler.sandbox import Sandbox
from services.domain import JobState
from services.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    Misconfigured,
    TooLarge,
    TwinError,
    Unavailable,
    Unprocessable,
)
from tests.crawler.conftest import Opener
from tests.crawler.site import Answer, Reply, Request, Site, Writer, article, prose
from tests.crawler.world import World, counts

pytestmark = pytest.mark.asyncio(loop_scope="package")

SMALL = {"crawler_max_bytes": 200_000, "crawler_fetch_attempts": 1}
WITHOUT_END = {"dripping body", "never answers"}
"""Responses that end only with the time that a fetch is given."""


# ── Addresses that must not be reached ──────────────────────────────────────────────────────────────

INSIDE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "localhost",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:4860::5efe:127.0.0.1]",
]


@pytest.mark.parametrize("host", INSIDE)
async def test_no_spelling_of_a_private_address_is_fetched(host: str) -> None:
    """Loopback, private, link-local, metadata, carrier's and reserved addresses in all spellings are refused before
    anything is connected to."""
    fetcher = Fetcher(Guard(), user_agent="test", limits=FetchLimits(attempts=1, seconds=30))
    with pytest.raises((Forbidden, Unavailable, InvalidInput)) as caught:
        await fetcher.fetch(f"http://{host}:9/", unhindered)
    if isinstance(caught.value, Unavailable):
        assert "not known" in caught.value.message  # no such address for this resolver: nothing was connected to
    await fetcher.close()


def resolver(answers: dict[str, list[list[str]]]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A name server whose answers change from one question to the next."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        left = answers[host]
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def test_a_name_that_leads_inside_is_refused(open_crawler: Opener, site: Site) -> None:
    """A public name with a private address, or with one of each, is not connected to."""
    names = resolver({"evil.example": [["127.0.0.1"]], "both.example": [["93.184.216.34", "127.0.0.1"]]})
    world = await open_crawler(crawler_allowed_networks="", resolver=names)
    crawl = await world.ingest(site.url("/", "evil.example"), site.url("/", "both.example"))
    assert crawl.state is JobState.FAILED
    assert all("private or special" in each.message for each in crawl.failures)
    assert sum(site.requests.values()) == 0


async def test_rebinding_between_check_and_connection_is_of_no_use(site: Site) -> None:
    """What is connected to is what was checked: a second answer of the name server is never asked for."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    fetcher = Fetcher(Guard(parse_networks("127.0.0.0/8"), resolve), user_agent="test")
    site.page("/", prose(1))
    await fetcher.fetch(site.url("/", "name.example"), unhindered)
    assert (asked, site.hosts) == (["name.example"], [f"name.example:{site.port}"])
    await fetcher.close()


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "ftp://example.org/",
        "data:text/html,x",
        "javascript:alert(1)",
        "http://user:pass@10.0.0.1/",
        "//10.0.0.1/",
        "http://",
        "http://exa mple/",
        "http:////etc",
        "http://[oops",
        "//[::1/",
    ],
)
async def test_redirects_lead_nowhere_that_is_not_allowed(open_crawler: Opener, site: Site, target: str) -> None:
    """A redirect is checked as the first address was, its scheme too; the other source of the job comes in."""
    world = await open_crawler(**SMALL)
    site.answers["/to"] = Reply(status=302, headers={"Location": target})
    site.page("/good", prose(1))
    crawl = await world.ingest(site.url("/to"), site.url("/good"))
    assert counts(crawl)[0] == 1
    assert {each.address for each in crawl.failures} == {site.url("/to")}
    assert "passwd" not in crawl.failures[0].message


async def test_a_redirect_to_no_address_fails_its_page_alone(open_crawler: Opener, site: Site) -> None:
    """Among a page's links: the others come in. A robots.txt that leads so is none."""
    world = await open_crawler(**SMALL)
    nowhere = Reply(status=302, headers={"Location": "http://[oops"})
    site.page("/", "".join(f"<a href='/{n}'>{n}</a>" for n in range(3)) + prose(9))
    site.page("/0", prose(0))
    site.page("/2", prose(2))
    site.answers["/1"] = site.answers["/robots.txt"] = nowhere
    crawl = await world.ingest(SourceSpec(site.url("/"), options={"depth": "1"}))
    assert (crawl.state, counts(crawl)) == (JobState.DONE, (3, 0, 0, 0, 1))
    assert [(each.address, "redirects" in each.message) for each in crawl.failures] == [(site.url("/1"), True)]


@pytest.mark.parametrize("text", ["10.0.0.0/99", "example.org", "10.0.0.0/8;"])
async def test_allowed_networks_that_are_none(text: str) -> None:
    """A wrong setting is refused with its name."""
    with pytest.raises(Misconfigured, match="ALLOWED_NETWORKS"):
        parse_networks(text)


# ── What servers send ───────────────────────────────────────────────────────────────────────────────


def raw(data: bytes) -> Answer:
    """An answer byte for byte, after which the connection is closed."""

    async def answer(request: Request, writer: Writer) -> None:
        writer.write(data)
        await writer.drain()

    return answer


async def silent(request: Request, writer: Writer) -> None:
    """No answer for as long as the connection is open."""
    while not writer.is_closing():
        await asyncio.sleep(0.05)


async def dripping(request: Request, writer: Writer) -> None:
    """A body without end, a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
    while True:
        writer.write(b"<")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless_chunks(request: Request, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"a" * 4096 + b"\r\n")
        await writer.drain()


async def endless_header(request: Request, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Filler: " + b"a" * 8192 + b"\r\n")
        await writer.drain()


_deflate = zlib.compressobj(wbits=-15)
BOMB = b"<p>" + b"a" * 20_000_000

RESPONSES: dict[str, Reply | Answer | Callable[[Request], Reply]] = {
    "circle": Reply(status=302, headers={"Location": "/circle"}),
    "endless redirects": lambda request: Reply(status=302, headers={"Location": request.path + "x"}),
    "gzip bomb": Reply(gzip.compress(BOMB), headers={"Content-Encoding": "gzip"}),
    "gzip in gzip bomb": Reply(gzip.compress(gzip.compress(BOMB)), headers={"Content-Encoding": "gzip, gzip"}),
    "five times compressed": Reply(b"x", headers={"Content-Encoding": "gzip, gzip, gzip, gzip, gzip"}),
    "deflate bomb": Reply(zlib.compress(BOMB), headers={"Content-Encoding": "deflate"}),
    "bare deflate bomb": Reply(_deflate.compress(BOMB) + _deflate.flush(), headers={"Content-Encoding": "deflate"}),
    "many small gzip members": Reply(gzip.compress(b"a" * 1000) * 1000, headers={"Content-Encoding": "gzip"}),
    "not gzip at all": Reply(b"hello", headers={"Content-Encoding": "gzip"}),
    "cut off gzip": Reply(gzip.compress(b"a" * 1000)[:-12], headers={"Content-Encoding": "gzip"}),
    "unknown compression": Reply(b"hello", headers={"Content-Encoding": "br"}),
    "too large by its header": Reply(b"", headers={"Content-Length": "99999999999"}),
    "too large in fact": Reply(b"a" * 300_000),
    "dripping body": dripping,
    "endless chunks": endless_chunks,
    "endless header": endless_header,
    "one enormous header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n"),
    "never answers": silent,
    "closes at once": raw(b""),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "shorter than promised": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello"),
    "a length that is no number": raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhello"),
    "a negative length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
    "broken chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
    "a chunk of 2^64 bytes": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello"),
    "304 unasked": Reply(status=304),
    "206": Reply(b"part", status=206),
    "empty": Reply(b""),
    "only zeros": Reply(b"\0" * 1000),
    "wait a year": Reply(status=503, headers={"Retry-After": "31536000"}),
    "status 999": Reply(status=999),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_hostile_response_is_a_clear_error(open_crawler: Opener, site: Site, name: str) -> None:
    """Bombs, lies about length, drips, floods and nonsense end within the limits, with a reason; the next page of the
    same crawler comes in."""
    seconds = {"crawler_fetch_seconds": 1.0} if name in WITHOUT_END else {}
    world = await open_crawler(**SMALL, **seconds)
    site.answers["/robots.txt"] = Reply(b"")
    site.answers["*"] = RESPONSES[name]
    site.page("/good", prose(1))
    async with asyncio.timeout(100):
        crawl = await world.ingest(site.url("/bad"))
        assert crawl.state is JobState.FAILED
        assert crawl.failures[0].message.endswith(".")
        assert "Traceback" not in crawl.failures[0].message
        # A machine that stands still for that second loses a good page too, but not one after the other.
        for _ in range(8 if name in WITHOUT_END else 1):
            good = counts(await world.ingest(site.url("/good")))
            if good[4] == 0:
                break
        assert good == (1, 0, 0, 0, 0)


def deep(element: str, depth: int) -> str:
    return f"<{element}>" * depth + "deep" + f"</{element}>" * depth


def zip_bomb() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", b"<w:p>" + b" " * 600_000_000)
    return data.getvalue()


DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "deep elements": (article(deep("div", 100_000)).encode(), "text/html"),
    "deep lists": (article(deep("ul><li", 20_000)).encode(), "text/html"),
    "a million attributes": (article(f"<p {' '.join(f'a{n}=1' for n in range(200_000))}>x</p>").encode(), "text/html"),
    "unclosed": (b"<table><tr><td><b><i>" * 20_000, "text/html"),
    "entities without end": (
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>"
        + b"".join(b"<!ENTITY b%d '&a;&a;'>" % n for n in range(99))
        + b"]><x>&b9;</x>",
        "application/xhtml+xml",
    ),
    "wrong charset": ("é".encode("latin-1") * 3000, "text/html; charset=utf-8"),
    "charset that is none": (article(prose(3)).encode(), "text/html; charset=klingon"),
    "utf-16 without a mark": (article(prose(4)).encode("utf-16-le"), "text/html; charset=utf-16"),
    "broken pdf": (b"%PDF-1.7\n" + b"\0\xff" * 5000, "application/pdf"),
    "pdf that refers to itself": (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 1 0 R/Kids[1 0 R]>>endobj\ntrailer<</Root 1 0 R/Prev 9>>\n%%EOF",
        "application/pdf",
    ),
    "zip bomb as docx": (
        zip_bomb(),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    "zip that is no docx": (
        b"PK\x03\x04" + b"\0" * 500,
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    "an image": (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "image/png"),
    "a program": (b"\x7fELF" + struct.pack("<60I", *range(60)), "application/octet-stream"),
    "one line of a megabyte": (b"word " * 200_000, "text/plain"),
    "a million blank lines": (b"\n" * 1_000_000 + b"end", "text/plain"),
    "front matter that runs code": (
        b"---\na: !!python/object/apply:os.system ['exit 1']\n---\n" + b"text " * 50,
        "text/markdown",
    ),
    "front matter that multiplies": (
        b"---\na: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c]\n" % (c + 1, c + 1, c, c, c, c, c, c) for c in range(97, 108))
        + b"---\ntext",
        "text/markdown",
    ),
}


async def test_hostile_documents_are_text_or_a_clear_error(open_crawler: Opener, site: Site) -> None:
    """Deep nesting, wrong encodings, broken and exploding files of every kind: each ends, and the rest comes in."""
    world = await open_crawler(crawler_extract_seconds=15.0, crawler_max_bytes=8 << 20)
    for number, (body, media_type) in enumerate(DOCUMENTS.values()):
        site.answers[f"/{number}"] = Reply(body, media_type=media_type)
    site.page("/good", prose(1))
    async with asyncio.timeout(250):
        crawl = await world.ingest(*(site.url(f"/{number}") for number in range(len(DOCUMENTS))), site.url("/good"))
    assert all(each.state.ended for each in crawl.sources)
    assert crawl.sources[-1].state is JobState.DONE
    for each in crawl.sources:
        if each.state is JobState.FAILED:
            assert each.failure
            assert each.failure.endswith(".")


# ── Sites, feeds and sitemaps ───────────────────────────────────────────────────────────────────────


async def test_an_endless_calendar_ends(open_crawler: Opener, site: Site) -> None:
    """Every page links to the next month, and to itself with other parameters: the crawl ends by its bounds."""
    world = await open_crawler(crawler_max_pages=80)

    def month(request: Request) -> Reply:
        number = int(request.path.rpartition("/")[2].partition("?")[0] or 0)
        more = f"<a href='/c/{number + 1}'>next</a>" + "".join(f"<a href='?s={number}{n}'>sort</a>" for n in range(9))
        return Reply(article(f"<p>Month {number} {prose(number)}</p>{more}"))

    site.answers["*"] = month
    site.answers["/robots.txt"] = Reply(b"")
    crawl = await world.ingest(SourceSpec(site.url("/c/0"), options={"depth": "9"}))
    assert crawl.state is JobState.DONE
    assert sum(site.requests.values()) <= 82


async def test_relative_links_that_repeat_themselves_end(open_crawler: Opener, site: Site) -> None:
    """/a/a/a/…: links relative to themselves are one shape, with one budget."""
    world = await open_crawler(crawler_max_pages=60, crawler_max_depth=10)
    site.answers["*"] = lambda request: Reply(
        article(prose(len(request.path)) + "<a href='a/'>a</a><a href='b/'>b</a>")
    )
    site.answers["/robots.txt"] = Reply(b"")
    crawl = await world.ingest(SourceSpec(site.url("/"), options={"max_pages": "60"}))
    assert (crawl.state, sum(site.requests.values()) <= 62) == (JobState.DONE, True)


async def test_a_crawl_stays_on_its_host_and_below_its_folder(world: World, site: Site) -> None:
    """Links to other hosts, up, to files that are no pages and marked nofollow are not followed."""
    site.page(
        "/docs/",
        "<a href='http://localhost:1/x'>x</a><a href='/other'>o</a><a href='a.zip'>z</a><a rel=nofollow href='n'>n</a>"
        "<a href='mailto:a@example.org'>m</a><a href='javascript:x'>j</a><a href='page'>p</a>" + prose(1),
    )
    site.page("/docs/page", prose(2))
    crawl = await world.ingest(SourceSpec(site.url("/docs/"), options={"depth": "3"}))
    assert counts(crawl) == (2, 0, 0, 0, 0)
    assert set(site.requests) == {"/docs/", "/docs/page", "/robots.txt"}


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("name", ["laughs", "outside", "unclosed", "deep", "no entries", "binary"])
async def test_hostile_feeds_and_sitemaps(open_crawler: Opener, site: Site, name: str) -> None:
    """Entities that multiply or name files, broken and deep XML: no file's text, a clear end."""
    world = await open_crawler(crawler_extract_seconds=20.0)
    inner = {"laughs": "&j;", "outside": "&x;", "unclosed": "<a><b>", "deep": "<x>" * 50_000, "no entries": ""}.get(
        name
    )
    head = {"laughs": LAUGHS, "outside": OUTSIDE}.get(name, "")
    feeds = (
        f"{head}<rss version='2.0'><channel><title>{inner}</title><item><title>{inner}</title></item></channel></rss>"
    )
    maps = f"{head}<urlset><url><loc>{inner}</loc></url></urlset>"
    site.answers["/feed"] = Reply(feeds if inner is not None else b"\0\1\2" * 500)
    site.answers["/map"] = Reply(maps if inner is not None else b"\0\1\2" * 500)
    async with asyncio.timeout(200):
        crawl = await world.ingest(
            SourceSpec(site.url("/feed"), kind="feed"), SourceSpec(site.url("/map"), kind="sitemap")
        )
    assert all(each.state.ended for each in crawl.sources)
    assert await world.documents() == {}
    assert "root:" not in str(crawl)


async def test_sitemaps_in_circles_and_crowds_end(open_crawler: Opener, site: Site) -> None:
    """Sitemaps that name each other, and an index whose every file names a thousand more: bounded."""
    world = await open_crawler()
    site.answers["*"] = lambda request: Reply(
        "<sitemapindex>"
        + "".join(f"<sitemap><loc>{site.url(f'{request.path}{n}')}</loc></sitemap>" for n in range(50))
        + f"<sitemap><loc>{site.url('/map')}</loc></sitemap></sitemapindex>"
    )
    site.answers["/robots.txt"] = Reply(b"")
    crawl = await world.ingest(SourceSpec(site.url("/map"), kind="sitemap"))
    assert crawl.state is JobState.FAILED
    assert sum(site.requests.values()) <= 502


async def test_a_sitemap_that_names_no_address_leads_on_to_the_others(world: World, site: Site) -> None:
    """Of what an index names, what cannot be an address is passed over."""
    named = ["http://[oops/map", "http://../map", site.url("/map")]
    site.answers["/index"] = Reply(
        "<sitemapindex>" + "".join(f"<sitemap><loc>{each}</loc></sitemap>" for each in named) + "</sitemapindex>"
    )
    site.answers["/map"] = Reply(f"<urlset><url><loc>{site.url('/a')}</loc></url></urlset>")
    site.page("/a", prose(1))
    crawl = await world.ingest(SourceSpec(site.url("/index"), kind="sitemap"))
    assert (crawl.state, counts(crawl)) == (JobState.DONE, (1, 0, 0, 0, 0))


async def test_enormous_robots_txt(world: World, site: Site) -> None:
    """Of a robots.txt of 3 MB the first half megabyte counts, and its rules with it; matching stays quick."""
    rules = "User-agent: *\nDisallow: /no/\n" + "Disallow: /*a*a*a*a*a*a*a*a*a*a*b$\n" * 90_000
    site.answers["/robots.txt"] = Reply(rules, media_type="text/plain")
    site.page("/no/post", prose(1))
    site.page("/" + "a" * 200, prose(2))
    async with asyncio.timeout(100):
        crawl = await world.ingest(site.url("/no/post"), site.url("/" + "a" * 200))
    assert [each.state for each in crawl.sources] == [JobState.FAILED, JobState.DONE], crawl.failures


async def test_links_without_number_or_sense() -> None:
    """A page of 50,000 links gives 5,000; broken ones are dropped, and none is no http address."""
    page = article("".join(f"<a href='/{n}'>x</a>" for n in range(50_000)))
    assert len(links(page.encode(), "http://a.example/").pages) == 5000
    odd = ["http://[", "http://a:b:c/", "//", "\x00", "http://\ud800/", "ht\ntp://x", "x" * 5000, "data:,x", "?", "#"]
    page = article("".join(f"<a href='{each}'>x</a>" for each in odd))
    found = links(page.encode("utf-8", "surrogatepass"), "http://a.example/")
    assert all(each.startswith("http") for each in found.pages)


@pytest.mark.parametrize("read", [feed, sitemap])
async def test_listings_of_nothing(read: Callable[[bytes, str], object]) -> None:
    """No bytes, and bytes of no listing, are refused with a reason."""
    for data in (b"", b"hello", b"{}", b"<html></html>", b'{"version": "https://jsonfeed.org/version/1"}'):
        with pytest.raises(Unprocessable):
            read(data, "http://a.example/")
    assert sniff(b"", "") == "file"


# ── The sandbox ─────────────────────────────────────────────────────────────────────────────────────


async def test_what_hangs_swells_or_dies_takes_nothing_with_it(tmp_path: Path) -> None:
    """A child that takes too long is killed, one without memory says so, and the next request is served."""
    sandbox = Sandbox(size=1, memory=700 << 20)
    header = {"url": "file:a.md", "media_type": "text/plain", "name": "a.txt", "links": False}
    with pytest.raises(DeadlineExceeded):
        await sandbox.call("extract", header, b"word " * 2_000_000, seconds=0.01)
    with pytest.raises(TwinError):
        await sandbox.call("extract", header, b"word " * 6_000_000, seconds=30)
    answer, text = await sandbox.call("extract", header, b"some words", seconds=30)
    assert (text, answer["media_type"]) == (b"some words", "text/plain")
    await sandbox.close()


async def test_a_child_that_was_started_beforehand_serves_the_first_request() -> None:
    """One child, loaded once, however often that is asked for; closing does not wait for one that is loading."""
    header = {"url": "file:a.md", "media_type": "text/plain", "name": "a.txt", "links": False}
    sandbox = Sandbox(size=1, memory=700 << 20)
    sandbox.load("load")
    sandbox.load("load")
    await asyncio.sleep(0)
    await sandbox.call("extract", header, b"some words", seconds=30)
    (child,) = sandbox._free
    assert child.served == 2
    await sandbox.close()

    sandbox = Sandbox(size=1, memory=700 << 20)
    sandbox.load("load")
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await sandbox.close()
    assert not sandbox._free


async def test_where_no_child_can_be_started_the_first_request_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done beforehand fails unseen."""
    monkeypatch.setattr("services.crawler.sandbox.sys.executable", "/nowhere/python")
    sandbox = Sandbox(size=1, memory=700 << 20)
    sandbox.load("load")
    with pytest.raises(Unavailable, match="does not start"):
        await sandbox.call("links", {"url": ""}, seconds=30)
    await sandbox.close()


async def test_inflating_never_holds_more_than_its_limit() -> None:
    """A gzip bomb of 100 MB against a limit of 1 MB."""
    with pytest.raises(TooLarge):
        inflate(gzip.compress(b"\0" * 100_000_000), 1_000_000)


# ── Repositories ────────────────────────────────────────────────────────────────────────────────────


def crooked_repository(path: Path, bomb: bool = False) -> None:
    """Paths that Git's own tools refuse, links, submodules; or trees that hold one another without end."""
    repository = Repo.init_bare(str(path), mkdir=True)
    store = repository.object_store
    blob = Blob.from_string(b"some words of a file")
    store.add_object(blob)
    tree = Tree()
    if bomb:
        tree.add(b"f.md", 0o100644, blob.id)
        for _ in range(12):
            store.add_object(tree)
            outer = Tree()
            for number in range(10):
                outer.add(b"d%d" % number, 0o040000, tree.id)
            tree = outer
    else:
        for name in (
            b"..",
            b"../../etc/passwd",
            b"/etc/passwd",
            b"a\\..\\b.md",
            b"\xff\xfe.md",
            b"a\nb.md",
            b"good.md",
            b"CON",
        ):
            tree.add(name, 0o100644, blob.id)
        link = Blob.from_string(b"/etc/passwd")
        store.add_object(link)
        tree.add(b"link.md", 0o120000, link.id)
        tree.add(b"module", 0o160000, ObjectID(b"1" * 40))
        tree.add(b"missing.md", 0o100644, ObjectID(b"2" * 40))
    store.add_object(tree)
    commit = Commit()
    commit.tree = tree.id
    commit.author = commit.committer = b"A <a@example.org>"
    commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"m"
    store.add_object(commit)
    repository.refs[Ref(b"refs/heads/master")] = commit.id
    repository.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(b"refs/heads/master"))


async def test_a_repository_of_crooked_paths(world: World, tmp_path: Path) -> None:
    """Nothing is written under a repository's names, links and modules are left out, a missing file is told."""
    crooked_repository(tmp_path / "crooked.git")
    crawl = await world.ingest(str(tmp_path / "crooked.git"))
    assert crawl.sources[0].kind == "git"
    addresses = set(await world.documents()) | set(await world.documents("duplicate"))
    assert "git:crooked/good.md" in addresses
    assert not any("link.md" in each or "module" in each for each in addresses)
    assert [each.address for each in crawl.failures] == ["git:crooked/missing.md"]


async def test_a_repository_of_trees_without_end(open_crawler: Opener, tmp_path: Path) -> None:
    """A Git bomb of 10^12 paths ends with a reason."""
    world = await open_crawler(crawler_max_files=500)
    crooked_repository(tmp_path / "bomb.git", bomb=True)
    crawl = await world.ingest(str(tmp_path / "bomb.git"))
    assert (crawl.state, "More than 500 files" in (crawl.sources[0].failure or "")) == (JobState.FAILED, True)


@pytest.mark.parametrize("answer", ["nonsense", "redirect inside", "endless"])
async def test_git_servers_that_are_none(open_crawler: Opener, site: Site, answer: str) -> None:
    """Nonsense, a redirect to a private address and refs without end fail with a reason."""
    world = await open_crawler(crawler_repository_bytes=100_000)
    made: dict[str, Reply | Answer] = {
        "nonsense": Reply(b"hello", media_type="application/x-git-upload-pack-advertisement"),
        "redirect inside": Reply(status=302, headers={"Location": "http://169.254.169.254/info/refs"}),
        "endless": endless_chunks,
    }
    site.answers["*"] = made[answer]
    async with asyncio.timeout(100):
        crawl = await world.ingest(site.url("/project.git"))
    assert crawl.state is JobState.FAILED
    assert crawl.failures[0].message.endswith(".")
