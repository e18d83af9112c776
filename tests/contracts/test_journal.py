"""What every journal promises."""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from services.adapters import journal_mongodb, journal_sqlite, mongodb, open_adapter, sqlite
from services.domain import (
    EVERYONE,
    Citation,
    Evidence,
    Feedback,
    Filter,
    Generation,
    Message,
    Passage,
    Scope,
    Step,
    Support,
    Usage,
    Verdict,
)
from services.errors import NotFound
from services.ports import Journal


def passage(document: str, author: str) -> Passage:
    return Passage("c", document, 1, 0, 6, "SECRET", "H", "T", "https://a", author, 0.5, {"dense": 0.5}, source_id="s")


def citation(document: str, author: str) -> Citation:
    return Citation(1, document, 1, "T", "https://a", author, 0, 6, "SECRET", 0, 5)


def generation(id: str, at: float, documents: tuple[str, ...] = ("d",), author: str = "alpha") -> Generation:
    return Generation(
        id=id,
        key_id="k",
        author=None,
        messages=(Message("user", "Q?"), Message("assistant", "SECRET before"), Message("user", "And?")),
        question="And Q?",
        prompt="SECRET And?",
        model="quotes",
        passages=tuple(passage(each, author) for each in documents),
        answer="SECRET [1]",
        citations=tuple(citation(each, author) for each in documents),
        support=(Support(0, 6, Verdict.QUOTED, 1.0),),
        evidence=Evidence.ANSWER,
        usage=Usage(3, 4),
        timings={"search": 1.5},
        reason="stop",
        created_at=at,
        authors=(author,) if documents else (),
        feedback=None,
        trace=f"trace of {id}",
        queries=("and q",),
        filter=Filter(authors=(author,), since="2024-01-01"),
        confidence=0.5,
        steps=(Step("search", "2 by meaning", 1.5, 2),),
    )


async def test_entries_come_back(journal: Journal) -> None:
    """An entry is read as it was saved, and saving it again replaces it."""
    entry = generation("a", 1.0)
    await journal.save([entry])
    assert await journal.get("a") == entry
    await journal.save([replace(entry, answer="new")])
    assert await journal.get("a") == replace(entry, answer="new")
    assert await journal.get("missing") is None
    assert len(await journal.find(EVERYONE)) == 1


async def test_entries_saved_together(journal: Journal) -> None:
    """Each is there, those of one time in the order that they were given in; of two with one id the second stays; none
    are nothing."""
    await journal.save([])
    entries = [generation(str(n), 1.0, (f"d{n}",)) for n in range(5)]
    await journal.save([*entries, replace(entries[0], answer="new")])
    assert await journal.find(EVERYONE) == [*reversed(entries[1:]), replace(entries[0], answer="new")]


async def test_find_keeps_to_the_scope(journal: Journal) -> None:
    """Newest first; only entries all of whose authors lie in the scope, one without authors in everyone's only; the empty
    scope sees nothing."""
    await journal.save([generation("a", 1.0)])
    await journal.save([replace(generation("b", 2.0, author="beta"), key_id="other")])
    await journal.save([replace(generation("both", 3.0), authors=("alpha", "beta"))])
    await journal.save([generation("none", 4.0, ())])

    async def ids(scope: Scope = EVERYONE, **filters: object) -> list[str]:
        return [each.id for each in await journal.find(scope, **filters)]  # type: ignore[arg-type]

    assert await ids() == ["none", "both", "b", "a"]
    assert await ids(limit=2) == ["none", "both"]
    assert await ids(before=3.0) == ["b", "a"]
    assert await ids(key_id="other") == ["b"]
    assert await ids(Scope(authors=("alpha",))) == ["a"]
    assert await ids(Scope(authors=("alpha", "beta"))) == ["both", "b", "a"]
    assert await ids(Scope()) == []


async def test_find_by_trace(journal: Journal) -> None:
    """Of one trace's answers those of the scope and the key, newest first; an entry without a trace is never found by
    one, the empty one included."""
    one = "0af7651916cd43dd8448eb211c80319c"
    await journal.save([replace(generation("a", 1.0), trace=one)])
    await journal.save([replace(generation("b", 2.0, author="beta"), trace=one, key_id="other")])
    await journal.save([replace(generation("without", 3.0), trace="")])
    assert [each.id for each in await journal.find(EVERYONE, trace=one)] == ["b", "a"]
    assert [each.id for each in await journal.find(Scope(authors=("alpha",)), trace=one)] == ["a"]
    assert [each.id for each in await journal.find(EVERYONE, trace=one, key_id="other")] == ["b"]
    assert [each.id for each in await journal.find(EVERYONE, trace=one, limit=1)] == ["b"]
    assert await journal.find(EVERYONE, trace="f" * 32) == await journal.find(EVERYONE, trace="") == []
    await journal.save([replace(generation("a", 1.0), trace="f" * 32)])
    assert [each.id for each in await journal.find(EVERYONE, trace="f" * 32)] == ["a"]


