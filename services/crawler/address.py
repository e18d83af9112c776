"""Addresses: when two of them are the same document's, and which of them is the document's own.

Comes in: URLs and paths as people, pages and feeds write them. Goes out: one spelling each, safe to store, to show and
to log. Does not know: the network, the store.

A document's id is derived from its author and its address (domain.document_id), so the rules here only ever merge
spellings that servers treat alike. The order of a query's parameters is kept: there are servers for which it matters.
What is fetched is the URL as it was found; the normalised one is its name.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urljoin, urlsplit, urlunsplit

import tld
from url_normalize import url_normalize

from services.errors import InvalidInput

MAX_URL = 2048
"""Characters; longer ones come from traps and broken templates (source: sitemaps.org allows 2,048)."""

_TRACKING = re.compile(
    r"utm_\w+|gclid|gclsrc|dclid|gbraid|wbraid|fbclid|msclkid|twclid|yclid|igshid|igsh|mc_[ce]id|mkt_tok|_hs(enc|mi)"
    r"|__hs\w+|hsctatracking|_ga|_gl|vero_id|vero_conv|oly_(anon|enc)_id|rb_clickid|s_cid|ml_subscriber(_hash)?|wickedid"
    r"|ref_src|ref_url|phpsessid|jsessionid|at_(medium|campaign|custom\d)|_openstat|trk(campaign|info)?|piwik_\w+|pk_\w+"
    r"|matomo_\w+",
    re.IGNORECASE,
)
"""Parameters that name the visit, never the document (sources: ClearURLs' and Firefox's lists)."""
_INDEX = re.compile(r"/index\.(html?|php)$", re.IGNORECASE)
_SESSION_PATH = re.compile(r";jsessionid=[^/?;]*", re.IGNORECASE)


def parse_url(text: str) -> SplitResult:
    """An absolute http or https URL, split. InvalidInput with what is wrong; no credentials are in the message."""
    text = text.strip()
    if len(text) > MAX_URL:
        raise InvalidInput(f"The address is longer than {MAX_URL} characters.")
    if any(unicodedata.category(character) == "Cc" or character == "\\" for character in text):
        raise InvalidInput("The address holds control characters or backslashes.")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidInput("The address is not a URL: its host or port cannot be read.") from error
    if parts.scheme.lower() not in ("http", "https"):
        raise InvalidInput(
            f"Only http and https addresses are fetched, not {parts.scheme[:20] or 'one without scheme'}."
        )
    if not parts.hostname or port == 0:
        raise InvalidInput("The address names no host.")
    if re.search(r"[\s%<>\"{}|^`,;]", parts.hostname):
        raise InvalidInput("The address's host is not a valid name.")
    return parts


def without_credentials(url: str) -> str:
    """The URL without user and password: what may be stored, shown and logged."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" not in authority:
        return url
    return f"{scheme}://{authority.rpartition('@')[2]}{rest[len(authority) :]}"


