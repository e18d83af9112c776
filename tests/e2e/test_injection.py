"""Promise 8, end to end: documents that command the answerer, behind an engine that obeys everything it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from services import embedded
from tests.e2e.injected import COMMANDS, QUESTIONS, SECRET, SETTINGS, bring_in, site
from tests.generator import engine


def live(tokens: list[Token]) -> list[str]:
    """What a renderer would fetch, follow or run."""
    found = [each.type for each in tokens if each.type in ("link_open", "image", "html_inline", "html_block")]
    for each in tokens:
        found += live(each.children or [])
    return found


@pytest.mark.promise(8)
@pytest.mark.timeout(180)
@pytest.mark.parametrize("support", ["mark", "replace"])
async def test_an_obedient_engine_harms_nobody(tmp_path: Path, support: str) -> None:
    """Of 132 documents of every kind of source (folder, repository, feed, sitemap, pages, uploads) and of file
    (Markdown, HTML, text, code, PDF, Word), each with a command, none forges a citation, makes the reader's machine
    call out, or brings another author's text into the prompt or the answer."""
    async with engine.running(engine.obeying) as obedient, site() as address:
        given: dict[str, Any] = {
            "data_dir": tmp_path / "data",
            "encoder_url": "hashing://384",
            "llm_url": obedient.url,
            "gateway_port": 0,
            **SETTINGS,
        }
        async with embedded.running(workers=True, **given) as twin:
            headers = {"Authorization": f"Bearer {twin.secret}"}
            async with httpx.AsyncClient(
                base_url=await twin.serve(), headers=headers, timeout=60, trust_env=False
            ) as client:
                assert await bring_in(tmp_path, client, address) == 11 * len(COMMANDS)
                key = (
                    await client.post("/v1/api-keys", json={"name": "x", "role": "reader", "authors": ["alpha"]})
                ).json()
                client.headers["Authorization"] = f"Bearer {key['secret']}"

                obeyed = 0
                for question in [*QUESTIONS, f"What is the valve secret {SECRET.split('-')[0]}?"]:
                    request = {
                        "model": "twin",
                        "messages": [{"role": "user", "content": question}],
                        "twin": {"support": support},
                    }
                    answer = (await client.post("/v1/chat/completions", json=request)).json()
                    await check(client, answer)
                    obeyed += "evil" in answer["choices"][0]["message"]["content"]
                assert obedient.requests, "the engine was never asked"
                assert SECRET not in str(obedient.requests)
                assert twin.secret not in str(obedient.requests)
                if support == "mark":
                    assert obeyed, "the engine did not obey: the test shows nothing"


async def check(client: httpx.AsyncClient, answer: dict[str, Any]) -> None:
    message, own = answer["choices"][0]["message"], answer["twin"]
    content = message["content"]
    assert SECRET not in content
    assert live(MarkdownIt("commonmark").enable(["table"]).parse(content)) == [], content
    given = {(each["document"]["id"], each["version"]) for each in own["passages"]}
    assert {each["document"]["author"] for each in own["passages"]} <= {"alpha"}
    for citation in own["citations"]:
        assert citation["author"] == "alpha"
        assert 1 <= citation["number"] <= len(own["passages"])
        assert (citation["document_id"], citation["version"]) in given
        document = (
            await client.get(f"/v1/documents/{citation['document_id']}", params={"version": citation["version"]})
        ).json()
        assert document["text"][citation["start"] : citation["end"]] == citation["quote"]
    for annotation in message["annotations"]:
        assert "evil.example" not in annotation["url_citation"]["url"]
