"""The generator, put together from its settings.

Comes in: Settings and the retriever's client. Goes out: a Generator that serves. The only file here that opens
adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import ServiceDescriptor
from pydantic import Field
from twin.v1 import generator_pb2

from services import clients, process, rpc, settings, telemetry
from services.adapters import open_adapter
from services.errors import Misconfigured
from services.generator.generate import Budget, Candidate, Generate, Retriever
from services.generator.journal import Record
from services.generator.pool import Pool
from services.generator.servicer import GeneratorServicer
from services.ports import Journal, LanguageModel


class Settings(settings.Settings):
    generator_address: str = "localhost:50054"
    """Where it listens: `unix:/path` or `host:port`."""
    generator_metrics: str = "localhost:9054"
    """Where a process of its own serves /metrics; empty: nowhere."""
    retriever_address: str = "localhost:50053"
    llm_url: str = "quotes://"
    """The engine, or several with spaces between them; a host's name stands for all its addresses."""
    llm_candidate_url: str = ""
    """The engines of a model that is tried on a share of the conversations; empty: none."""
    llm_candidate_share: float = Field(default=0.0, ge=0, le=1)
    """0 to 1: of the conversations, a conversation always with the same model."""
    documents_url: str = "sqlite:///"
    """Of the store that holds the journal."""
    generator_passages: int = Field(default=8, ge=1, le=50)
    """Passages that an answer is made from."""
    generator_answer_tokens: int = Field(default=600, ge=1)
    """Longest answer of an engine, where the caller names none: some 450 words."""
    generator_history_tokens: int = Field(default=1000, ge=0)
    """Of the conversation before, in a prompt."""
    generator_concurrent: int = Field(default=32, ge=1)
    """Answers at once; keys take turns for the places."""
    generator_patience_seconds: float = Field(default=10.0, gt=0)
    """That an answer may be expected to wait for its turn; where it would be longer, it is refused at once."""
    journal_days: float = Field(default=365.0, gt=0)
    """After which an answer leaves the journal."""


@dataclass(slots=True)
class Generator:
    """`services` go to an rpc.Server."""

    services: Sequence[tuple[ServiceDescriptor, object]]
    generate: Generate
    record: Record
    journal: Journal
    models: Sequence[LanguageModel]

    async def start(self) -> None:
        """Begin to sweep old answers out of the journal."""
        await self.record.start()

    async def ask(self) -> None:
        """Unavailable where the journal is away."""
        await self.journal.get("-")

    async def rest(self, grace: float) -> None:
        """It works only while it is called."""

    async def stop(self, grace: float = 10.0) -> None:
        """Write what is still to be written, close the adapters."""
        await self.record.close()
        for model in self.models:
            await model.close()


async def build(given: Settings, retriever: Retriever) -> Generator:
    """Open the adapters. Raises Misconfigured with the setting's name."""
    data = given.directory
    model = await _engines(given.llm_url, data, "TWIN_LLM_URL")
    tried = await _engines(given.llm_candidate_url, data, "TWIN_LLM_CANDIDATE_URL") if given.llm_candidate_url else None
    journal: Journal = await open_adapter("journal", given.documents_url, data, setting="TWIN_DOCUMENTS_URL")
    record = Record(journal, given.journal_days * 24 * 3600)
    budget = Budget(
        passages=given.generator_passages,
        answer_tokens=given.generator_answer_tokens,
        history_tokens=given.generator_history_tokens,
        concurrent=given.generator_concurrent,
        patience=given.generator_patience_seconds,
    )
    candidate = Candidate(tried, given.llm_candidate_share) if tried is not None else None
    generate = Generate(retriever, model, record, budget, candidate)
    servicer = GeneratorServicer(generate, record, model)
    return Generator(
        services=[(generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"], servicer)],
        generate=generate,
        record=record,
        journal=journal,
        models=[each for each in (model, tried) if each is not None],
    )


async def _engines(urls: str, data: Path, setting: str) -> LanguageModel | None:
    """One model in the process, or a pool of engines. None for quotations."""

    async def open(url: str) -> LanguageModel | None:
        opened: LanguageModel | None = await open_adapter("language_model", url, data, setting=setting)
        return opened

    several = urls.split()
    if len(several) == 1 and "+" not in several[0].partition("://")[0]:
        return await open(several[0])

    async def engine(url: str) -> LanguageModel:
        opened = await open(url)
        if opened is None:
            raise Misconfigured(f"{setting} names several engines: quotes:// is none.")
        return opened

    pool = Pool(several, engine)
    try:
        await pool.start()
    except BaseException:
        await pool.close()
        raise
    return pool


async def serve(given: Settings) -> None:
    """Serve and work until SIGTERM or SIGINT."""
    channel = rpc.connect(given.retriever_address, given.identity)
    made = await process.patiently(lambda: build(given, clients.Retriever(channel)))
    try:
        await process.serve("generator", given.generator_address, given.generator_metrics, made, given)
    finally:
        await channel.close()


def main() -> None:
    telemetry.configure_logs()
    telemetry.configure_traces("twin-generator")
    process.run(serve(settings.read(Settings)))