def normalise(url: str) -> str:
    """The one spelling under which a web document is known. InvalidInput for what is no http or https URL.

    Scheme and host are lower-cased, the host in ASCII (IDNA), default ports, fragments, credentials, dot segments,
    needless escapes, tracking parameters and a trailing index.html are dropped. Idempotent.
    """
    parse_url(url)
    try:
        normal = url_normalize(without_credentials(url.strip()))
        parts = parse_url(normal or "")
    except (ValueError, UnicodeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput("The address is not a URL: its host is not a valid name.") from error
    path = _INDEX.sub("/", _SESSION_PATH.sub("", parts.path)) or "/"
    kept = [pair for pair in parts.query.split("&") if pair and not _tracks(pair)]
    return urlunsplit((parts.scheme, parts.netloc.rstrip("."), path, "&".join(kept), ""))


def _tracks(pair: str) -> bool:
    name, _, value = pair.partition("=")
    # Medium marks every link of its feeds with source=rss-…: the page is the same without.
    return bool(_TRACKING.fullmatch(unquote(name))) or (
        name == "source" and value.startswith(("rss-", "rss_", "friends_"))
    )


def host(url: str) -> str:
    """Lower-case host name of a URL, without port; empty where there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def origin(url: str) -> str:
    """`scheme://host:port`, what robots.txt and politeness go by."""
    parts = parse_url(url)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    name = parts.hostname or ""
    return f"{parts.scheme.lower()}://{f'[{name}]' if ':' in name else name}:{port}"


def site(url: str) -> str:
    """The registrable domain (public suffix list, private suffixes included: one github.io page is not another's);
    for addresses and single names, host and port."""
    parts = parse_url(url)
    found = tld.get_tld(url, fail_silently=True, as_object=True, search_private=True)
    if isinstance(found, tld.Result) and found.fld:
        return found.fld
    return f"{host(url)}:{parts.port or ''}"


def same_site(one: str, other: str) -> bool:
    try:
        return site(one) == site(other)
    except InvalidInput:
        return False


def canonical(found_at: str, declared: str | None) -> str:
    """The address of a page found at `found_at` that declares `declared` as canonical (promise 3).

    Believed within one site only, and not where an inner page names its site's front page: that is a template's
    mistake, and would make all its pages one document.
    """
    own = normalise(found_at)
    if not declared:
        return own
    try:
        other = normalise(urljoin(found_at, declared.strip()))
    except (InvalidInput, ValueError):
        return own
    if not same_site(own, other):
        return own
    front = urlsplit(other).path == "/" and not urlsplit(other).query
    return own if front and urlsplit(own).path != "/" else other


def resolve_link(base: str, link: str) -> str | None:
    """An absolute http(s) URL, without fragment, of a link in a page; None for anything else."""
    try:
        absolute = urljoin(base, link.strip())
        parts = parse_url(absolute)
    except (InvalidInput, ValueError):
        return None
    return without_credentials(urlunsplit(parts._replace(fragment="")))


def shape(url: str) -> str:
    """The pattern of a URL's path: digits and long tokens replaced, names of parameters kept.

    Calendars, pagers and faceted lists make endless URLs of one shape: a crawl gives each shape a budget.
    """
    parts = urlsplit(url)
    segments = [re.sub(r"\d+", "#", segment) for segment in parts.path.split("/")]
    # A path that repeats its own segments (/a/b/a/b/…) is a broken relative link: all depths are one shape.
    seen: list[str] = []
    for segment in segments:
        if segment not in seen or not segment:
            seen.append(segment)
    names = sorted({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)})
    return f"{parts.hostname}{'/'.join(seen)}?{'&'.join(names)}"


# ── Addresses that are not on the web ───────────────────────────────────────────────────────────────


def clean_path(path: str) -> str:
    """A relative path as part of an address: forward slashes, NFC (macOS and Linux spell accents differently), and
    bytes that are no UTF-8 as percent escapes, so that every file name has an address that can be stored and sent."""
    text = path.replace("\\", "/") if "/" not in path else path
    encoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    normal = unicodedata.normalize("NFC", encoded)
    return "".join(quote(each) if unicodedata.category(each) in ("Cc", "Cs") else each for each in normal)


def file_address(path: str) -> str:
    """`file:` and the path below the ingested folder."""
    return f"file:{clean_path(path)}"


def git_address(repository: str, path: str) -> str:
    """`git:` repository and path, without the ref: the same file on another branch is the same document."""
    return f"git:{repository_name(repository)}/{clean_path(path)}"


def repository_name(address: str) -> str:
    """Host and path of a remote repository, or a local one's folder name; the same for all its spellings."""
    if "://" in address:
        parts = urlsplit(without_credentials(address))
        port = f":{parts.port}" if parts.port and parts.port not in (80, 443) else ""
        return f"{host(address)}{port}/{parts.path.strip('/').removesuffix('.git')}".rstrip("/")
    return clean_path(re.split(r"[\\/]", address.rstrip("\\/"))[-1]).removesuffix(".git")


def upload_address(name: str) -> str:
    """`upload:` and the file's name. InvalidInput for a name with nothing in it.

    Folders in it stay, as a folder that is uploaded whole has many a README.md; drives, `..` and control characters
    go.
    """
    normal = unicodedata.normalize("NFC", name.replace("\\", "/").encode("utf-8", "replace").decode())
    cleaned = "".join(each for each in normal if unicodedata.category(each)[0] != "C")
    parts = [each.strip() for each in re.sub(r"^[A-Za-z]:", "", cleaned).split("/")]
    parts = [each for each in parts if each not in ("", ".", "..")]
    if not parts:
        raise InvalidInput("The file has no name.", param="file")
    last = parts[-1]
    if len(last) > 255:
        stem, dot, suffix = last.rpartition(".")
        parts[-1] = f"{(stem or suffix)[: max(1, 254 - len(suffix))]}{dot}{suffix}"[:255]
    address = f"upload:{'/'.join(parts)}"
    if len(address) > 1024:
        raise InvalidInput("The file's name is longer than 1,000 characters.", param="file")
    return address
