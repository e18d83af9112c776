"""Pages, feeds, sitemaps and site crawls, from a server on loopback."""

from __future__ import annotations

import gzip
import time

import pytest

from services.clients import SourceSpec
from services.crawler.page import feed
from services.domain import EVERYONE, JobState
from tests.crawler.conftest import Opener
from tests.crawler.site import Reply, Request, Site, article, prose
from tests.crawler.world import World, counts

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_page_comes_in_with_its_main_text_and_title(world: World, site: Site) -> None:
    """One page: its text without the navigation, handed on to be indexed once."""
    site.page("/post", prose(1))
    crawl = await world.ingest(site.url("/post"))
    assert (crawl.state, counts(crawl)) == (JobState.DONE, (1, 0, 0, 0, 0))
    document = (await world.documents())[site.url("/post")]
    assert document.title == "A page"
    assert "Home" not in await world.text(document.url)
    assert world.index.handed_on == [(document.id, 1)]
    assert site.requests["/post"] == 1


@pytest.mark.promise(3)
async def test_a_second_crawl_of_unchanged_pages_downloads_and_embeds_nothing(world: World, site: Site) -> None:
    """Conditional requests: 304s, no body, no version, nothing handed on."""
    site.page("/", "<a href='/a'>a</a><a href='/b'>b</a>" + prose(1), etag='"r"')
    for number, path in enumerate(("/a", "/b"), 2):
        site.page(path, prose(number), etag=f'"{path[1:]}"')
    spec = SourceSpec(site.url("/"), options={"depth": "2"})
    assert counts(await world.ingest(spec)) == (3, 0, 0, 0, 0)
    bodies, handed_on = site.bodies, len(world.index.handed_on)
    assert counts(await world.ingest(spec)) == (0, 0, 3, 0, 0)
    assert (site.bodies, len(world.index.handed_on)) == (bodies, handed_on)


async def test_pages_without_validators_are_not_embedded_again(world: World, site: Site) -> None:
    """The same bytes without an ETag are downloaded, and nothing else is done."""
    site.page("/post", prose(1))
    await world.ingest(site.url("/post"))
    assert counts(await world.ingest(site.url("/post"))) == (0, 0, 1, 0, 0)
    assert len(world.index.handed_on) == 1


@pytest.mark.promise(4)
async def test_a_changed_page_is_a_new_version(world: World, site: Site) -> None:
    """Another text under the same address: version 2, and the old text is still there for who cites it."""
    site.page("/post", prose(1), etag='"1"')
    await world.ingest(site.url("/post"))
    site.page("/post", prose(2), etag='"2"')
    assert counts(await world.ingest(site.url("/post"))) == (0, 1, 0, 0, 0)
    document = (await world.documents())[site.url("/post")]
    assert document.version == 2
    assert (await world.crawler.documents.text(document.id, 1))[0] != await world.text(document.url)


@pytest.mark.promise(3)
async def test_redirects_and_tracking_lead_to_one_document(world: World, site: Site) -> None:
    """An old address, the new one, and the new one with campaign parameters are one document."""
    site.answers["/old"] = Reply(status=301, headers={"Location": "/new"})
    site.page("/new", prose(1))
    site.answers["/new?utm_source=x"] = site.answers["/new"]
    await world.ingest(site.url("/old"))
    await world.ingest(site.url("/new"), site.url("/new?utm_source=x#part"), site.url("/old"))
    assert list(await world.documents()) == [site.url("/new")]
    assert len(world.index.handed_on) == 1


@pytest.mark.promise(3)
async def test_canonical_is_believed_within_one_site_only(world: World, site: Site) -> None:
    """A page's canonical address on its own site is its address; one on another site is not."""
    site.page("/amp/post", prose(1), head=f"<link rel=canonical href='{site.url('/post')}'>")
    site.page("/copy", prose(2), head="<link rel=canonical href='https://example.org/post'>")
    await world.ingest(site.url("/amp/post"), site.url("/copy"))
    assert set(await world.documents()) == {site.url("/post"), site.url("/copy")}


