"""The twins as OpenAI's models.

Comes in: a key. Goes out: `twin` and the authors it may see. Does not know: engines.
"""

from __future__ import annotations

from starlette.responses import Response

from services.gateway import openai
from services.gateway.call import TheCall, answer
from services.gateway.chat import known_author


async def find(call: TheCall) -> Response:
    """List the models: `twin`, and each author."""
    authors = await call.parts.crawler.list_authors(call.scope)
    names = [openai.EVERYONE_MODEL, *(each.name for each in authors)]
    return answer({"object": "list", "data": [openai.model(name) for name in names]})


async def get(call: TheCall, model: str) -> Response:
    """One model."""
    await known_author(call, model)
    return answer(openai.model(model))
