"""The address of a server in a URL such as `openai+https://host/v1?model=NAME` or `rediss://:PASSWORD@host:6379/0`.

Comes in: a URL, and what its setting takes. Goes out: the server's address and the options; Misconfigured, with the
setting's name. Does not know: what the server is.

A password whose special characters are not percent-encoded falls apart into a host, a port, a path and options, and the
standard library quotes them in its errors. So no message here holds any part of the URL, and no error has such a cause.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from services.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Server:
    scheme: str
    host: str
    port: int | None
    path: str
    options: Mapping[str, str]
    user: str = field(repr=False)
    password: str = field(repr=False)
    netloc: str = field(repr=False)
    """As it was written: user, password, host and port."""


def read(url: str, setting: str, example: str, schemes: Collection[str], options: Collection[str] = ()) -> Server:
    """`setting`: what stands before _URL in the name of its variable; `example`: a whole URL; `schemes`: all there
    are."""
    found = _taken_apart(url)
    if found is None or not found.host:
        raise Misconfigured(
            f"{setting}_URL cannot be read. It is {example}; its port is from 1 to 65535, and the characters @ : / ? # "
            f"[ ] % of a user or password are percent-encoded (docs/settings.md)."
        )
    if found.scheme not in schemes:
        raise Misconfigured(f"{setting}_URL begins with {' or '.join(f'{each}://' for each in schemes)}.")
    if found.options.keys() - set(options):
        takes = f"?{', ?'.join(options)} and nothing else" if options else "no options"
        raise Misconfigured(f"{setting}_URL takes {takes}. It is {example} (docs/settings.md).")
    return found


def _taken_apart(url: str) -> Server | None:
    """None where it is no URL of a server."""
    if "#" in url:
        return None
    try:
        parts = urlsplit(url)
        return Server(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port,
            path=parts.path,
            options=dict(parse_qsl(parts.query, keep_blank_values=True)),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            netloc=parts.netloc,
        )
    except ValueError:
        return None


def parse(url: str, setting: str, example: str, options: Collection[str] = ()) -> tuple[str, dict[str, str]]:
    """(address, options) of an HTTP server. `setting`: what stands before _URL and _API_KEY in the names of its
    variables; `example`: of the part that follows `technology+http://`."""
    technology = url.partition("://")[0].partition("+")[0].lower()
    schemes = (f"{technology}+http", f"{technology}+https")
    server = read(url, setting, f"{schemes[0]}://{example}, or {schemes[1]}:// for TLS", schemes, options)
    if server.user or server.password:
        raise Misconfigured(
            f"{setting}_URL holds a name or password: put the server's key into {setting}_API_KEY instead."
        )
    place = server.netloc.rpartition("@")[2]
    return urlunsplit((server.scheme.partition("+")[2], place, server.path.rstrip("/"), "", "")), dict(server.options)


def window(given: Mapping[str, str], setting: str, otherwise: int) -> int:
    """The option of that name, in tokens."""
    text = given.get("window", "")
    if not text:
        return otherwise
    if not text.isdecimal() or int(text) < 512:
        raise Misconfigured(f"{setting}_URL: ?window= is a number of tokens, 512 or more.")
    return int(text)
