"""Addresses of servers: what is wrong is refused at start, and no password comes out again."""

from __future__ import annotations

import ssl
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapters import address, open_adapter, redis_url
from services.errors import Misconfigured
from services.generator.pool import Pool

SCHEMES = [
    ("limits", "redis"),
    ("limits", "rediss"),
    ("queue", "redis"),
    ("queue", "rediss"),
    ("language_model", "openai+http"),
    ("language_model", "tgi+https"),
    ("encoder", "tei+http"),
    ("reranker", "tei+http"),
    ("index", "weaviate"),
    ("index", "weaviate+https"),
]
ODD = st.text(st.sampled_from("#/?@:[]%&=+;\\ ab0129\u2100\uff0f\u00e9\U0001f642"), min_size=1, max_size=8)
"""What a password may have and a URL reads as something else; U+2100 becomes a/c where it is normalised."""
FIRST, LAST = "Kwvzq", "Jxbfy"


def told(error: BaseException) -> str:
    """All that a log may show of it."""
    return "".join(traceback.format_exception(error)) + str(vars(error)) + repr(error.__context__)


@pytest.mark.promise(9)
@pytest.mark.parametrize(("port", "scheme"), SCHEMES)
@given(odd=ODD, more=ODD, end=st.sampled_from([":6379/0", ":many/0", ":99999/0", "/0?colour=red", "/x", "?ssl_x=1"]))
async def test_no_part_of_a_password_comes_out(port: str, scheme: str, odd: str, more: str, end: str) -> None:
    """However a password that is not encoded falls apart, no error holds a part of it."""
    url = f"{scheme}://user:{FIRST}{odd}{more}{LAST}@127.0.0.1{end}"
    try:
        opened = await open_adapter(port, url, Path())
    except Misconfigured as error:
        shown = told(error)
        assert FIRST not in shown
        assert LAST not in shown
    else:
        await opened.close()


@pytest.mark.promise(9)
@given(odd=ODD)
async def test_nor_out_of_a_pool(odd: str) -> None:
    """The pool, which looks up a host's addresses first, refuses the same."""

    async def resolve(host: str) -> list[str]:
        return ["127.0.0.1"]

    url = f"openai+http://user:{FIRST}{odd}{LAST}@127.0.0.1:8080/v1?model=m"
    pool = Pool([url], lambda each: open_adapter("language_model", each, Path()), resolve)
    with pytest.raises(Misconfigured) as raised:
        await pool.start()
    await pool.close()
    assert FIRST not in told(raised.value)
    assert LAST not in told(raised.value)


@given(password=st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable()))
def test_an_encoded_password_is_whole(password: str) -> None:
    """Any password that is percent-encoded arrives as it is, and the bare URL still has it encoded."""
    encoded = quote(password, safe="")
    server = address.read(f"redis://:{encoded}@host:1/0", "TWIN_X", "redis://HOST", ("redis",))
    assert (server.password, server.host, server.port) == (password, "host", 1)
    assert (
        password not in repr(server) or password in "Server(scheme='redis', host='host', port=1, path='/0', options={})"
    )
    bare, _, tls = redis_url.read(f"redis://:{encoded}@host:1/0?prefix=x", "TWIN_X", ("prefix",))
    assert (bare, tls) == (f"redis://:{encoded}@host:1/0", None)


@pytest.mark.parametrize(
    ("port", "url", "said"),
    [
        ("limits", "redis://:secret@127.0.0.1:many/0", "TWIN_LIMITS_URL cannot be read"),
        ("limits", "redis://:secret@127.0.0.1:65536/0", "TWIN_LIMITS_URL cannot be read"),
        ("queue", "redis://:se#cret@127.0.0.1:6379/0", "TWIN_QUEUE_URL cannot be read"),
        ("queue", "redis://:secret@/0", "TWIN_QUEUE_URL cannot be read"),
        ("queue", "redis://:secret@127.0.0.1/secret", "a database's number"),
        ("limits", "redis://:secret@127.0.0.1/0?colour=secret", "nothing else"),
        ("limits", "redis://127.0.0.1/0?ssl_ca_certs=/etc/passwd", "go with rediss://"),
        ("queue", "rediss://127.0.0.1/0?ssl_ca_certs=/no/such/secret", "names no file"),
        ("queue", "rediss://127.0.0.1/0?ssl_cert_reqs=secret", "required, optional, none"),
        ("limits", "rediss://127.0.0.1/0?ssl_check_hostname=secret", "true or false"),
        ("limits", "rediss://127.0.0.1/0?ssl_password=secret", "nothing else"),
        ("limits", "redis+tls://127.0.0.1/0", "redis:// or rediss://"),
        ("queue", "rediss+x://127.0.0.1/0", "redis:// or rediss://"),
        ("limits", "redisss://127.0.0.1/0", "it takes"),
        ("documents", "mongodbs://127.0.0.1/x", "it takes"),
        ("documents", "sqlites:///x.db", "it takes"),
        ("documents", "sqlite+tls:///x.db", "sqlite:///"),
        ("index", "weaviates://127.0.0.1", "it takes"),
        ("index", "weaviate+ssl://127.0.0.1", "weaviate:// or weaviate+https://"),
        ("index", "weaviate://:se/cret@127.0.0.1:8080", "TWIN_INDEX_URL cannot be read"),
        ("index", "weaviate://:secret@127.0.0.1?grpc_port=secret", "grpc_port"),
        ("index", "weaviate://:secret@127.0.0.1?replicas=0", "replicas"),
        ("queue", "memory+tls://", "memory://"),
        ("queue", "redis:secret://127.0.0.1", "not a URL"),
        ("language_model", "llamacpp+https:///x.gguf", "TWIN_LLM_URL"),
        ("language_model", "openai+https://host:many/v1", "TWIN_LLM_URL cannot be read"),
        ("encoder", "tei+grpc://host:1", "tei+http"),
    ],
)
async def test_wrong_addresses(port: str, url: str, said: str, tmp_path: Path) -> None:
    """Refused with the setting and what is right; a scheme that is not known is not taken for one without TLS."""
    with pytest.raises(Misconfigured) as raised:
        await open_adapter(port, url, tmp_path)
    assert said in raised.value.message
    assert "secret" not in raised.value.message


def test_tls_is_verified_unless_told_otherwise(tmp_path: Path) -> None:
    """rediss:// proves the certificate and its name; each of the two can be switched off by its own option only."""
    _, _, tls = redis_url.read("rediss://host", "TWIN_X", ())
    assert tls == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    _, _, tls = redis_url.read("REDISS://host/0?ssl_check_hostname=false", "TWIN_X", ())
    assert tls == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": False}
    _, _, tls = redis_url.read("rediss://host?ssl_cert_reqs=none", "TWIN_X", ())
    assert tls == {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
