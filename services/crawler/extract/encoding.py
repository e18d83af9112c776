"""Bytes made text, whatever they claim to be encoded in.

Comes in: bytes and declarations. Goes out: text in normal form C. Does not know: formats beyond their declarations.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

import charset_normalizer

from services.crawler.extract.tree import clean_characters

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]+)|<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([a-zA-Z0-9_:.-]+)",
    re.IGNORECASE,
)
# As browsers do (WHATWG Encoding): what calls itself ASCII or Latin-1 is Windows-1252, a superset.
_MEANT = {"ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030"}
_SAMPLE = 64 * 1024
_SLIPS = 0.02
"""Share of wrong sequences among those beyond ASCII up to which a text is still UTF-8, here and there broken."""


def decode(data: bytes, charset: str | None = None) -> str:
    """`charset`: as the transport declares it. Never fails: what cannot be read becomes U+FFFD."""
    return normalize(_decode(data, charset))


def normalize(text: str, *, hyphens: bool = False) -> str:
    """Normal form C, without what nobody sees; `hyphens`: soft ones stay."""
    if hyphens:
        return "\xad".join(normalize(part) for part in text.split("\xad"))
    return unicodedata.normalize("NFC", clean_characters(text))


def _decode(data: bytes, charset: str | None) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    wide = _wide(data)
    if wide:
        return data.decode(wide, "replace")
    # Valid UTF-8 beyond ASCII is hardly ever anything else, whatever is declared.
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    found = _META.search(data[:4096])
    inside = (found.group(1) or found.group(2)).decode("ascii") if found else None
    declared = [codec for name in (charset, inside) if name and (codec := _codec(name))]
    for codec in declared:
        if codec not in ("utf-8", "utf-16", "utf-32"):
            try:
                return data.decode(codec)
            except UnicodeDecodeError:
                continue
    patched = data.decode("utf-8", "replace")
    beyond = sum(1 for character in patched if character > "\x7f")
    if patched.count("\ufffd") <= max(1, _SLIPS * beyond):
        return patched
    if declared and declared[0] not in ("utf-8", "utf-16", "utf-32"):
        return data.decode(declared[0], "replace")
    guess = charset_normalizer.from_bytes(_sample(data)).best()
    codec = _codec(guess.encoding) if guess is not None else None
    return data.decode(codec or "cp1252", "replace")


def _codec(name: str) -> str | None:
    """Python's name of a text encoding, None for one that it does not know."""
    try:
        info = codecs.lookup(name.strip())
    except (LookupError, ValueError):
        return None
    if not getattr(info, "_is_text_encoding", True):
        return None
    return _MEANT.get(info.name, info.name)


def _wide(data: bytes) -> str | None:
    """UTF-16 without its mark: every other byte of Western text is zero."""
    head = data[:2048]
    if len(head) < 8:
        return None
    even, odd = head[0::2].count(0) / len(head[0::2]), head[1::2].count(0) / len(head[1::2])
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    if even > 0.4 and odd < 0.05:
        return "utf-16-be"
    return None


def _sample(data: bytes) -> bytes:
    """The part around the first bytes beyond ASCII."""
    first = next((index for index, byte in enumerate(data) if byte > 0x7F), 0)
    return data[max(0, first - 1024) : first - 1024 + _SAMPLE] if first > 1024 else data[:_SAMPLE]
