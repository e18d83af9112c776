"""What kind of document some bytes are.

Comes in: bytes, and what the transport and the name say. Goes out: a Kind, and a language for code.
Does not know: how a kind is read.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from services.errors import UnsupportedMedia


class Kind(StrEnum):
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"
    CODE = "code"
    NOTEBOOK = "notebook"
    PDF = "pdf"
    DOCX = "docx"


READABLE = "HTML, Markdown, plain text, source code, notebooks, PDF and DOCX"

DOCX_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_BY_TYPE = {
    "text/html": Kind.HTML,
    "application/xhtml+xml": Kind.HTML,
    "text/markdown": Kind.MARKDOWN,
    "text/x-markdown": Kind.MARKDOWN,
    "application/pdf": Kind.PDF,
    "application/x-pdf": Kind.PDF,
    DOCX_TYPE: Kind.DOCX,
    "application/x-ipynb+json": Kind.NOTEBOOK,
}
_BY_SUFFIX = {
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".mdown": Kind.MARKDOWN,
    ".mdx": Kind.MARKDOWN,
    ".qmd": Kind.MARKDOWN,
    ".rmd": Kind.MARKDOWN,
    ".txt": Kind.TEXT,
    ".text": Kind.TEXT,
    ".rst": Kind.TEXT,
    ".adoc": Kind.TEXT,
    ".asciidoc": Kind.TEXT,
    ".org": Kind.TEXT,
    ".log": Kind.TEXT,
    ".pdf": Kind.PDF,
    ".docx": Kind.DOCX,
    ".ipynb": Kind.NOTEBOOK,
}
BINARY_SUFFIXES = tuple(suffix for suffix, kind in _BY_SUFFIX.items() if kind in (Kind.PDF, Kind.DOCX))
"""Of the files that are read although they are no text."""
_CODE_SUFFIXES = {
    ".py": "python", ".pyi": "python", ".pyx": "cython", ".js": "javascript", ".mjs": "javascript",
    ".cjs": "javascript", ".jsx": "jsx", ".ts": "typescript", ".mts": "typescript", ".tsx": "tsx", ".vue": "vue",
    ".svelte": "svelte", ".java": "java", ".kt": "kotlin", ".kts": "kotlin", ".scala": "scala", ".groovy": "groovy",
    ".gradle": "groovy", ".go": "go", ".rs": "rust", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp",
    ".hpp": "cpp", ".hh": "cpp", ".cu": "cuda", ".cs": "csharp", ".fs": "fsharp", ".swift": "swift",
    ".m": "objectivec", ".rb": "ruby", ".php": "php", ".pl": "perl", ".pm": "perl", ".r": "r", ".jl": "julia",
    ".lua": "lua", ".hs": "haskell", ".ex": "elixir", ".exs": "elixir", ".erl": "erlang", ".clj": "clojure",
    ".ml": "ocaml", ".dart": "dart", ".zig": "zig", ".nim": "nim", ".sh": "bash", ".bash": "bash", ".zsh": "zsh",
    ".fish": "fish", ".ps1": "powershell", ".bat": "batch", ".sql": "sql", ".css": "css", ".scss": "scss",
    ".less": "less", ".json": "json", ".jsonl": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml",
    ".ini": "ini", ".cfg": "ini", ".conf": "ini", ".xml": "xml", ".xsl": "xml", ".proto": "protobuf",
    ".graphql": "graphql", ".tf": "terraform", ".hcl": "hcl", ".cmake": "cmake", ".mk": "makefile",
    ".dockerfile": "dockerfile", ".tex": "latex", ".bib": "bibtex", ".diff": "diff", ".patch": "diff", ".vim": "vim",
    ".el": "elisp", ".lisp": "lisp", ".scm": "scheme", ".asm": "asm", ".s": "asm", ".sol": "solidity", ".csv": "csv",
    ".tsv": "csv", ".j2": "jinja", ".jinja": "jinja", ".tpl": "jinja",
}  # fmt: skip
_CODE_NAMES = {
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "makefile": "makefile",
    "gnumakefile": "makefile",
    "cmakelists.txt": "cmake",
    "jenkinsfile": "groovy",
    "gemfile": "ruby",
    "rakefile": "ruby",
    "vagrantfile": "ruby",
    "justfile": "makefile",
}
_CODE_TYPES = {
    "application/json": "json",
    "application/javascript": "javascript",
    "text/javascript": "javascript",
    "text/css": "css",
    "text/x-python": "python",
    "text/x-script.python": "python",
    "application/x-sh": "bash",
    "application/x-yaml": "yaml",
    "application/yaml": "yaml",
    "text/yaml": "yaml",
    "application/toml": "toml",
    "application/xml": "xml",
    "text/xml": "xml",
    "text/csv": "csv",
}
_OTHER = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (.doc, .xls, .ppt): save it as .docx or PDF"),
    (b"{\\rtf", "an RTF file: save it as .docx or PDF"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"BZh", "a bzip2 archive: unpack it"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\x00asm", "a program"),
    (b"SQLite format 3\x00", "a database"),
    (b"OggS", "a sound or a film"),
    (b"ID3", "a sound or a film"),
)
_HTML_START = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|title|meta|div|p|h1|article|section|table)[\s>]", re.IGNORECASE
)
_GENERIC = frozenset(["", "application/octet-stream", "binary/octet-stream", "application/x-download", "text/plain"])


def detect(data: bytes, media_type: str, name: str) -> tuple[Kind, str]:
    """(kind, language of the code). `media_type` without its parameters, `name` a path or an address.

    What the bytes begin with is believed first, then a media type that says something, then the name.
    Raises UnsupportedMedia with what it is, where that is known.
    """
    head = data[:2048]
    if b"%PDF-" in data[:1024]:
        return Kind.PDF, ""
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        claimed = media_type == DOCX_TYPE or file_of(name).lower().endswith(".docx")
        if claimed or b"word/" in data[:65536] or b"word/" in data[-65536:]:
            return Kind.DOCX, ""
        raise UnsupportedMedia(f"This is a ZIP archive that is no .docx: unpack it; Twin reads {READABLE}.")
    for magic, what in _OTHER:
        if head.startswith(magic):
            raise UnsupportedMedia(f"This is {what}. Twin reads {READABLE}.")
    file_name = file_of(name)
    suffix = PurePosixPath(file_name).suffix.lower()
    if media_type in _BY_TYPE:
        return _BY_TYPE[media_type], ""
    if media_type not in _GENERIC:
        if media_type in _CODE_TYPES:
            if media_type.endswith("/json") and suffix == ".ipynb":
                return Kind.NOTEBOOK, ""
            if media_type.endswith("/xml") and re.search(rb"<html[\s>]", head, re.IGNORECASE):
                return Kind.HTML, ""
            return Kind.CODE, _CODE_TYPES[media_type]
        if not media_type.startswith("text/"):
            raise UnsupportedMedia(f"Twin does not read {media_type}: it reads {READABLE}.")
    if file_name.lower() in _CODE_NAMES:
        kind, language = Kind.CODE, _CODE_NAMES[file_name.lower()]
    elif suffix in _BY_SUFFIX:
        kind, language = _BY_SUFFIX[suffix], ""
    elif suffix in _CODE_SUFFIXES:
        kind, language = Kind.CODE, _CODE_SUFFIXES[suffix]
    elif media_type != "text/plain" and _HTML_START.search(head):
        kind, language = Kind.HTML, ""
    elif head.startswith(b"#!"):
        kind, language = Kind.CODE, "python" if b"python" in head.split(b"\n")[0] else "bash"
    else:
        kind, language = Kind.TEXT, ""
    if kind in (Kind.TEXT, Kind.CODE, Kind.MARKDOWN, Kind.NOTEBOOK) and is_binary(head):
        raise UnsupportedMedia(f"This is no text, and no kind of file that Twin knows: it reads {READABLE}.")
    return kind, language


def is_binary(head: bytes) -> bool:
    """Whether bytes are no text: many control characters, and no UTF-16 or UTF-32."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    control = sum(1 for byte in head if byte < 32 and byte not in (9, 10, 12, 13, 27))
    if head.count(0) > 0.3 * len(head) and (head[0::2].count(0) == 0 or head[1::2].count(0) == 0):
        return False
    return control > 0.1 * len(head)


def file_of(name: str) -> str:
    """The last part of a path or of an address' path."""
    try:
        path = urlsplit(name).path if "://" in name else name
    except ValueError:
        path = name
    return PurePosixPath(unquote(path)).name


def split_type(content_type: str | None) -> tuple[str, str | None]:
    """(media type, charset) of a Content-Type header."""
    essence, _, parameters = (content_type or "").partition(";")
    found = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", parameters, re.IGNORECASE)
    return essence.strip().lower(), found.group(1) if found else None
