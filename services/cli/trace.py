"""`twin trace`: one answer's whole path.

Comes in: an answer's id, or the trace of the request that it answered. Goes out: what was asked and understood, each
step of the search, the candidates with every stage's scores, the prompt, tokens and timings, what is cited and how each
sentence was judged. Does not know: how any of it came about: it is as the journal keeps it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from services.cli.answers import place
from services.cli.api import Api, connect
from services.cli.options import ApiKey, Json, Url, out, print_json, run
from services.errors import NotFound

STAGES = ("dense", "text", "fused", "rerank")
FOLDED = 8
"""Lines of a prompt or an answer that are shown without --full, and WIDE characters of each."""
WIDE = 140
_TRACE = re.compile(r"[0-9a-f]{32}")


def register(app: typer.Typer) -> None:
    app.command()(trace)


def trace(
    id: Annotated[str, typer.Argument(help="An answer's id (chatcmpl-…), or the x-trace-id of its request.")],
    full: Annotated[
        bool, typer.Option("--full", help="The whole prompt and answer, and each candidate's text.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show how an answer came about: search, candidates, prompt, tokens, timings, verdicts."""

    async def work() -> list[dict[str, Any]]:
        async with connect(url, api_key) as api:
            return await _answers(api, id)

    found = run(work())
    if as_json:
        print_json(found[0] if len(found) == 1 else {"data": found})
        return
    for number, each in enumerate(found):
        if number:
            out.print()
        _show(each, full)


async def _answers(api: Api, id: str) -> list[dict[str, Any]]:
    """The one of this id, or those of this trace, the first first. Ids and traces look alike: an answer's id goes
    first."""
    plain = id.strip().removeprefix("chatcmpl-").lower()
    try:
        return [dict(await api.get(f"/v1/generations/{quote(plain, safe='')}"))]
    except NotFound:
        listed = (await api.get("/v1/generations", trace=plain))["data"] if _TRACE.fullmatch(plain) else []
    if not listed:
        raise NotFound(
            "No kept answer has this id or this trace, or not for this key. `twin ask --verbose` says an answer's id; "
            "the header x-trace-id of each response is its trace."
        )
    return [dict(await api.get(f"/v1/generations/{each['id']}")) for each in reversed(listed)]


def _show(made: dict[str, Any], full: bool) -> None:
    asked = made["messages"][-1]["content"]
    timings = sorted(made["timings"].items(), key=lambda each: each[1])
    facts = {
        "answer": made["id"],
        "trace": made["trace"] or "not kept",
        "at": made["created_at"],
        "asked": asked,
        "understood as": made["question"] if made["question"].strip() != asked.strip() else "",
        "of": made["author"] or "every author in scope",
        "filters": _filters(made["filter"]),
        "searched for": " · ".join(made["queries"]),
        "evidence": made["evidence"]
        + ("" if made["confidence"] is None else f" (confidence {made['confidence']:.2f})"),
        "model": made["model"],
        "tokens": f"{made['usage']['prompt_tokens']} of the prompt, {made['usage']['completion_tokens']} of the answer",
        "timings": " · ".join(f"{name.replace('_', ' ')} {value:.0f} ms" for name, value in timings),
        "ended": made["finish_reason"] + (" · a document is gone, and its text with it" if made["redacted"] else ""),
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            grid.add_row(Text(name, "dim"), Text(" ".join(value.split())))
    out.print(grid)
    _steps(made["steps"])
    _candidates(made, full)
    _text("Prompt", made["prompt"], full)
    _text("Answer", made["answer"], full)
    _citations(made, full)
    _verdicts(made)
    feedback = made["feedback"]
    if feedback is not None:
        _heading("Feedback")
        reasons = ", ".join(feedback["reasons"])
        out.print(f"  {'good' if feedback['rating'] > 0 else 'bad'}{f': {reasons}' if reasons else ''}", markup=False)


def _filters(filter: dict[str, Any]) -> str:
    said = [f"{name} {', '.join(filter[name])}" for name in ("authors", "sources", "languages") if filter[name]]
    said += [f"{name} {filter[name]}" for name in ("since", "until") if filter[name]]
    return " · ".join(said)


def _heading(text: str) -> None:
    out.print()
    out.print(text, style="bold", markup=False)


def _steps(steps: list[dict[str, Any]]) -> None:
    if not steps:
        return
    _heading("Steps")
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("step")
    table.add_column("ms", justify="right")
    table.add_column("left", justify="right")
    table.add_column("effect")
    for each in steps:
        left = str(each["candidates"]) if each["candidates"] else ""
        table.add_row(each["name"], f"{each['milliseconds']:.1f}", left, Text(each["detail"]))
    out.print(Padding(table, (0, 0, 0, 2), expand=False))


def _candidates(made: dict[str, Any], full: bool) -> None:
    passages = made["passages"]
    if not passages:
        return
    _heading("Candidates")
    names = {name for each in passages for name in each["scores"]}
    stages = [name for name in STAGES if name in names] + sorted(names.difference(STAGES))
    cited = {each["chunk_id"] for each in made["citations"]}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("#", *stages, "score"):
        table.add_column(name, justify="right")
    table.add_column("cited")
    table.add_column("passage")
    for number, each in enumerate(passages, 1):
        scores = [f"{each['scores'][name]:.3f}" if name in each["scores"] else "–" for name in stages]
        document = each["document"]
        words = Text(place(document["title"] or document["url"], each["heading"]))
        words.append(f"  {document['author']}, {each['start']}–{each['end']} of version {each['version']}", "dim")
        if full:
            words.append("\n" + each["text"])
        cites = "yes" if each["chunk_id"] in cited else ""
        table.add_row(str(number), *scores, f"{each['score']:.3f}", cites, words)
    out.print(Padding(table, (0, 0, 0, 2), expand=False))


def _text(name: str, text: str, full: bool) -> None:
    if not text:
        return
    lines = text.splitlines()
    _heading(name if full or len(lines) <= FOLDED else f"{name}: {FOLDED} of {len(lines)} lines (--full shows all)")
    for line in lines if full else lines[:FOLDED]:
        out.print("  " + (line if full else _cut(line)), markup=False)


def _citations(made: dict[str, Any], full: bool) -> None:
    if not made["citations"]:
        return
    _heading("Citations")
    for each in made["citations"]:
        words = " ".join(each["quote"].split())
        out.print(f"  [{each['number']}] {place(each['title'], each['heading'])}", markup=False)
        out.print(f"      {each['url']}, {each['start']}–{each['end']} of version {each['version']}", markup=False,
                  style="dim")  # fmt: skip
        out.print(f"      “{words if full else _cut(words)}”", markup=False)


def _verdicts(made: dict[str, Any]) -> None:
    if not made["support"]:
        return
    counted = Counter(each["verdict"] for each in made["support"])
    _heading("Verdicts: " + ", ".join(f"{number} {verdict}" for verdict, number in counted.items()))
    for sentence, each in _unsupported(made):
        out.print(f"  unsupported ({each['score']:.2f}): {_cut(sentence)}", markup=False)


def _unsupported(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in made["support"]:
        if each["verdict"] == "unsupported":
            yield " ".join(made["answer"][each["start"] : each["end"]].split()), each


def _cut(line: str) -> str:
    return line if len(line) <= WIDE else line[: WIDE - 1] + "…"
