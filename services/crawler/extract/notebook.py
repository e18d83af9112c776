"""A Jupyter notebook: its cells as prose and code. Outputs are left out: they are machines' words.

Comes in: JSON. Goes out: Extracted. Does not know: where the file came from.
"""

from __future__ import annotations

import json

from services.crawler.extract.language import language
from services.crawler.extract.markdown import first_heading, front_matter
from services.crawler.extract.metadata import plain
from services.crawler.extract.render import fenced
from services.domain import Extracted
from services.errors import Unprocessable


def extract_notebook(text: str, *, name: str) -> Extracted:
    try:
        book = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unprocessable("The notebook is no valid JSON: open it in Jupyter and save it again.") from error
    cells = _cells(book)
    metadata = book.get("metadata") if isinstance(book, dict) else None
    code = "python"
    if isinstance(metadata, dict):
        info = metadata.get("language_info")
        code = str(info.get("name") or code).lower()[:20] if isinstance(info, dict) else code
    written: list[str] = []
    for cell in cells:
        source = cell.get("source", cell.get("input", ""))
        body = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if not body.strip():
            continue
        if cell.get("cell_type") == "code":
            written.append(fenced(body.strip("\n"), code))
        elif cell.get("cell_type") in ("markdown", "heading"):
            written.append((front_matter(body)[1] if not written else body).strip("\n"))
    joined = "\n\n".join(part for part in written if part)
    if not joined:
        raise Unprocessable("The notebook has no cells with text or code: there is nothing to bring in.")
    own = plain(str(metadata.get("title") or "")) if isinstance(metadata, dict) else ""
    return Extracted(
        text=joined,
        title=own or first_heading(joined) or name,
        language=language(joined),
        media_type="application/x-ipynb+json",
    )


def _cells(book: object) -> list[dict[str, object]]:
    """The cells of a notebook of format 4, or of the worksheets of format 3."""
    if not isinstance(book, dict):
        raise Unprocessable("The file is JSON, but no notebook: it has no cells.")
    sheets = book.get("worksheets")
    cells = book.get("cells")
    if cells is None and isinstance(sheets, list):
        cells = [cell for sheet in sheets if isinstance(sheet, dict) for cell in sheet.get("cells") or []]
    if not isinstance(cells, list):
        raise Unprocessable("The file is JSON, but no notebook: it has no cells.")
    return [cell for cell in cells if isinstance(cell, dict)]
