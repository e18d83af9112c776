"""Draws flow.svg: the way of a document and of a question through Twin. `make diagrams` runs it.

Comes in: the table below. Goes out: an SVG that follows the reader's light or dark theme, the same bytes each time.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 980, 330
BOX_WIDTH, BOX_HEIGHT = 152, 62

# name, what it does, column, row
BOXES = [
    ("sources", "pages, feeds, Git, files", 0, 0),
    ("crawler", "fetch · extract", 1, 0),
    ("documents", "versions, jobs", 2, 0),
    ("feature", "clean · chunk · embed", 3, 0),
    ("index", "vectors and words", 4, 0),
    ("people, programs", "page · API · twin", 0, 1),
    ("gateway", "keys · limits · jobs", 1, 1),
    ("generator", "prompt · cite · check", 2, 1),
    ("retriever", "search · fuse · rank", 3, 1),
    ("journal", "answers, feedback", 2, 2),
]
# from, to; the arrow leaves and enters at the nearest sides
ARROWS = [
    ("sources", "crawler"),
    ("crawler", "documents"),
    ("documents", "feature"),
    ("feature", "index"),
    ("index", "retriever"),
    ("people, programs", "gateway"),
    ("gateway", "crawler"),
    ("gateway", "generator"),
    ("generator", "retriever"),
    ("generator", "journal"),
]
STORES = {"documents", "index", "journal"}
OUTSIDE = {"sources", "people, programs"}

STYLE = """
svg { font: 13px system-ui, sans-serif; }
rect { fill: #fff; stroke: #57606a; stroke-width: 1.2; }
.store { fill: #eef4ff; } .outside { stroke-dasharray: 4 3; }
text { fill: #1f2328; text-anchor: middle; } .what { fill: #57606a; font-size: 11px; }
path { stroke: #57606a; stroke-width: 1.4; fill: none; } marker path { fill: #57606a; stroke: none; }
@media (prefers-color-scheme: dark) {
  rect { fill: #161b22; stroke: #8b949e; } .store { fill: #14243d; }
  text { fill: #e6edf3; } .what { fill: #9da7b3; } path { stroke: #8b949e; } marker path { fill: #8b949e; }
}
"""


def corner(column: int, row: int) -> tuple[int, int]:
    return 24 + column * 195, 24 + row * 110


def arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    (ax, ay), (bx, by) = start, end
    if ay == by:
        right = bx > ax
        x1, x2 = (ax + BOX_WIDTH, bx - 6) if right else (ax, bx + BOX_WIDTH + 6)
        y = ay + BOX_HEIGHT // 2
        return f"M{x1} {y}L{x2} {y}"
    down = by > ay
    y1, y2 = (ay + BOX_HEIGHT, by - 6) if down else (ay, by + BOX_HEIGHT + 6)
    x1, x2 = ax + BOX_WIDTH // 2, bx + BOX_WIDTH // 2
    middle = (y1 + y2) // 2
    return f"M{x1} {y1}L{x1} {middle}L{x2} {middle}L{x2} {y2}" if x1 != x2 else f"M{x1} {y1}L{x2} {y2}"


def draw() -> str:
    corners = {name: corner(column, row) for name, _, column, row in BOXES}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The way of a document and of a question through Twin</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for name, what, column, row in BOXES:
        x, y = corner(column, row)
        kind = "store" if name in STORES else "outside" if name in OUTSIDE else "service"
        parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>')
        parts.append(f'<text x="{x + BOX_WIDTH // 2}" y="{y + 27}">{escape(name)}</text>')
        parts.append(f'<text class="what" x="{x + BOX_WIDTH // 2}" y="{y + 45}">{escape(what)}</text>')
    for start, end in ARROWS:
        parts.append(f'<path marker-end="url(#tip)" d="{arrow(corners[start], corners[end])}"/>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_name("flow.svg").write_text(draw(), encoding="utf-8")
