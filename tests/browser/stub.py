"""A gateway of a few routes in memory, speaking docs/http-api.md: for working on the page before and without Twin.

Comes in: requests of the page. Goes out: what the real gateway would answer, of the same shapes. Does not know: search,
models, storage. `python -m tests.browser.stub` serves it, with a library to look at.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from services.domain import digest

STATIC = Path(__file__).parents[2] / "services" / "gateway" / "static"
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


@dataclass
class Twin:
    """Everything the stub remembers."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    text: str | None = None
    """What the next answers say instead of a quotation."""
    delay: float = 0.0
    """Seconds between two words of an answer."""
    seconds: float = 0.3
    """That an ingest takes."""

    def add(self, author: str, url: str, title: str, text: str, state: str = "indexed", **more: Any) -> str:
        key = digest(author, url)
        self.documents[key] = {
            "id": key, "author": author, "url": url, "title": title, "byline": "", "kind": "page", "language": "en",
            "published": "2024-05-01", "modified": None, "state": state, "version": 1, "indexed_version": 1,
            "characters": len(text), "chunks": 1, "failure": None, "duplicate_of": None, "source_id": "s",
            "created_at": now(), "updated_at": now(), "text": text,
        } | more  # fmt: skip
        return key


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def error(status: int, message: str, code: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error", "code": code, "param": None}}, status)


class Guard(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        known = request.cookies.get("twin") == "in" or request.headers.get("authorization") == "Bearer sk-twin-good"
        if request.url.path.startswith("/v1/") and not known:
            response: Response = error(401, "No key.", "invalid_api_key")
        else:
            response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def application(twin: Twin) -> Starlette:
    async def index(request: Request) -> Response:
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html")

    async def enter(request: Request) -> Response:
        response = RedirectResponse("/", 303)
        response.set_cookie("twin", "in", httponly=True, samesite="strict")
        return response

    async def status(request: Request) -> Response:
        key = {"id": "k", "name": "page", "role": "admin", "authors": None}
        hint = "Answers quote the author's own sentences; set TWIN_LLM_URL for written ones."
        return JSONResponse({"version": "0.1.0", "answers": "quotes", "answers_hint": hint, "key": key})

    async def models(request: Request) -> Response:
        names = ["twin", *sorted({document["author"] for document in twin.documents.values()})]
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    async def documents(request: Request) -> Response:
        if request.method == "POST":
            form = await request.form()
            author = str(form["author"])
            files = [
                (str(file.filename), await file.read()) for file in form.getlist("file") if not isinstance(file, str)
            ]
            return begin(author, [f"upload:{name}" for name, _ in files], dict(files))
        query = request.query_params
        found = [
            {name: value for name, value in document.items() if name != "text"}
            for document in twin.documents.values()
            if query.get("q", "").lower() in (document["title"] + document["url"]).lower()
            and query.get("state", document["state"]) == document["state"]
            and query.get("author", document["author"]) == document["author"]
        ]
        start, limit = int(query.get("cursor") or 0), int(query.get("limit") or 50)
        more = str(start + limit) if start + limit < len(found) else ""
        return JSONResponse({"data": found[start : start + limit], "next": more})

    async def document(request: Request) -> Response:
        key = request.path_params["id"]
        if key not in twin.documents:
            return error(404, "No such document.", "not_found")
        if request.method == "DELETE":
            del twin.documents[key]
            return Response(status_code=204)
        return JSONResponse(twin.documents[key] | {"text_version": twin.documents[key]["version"]})

    def begin(author: str, addresses: list[str], files: dict[str, bytes]) -> Response:
        job = {"id": digest(*addresses, str(time.time_ns())), "author": author, "began": time.time(),
               "addresses": addresses, "files": files, "cancelled": False}  # fmt: skip
        twin.jobs[str(job["id"])] = job
        return JSONResponse(shown(job), 202, {"Location": f"/v1/ingest-jobs/{job['id']}"})

    def shown(job: dict[str, Any]) -> dict[str, Any]:
        """The job as time has made it."""
        part = min(1.0, (time.time() - job["began"]) / twin.seconds)
        bad = [address for address in job["addresses"] if "missing" in address]
        state = "cancelled" if job["cancelled"] else "done" if part == 1 else "running"
        if state == "done":
            for address in set(job["addresses"]) - set(bad):
                name = address.removeprefix("upload:")
                text = job["files"].get(name, b"# Fetched\n\nA page about fetching.").decode()
                heading = re.match(r"# (.+)", text)
                twin.add(job["author"], address, heading[1] if heading else name, text)
        sources = [
            {"source_id": digest(address), "address": address, "kind": None, "state": state,
             "seconds_left": twin.seconds * (1 - part),
             "failure": "It answers 404." if address in bad and part == 1 else None,
             "progress": {"total": 20, "seen": int(20 * part), "new": int(18 * part), "changed": 0, "unchanged": 0,
                          "skipped": 0, "failed": 0, "current": address}}
            for address in job["addresses"]
        ]  # fmt: skip
        failures = [{"address": address, "code": "not_found", "message": "It answers 404."} for address in bad]
        return {"id": job["id"], "author": job["author"], "state": state, "seconds_left": twin.seconds * (1 - part),
                "created_at": now(), "updated_at": now(), "sources": sources,
                "documents": {"queued": int(20 * (1 - part)), "indexed": int(20 * part), "failed": 0},
                "failures": failures if part == 1 else []}  # fmt: skip

    async def jobs(request: Request) -> Response:
        if request.method == "POST":
            wanted = await request.json()
            return begin(wanted["author"], wanted["sources"], {})
        return JSONResponse({"data": [shown(job) for job in twin.jobs.values()]})

    async def job(request: Request) -> Response:
        found = twin.jobs[request.path_params["id"]]
        if request.method == "DELETE":
            found["cancelled"] = True
        if request.method == "POST":
            found |= {"began": time.time(), "cancelled": False}
        return JSONResponse(shown(found))

    async def job_events(request: Request) -> Response:
        found = twin.jobs[request.path_params["id"]]

        async def stream() -> AsyncIterator[str]:
            while (seen := shown(found))["state"] == "running":
                yield f"event: progress\ndata: {json.dumps(seen)}\n\n"
                await asyncio.sleep(0.1)
            yield f"event: end\ndata: {json.dumps(seen)}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def chat(request: Request) -> Response:
        wanted = await request.json()
        question = wanted["messages"][-1]["content"]
        if not wanted.get("stream"):
            citations = [
                json.loads(line[6:])["twin"]["citation"] async for line in answer(question) if '"citation"' in line
            ]
            return JSONResponse({"twin": {"citations": citations}})
        return StreamingResponse(answer(question), media_type="text/event-stream")

    async def answer(question: str) -> AsyncIterator[str]:
        def chunk(content: str = "", **own: Any) -> str:
            choices = [{"index": 0, "delta": {"content": content} if content else {}, "finish_reason": None}]
            body = {"id": "c", "object": "chat.completion.chunk", "choices": choices, **({"twin": own} if own else {})}
            return f"data: {json.dumps(body)}\n\n"

        words = set(re.findall(r"\w{4,}", question.lower()))
        ranked = sorted(
            twin.documents.values(),
            key=lambda it: -sum(word in it["text"].lower() for word in words),
        )
        best = ranked[0] if ranked else None
        fits = best is not None and any(word in best["text"].lower() for word in words)
        passages = [
            {"text": it["text"][:300], "score": 0.5, "scores": {}, "start": 0, "end": min(300, len(it["text"])),
             "heading": "", "before": "", "after": "", "chunk_id": it["id"], "version": it["version"], "document": it}
            for it in ranked[:3]
        ]  # fmt: skip
        yield chunk(
            started={"generation_id": "g", "model": "quotes", "evidence": "answer" if fits else "none",
                     "question": question, "notices": [], "passages": passages}
        )  # fmt: skip
        if not fits or best is None:
            yield chunk("Nothing here speaks of this.")
        else:
            sentences = list(re.finditer(r"[^.\n#]+\.", best["text"]))
            sentence = max(sentences, key=lambda it: sum(word in it[0].lower() for word in words))
            start = sentence.start() + len(sentence[0]) - len(sentence[0].lstrip())
            quote = best["text"][start : sentence.end()]
            text = twin.text if twin.text is not None else f"{quote} [1]"
            for piece in re.findall(r"\S+\s*", text):
                yield chunk(piece)
                await asyncio.sleep(twin.delay)
            cited = text.split("[1]")[0].rstrip()
            yield chunk(
                citation={"number": 1, "document_id": best["id"], "version": best["version"], "title": best["title"],
                          "url": best["url"], "author": best["author"], "heading": "", "start": start,
                          "end": sentence.end(), "quote": quote, "answer_start": 0, "answer_end": len(cited),
                          "published": best["published"], "chunk_id": "x"}
            )  # fmt: skip
            verdict = "quoted" if twin.text is None else "unsupported"
            yield chunk(support={"start": 0, "end": len(cited), "verdict": verdict, "score": 1.0})
        yield chunk(finished={"reason": "stop", "timings": {"total": 1.0}})
        yield "data: [DONE]\n\n"

    return Starlette(
        routes=[
            Route("/", index),
            Route("/enter", enter),
            Mount("/assets", StaticFiles(directory=STATIC / "assets")),
            Route("/v1/status", status),
            Route("/v1/models", models),
            Route("/v1/documents", documents, methods=["GET", "POST"]),
            Route("/v1/documents/{id}", document, methods=["GET", "DELETE"]),
            Route("/v1/ingest-jobs", jobs, methods=["GET", "POST"]),
            Route("/v1/ingest-jobs/{id}", job, methods=["GET", "DELETE"]),
            Route("/v1/ingest-jobs/{id}/retry", job, methods=["POST"]),
            Route("/v1/ingest-jobs/{id}/events", job_events),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        middleware=[Middleware(Guard)],
    )


if __name__ == "__main__":
    import uvicorn

    shown_twin = Twin(delay=0.04, seconds=8)
    for number in range(60):
        shown_twin.add(
            "alpha", f"https://example.org/{number}", f"How to bake loaf {number}", "# Loaf\n\nBake slowly. It rises."
        )
    uvicorn.run(application(shown_twin), port=8000)
