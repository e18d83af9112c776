"""Embeddings under the live index's encoder.

Comes in: texts. Goes out: their vectors, as numbers or base64. Does not know: the encoder.
"""

from __future__ import annotations

import base64
from typing import Any

from starlette.responses import Response

from services import wire
from services.errors import InvalidInput, ModelNotFound
from services.gateway import openai
from services.gateway.call import TheCall, answer
from services.gateway.openai import EmbeddingsBody


async def create(call: TheCall, body: EmbeddingsBody) -> Response:
    """Vectors of texts."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    embedded = await call.parts.retriever.embed(texts)
    if body.model not in (openai.EVERYONE_MODEL, embedded.encoder):
        raise ModelNotFound(
            f"The model {body.model!r} does not exist: embeddings are made by twin ({embedded.encoder}).", param="model"
        )
    dimensions = embedded.vectors.shape[1]
    if body.dimensions not in (None, dimensions):
        raise InvalidInput(
            f"The encoder makes {dimensions} dimensions: leave it out, or {dimensions}.", param="dimensions"
        )
    vectors: list[Any]
    if body.encoding_format == "base64":
        vectors = [base64.b64encode(wire.vectors_to_bytes(row)).decode() for row in embedded.vectors]
    else:
        vectors = embedded.vectors.tolist()
    tokens = sum(embedded.tokens)
    return answer(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)],
            "model": embedded.encoder,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
