"""All five services in one process, on the embedded adapters or on whatever the settings name.

Comes in: settings from the environment and keyword arguments. Goes out: a running Twin. Does not know: how any
service does its work. The services speak gRPC over Unix sockets in a directory that only its owner may enter, so no
other local program gets round the keys.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from services import clients, rpc
from services.crawler import bootstrap as crawler
from services.domain import EVERYONE, Message
from services.errors import Misconfigured, TwinError, Unavailable
from services.feature import bootstrap as feature
from services.gateway import bootstrap as gateway
from services.generator import bootstrap as generator
from services.ports import LanguageModel, Reranker, Sampling
from services.retriever import bootstrap as retriever
from services.settings import Settings, read, unknown

GRACE = 10.0
"""Seconds that running answers and jobs have to end."""
NO_ENGINE = "no question is answered until it is; without TWIN_LLM_URL answers are quotations"


@dataclass(frozen=True, slots=True)
class Check:
    """One part, tried: whether it works, what it is, and how to mend it."""

    part: str
    ok: bool
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    answers: str
    hint: str
    documents: int
    data_dir: Path


class Twin:
    """A Twin that runs in this process."""

    def __init__(
        self,
        made: gateway.Gateway,
        channels: dict[str, Any],
        sockets: Path,
        data_dir: Path,
        reranker: Reranker | None,
        models: Sequence[LanguageModel],
    ) -> None:
        self.gateway = made
        self.channels = channels
        self.reranker = reranker
        self.models = models
        self.secret = made.local.secret
        """Of the process's own admin key: it is in no store and ends with the process."""
        self._port: int | None = None
        self._sockets = sockets
        self._data_dir = data_dir
        self._servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def serve(self) -> str:
        """Listen where the settings say; the gateway's address. Unavailable where the port is taken,
        Misconfigured where a network can reach it and there is no key."""
        listener = await self.gateway.bind()
        self._port = listener.getsockname()[1]
        await self._serve(self.gateway.server(), [listener])
        host = self.gateway.settings.gateway_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def serve_socket(self) -> Path:
        """Listen on a Unix socket that only this user may open; its path."""
        path = self._sockets / "gateway.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        await self._serve(self.gateway.server(), [listener])
        return path

    async def _serve(self, server: uvicorn.Server, listeners: list[socket.socket]) -> None:
        task = asyncio.create_task(server.serve(sockets=listeners))
        self._servers.append((server, task))
        while not server.started:
            if task.done():
                task.result()
                raise Unavailable("The gateway did not start; the log says why.")
            await asyncio.sleep(0.005)

    async def stopped(self) -> None:
        """Until a signal stops the gateway."""
        await asyncio.gather(*(task for _, task in self._servers))

    async def close(self) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers), return_exceptions=True)

    def page_link(self) -> str:
        """A link that opens the page once."""
        return self.gateway.page_link(self._port)

    async def status(self) -> Status:
        described, index = await asyncio.gather(
            clients.Generator(self.channels["generator"]).describe(),
            clients.Retriever(self.channels["retriever"]).describe(EVERYONE),
        )
        return Status(described.answers, described.hint, index.documents, self._data_dir)