async def test_a_canonical_address_that_is_none_is_passed_over(world: World, site: Site) -> None:
    """In front matter, in a page's head, in a header: the page keeps the address it has."""
    bad = "http://[oops"
    site.answers["/a.md"] = Reply(f"---\ncanonical: {bad}\n---\n# A\n\n{prose(1)}", media_type="text/markdown")
    site.page("/b", prose(2), head=f"<link rel=canonical href='{bad}'>")
    site.answers["/c"] = Reply(article(prose(3)), headers={"Link": f'<{bad}>; rel="canonical"'})
    crawl = await world.ingest(site.url("/a.md"), site.url("/b"), site.url("/c"))
    assert (crawl.state, counts(crawl)) == (JobState.DONE, (3, 0, 0, 0, 0))
    assert set(await world.documents()) == {site.url("/a.md"), site.url("/b"), site.url("/c")}


@pytest.mark.promise(3)
async def test_one_canonical_for_all_pages_is_not_believed(world: World, site: Site) -> None:
    """A template that declares the same canonical address on every page does not make them one document."""
    head = f"<link rel=canonical href='{site.url('/home')}'>"
    site.page("/a", prose(1), head=head)
    site.page("/b", prose(2), head=head)
    await world.ingest(site.url("/a"))
    await world.ingest(site.url("/b"))
    assert len(await world.documents()) == 2
    assert counts(await world.ingest(site.url("/a"), site.url("/b"))) == (0, 0, 2, 0, 0)


async def test_a_feed_brings_in_its_entries(world: World, site: Site) -> None:
    """Each entry's page; where a page is refused, the feed's own whole text stands in."""
    body = f"<content type='html'><![CDATA[{prose(9, 200)}]]></content>"
    site.answers["/feed"] = Reply(
        "<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><title>F</title>"
        f"<entry><id>1</id><title>One</title><link href='{site.url('/1')}'/></entry>"
        f"<entry><id>2</id><title>Two</title><link href='{site.url('/2')}'/>{body}</entry></feed>",
        media_type="application/octet-stream",
    )
    site.page("/1", prose(1))
    site.answers["/2"] = Reply(status=403)
    crawl = await world.ingest(site.url("/feed"))
    assert crawl.sources[0].kind == "feed"
    assert counts(crawl) == (2, 0, 0, 0, 0)
    assert "word" in await world.text(site.url("/2"))


async def test_a_feed_whose_base_is_no_address_keeps_its_entries() -> None:
    """A malformed xml:base, of the feed or of an entry, is passed over: links count from the feed's own address."""
    entry = '<entry {}><title>One</title><link href="one.html"/><id>1</id></entry>'
    for base in ("xml:base='http://[bad'", 'xml:base="//[::1"'):
        for feed_base, entry_base in ((base, ""), ("", base)):
            atom = f'<feed xmlns="http://www.w3.org/2005/Atom" {feed_base}><title>T</title>{entry.format(entry_base)}</feed>'
            (found,) = feed(atom.encode(), "http://site.example/feed.xml").entries
            assert found.url == "http://site.example/one.html"
    sound = f'<feed xmlns="http://www.w3.org/2005/Atom" xml:base="http://b.example/x/">{entry.format("")}</feed>'
    assert feed(sound.encode(), "http://site.example/feed.xml").entries[0].url == "http://b.example/x/one.html"


async def test_a_json_feed_and_entries_without_pages(world: World, site: Site) -> None:
    """JSON Feed is recognised by its content; an entry without a page is its own content."""
    site.answers["/feed.json"] = Reply(
        '{"version": "https://jsonfeed.org/version/1.1", "title": "F", "items": [{"id": "n1", "title": "Note",'
        f' "content_html": "{prose(3).replace(chr(34), chr(39))}"}}]}}',
        media_type="application/json",
    )
    crawl = await world.ingest(site.url("/feed.json"))
    assert (crawl.sources[0].kind, counts(crawl)) == ("feed", (1, 0, 0, 0, 0))


