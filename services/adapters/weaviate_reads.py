"""Weaviate's two reading calls, in the messages that its client is made of.

Comes in: filters, words, a vector. Goes out: results as they came over the wire. Does not know: collections' contents.

A search asks some ten times. By way of the client's collections a request takes 1.4 ms to make (each argument is
validated, each id becomes a filter of its own) and each object 45 µs to read; made here, .1 ms and 8 µs. The messages
are the client's own (weaviate.proto.v1), so that its version decides which they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from weaviate.classes.config import ConsistencyLevel
from weaviate.proto.v1 import aggregate_pb2, base_pb2, base_search_pb2, search_get_pb2, weaviate_pb2_grpc

LARGEST = 100 << 20
"""Bytes of an answer: as many as the client allows."""
AGAIN = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
"""While a server starts again."""
LEVELS = {
    ConsistencyLevel.ONE: base_pb2.CONSISTENCY_LEVEL_ONE,
    ConsistencyLevel.QUORUM: base_pb2.CONSISTENCY_LEVEL_QUORUM,
    ConsistencyLevel.ALL: base_pb2.CONSISTENCY_LEVEL_ALL,
}
Filters = base_pb2.Filters
Result = search_get_pb2.SearchResult


def equal(name: str, value: str | int) -> Filters:
    return _condition(name, Filters.OPERATOR_EQUAL, value)


def least(name: str, value: int) -> Filters:
    return _condition(name, Filters.OPERATOR_GREATER_THAN_EQUAL, value)


def below(name: str, value: int) -> Filters:
    return _condition(name, Filters.OPERATOR_LESS_THAN, value)


def most(name: str, value: int) -> Filters:
    return _condition(name, Filters.OPERATOR_LESS_THAN_EQUAL, value)


def among(name: str, values: Sequence[str]) -> Filters:
    """`_id` is the name of an object's id."""
    return Filters(
        operator=Filters.OPERATOR_CONTAINS_ANY,
        target=base_pb2.FilterTarget(property=name),
        value_text_array=base_pb2.TextArray(values=values),
    )


def every(*conditions: Filters) -> Filters:
    return Filters(operator=Filters.OPERATOR_AND, filters=conditions)


def either(conditions: Iterable[Filters]) -> Filters:
    return Filters(operator=Filters.OPERATOR_OR, filters=conditions)


def _condition(name: str, operator: Any, value: str | int) -> Filters:
    target = base_pb2.FilterTarget(property=name)
    if isinstance(value, str):
        return Filters(operator=operator, target=target, value_text=value)
    return Filters(operator=operator, target=target, value_int=value)


class Reads:
    """Over a channel of its own. Both calls raise grpc.aio.AioRpcError; what is unavailable was tried again by then."""

    def __init__(
        self,
        host: str,
        port: int,
        secure: bool,
        key: str | None,
        options: Sequence[tuple[str, Any]],
        level: ConsistencyLevel,
    ) -> None:
        options = [
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.default_authority", host),
            ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": AGAIN}]})),
            *options,
        ]
        target = f"{host}:{port}"
        self._channel = (
            grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options)
            if secure
            else grpc.aio.insecure_channel(target, options)
        )
        self._stub: Any = weaviate_pb2_grpc.WeaviateStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._level = LEVELS[level]

    async def close(self) -> None:
        await self._channel.close()

    async def find(
        self,
        collection: str,
        limit: int,
        filters: Filters | None = None,
        *,
        words: str = "",
        near: bytes = b"",
        shown: Sequence[str] = (),
        vectors: bool = False,
    ) -> Sequence[Result]:
        """Objects with the properties `shown`: of the best BM25 score over their `words`, nearest to the float32s
        `near`, or any that pass the filters."""
        request = search_get_pb2.SearchRequest(
            uses_123_api=True,
            uses_125_api=True,
            uses_127_api=True,
            collection=collection,
            consistency_level=self._level,
            limit=limit,
            filters=filters,
            properties=search_get_pb2.PropertiesRequest(non_ref_properties=shown),
            metadata=search_get_pb2.MetadataRequest(uuid=True, score=bool(words), distance=bool(near), vector=vectors),
        )
        if words:
            request.bm25_search.CopyFrom(base_search_pb2.BM25(query=words, properties=["words"]))
        if near:
            vector = base_pb2.Vectors(vector_bytes=near, type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32)
            request.near_vector.CopyFrom(base_search_pb2.NearVector(vectors=[vector]))
        results: Sequence[Result] = (await self._stub.Search(request, metadata=self._metadata)).results
        return results

    async def count(self, collection: str, filters: Filters | None = None) -> int:
        request = aggregate_pb2.AggregateRequest(collection=collection, objects_count=True, filters=filters)
        reply = await self._stub.Aggregate(request, metadata=self._metadata)
        return int(reply.single_result.objects_count)


def text(result: Result, name: str) -> str:
    """A property that is text; empty where the object has none."""
    return str(result.properties.non_ref_props.fields[name].text_value)


def number(result: Result, name: str) -> int:
    return int(result.properties.non_ref_props.fields[name].int_value)
