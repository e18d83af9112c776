"""A whole Twin in the test's own loop, as a caller of its HTTP API sees it.

Comes in: an empty directory and settings. Goes out: the Twin and a client with its admin key. Does not know: what a test
claims.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from services import embedded

NOTES = """# Keeping a sourdough

## Feeding

The starter is fed twice a day with equal parts of flour and water. It is ready when it doubles within six hours.

## Baking

Steam keeps the crust of the loaf open for the first ten minutes. An oven stone holds the heat for the second loaf.
"""
QUESTION = "How often is the sourdough starter fed with flour and water?"


@asynccontextmanager
async def running(data_dir: Path, **given: Any) -> AsyncIterator[tuple[embedded.Twin, httpx.AsyncClient]]:
    """On the hashing encoder and on quotations, unless `given` says otherwise."""
    settings = {"encoder_url": "hashing://384", "llm_url": "quotes://", "gateway_port": 0, **given}
    async with embedded.running(data_dir=data_dir, **settings) as twin:
        headers = {"Authorization": f"Bearer {twin.secret}"}
        address = await twin.serve()
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60, trust_env=False) as client:
            yield twin, client


async def upload(client: httpx.AsyncClient, author: str, **texts: str) -> dict[str, Any]:
    """Files by name, Markdown each; the job at its end."""
    files = [("file", (f"{name}.md", text.encode(), "text/markdown")) for name, text in texts.items()]
    made = await client.post("/v1/documents", data={"author": author}, files=files)
    assert made.status_code == 202, made.text
    return await ended(client, made.json()["id"])


async def ended(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    async with asyncio.timeout(200):
        while True:
            state: dict[str, Any] = (await client.get(f"/v1/ingest-jobs/{job}")).json()
            if state["state"] in ("done", "failed", "cancelled") and not state["documents"]["queued"]:
                return state
            await asyncio.sleep(0.05)


async def ask(client: httpx.AsyncClient, question: str, model: str = "twin", **own: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "twin": own}
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


async def found(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    reply = await client.post("/v1/search", json={"query": query})
    assert reply.status_code == 200, reply.text
    passages: list[dict[str, Any]] = reply.json()["passages"]
    return passages
