"""Every domain object that crosses a wire comes back as it went."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twin.v1 import generator_pb2, types_pb2

from services import clients, domain, wire
from services.errors import InvalidInput

CROSSING = [
    *typing.get_args(domain.AnswerEvent),
    domain.Scope,
    domain.Filter,
    domain.Message,
    domain.Progress,
    domain.Document,
    domain.Passage,
    domain.Step,
    domain.Manifest,
    domain.SearchRequest,
    domain.SearchResult,
    domain.GenerateRequest,
    domain.Generation,
    domain.Feedback,
    domain.Source,
    domain.SourceProgress,
    domain.Crawl,
    domain.Author,
    clients.SourceSpec,
    clients.ReindexJob,
    clients.IndexDescription,
    clients.GeneratorDescription,
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INTEGER = st.integers(-(2**53), 2**53)
NUMBER = st.floats(allow_nan=False)


def values(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.none() | values(next(each for each in args if each is not type(None)))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is not None:
        return st.dictionaries(TEXT, values(args[1]), max_size=3)
    if dataclasses.is_dataclass(hint):
        return objects(hint)
    if issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    return {str: TEXT, int: INTEGER, float: NUMBER, bool: st.booleans(), bytes: st.binary()}[hint]


def objects(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{each.name: values(hints[each.name]) for each in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", CROSSING, ids=lambda kind: kind.__name__)
def test_round_trip(kind: type) -> None:
    """What goes out by to_wire and over the wire's bytes comes in by from_wire unchanged."""

    @settings(max_examples=40, deadline=None)
    @given(objects(kind))
    def check(value: typing.Any) -> None:
        message = wire.to_wire(value, wire._message_class(kind.__name__))
        assert wire.from_wire(type(message).FromString(message.SerializeToString()), kind) == value

    check()


@pytest.mark.parametrize("kind", CROSSING, ids=lambda kind: kind.__name__)
def test_every_field_crosses(kind: type) -> None:
    """No field of a crossing class is silently left behind."""
    message = wire._message_class(kind.__name__)
    assert {each.name for each in dataclasses.fields(kind)} == set(message.DESCRIPTOR.fields_by_name)


@given(st.one_of(*(objects(kind) for kind in typing.get_args(domain.AnswerEvent))))
@settings(max_examples=50, deadline=None)
def test_events_round_trip(event: domain.AnswerEvent) -> None:
    """An answer's events keep their kind in the envelope."""
    message = generator_pb2.AnswerEvent.FromString(wire.event_to_wire(event).SerializeToString())
    assert wire.events_from_wire(message) == [event]


def test_wrong_values_are_said() -> None:
    """An unknown enum value, text that is no Unicode and broken vectors are InvalidInput, naming what is allowed."""
    with pytest.raises(InvalidInput, match="supported, unsupported"):
        wire.from_wire(types_pb2.Support(verdict="perhaps"), domain.Support)
    with pytest.raises(InvalidInput, match="surrogates"):
        wire.to_wire(domain.Message("user", "\ud800"), types_pb2.Message)
    with pytest.raises(InvalidInput, match="rows"):
        wire.vectors_from_bytes(b"12345", 2)
    with pytest.raises(InvalidInput):
        wire.events_from_wire(generator_pb2.AnswerEvent())
