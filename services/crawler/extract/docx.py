"""A Word document, by way of mammoth's HTML.

Comes in: the bytes of a .docx. Goes out: Extracted. Does not know: where the file came from.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib

import mammoth
from lxml import etree

from services.crawler.extract.language import language
from services.crawler.extract.limits import ExtractLimits
from services.crawler.extract.media import DOCX_TYPE
from services.crawler.extract.metadata import iso_date, plain
from services.crawler.extract.render import Writer
from services.crawler.extract.tree import parse, separate
from services.domain import Extracted
from services.errors import TooLarge, Unprocessable

_MEMBERS = 5_000
_BROKEN = "The .docx cannot be read: open it in a word processor and save it again."
_CORE = {
    "title": "{http://purl.org/dc/elements/1.1/}title",
    "creator": "{http://purl.org/dc/elements/1.1/}creator",
    "created": "{http://purl.org/dc/terms/}created",
    "modified": "{http://purl.org/dc/terms/}modified",
}
_STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
p[style-name='Quote'] => blockquote > p:fresh
p[style-name='Intense Quote'] => blockquote > p:fresh
p[style-name='Code'] => pre:separator('\\n')
p[style-name='Source Code'] => pre:separator('\\n')
p[style-name='HTML Preformatted'] => pre:separator('\\n')
p[style-name='Preformatted Text'] => pre:separator('\\n')
r[style-name='Code'] => code
r[style-name='Verbatim Char'] => code
"""


def extract_docx(data: bytes, *, name: str, limits: ExtractLimits) -> Extracted:
    if len(data) > limits.docx_bytes:
        raise TooLarge(f"The .docx has {len(data):,} bytes, more than {limits.docx_bytes:,}: split it.")
    core = _open_safely(data, limits)
    try:
        # Images are given no address, so that none is unpacked into the HTML or fetched.
        found = mammoth.convert_to_html(
            io.BytesIO(data), style_map=_STYLES, convert_image=mammoth.images.img_element(lambda image: {"src": ""})
        ).value
    except RecursionError as error:
        raise Unprocessable("The .docx nests its parts too deeply to be read.") from error
    except Exception as error:  # mammoth meets a broken document with whatever its parser raises
        raise Unprocessable(_BROKEN) from error
    if not found.strip():
        raise Unprocessable("The .docx holds no text.")
    root = parse(f"<html><body>{found}</body></html>", limits)
    leaves = set(separate(root.find("body")))
    text = Writer("", leaves.__contains__).write(root)
    if not text:
        raise Unprocessable("The .docx holds no text.")
    heading = next((plain("".join(each.itertext())) for each in root.iter("h1")), "")
    return Extracted(
        text=text,
        title=plain(core.get("title", ""))[:300] or heading[:300] or name,
        byline=plain(core.get("creator", ""))[:120],
        published=iso_date(core.get("created")),
        modified=iso_date(core.get("modified")),
        language=language(text),
        media_type=DOCX_TYPE,
    )


def _open_safely(data: bytes, limits: ExtractLimits) -> dict[str, str]:
    """The core properties; every member has been unpacked once, counted, and its XML looked at.

    The sizes that an archive declares are the attacker's: what counts is what comes out.
    """
    unpacked = xml = 0
    core: dict[str, str] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS:
                raise TooLarge(f"The .docx has {len(members):,} parts, more than {_MEMBERS:,}.")
            if sum(member.file_size for member in members) > limits.docx_unpacked_bytes:
                raise TooLarge(f"The .docx unpacks to more than {limits.docx_unpacked_bytes:,} bytes.")
            for member in members:
                if member.flag_bits & 1:
                    raise Unprocessable("The .docx is encrypted: save it without a password.")
                is_xml = member.filename.lower().endswith((".xml", ".rels"))
                head = b""
                with archive.open(member) as stream:
                    while block := stream.read(65536):
                        unpacked += len(block)
                        xml += len(block) if is_xml else 0
                        if unpacked > limits.docx_unpacked_bytes or xml > limits.docx_xml_bytes:
                            raise TooLarge("The .docx unpacks to more than a document holds: split it.")
                        if is_xml and re.search(
                            rb"<!(?:DOCTYPE|ENTITY)", (head + block).replace(b"\x00", b""), re.IGNORECASE
                        ):
                            raise Unprocessable("The .docx declares XML entities, which no word processor writes.")
                        head = block[-32:]
            if "word/document.xml" not in archive.namelist():
                raise Unprocessable(_BROKEN)
            if "docProps/core.xml" in archive.namelist():
                parser = etree.XMLParser(resolve_entities=False, no_network=True)
                properties = etree.fromstring(archive.read("docProps/core.xml"), parser)
                core = {key: text for key, tag in _CORE.items() if (text := properties.findtext(tag))}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OSError,
        ValueError,
        etree.XMLSyntaxError,
    ) as error:
        raise Unprocessable(_BROKEN) from error
    return core
