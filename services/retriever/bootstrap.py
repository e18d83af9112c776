"""The retriever, put together from its settings.

Comes in: Settings. Goes out: a Retriever that serves. The only file here that opens adapters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor
from twin.v1 import retriever_pb2

from services import process, settings, telemetry
from services.adapters import open_adapter
from services.ports import Encoder, Indexes, Reranker
from services.retriever.live import Live
from services.retriever.retrieve import Retrieve
from services.retriever.servicer import RetrieverServicer


class Settings(settings.Settings):
    retriever_address: str = "localhost:50053"
    """Where it listens: `unix:/path` or `host:port`."""
    retriever_metrics: str = "localhost:9053"
    """Where a process of its own serves /metrics; empty: nowhere."""
    index_url: str = "sqlite:///"
    reranker_url: str = "none://"


@dataclass(slots=True)
class Retriever:
    """`services` go to an rpc.Server."""

    services: Sequence[tuple[ServiceDescriptor, object]]
    retrieve: Retrieve
    live: Live
    indexes: Indexes
    reranker: Reranker | None

    async def start(self) -> None:
        """Nothing runs beside the calls."""

    async def ask(self) -> None:
        """Unavailable where the index is away."""
        await self.indexes.manifests()

    async def rest(self, grace: float) -> None:
        """It works only while it is called."""

    async def stop(self, grace: float = 10.0) -> None:
        """Close the adapters."""
        await self.live.close()
        if self.reranker is not None:
            await self.reranker.close()


async def build(given: Settings, open_encoder: Callable[[str], Awaitable[Encoder]] | None = None) -> Retriever:
    """Open the adapters; the encoder is the one that the live index names, opened when it is first needed.
    `open_encoder`: for a process that shares encoders between services; they are closed here all the same."""
    data = given.directory

    async def encoder_of(url: str) -> Encoder:
        opened: Encoder = await open_adapter("encoder", url, data)
        return opened

    indexes: Indexes = await open_adapter("index", given.index_url, data)
    reranker: Reranker | None = await open_adapter("reranker", given.reranker_url, data)
    live = Live(indexes, open_encoder or encoder_of)

    def observe(step: str, seconds: float) -> None:
        telemetry.SEARCH_STEP_SECONDS.labels(step).observe(seconds)

    retrieve = Retrieve(live, reranker, observe)
    servicer = RetrieverServicer(retrieve, live)
    return Retriever(
        services=[(retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"], servicer)],
        retrieve=retrieve,
        live=live,
        indexes=indexes,
        reranker=reranker,
    )


async def serve(given: Settings) -> None:
    """Serve and work until SIGTERM or SIGINT."""
    made = await process.patiently(lambda: build(given))
    await process.serve("retriever", given.retriever_address, given.retriever_metrics, made, given)


def main() -> None:
    telemetry.configure_logs()
    telemetry.configure_traces("twin-retriever")
    process.run(serve(settings.read(Settings)))
