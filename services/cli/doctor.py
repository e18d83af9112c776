"""`twin doctor`: tries every configured part and says how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx
import typer

from services.cli.api import Api, connect
from services.cli.options import ApiKey, Json, Url, err, out, print_json, run
from services.errors import TwinError

if TYPE_CHECKING:
    from services.embedded import Check


QUOTES = "quotes"
"""What a gateway says of answers that no engine writes."""


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Try every part that is configured, and say how to mend what does not work."""
    from services.embedded import Check, checks, unknown_settings

    async def remote() -> list[Check]:
        try:
            async with connect(url, api_key) as api:
                status = await api.get("/v1/status")
                search = await api.post("/v1/search", {"query": "Does the reranker answer?", "k": 1, "rerank": True})
                answers = await _answered(api, status)
        except TwinError as error:
            return [Check("gateway", False, error.message)]
        index = status["index"]
        return [
            Check(
                "gateway",
                True,
                f"{url}, Twin {status['version']}, key {status['key']['name']} ({status['key']['role']})",
            ),
            Check("index", True, f"{index['documents']} documents, {index['chunks']} chunks, {index['encoder']}"),
            _reranked(search),
            answers,
        ]

    async def local() -> list[Check]:
        for line in unknown_settings():
            err.print(line, markup=False, soft_wrap=True)
        return [*await checks(), await ollama()]

    found = run(remote() if url else local())
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        for each in found:
            out.print(f"{'ok  ' if each.ok else 'BAD '} {each.part:12} {each.detail}", markup=False)
            if each.mend:
                out.print(f"                  {each.mend}", markup=False)
    raise typer.Exit(0 if all(each.ok for each in found) else 1)


async def _answered(api: Api, status: dict[str, Any]) -> Check:
    """Whether the engine writes, where there is one: it is asked for a word, without passages, which could be none."""
    from services.embedded import NO_ENGINE, Check

    if status["answers"] != QUOTES:
        messages = [{"role": "user", "content": "Does the language model answer?"}]
        body = {"model": "twin", "messages": messages, "max_tokens": 1, "twin": {"k": 0}}
        try:
            await api.post("/v1/chat/completions", body)
        except TwinError as error:
            return Check("answers", False, f"{status['answers']}: {error.message}", NO_ENGINE)
    return Check("answers", True, f"{status['answers']}. {status['answers_hint']}")


def _reranked(search: dict[str, Any]) -> Check:
    """Whether a search that asked for it was reranked, by its own word. With nothing indexed nothing was to be read."""
    from services.embedded import Check

    detail = next((str(each["detail"]) for each in search["steps"] if each["name"] == "rerank"), "none")
    tried = [each for each in search["passages"] if "rerank" in each["scores"]]
    if not tried and "failed" in detail:
        return Check("reranker", False, detail, "searches go on without it meanwhile")
    return Check("reranker", True, detail)


async def ollama(address: str = "http://127.0.0.1:11434") -> Check:
    """Whether Ollama runs here with a model, and what to set to be answered by it."""
    from services.embedded import Check

    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            names = [str(each["name"]) for each in (await client.get(f"{address}/api/tags")).json()["models"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return Check("ollama", True, "none is running here; it is not needed (answers are quotations without it)")
    if not names:
        return Check("ollama", True, "runs here without a model", "ollama pull llama3.2")
    setting = f"TWIN_LLM_URL='openai+{address}/v1?model={names[0]}'"
    return Check(
        "ollama", True, f"runs here with {', '.join(names[:5])}", f"to have it write the answers: {setting} twin up"
    )
