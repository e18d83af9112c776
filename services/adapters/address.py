"""The address of an HTTP server in a URL such as `openai+https://host/v1?model=NAME`.

Comes in: a URL, and what its setting takes. Goes out: the server's address and the options; Misconfigured, with the
setting's name and without a secret. Does not know: what the server is.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit, urlunsplit

from services.errors import Misconfigured


def parse(url: str, setting: str, example: str, options: Collection[str] = ()) -> tuple[str, dict[str, str]]:
    """(address, options). `setting`: what stands before _URL and _API_KEY in the names of its variables; `example`: of
    the part that follows `technology+http://`."""
    scheme, _, rest = url.partition("://")
    technology, _, transport = scheme.partition("+")
    parts = urlsplit(f"{transport}://{rest}")
    if transport not in ("http", "https") or not parts.hostname:
        raise Misconfigured(f"{setting}_URL: {technology}+http://{example}, or {technology}+https:// for TLS.")
    if parts.username or parts.password:
        raise Misconfigured(
            f"{setting}_URL holds a name or password: put the server's key into {setting}_API_KEY instead."
        )
    given = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if given.keys() - set(options) or parts.fragment:
        takes = f"takes ?{', ?'.join(options)} and nothing else" if options else "takes no options"
        raise Misconfigured(f"{setting}_URL: {technology}+{transport}:// {takes}.")
    return urlunsplit((transport, parts.netloc, parts.path.rstrip("/"), "", "")), given


def window(given: dict[str, str], setting: str, otherwise: int) -> int:
    """The option of that name, in tokens."""
    text = given.get("window", "")
    if not text:
        return otherwise
    if not text.isdecimal() or int(text) < 512:
        raise Misconfigured(f"{setting}_URL: ?window= is a number of tokens, 512 or more.")
    return int(text)
