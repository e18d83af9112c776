"""Addresses, sketches and politeness by themselves."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.crawler import sketch
from services.crawler.address import (
    canonical,
    file_address,
    git_address,
    normalise,
    same_site,
    shape,
    upload_address,
    without_credentials,
)
from services.crawler.page import sniff
from services.crawler.politeness import Politeness
from services.errors import InvalidInput

HOSTS = st.from_regex(r"[a-z]{1,8}\.(com|co\.uk|example)", fullmatch=True)
PATHS = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\\#"), max_size=40)


@pytest.mark.promise(3)
@given(HOSTS, PATHS)
def test_normalising_twice_changes_nothing(host: str, path: str) -> None:
    """Idempotent for every URL that is one: else a document's id would depend on how often it was seen."""
    try:
        once = normalise(f"https://{host}/{path}")
    except InvalidInput:
        return
    assert normalise(once) == once


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP://Example.COM:80/a/../b?utm_source=x&id=1#f", "http://example.com/b?id=1"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com/docs/index.html", "https://example.com/docs/"),
        ("https://example.com/%7euser/%c3%a9", "https://example.com/~user/é"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://me:pw@example.com/a", "https://example.com/a"),
        ("https://example.com./a;jsessionid=8?fbclid=1", "https://example.com/a"),
        ("https://medium.com/p?source=rss-7----2", "https://medium.com/p"),
    ],
)
def test_spellings_of_one_address(one: str, other: str) -> None:
    """Spellings that servers treat alike are one."""
    assert normalise(one) == normalise(other)


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.com/a", "https://example.com/a/"),
        ("https://example.com/a?x=1&y=2", "https://example.com/a?y=2&x=1"),
        ("https://example.com/a?source=book", "https://example.com/a"),
        ("https://example.com/A", "https://example.com/a"),
        ("http://example.com/a", "https://example.com/a"),
        ("https://example.com:8443/", "https://example.com/"),
    ],
)
def test_addresses_that_stay_apart(one: str, other: str) -> None:
    """What servers may tell apart is not merged: redirects and canonical links say what is the same."""
    assert normalise(one) != normalise(other)


def test_sites_are_registrable_domains() -> None:
    """Subdomains are one site; users of a shared host are not."""
    assert same_site("https://blog.example.co.uk/", "https://example.co.uk/x")
    assert not same_site("https://a.github.io/", "https://b.github.io/")
    assert not same_site("http://127.0.0.1:1/", "http://127.0.0.1:2/")
    assert canonical("https://a.example.com/x?y=1", "/x") == "https://a.example.com/x"
    assert canonical("https://a.example.com/x", "https://other.com/x") == "https://a.example.com/x"
    assert canonical("https://a.example.com/x", "https://a.example.com/") == "https://a.example.com/x"
    assert canonical("https://a.example.com/x", "javascript:x") == "https://a.example.com/x"


@given(st.text(max_size=60))
def test_every_path_has_a_printable_address(path: str) -> None:
    """Any name that a file system may hold can be stored, sent and shown."""
    for address in (file_address(path), git_address("https://example.com/a.git", path)):
        address.encode("utf-8")
        assert not any(ord(each) < 32 or ord(each) == 127 for each in address)


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("a.md", "upload:a.md"),
        ("C:\\fakepath\\a.md", "upload:fakepath/a.md"),
        ("../../etc/passwd", "upload:etc/passwd"),
        ("/a//b/./c.md", "upload:a/b/c.md"),
        ("a\u0000\u202eb.md", "upload:ab.md"),
        ("x" * 300 + ".md", f"upload:{'x' * 252}.md"),
    ],
)
def test_names_of_uploads(name: str, address: str) -> None:
    """Folders stay, what leads elsewhere or cannot be seen goes."""
    assert upload_address(name) == address


@pytest.mark.promise(3)
def test_a_repository_has_one_name() -> None:
    """Whatever its spelling, and without the ref."""
    assert {
        git_address(each, "README.md")
        for each in ("https://example.com/a/b", "https://example.com/a/b.git", "https://u:p@EXAMPLE.com/a/b/")
    } == {"git:example.com/a/b/README.md"}
    assert git_address("/home/me/project", "README.md") == "git:project/README.md"


