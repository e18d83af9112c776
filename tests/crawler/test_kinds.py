"""What kinds of sources say of themselves, and what the crawler and the gateway make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.clients import SourceSpec
from services.crawler.sources import kind_of, notes, options
from services.domain import EVERYONE, NAMED_KINDS, SourceKind
from services.errors import InvalidInput
from tests.crawler.world import World

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_every_kind_declares_itself() -> None:
    """A kind that callers name lies on the web, on the machine or on both; what is kept is nothing that is said."""
    for kind in NAMED_KINDS:
        assert kind_of(kind).on_web or kind_of(kind).on_machine
    assert options().isdisjoint(notes())
    assert kind_of(SourceKind.UPLOAD).options == frozenset()


@pytest.mark.parametrize("kind", NAMED_KINDS)
async def test_a_kind_is_refused_where_it_cannot_be(world: World, tmp_path: Path, kind: SourceKind) -> None:
    """An address that a source of this kind cannot have is refused at once, any other is taken."""
    for address, possible in (
        ("https://example.org/a", kind_of(kind).on_web),
        (str(tmp_path), kind_of(kind).on_machine),
    ):
        spec = SourceSpec(address, kind=kind.value)
        if possible:
            assert (await world.crawler.ingests.put_source("alpha", spec, EVERYONE)).kind is kind
        else:
            with pytest.raises(InvalidInput):
                await world.crawler.ingests.put_source("alpha", spec, EVERYONE)


async def test_an_option_that_no_kind_has_is_refused(world: World) -> None:
    """The message names those that there are; what crawls keep for themselves is none of them."""
    for name in ("colour", *notes()):
        with pytest.raises(InvalidInput, match="depth, exclude, include, max_pages, ref"):
            await world.crawler.ingests.put_source(
                "alpha", SourceSpec("https://example.org/", options={name: "x"}), EVERYONE
            )