@asynccontextmanager
async def running(*, workers: bool = True, **given: Any) -> AsyncIterator[Twin]:
    """A Twin until the block is left. `workers`: crawl and featurize what is queued, keep schedules, and sweep;
    without, it only answers. `given` wins over the environment, by the settings' names in lower case."""
    sockets = Path(tempfile.mkdtemp(prefix="twin-"))  # mode 0700
    addresses = {f"{name}_address": f"unix:{sockets}/{name}.sock" for name in gateway.SERVICES}
    given = {**addresses, **given}
    data = read(Settings, **given).directory
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        channels = {name: rpc.connect(addresses[f"{name}_address"]) for name in gateway.SERVICES}
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        # In the order of who is called: feature and retriever call nobody.
        made_feature = await feature.build(read(feature.Settings, **given))
        stack.push_async_callback(made_feature.stop, GRACE)
        made_retriever = await retriever.build(read(retriever.Settings, **given))
        stack.push_async_callback(made_retriever.stop, GRACE)
        made_crawler = await crawler.build(
            read(crawler.EmbeddedSettings, **given), clients.Feature(channels["feature"])
        )
        stack.push_async_callback(made_crawler.stop, GRACE)
        made_generator = await generator.build(
            read(generator.Settings, **given), clients.Retriever(channels["retriever"])
        )
        stack.push_async_callback(made_generator.stop, GRACE)
        made: dict[str, Any] = {
            "feature": made_feature,
            "retriever": made_retriever,
            "crawler": made_crawler,
            "generator": made_generator,
        }
        for name, service in made.items():
            server = rpc.Server(addresses[f"{name}_address"], service.services)
            await server.start()
            stack.push_async_callback(server.stop, GRACE)
        if workers:
            for service in made.values():
                await service.start()
        made_gateway = await gateway.build(read(gateway.Settings, **given), channels)
        stack.push_async_callback(made_gateway.close)
        twin = Twin(made_gateway, channels, sockets, data, made_retriever.reranker, made_generator.models)
        stack.push_async_callback(twin.close)
        yield twin


def unknown_settings() -> list[str]:
    """A line for each name that looks like a setting and is none."""
    return unknown(feature.Settings, retriever.Settings, crawler.Settings, generator.Settings, gateway.Settings)


async def checks() -> list[Check]:
    """Every part of the settings, tried."""
    found: list[Check] = []
    try:
        async with running(workers=False) as twin:
            status = await twin.status()
            found.append(Check("data", True, f"{status.data_dir}, {_free(status.data_dir)} GB free"))
            retriever_client = clients.Retriever(twin.channels["retriever"])
            described = await retriever_client.describe(EVERYONE)
            fitted = described.manifest.thresholds
            holds = f"{described.documents} documents, {described.chunks} chunks"
            found.append(Check("index", True, f"{holds}, encoder {described.manifest.encoder.url}"))
            found.append(
                Check("thresholds", True, fitted.origin)
                if fitted
                else Check("thresholds", True, "none: nothing is declined by score", "twin calibrate fits them")
            )
            embedded = await retriever_client.embed(["Does the encoder answer?"])
            found.append(Check("encoder", True, f"{embedded.encoder}, {embedded.vectors.shape[1]} dimensions"))
            found.append(await _reranks(twin.reranker))
            found.append(await _answers(twin))
    except TwinError as error:
        found.append(Check("settings", False, error.message))
    return found


async def _reranks(reranker: Reranker | None) -> Check:
    if reranker is None:
        return Check("reranker", True, "none: passages are in the order of the searches")
    try:
        await reranker.score("Does the reranker answer?", ["It does."])
    except TwinError as error:
        return Check("reranker", False, f"{reranker.name}: {error.message}", "searches go on without it meanwhile")
    return Check("reranker", True, reranker.name)


async def _answers(twin: Twin) -> Check:
    """Whether each engine serves its model and writes: some list their models to whoever asks, and refuse the key
    only then."""
    for model in twin.models:
        try:
            await model.prove()
            word = model.stream([Message("user", "Does the language model answer?")], Sampling(max_tokens=1))
            async with aclosing(word) as pieces:
                async for _ in pieces:
                    pass
        except TwinError as error:
            return Check("answers", False, ": ".join(filter(None, (model.name, error.message))), NO_ENGINE)
    # An engine that was asked which model it serves has a name by now.
    status = await twin.status()
    return Check("answers", True, status.answers, status.hint)


def _free(directory: Path) -> str:
    """Gigabytes free where a directory is."""
    return f"{shutil.disk_usage(directory).free / 1e9:.0f}"


async def fetch_model(name: str) -> Path:
    """Fetch a small model into the data directory; where it is now. Misconfigured without what runs it."""
    try:
        from services.adapters.language_model_llamacpp import fetch
    except ModuleNotFoundError as error:
        if error.name != "xllamacpp":
            raise
        raise Misconfigured(
            "A model in Twin's own process needs the extra llamacpp. Install it first: "
            f"{sys.executable} -m pip install 'xllamacpp>=2026.10'"
        ) from None

    return Path(await fetch(name, read(Settings).directory))
