"""The Redis that a URL names, for the queue and for the limits.

Comes in: `redis://[USER][:PASSWORD]@HOST:6379/0`, or `rediss://…` for TLS with `?ssl_ca_certs=`, `&ssl_certfile=`,
`&ssl_keyfile=` (files), `&ssl_cert_reqs=` (required, optional, none) and `&ssl_check_hostname=` (true, false). Goes
out: the bare URL, the options of who asks, and TLS as redis-py takes it. Does not know: what is kept there.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.adapters import address
from services.errors import Misconfigured

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS = (*FILES, "ssl_cert_reqs", "ssl_check_hostname")
PROOFS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
EXAMPLE = "redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS"


def read(url: str, setting: str, options: Sequence[str]) -> tuple[str, dict[str, str], dict[str, Any] | None]:
    """(URL without options, those of `options` that it has, TLS or None). Misconfigured."""
    server = address.read(url, setting, EXAMPLE, ("redis", "rediss"), (*options, *TLS))
    if not re.fullmatch(r"/?|/[0-9]{1,5}", server.path):
        raise Misconfigured(f"{setting}_URL is {EXAMPLE}: its path is a database's number (docs/settings.md).")
    given = {name: value for name, value in server.options.items() if name in options}
    bare = f"{server.scheme}://{server.netloc}{server.path}"
    if server.scheme == "rediss":
        return bare, given, _tls(server.options, setting)
    if set(TLS) & server.options.keys():
        raise Misconfigured(f"{setting}_URL: ?{', ?'.join(TLS)} go with rediss://, which is TLS; redis:// is not.")
    return bare, given, None


def _tls(given: Mapping[str, str], setting: str) -> dict[str, Any]:
    files = {name: given[name] for name in FILES if name in given}
    for name, file in files.items():
        if not Path(file).is_file():
            raise Misconfigured(f"{setting}_URL: ?{name}= names no file. Give the whole path of a .pem file.")
    proof, named = given.get("ssl_cert_reqs", "required"), given.get("ssl_check_hostname", "true")
    if proof not in PROOFS:
        raise Misconfigured(f"{setting}_URL: ?ssl_cert_reqs= is {', '.join(PROOFS)}.")
    if named not in ("true", "false"):
        raise Misconfigured(f"{setting}_URL: ?ssl_check_hostname= is true or false.")
    # Without a certificate that is looked at there is no name to compare.
    return {
        **files,
        "ssl_cert_reqs": PROOFS[proof],
        "ssl_check_hostname": named == "true" and PROOFS[proof] is not ssl.CERT_NONE,
    }
