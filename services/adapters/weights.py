"""A model's files on this machine, for the adapters that run it in the process with sentence-transformers.

Comes in: `scheme://ORG/NAME` (a name on the Hugging Face hub) or `scheme:///path/of/a/folder`, with `?device=`,
`&dtype=` and, of the hub, `&revision=`. Goes out: a folder, and which revision lies in it. Does not know: what the
model is for.

Weights are taken as safetensors only, and no code of a model's is run: a file of the older kind can hold a program.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from services.cores import cores
from services.errors import Misconfigured, Unavailable

DTYPES = ("float32", "float16", "bfloat16")
READ = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files that a model consists of: configuration, vocabulary, weights."""


@dataclass(frozen=True, slots=True)
class Weights:
    name: str
    folder: Path
    revision: str
    """The hub's commit, or the beginning of the files' SHA-256."""
    url: str
    """What opens the same again, on whatever device."""
    device: str | None
    dtype: str | None


def find(url: str, setting: str) -> Weights:
    """Brings the files from the hub where they are not here yet. Blocks. Misconfigured, Unavailable."""
    parts = urlsplit(url)
    given = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    takes = ("device", "dtype") if not parts.netloc else ("device", "dtype", "revision")
    if given.keys() - set(takes):
        raise Misconfigured(f"{setting}: {parts.scheme}:// takes ?{', ?'.join(takes)}, nothing else.")
    if (dtype := given.get("dtype")) is not None and dtype not in DTYPES:
        raise Misconfigured(f"{setting}: ?dtype= is one of {', '.join(DTYPES)}.")
    name = unquote(f"{parts.netloc}{parts.path}").rstrip("/")
    if not name.strip("/") or "+" in parts.scheme or parts.username or parts.fragment:
        raise Misconfigured(f"{setting}: {parts.scheme}://ORG/NAME of the hub, or {parts.scheme}:///path/of/a/folder.")
    kept = {"dtype": dtype} if dtype else {}
    if parts.netloc:
        folder = _fetch(name, given.get("revision"), setting)
        revision = kept["revision"] = folder.name
    else:
        folder = Path(name)
        if not folder.is_dir():
            raise Misconfigured(
                f"{setting}: {parts.scheme}:/// names no folder. Give the whole path of a model's folder."
            )
        name = folder.name
        try:
            revision = _digest(folder)
        except OSError as error:
            raise Misconfigured(
                f"{setting}: the files of {name} cannot be read ({error.strerror}): the user that Twin runs as has to "
                "be allowed to."
            ) from error
    if not any(folder.rglob("*.safetensors")):
        raise Misconfigured(f"{setting}: {name} has no weights in safetensors, the only format that is loaded.")
    plain = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return Weights(
        name=name,
        folder=folder,
        revision=revision,
        url=f"{plain}?{urlencode(kept)}" if kept else plain,
        device=given.get("device") or None,
        dtype=dtype,
    )


def load(weights: Weights, kind: str, setting: str) -> Any:
    """The model as sentence-transformers' class `kind`. Blocks, for ten seconds the first time. Misconfigured."""
    try:
        library = import_module("sentence_transformers")
    except ModuleNotFoundError as error:
        raise _missing(setting, error) from error
    import_module("transformers.utils.logging").disable_progress_bar()
    torch = import_module("torch")
    # In a container it would take the node's cores for its own.
    torch.set_num_threads(min(cores(), torch.get_num_threads()))
    options: dict[str, Any] = {"use_safetensors": True}
    if weights.dtype:
        options["dtype"] = weights.dtype
    try:
        return getattr(library, kind)(
            str(weights.folder), device=weights.device, local_files_only=True, model_kwargs=options
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise Misconfigured(
            f"{setting}: {weights.name} cannot be loaded as a {kind}"
            f"{f' on {weights.device}' if weights.device else ''}: is it one, and is there room for it?"
        ) from error


def _fetch(name: str, revision: str | None, setting: str) -> Path:
    try:
        hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    except ModuleNotFoundError as error:
        raise _missing(setting, error) from error
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(READ)))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise Misconfigured(f"{setting}: the hub has no model {name}, or not that revision of it.") from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(
            f"{setting}: {name} is not on this machine, and the hub cannot be reached. Try again, or bring the model's "
            f"folder here and name it with three slashes.",
            retry_after=60.0,
        ) from error


def _missing(setting: str, error: ModuleNotFoundError) -> Misconfigured:
    return Misconfigured(f"{setting} needs the Python package {error.name}: install Twin with its extra `torch`.")


def _digest(folder: Path) -> str:
    """Of what the model consists of."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in READ for file in folder.rglob(pattern)}):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}\n{content}\n".encode())
    return digest.hexdigest()[:12]
