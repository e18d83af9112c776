"""How records are written where a store has no type of its own for them: the same in every store, so that a backup of
one is read by another.

Comes in: domain objects and texts. Goes out: bytes, JSON and integers, and the objects again. Does not know: any store.

Texts and journal entries are compressed (zlib, level 1): a text shrinks to less than half for some 40 µs more of a
processor each. A sketch's bands are 64-bit hashes of author and band.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from services.domain import (
    Citation,
    Document,
    Evidence,
    Failure,
    Feedback,
    Filter,
    Generation,
    Message,
    Passage,
    Progress,
    Step,
    Support,
    Usage,
    Verdict,
)
from services.errors import InvalidInput

LARGE_TEXT = 50_000
"""Characters from which compressing takes longer (about 1 ms) than an event loop should be held up."""


def packed_text(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpacked_text(packed: bytes) -> str:
    return zlib.decompress(packed).decode("utf-8", "surrogatepass")


def band_hash(author: str, band: str) -> int:
    """64 bits, signed."""
    state = hashlib.blake2b(author.encode("utf-8", "surrogatepass"), digest_size=8)
    state.update(b"\0" + band.encode("utf-8", "surrogatepass"))
    return int.from_bytes(state.digest(), "big", signed=True)


def cursor_after(document: Document) -> str:
    """What a page of documents, newest change first, that ends with this one is continued by."""
    return f"{document.updated_at!r}_{document.id}"


def cursor_place(cursor: str) -> tuple[float, str]:
    """(updated_at, id) of the last document of the page before. InvalidInput."""
    updated_at, separator, id = cursor.partition("_")
    try:
        if separator:
            return float(updated_at), id
    except ValueError:
        pass
    raise InvalidInput("`cursor` is not the `next` of an earlier page: leave it out to begin anew.", param="cursor")


def progress_text(progress: Progress | None) -> str | None:
    return None if progress is None else json.dumps(asdict(progress), ensure_ascii=False)


def progress_of(text: str | None) -> Progress | None:
    if text is None:
        return None
    values = json.loads(text)
    failures = tuple(Failure(**failure) for failure in values.pop("failures"))
    return Progress(**values, failures=failures)


_FIELDS = {field.name for field in fields(Generation)}


def packed_entry(generation: Generation) -> bytes:
    plain = json.dumps(generation, default=_plain).encode()
    # The window that the text fills: to prepare a whole one costs more than a short answer's compression.
    return zlib.compress(plain, 1, wbits=min(zlib.MAX_WBITS, max(9, len(plain).bit_length())))


def _plain(value: object) -> object:
    """What JSON has no form for, one level of it: `asdict` copies every value on its way, at five times the cost."""
    if isinstance(value, Mapping):
        return dict(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]


def unpacked_entry(packed: bytes) -> Generation:
    """What an entry of an earlier Twin lacks takes its default; what one of a later Twin has besides is left out: both
    may serve at once while one replaces the other."""
    read: Mapping[str, Any] = json.loads(zlib.decompress(packed))
    entry = {name: value for name, value in read.items() if name in _FIELDS}
    feedback = entry["feedback"]
    if feedback is not None:
        feedback["reasons"] = tuple(feedback["reasons"])
    return Generation(
        **{
            **entry,
            "messages": tuple(Message(**each) for each in entry["messages"]),
            "passages": tuple(Passage(**each) for each in entry["passages"]),
            "citations": tuple(Citation(**each) for each in entry["citations"]),
            "support": tuple(Support(**{**each, "verdict": Verdict(each["verdict"])}) for each in entry["support"]),
            "evidence": Evidence(entry["evidence"]),
            "usage": Usage(**entry["usage"]),
            "authors": tuple(entry["authors"]),
            "feedback": None if feedback is None else Feedback(**feedback),
            "queries": tuple(entry.get("queries", ())),
            "filter": _filter(entry.get("filter", {})),
            "steps": tuple(Step(**each) for each in entry.get("steps", ())),
        }
    )


def _filter(values: Mapping[str, Any]) -> Filter:
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Filter(**given)


STREAMS = 3600.0
"""Seconds for which it is remembered that a document was redacted: longer than any answer takes."""
APART = 5.0
"""Seconds by which the clocks of two machines may differ."""


def cited_documents(generation: Generation) -> set[str]:
    """Ids of those whose text the entry holds."""
    given = {passage.document_id for passage in generation.passages}
    return given | {citation.document_id for citation in generation.citations}


def redacted(generation: Generation, document_id: str) -> Generation:
    """Without the document's text. The answers earlier in the conversation and a person's correction of this one may
    hold it as well."""
    feedback = generation.feedback
    return replace(
        generation,
        passages=tuple(passage for passage in generation.passages if passage.document_id != document_id),
        citations=tuple(citation for citation in generation.citations if citation.document_id != document_id),
        messages=tuple(
            replace(message, content="") if message.role == "assistant" else message for message in generation.messages
        ),
        prompt="",
        answer="",
        support=(),
        feedback=None if feedback is None else replace(feedback, correction=""),
        redacted=True,
    )


SHORTEST = 12
"""Characters of a quotation by which it is looked for in other entries: a word or two stand there by chance."""


def quotations(generation: Generation, document_id: str) -> frozenset[str]:
    """Texts by which a later entry is seen to hold what this one says of the document: its quotations, and the answer
    as a whole."""
    quoted = {each.quote.strip() for each in generation.citations if each.document_id == document_id}
    return frozenset(each for each in (*quoted, generation.answer.strip()) if len(each) >= SHORTEST)


def unquoted(generation: Generation, texts: Collection[str]) -> Generation | None:
    """Without the earlier answers, prompt and answer that hold one of these texts; None where none does."""

    def holds(text: str) -> bool:
        return any(each in text for each in texts)

    messages = tuple(
        replace(each, content="") if each.role == "assistant" and holds(each.content) else each
        for each in generation.messages
    )
    prompt = "" if holds(generation.prompt) else generation.prompt
    answered = holds(generation.answer)
    if messages == generation.messages and prompt == generation.prompt and not answered:
        return None
    return replace(
        generation,
        messages=messages,
        prompt=prompt,
        answer="" if answered else generation.answer,
        support=() if answered else generation.support,
        redacted=True,
    )
