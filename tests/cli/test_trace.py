"""`twin trace` before a real Twin: one answer's whole path, by its id or its trace."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.generator import engine
from tests.promises.twin import NOTES, QUESTION, running, upload

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
SAID = "The starter is fed twice a day with equal parts of flour and water [1]. It sings at night [1]."


async def twin(url: str, key: str, *words: str) -> tuple[int, str, str]:
    """The command's exit code, and what it wrote."""
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *words,
        env={**os.environ, "TWIN_URL": url, "TWIN_API_KEY": key},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await run.communicate()
    assert run.returncode is not None
    return run.returncode, out.decode(), err.decode()


async def asked(client: httpx.AsyncClient, question: str, **own: Any) -> httpx.Response:
    body = {"model": "twin", "messages": [{"role": "user", "content": question}], "twin": own}
    return await client.post("/v1/chat/completions", json=body, headers=PARENT)


async def test_the_whole_path_of_an_answer(tmp_path: Path) -> None:
    """By the completion's id and by the trace of its header the same path: the question as understood, the filter that
    was recognised, every step, the candidates with each stage's scores, the prompt, tokens, timings, verdicts; for a
    key that may not see the answer there is none."""
    async with engine.running(engine.saying(SAID)) as stub, running(tmp_path, llm_url=stub.url) as (made, client):
        await upload(client, "alpha", sourdough=NOTES)
        await upload(client, "beta", other="# Zeppelins\n\nA zeppelin is moored to a mast.\n")
        reply = await asked(client, f"{QUESTION[:-1]}, according to alpha?")
        assert reply.headers["x-trace-id"] == TRACE
        address = str(client.base_url)

        code, out, _ = await twin(address, made.secret, "trace", reply.json()["id"], "--json")
        path = json.loads(out)
        assert (code, path["id"]) == (0, reply.json()["twin"]["generation_id"])
        assert (path["trace"], path["filter"]["authors"], path["queries"]) == (TRACE, ["alpha"], [QUESTION])
        names = [each["name"] for each in path["steps"]]
        assert names[0] == "understand"
        assert names[-1] == "prompt"
        assert "search" in names
        assert path["confidence"] is not None
        assert all({"dense", "fused"} <= each["scores"].keys() for each in path["passages"])
        assert path["passages"] == reply.json()["twin"]["passages"]
        assert "The starter is fed twice a day" in path["prompt"]
        assert {"search", "first_token", "total"} <= path["timings"].keys()

        code, out, _ = await twin(address, made.secret, "trace", TRACE.upper())
        assert code == 0
        parts = (TRACE, "authors alpha", QUESTION, "understand", "dense", "Keeping a sourdough", "stub", "tokens")
        assert [part for part in (*parts, "unsupported", "--full shows all") if part not in out] == []
        assert path["prompt"].splitlines()[-1] not in out
        _, whole, _ = await twin(address, made.secret, "trace", path["id"], "--full")
        assert [line for line in path["prompt"].splitlines() if line not in whole] == []

        body = {"name": "other", "role": "reader", "authors": ["beta"]}
        other = (await client.post("/v1/api-keys", json=body)).json()["secret"]
        code, out, err = await twin(address, other, "trace", path["id"])
        assert (code, out) == (6, "")
        assert "No kept answer" in err
        mine = {"Authorization": f"Bearer {other}"}
        assert (await client.get("/v1/generations", params={"trace": TRACE}, headers=mine)).json() == {"data": []}
        assert (await client.get("/v1/generations", params={"trace": "x"}, headers=mine)).status_code == 400


async def test_several_answers_of_one_trace(tmp_path: Path) -> None:
    """A program that asks twice within one trace finds both answers by it, the first first; one without a search has a
    path without steps; `ask --verbose` says the id that `trace` takes."""
    async with engine.running(engine.saying("Said.")) as stub, running(tmp_path, llm_url=stub.url) as (made, client):
        await upload(client, "alpha", sourdough=NOTES)
        first = (await asked(client, QUESTION)).json()["twin"]["generation_id"]
        second = (await asked(client, QUESTION, k=0)).json()["twin"]["generation_id"]
        address = str(client.base_url)
        _, out, _ = await twin(address, made.secret, "trace", TRACE, "--json")
        paths = json.loads(out)["data"]
        assert [each["id"] for each in paths] == [first, second]
        assert (paths[1]["steps"], paths[1]["confidence"], paths[1]["passages"]) == ([], None, [])
        _, _, err = await twin(address, made.secret, "ask", "--verbose", QUESTION)
        said = err.split("twin trace ")[1].split()[0]
        _, out, _ = await twin(address, made.secret, "trace", said, "--json")
        assert json.loads(out)["question"] == QUESTION