async def test_nested_and_compressed_sitemaps(world: World, site: Site) -> None:
    """An index of a gzip file and of itself: each page once, third parties left out."""
    site.answers["/sitemap.xml"] = Reply(
        "<?xml version='1.0'?><sitemapindex xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>"
        f"<sitemap><loc>{site.url('/s.xml.gz')}</loc></sitemap><sitemap><loc>{site.url('/sitemap.xml')}</loc></sitemap>"
        "</sitemapindex>",
        media_type="text/xml",
    )
    urls = "".join(f"<url><loc>{site.url(f'/{n}')}</loc></url>" for n in range(3))
    site.answers["/s.xml.gz"] = Reply(
        gzip.compress(f"<urlset>{urls}<url><loc>https://example.org/x</loc></url></urlset>".encode()),
        media_type="application/gzip",
    )
    for number in range(3):
        site.page(f"/{number}", prose(number))
    crawl = await world.ingest(site.url("/sitemap.xml"))
    assert (crawl.sources[0].kind, counts(crawl)) == ("sitemap", (3, 0, 0, 0, 0))


async def test_a_front_page_stands_for_its_feed_and_an_article_does_not(world: World, site: Site) -> None:
    """A site's front page that names a feed is that feed; an article that names one is an article."""
    head = "<link rel=alternate type=application/rss+xml href=/rss>"
    site.page("/", prose(1), head=head)
    site.page("/2024/post", prose(2), head=head)
    site.answers["/rss"] = Reply(
        f"<rss version='2.0'><channel><item><link>{site.url('/2024/post')}</link></item></channel></rss>"
    )
    front = await world.ingest(site.url("/"))
    assert (front.sources[0].kind, counts(front)) == ("feed", (1, 0, 0, 0, 0))
    assert (await world.ingest(site.url("/2024/post"))).sources[0].kind == "page"


async def test_robots_are_kept_to(world: World, site: Site) -> None:
    """What robots.txt disallows is not fetched, and the reason is told."""
    site.answers["/robots.txt"] = Reply("User-agent: *\nDisallow: /private/\n", media_type="text/plain")
    site.page("/private/post", prose(1))
    crawl = await world.ingest(site.url("/private/post"))
    assert crawl.state is JobState.FAILED
    assert "robots.txt" in crawl.failures[0].message
    assert site.requests["/private/post"] == 0


async def test_a_robots_txt_that_fails_forbids(world: World, site: Site) -> None:
    """RFC 9309: while robots.txt cannot be had because of the server, nothing else is fetched."""
    site.answers["/robots.txt"] = Reply(status=501)
    site.page("/post", prose(1))
    crawl = await world.ingest(site.url("/post"))
    assert crawl.state is JobState.FAILED
    assert site.requests["/post"] == 0


async def test_near_duplicates_are_kept_but_not_indexed(world: World, site: Site) -> None:
    """The same text with another footer is recorded as a duplicate, and steps in when the original goes."""
    site.page("/a", prose(1, 400))
    site.page("/b", prose(1, 400) + "<p>Also published elsewhere.</p>")
    await world.ingest(site.url("/a"))
    await world.ingest(site.url("/b"))
    documents = await world.documents()
    first, second = documents[site.url("/a")], documents[site.url("/b")]
    assert (first.state, second.state, second.duplicate_of) == ("indexed", "duplicate", first.id)
    await world.crawler.library.delete(first.id, EVERYONE)
    assert (await world.documents())[site.url("/b")].state == "indexed"


