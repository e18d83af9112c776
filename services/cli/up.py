"""`twin up`: everything in one process, until interrupted; with --example, on Twin's own guides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

import services
from services.cli import answers, ingest
from services.cli.api import Api
from services.cli.options import err, out
from services.errors import TwinError

GUIDES = Path(services.__file__).parent.parent / "docs"
AUTHOR = "guides"
QUESTION = "How do I bring in a folder of my own notes?"


def register(app: typer.Typer) -> None:
    app.command()(up)


def up(
    host: Annotated[str | None, typer.Option(help="Address [default: TWIN_GATEWAY_HOST or 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port, 0: a free one [default: TWIN_GATEWAY_PORT or 8000].")] = None,
    logs: Annotated[str, typer.Option(help="debug, info, warning or error, on stderr.")] = "warning",
    example: Annotated[bool, typer.Option(help="Bring in Twin's own guides and ask them a question.")] = False,
    check: Annotated[bool, typer.Option(help="With --example: check the answer's citation, and stop.")] = False,
) -> None:
    """Serve the page and the API from this machine, with nothing else to set up."""
    from services import embedded, process, telemetry

    telemetry.configure_logs(logs, human=True)
    given: dict[str, Any] = {}
    if host is not None:
        given["gateway_host"] = host
    if check:
        given["gateway_port"] = 0
    elif port is not None:
        given["gateway_port"] = port

    for line in embedded.unknown_settings():
        err.print(line, markup=False, soft_wrap=True)

    async def serve() -> None:
        async with embedded.running(workers=True, **given) as twin:
            address = await twin.serve()
            process.settle()
            if example:
                await show_example(address, twin.secret, check=check)
            if check:
                return
            await announce(twin, address)
            await twin.stopped()
            err.print("Stopping: running answers and jobs are let finish or given back.")

    try:
        process.run(serve())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None


async def announce(twin: Any, address: str) -> None:
    """Say where everything is and which way it answers."""
    status = await twin.status()
    out.print(f"Page     {twin.page_link()}", markup=False)
    out.print("         (this link opens it, once; later visits need no link)")
    out.print(f"API      {address}/v1   (OpenAI's dialect; a key: twin keys create NAME)", markup=False)
    out.print(f"Answers  {status.answers}. {status.hint}", markup=False)
    out.print(
        f"Library  {status.documents} documents in {status.data_dir}; more: twin ingest ADDRESS or FOLDER", markup=False
    )
    out.print("Stop     Ctrl-C")


async def show_example(address: str, secret: str, *, check: bool) -> None:
    """Bring in the guides, ask, print the answer; with `check`, hold its citations against the documents."""
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=120, trust_env=False) as client:
        api = Api(client, address)
        source = {"address": str(GUIDES), "kind": "folder", "options": {"include": "*.md"}}
        job = await api.post("/v1/ingest-jobs", {"author": AUTHOR, "sources": [source]})
        job = await ingest.follow(api, job, quiet=False)
        ingest.report(job)
        if ingest.outcome(job):
            raise TwinError("The guides did not come in whole; the lines above say why.")
        out.print(f"\nQ: {QUESTION}\n", markup=False)
        body = answers.request([{"role": "user", "content": QUESTION}], AUTHOR, {}, None, "mark")
        result = await answers.answer(api, body)
        out.print()
        if check:
            await check_citations(api, body, result)


async def check_citations(api: Api, body: dict[str, Any], streamed: dict[str, Any]) -> None:
    """Every citation of the example answer is the exact span that it names, of a passage the answer was given."""
    answer = await api.post("/v1/chat/completions", body)
    message, own = answer["choices"][0]["message"], answer["twin"]
    if not own["citations"] or not message["annotations"]:
        raise TwinError("The example answer cites nothing.")
    if streamed["text"] != message["content"]:
        raise TwinError("The example answer differs between streaming and not.")
    given = {(each["document"]["id"], each["start"], each["end"]) for each in own["passages"]}
    for citation in own["citations"]:
        document = await api.get(f"/v1/documents/{citation['document_id']}", version=citation["version"])
        if document["text"][citation["start"] : citation["end"]] != citation["quote"]:
            raise TwinError(f"Citation {citation['number']} is not the text it names.")
        inside = (
            id == citation["document_id"] and start <= citation["start"] and citation["end"] <= end
            for id, start, end in given
        )
        if not any(inside):
            raise TwinError(f"Citation {citation['number']} refers to a passage that was not given.")
    out.print(f"smoke: ok, {len(own['citations'])} citations, each the exact words of its document")