def test_credentials_are_stripped_wherever_they_stand() -> None:
    """Also where a password holds an @ or the URL is broken."""
    assert without_credentials("https://u:p@ss@example.com/a@b") == "https://example.com/a@b"
    assert without_credentials("https://example.com/a@b?c=d@e") == "https://example.com/a@b?c=d@e"


def test_urls_without_end_have_one_shape() -> None:
    """Numbers and values of parameters don't count, nor do segments that repeat themselves."""
    assert shape("https://a.example/c/2024/01?s=1") == shape("https://a.example/c/1999/12?s=2")
    assert shape("https://a.example/x/y/x/y/") == shape("https://a.example/x/y/x/y/x/y/")
    assert shape("https://a.example/one") != shape("https://a.example/two")


@pytest.mark.parametrize(
    ("data", "media_type", "kind"),
    [
        (b"<?xml version='1.0'?>\n<!-- x --><rss>", "text/plain", "feed"),
        (b"\xef\xbb\xbf<feed xmlns='x'>", "text/html", "feed"),
        (b"<rdf:RDF>", "", "feed"),
        (b'{"version": "https://jsonfeed.org/version/1.1"}', "application/json", "feed"),
        (b"<urlset>", "text/xml", "sitemap"),
        (b"<sm:sitemapindex>", "", "sitemap"),
        (b"<!DOCTYPE html><html>", "", "page"),
        (b"<div>x", "text/html", "page"),
        (b"%PDF-1.7", "application/pdf", "file"),
    ],
)
def test_what_bytes_are(data: bytes, media_type: str, kind: str) -> None:
    """By content first: feeds come under every media type."""
    assert sniff(data, media_type) == kind


def text_of(seed: int, words: int = 1000) -> list[str]:
    made = random.Random(seed)
    return [f"w{made.randint(0, 5000)}" for _ in range(words)]


def test_near_texts_meet_in_a_band_and_others_do_not() -> None:
    """Of 200 texts with 1 % of their words changed all share a band with the original; of 200 others at most one."""
    original = text_of(0)
    bands = set(sketch.bands(" ".join(original)))
    met = strangers = 0
    for seed in range(200):
        made = random.Random(seed)
        changed = list(original)
        for _ in range(10):
            changed[made.randrange(len(changed))] = "changed"
        met += bool(bands & set(sketch.bands(" ".join(changed))))
        strangers += bool(bands & set(sketch.bands(" ".join(text_of(seed + 1)))))
    assert met == 200
    assert strangers <= 1


@given(st.text(max_size=300))
def test_a_text_is_near_itself(text: str) -> None:
    """For every text, empty and without words too; and its bands are the same each time."""
    assert sketch.near(text, text)
    assert sketch.bands(text) == sketch.bands(text)


def test_a_changed_paragraph_is_no_duplicate() -> None:
    """A tenth of the text new: it says something of its own, and is indexed."""
    original = text_of(0)
    assert not sketch.near(" ".join(original), " ".join(original[:900] + text_of(1, 100)))
    assert sketch.near(" ".join(original), " ".join([*original, "Published", "elsewhere"]))


async def test_a_host_is_asked_by_turns() -> None:
    """So many at once, so long between two; another host does not wait for it."""
    politeness = Politeness(delay=0.05, concurrency=2)
    at_once = most = 0
    two, leave = asyncio.Event(), asyncio.Event()

    async def visit(host: str) -> None:
        nonlocal at_once, most
        async with politeness.turn(host):
            at_once += 1
            most = max(most, at_once)
            if at_once == 2:
                two.set()
            await leave.wait()
            # A third would be let in now, if ever.
            await asyncio.sleep(0)
            at_once -= 1

    began = time.monotonic()
    visits = [asyncio.create_task(visit("a")) for _ in range(6)]
    async with asyncio.timeout(30):
        await two.wait()
        # Both of the first host's places are taken, and stay so.
        async with politeness.turn("b"):
            assert at_once == 2
    # Longer than the distance that a third would have to keep.
    await asyncio.sleep(0.1)
    leave.set()
    await asyncio.gather(*visits)
    assert most == 2
    assert time.monotonic() - began >= 0.25
