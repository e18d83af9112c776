"""`twin doctor` of a Twin elsewhere: what it says of each part, and its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
from starlette.responses import JSONResponse

from services import embedded
from tests.generator import engine
from tests.promises.twin import running
from tests.servers import tei


async def doctor(address: str, secret: str) -> tuple[int | None, dict[str, Any]]:
    """Exit code, and each part by its name."""
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "doctor", "--url", address, "--json",
        env={**os.environ, "TWIN_API_KEY": secret}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await run.communicate()
    return run.returncode, {each["part"]: each for each in json.loads(out)}


async def test_the_reranker_of_a_gateway_is_tried(tmp_path: Path) -> None:
    """One that reads passages is well; one that fails is named as bad, with an exit code for scripts."""
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "bees.md").write_text("# Bees\n\nDoes the reranker answer about bees and their honey?\n")
    with tei.running(tei.Tei(reranker=True, model_id="some/reranker")) as server:
        async with embedded.running(
            data_dir=tmp_path / "data", gateway_port=0, encoder_url="hashing://384", reranker_url=server.url
        ) as twin:
            address = await twin.serve()
            headers = {"Authorization": f"Bearer {twin.secret}"}
            async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=30) as http:
                job = await http.post("/v1/ingest-jobs", json={"author": "alpha", "sources": [str(notes)]})
                async with asyncio.timeout(60):
                    while (await http.get(job.headers["location"])).json()["state"] in ("queued", "running"):
                        await asyncio.sleep(0.05)
            code, found = await doctor(address, twin.secret)
            assert (code, found["reranker"]["ok"]) == (0, True), found
            assert found["reranker"]["detail"].startswith("some/reranker read 1")
            server.fault = lambda path: JSONResponse({"error": "secret"}, 500) if path == "/rerank" else None
            code, found = await doctor(address, twin.secret)
            assert (code, found["reranker"]["ok"]) == (1, False), found
            assert "failed (unavailable)" in found["reranker"]["detail"]


async def test_the_engine_of_a_gateway_is_tried(tmp_path: Path) -> None:
    """Quotations are well without one; an engine that writes is well; one that refuses the key
    is named as bad with what to do."""
    async with running(tmp_path / "quotes") as (made, client):
        code, found = await doctor(str(client.base_url), made.secret)
        assert (code, found["answers"]["ok"]) == (0, True), found
    answer: list[Any] = [["Yes"]]
    async with (
        engine.running(lambda messages: answer[0]) as stub,
        running(tmp_path / "written", llm_url=stub.url) as (made, client),
    ):
        code, found = await doctor(str(client.base_url), made.secret)
        assert (code, found["answers"]["ok"]) == (0, True), found
        answer[0] = JSONResponse({"error": "secret"}, 401)
        code, found = await doctor(str(client.base_url), made.secret)
        assert (code, found["answers"]["ok"]) == (1, False), found
        assert "refused the key" in found["answers"]["detail"]
        assert found["index"]["ok"]