async def test_entries_of_other_twins(store_url: str, tmp_path: Path) -> None:
    """An entry that was written before there were traces, steps and filters in it is read with their defaults, found,
    judged and redacted, and one with a field that is not known yet is read without it; the store goes on with new ones
    beside it."""
    entry = replace(generation("old", 1.0), trace="", queries=(), filter=Filter(), confidence=None, steps=())
    fields = asdict(entry)
    for name in ("trace", "queries", "filter", "confidence", "steps"):
        del fields[name]
    fields["later"] = {"a": 1}
    packed = zlib.compress(json.dumps(fields).encode(), 1)
    if store_url.startswith("sqlite"):
        file = await sqlite.Database.open(store_url, tmp_path, "journal", journal_sqlite.STEPS[:1])
        await file.write(
            lambda connection: connection.execute(
                """INSERT INTO generations (id, key_id, created_at, authors, entry) VALUES ('old', 'k', 1.0, ?, ?);
                   INSERT INTO generation_documents VALUES ('d', last_insert_rowid())""",
                (json.dumps(entry.authors), packed),
            )
        )
        await file.close()
    else:
        database = await mongodb.Database.open(store_url, "journal", journal_mongodb.STEPS[:1])
        record = {"_id": "old", "key_id": "k", "created_at": 1.0, "authors": ["alpha"], "documents": ["d"]}
        await database.collection("generations").insert_one({**record, "entry": packed, "revision": 1, "number": 1})
        await database.close()
    journal = await open_adapter("journal", store_url, tmp_path)
    try:
        assert await journal.get("old") == entry
        await journal.save([generation("new", 2.0)])
        assert await journal.find(EVERYONE) == [generation("new", 2.0), entry]
        assert await journal.find(EVERYONE, trace="") == []
        await journal.feedback(Feedback("old", 1))
        assert await journal.redact("d") == 2
    finally:
        await journal.close()


async def test_feedback(journal: Journal) -> None:
    """Feedback is kept with its entry; the newest stands; for an unknown entry it is NotFound."""
    await journal.save([generation("a", 1.0)])
    for rating in (1, -1):
        given = Feedback("a", rating, "better", ("wrong", "long"), 5.0)
        await journal.feedback(given)
        entry = await journal.get("a")
        assert entry is not None
        assert entry.feedback == given
    with pytest.raises(NotFound):
        await journal.feedback(Feedback("missing", 1))


async def test_delete(journal: Journal) -> None:
    """By id, by time, or not at all where nothing is named."""
    for n in range(5):
        await journal.save([generation(str(n), float(n))])
    assert await journal.delete() == 0
    assert await journal.delete(["4", "missing"]) == 1
    assert await journal.delete(before=2.0) == 2
    assert [each.id for each in await journal.find(EVERYONE)] == ["3", "2"]


@pytest.mark.promise(2)
async def test_redaction_takes_the_text_of_a_deleted_document(journal: Journal) -> None:
    """Nothing of the document's text is left in any entry that held it; other entries are untouched; the question,
    its time and its feedback's rating stay."""
    for n in range(230):
        await journal.save([generation(f"old {n}", float(n), ("gone", "kept"))])
    other = generation("other", 500.0, ("kept",))
    await journal.save([other])
    await journal.feedback(Feedback("old 0", -1, "SECRET said better", (), 9.0))
    assert await journal.redact("gone") == 230
    assert await journal.redact("gone") == 0
    entry = await journal.get("old 0")
    assert entry is not None
    assert entry.redacted
    assert [each.document_id for each in entry.passages] == ["kept"]
    assert [each.document_id for each in entry.citations] == ["kept"]
    assert (entry.question, entry.created_at, entry.feedback) == ("And Q?", 0.0, Feedback("old 0", -1, "", (), 9.0))
    assert "SECRET" not in entry.prompt + entry.answer + "".join(each.content for each in entry.messages)
    assert await journal.get("other") == other
    assert await journal.redact("kept") == 231
    last = await journal.get("old 0")
    assert last is not None
    assert not last.passages


@pytest.mark.promise(2)
async def test_redaction_reaches_answers_that_come_later(journal: Journal, store_url: str, tmp_path: Path) -> None:
    """An answer that was begun before a document was redacted and is saved after, by whatever process, holds nothing of
    the document; one begun after, of the document brought in again, is kept as it is."""
    other: Journal = await open_adapter("journal", store_url, tmp_path)
    try:
        assert await other.redact("gone") == 0
    finally:
        await other.close()
    now = time.time()
    await journal.save([generation("streamed", now - 60.0, ("gone", "kept"))])
    found = await journal.get("streamed")
    assert found is not None
    assert found.redacted
    assert [each.document_id for each in found.passages] == ["kept"]
    assert "SECRET" not in found.prompt + found.answer
    again = generation("again", now + 60.0, ("gone",))
    late = generation("late", now - 60.0, ("gone", "kept"))
    await journal.save([again])
    assert await journal.get("again") == again
    await journal.save([generation("before", now - 60.0, ("kept",)), late, generation("none", now, ())])
    assert [(await journal.get(each)).redacted for each in ("before", "late", "none")] == [False, True, False]  # type: ignore[union-attr]


@pytest.mark.promise(2)
async def test_redaction_reaches_later_turns(journal: Journal) -> None:
    """A later answer of the same key, made of other documents, whose conversation holds the earlier one's quotation
    loses it; another key's entries and turns that do not hold it are untouched."""
    quote = "These are the words of the document that goes."
    first = generation("first", 1.0, ("gone",))
    first = replace(first, answer=f"{quote} [1]", citations=(replace(first.citations[0], quote=quote),))
    kept = Message("assistant", "Of another document.")
    later = replace(
        generation("later", 2.0, ("kept",)),
        messages=(Message("user", "Q?"), Message("assistant", f"{quote} [1]"), kept, Message("user", "And?")),
        prompt=f"Earlier: {quote}",
        answer="Nothing of it.",
    )
    for each in (first, later, generation("not", 3.0, ("kept",)), replace(later, id="another", key_id="another")):
        await journal.save([each])
    assert await journal.redact("gone") == 2
    found = await journal.get("later")
    assert found is not None
    assert [each.content for each in found.messages] == ["Q?", "", "Of another document.", "And?"]
    assert (found.prompt, found.answer, found.redacted) == ("", "Nothing of it.", True)
    assert await journal.get("another") == replace(later, id="another", key_id="another")
    assert await journal.get("not") == generation("not", 3.0, ("kept",))