@pytest.mark.promise(2)
async def test_a_recrawl_does_not_bring_back_a_deleted_document_and_an_ingest_does(world: World, site: Site) -> None:
    """Promise 2: the tombstone holds against crawls, not against a person's explicit wish."""
    site.page("/post", prose(1), etag='"1"')
    crawl = await world.ingest(site.url("/post"))
    document = (await world.documents())[site.url("/post")]
    await world.crawler.library.delete(document.id, EVERYONE)
    assert document.id in world.index.taken
    assert counts(await world.refresh(crawl)) == (0, 0, 0, 1, 0)
    assert await world.documents() == {}
    assert counts(await world.ingest(site.url("/post"))) == (1, 0, 0, 0, 0)
    assert (await world.documents())[site.url("/post")].version == 2


async def test_busy_servers_are_asked_again(world: World, site: Site) -> None:
    """A 503 with Retry-After is waited for, and the page comes in."""
    answers = [Reply(status=503, headers={"Retry-After": "0"}), Reply(article(prose(1)))]
    site.answers["/post"] = lambda request: answers.pop(0)
    assert counts(await world.ingest(site.url("/post"))) == (1, 0, 0, 0, 0)


@pytest.mark.promise(1)
async def test_one_failure_does_not_stop_the_rest(world: World, site: Site) -> None:
    """A dead link and a broken page are told with their reasons; the others come in; retry takes up the failed."""
    site.page("/", "<a href='/a'>a</a><a href='/dead'>d</a>" + prose(1))
    site.page("/a", prose(2))
    crawl = await world.ingest(SourceSpec(site.url("/"), options={"depth": "1"}))
    assert (crawl.state, counts(crawl)) == (JobState.DONE, (2, 0, 0, 0, 1))
    assert [(each.address, each.code) for each in crawl.failures] == [(site.url("/dead"), "not_found")]
    site.page("/dead", prose(3))
    again = await world.ended(await world.crawler.ingests.retry(crawl.id, EVERYONE))
    assert counts(again) == (1, 0, 2, 0, 0)
    assert again.failures == ()


async def test_a_failed_source_is_retried_from_its_beginning(world: World, site: Site) -> None:
    """A page that was not there is fetched when the ingest is retried."""
    crawl = await world.ingest(site.url("/late"))
    assert crawl.state is JobState.FAILED
    site.page("/late", prose(1))
    again = await world.ended(await world.crawler.ingests.retry(crawl.id, EVERYONE))
    assert (again.state, counts(again)) == (JobState.DONE, (1, 0, 0, 0, 0))


async def test_credentials_in_an_address_are_neither_kept_nor_sent(world: World, site: Site) -> None:
    """User and password are stripped before anything is stored."""
    seen: list[str] = []

    def answer(request: Request) -> Reply:
        seen.append(request.headers.get("authorization", ""))
        return Reply(article(prose(1)))

    site.answers["/post"] = answer
    crawl = await world.ingest(site.url("/post").replace("http://", "http://me:secret@"))
    assert crawl.sources[0].address == site.url("/post")
    assert set(seen) == {""}


async def test_a_gone_page_is_taken_and_comes_back(world: World, site: Site) -> None:
    """410 takes the document away; when the page is there again, the next crawl brings it back."""
    site.page("/post", prose(1))
    crawl = await world.ingest(site.url("/post"))
    site.answers["/post"] = Reply(status=410)
    await world.refresh(crawl)
    assert await world.documents() == {}
    site.page("/post", prose(1))
    assert counts(await world.refresh(crawl)) == (1, 0, 0, 0, 0)


async def test_requests_to_one_host_keep_their_distance(open_crawler: Opener, site: Site) -> None:
    """Politeness: with a delay of 100 ms, five pages of a host take 400 ms at least."""
    world = await open_crawler(crawler_host_delay=0.1)
    site.page("/", "".join(f"<a href='/{n}'>{n}</a>" for n in range(4)) + prose(1))
    for number in range(4):
        site.page(f"/{number}", prose(number + 2))
    began = time.monotonic()
    assert counts(await world.ingest(SourceSpec(site.url("/"), options={"depth": "1"}))) == (5, 0, 0, 0, 0)
    assert time.monotonic() - began >= 0.4
