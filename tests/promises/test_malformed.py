"""Promise 9: bytes that are no message, sent to every method of every service as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from twin.v1 import crawler_pb2, feature_pb2, generator_pb2, retriever_pb2

from tests.promises.twin import running

FILES: dict[str, Any] = {
    "crawler": crawler_pb2,
    "feature": feature_pb2,
    "generator": generator_pb2,
    "retriever": retriever_pb2,
}
BYTES = {
    "no field": b"\xff\xff\xff\xff",
    "a length beyond the end": b"\x0a\x7fshort",
    "a group that never ends": b"\x0b\x0b\x0b",
    "text that is no UTF-8": b"\x0a\x02\xc3\x28",
    "field number 0": b"\x00\x00",
}


@pytest.mark.promise(9)
async def test_malformed_bytes_on_every_method(tmp_path: Path) -> None:
    """Each is INVALID_ARGUMENT (or, where the bytes happen to be a message of the method, an error of the request's
    own): never UNKNOWN or INTERNAL, nothing of the inside in its words; and the services go on."""
    asked, refused = 0, 0
    async with running(tmp_path, workers=False) as (twin, client):
        for name, file in FILES.items():
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    for data in BYTES.values():
                        code, details = await _call(twin.channels[name], service.full_name, method, data)
                        asked += 1
                        refused += code is grpc.StatusCode.INVALID_ARGUMENT
                        assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), (method.name, details)
                        for inside in ("Traceback", "google.protobuf", "DecodeError", "_pb2", method.input_type.name):
                            assert inside not in details, (method.name, details)
                    if not method.input_type.fields:
                        continue
                    code, _ = await _call(twin.channels[name], service.full_name, method, BYTES["no field"])
                    assert code is grpc.StatusCode.INVALID_ARGUMENT, method.name
        assert (await client.get("/readyz")).status_code == 200
    assert asked >= 5 * 30
    assert refused > asked * 0.8


async def _call(channel: Any, service: str, method: Any, data: bytes) -> tuple[grpc.StatusCode, str]:
    path = f"/{service}/{method.name}"
    try:
        if method.client_streaming:
            await channel.stream_unary(path)(_once(data), timeout=100)
        elif method.server_streaming:
            async for _ in channel.unary_stream(path)(data, timeout=100):
                pass
        else:
            await channel.unary_unary(path)(data, timeout=100)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
