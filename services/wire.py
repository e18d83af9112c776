"""Domain objects ⇄ protobuf messages, all of it.

Comes in and goes out: dataclasses of services.domain on the one side, messages of twin.v1 on the other. A dataclass
and its message have the same name and the same field names, so one compiled plan a class serves both directions;
tests/properties holds that every pair round-trips. Does not know: gRPC, transport, who calls.

An absent enum, an unknown enum value or text that is not Unicode is InvalidInput: nothing else can go wrong here.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message as Proto
from twin.v1 import crawler_pb2, feature_pb2, generator_pb2, retriever_pb2, types_pb2

from services import domain
from services.errors import InvalidInput
from services.ports import Vectors

T = TypeVar("T")
P = TypeVar("P", bound=Proto)

_MODULES = (types_pb2, crawler_pb2, feature_pb2, retriever_pb2, generator_pb2)


def to_wire(value: Any, message: type[P]) -> P:
    """The message of a dataclass. Its type is named for the type checker's sake."""
    try:
        built: P = _plan(type(value)).build(value)
    except UnicodeEncodeError as error:
        raise InvalidInput("The text holds lone surrogates: it is not Unicode. Send it as UTF-8.") from error
    assert_type(built, message)
    return built


def from_wire(message: Proto, kind: type[T]) -> T:
    """The dataclass of a message."""
    read: T = _plan(kind).read(message)
    return read


def assert_type(message: Proto, kind: type[Proto]) -> None:
    if not isinstance(message, kind):
        raise TypeError(f"{type(message).__name__} is not {kind.__name__}")


def event_to_wire(event: domain.AnswerEvent) -> generator_pb2.AnswerEvent:
    """An answer's event in its envelope."""
    kind = type(event)
    return generator_pb2.AnswerEvent(**{_NAMES[kind]: _plan(kind).build(event)})


def events_from_wire(message: generator_pb2.AnswerEvent) -> list[domain.AnswerEvent]:
    """The event of an envelope, and those that follow it in it."""
    return [event_from_wire(message), *(event_from_wire(each) for each in message.more)]


def event_from_wire(message: generator_pb2.AnswerEvent) -> domain.AnswerEvent:
    name = message.WhichOneof("event")
    if name is None:
        raise InvalidInput("An answer event holds no event.")
    return typing.cast(domain.AnswerEvent, from_wire(getattr(message, name), _EVENTS[name]))


_EVENTS: dict[str, type] = {kind.__name__.lower(): kind for kind in typing.get_args(domain.AnswerEvent)}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


def vectors_to_bytes(vectors: Vectors) -> bytes:
    """(n, d) float32 → little-endian bytes, row after row."""
    return np.ascontiguousarray(vectors, dtype="<f4").tobytes()


def vectors_from_bytes(data: bytes, dimensions: int) -> Vectors:
    if dimensions <= 0 or len(data) % (4 * dimensions):
        raise InvalidInput("The vectors' bytes are not rows of the named dimensions.")
    return np.frombuffer(data, dtype="<f4").reshape(-1, dimensions).astype(np.float32, copy=False)


# ── The plan: how each field crosses ────────────────────────────────────────────────────────────────


class _Plan:
    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.message = _message_class(kind.__name__)
        known = self.message.DESCRIPTOR.fields_by_name
        hints = typing.get_type_hints(kind)
        self.fields = [(each.name, *_crossing(hints[each.name], each)) for each in fields(kind) if each.name in known]
        missing = [
            each.name
            for each in fields(kind)
            if each.name not in known and each.default is MISSING and each.default_factory is MISSING
        ]
        if missing:
            raise TypeError(f"{kind.__name__} cannot be read from the wire: its message lacks {missing}")

    def build(self, value: Any) -> Any:
        values = {}
        for name, outward, _ in self.fields:
            crossed = outward(getattr(value, name))
            if crossed is not None:
                values[name] = crossed
        return self.message(**values)

    def read(self, message: Any) -> Any:
        return self.kind(**{name: inward(message, name) for name, _, inward in self.fields})


_PLANS: dict[Any, _Plan] = {}


def _plan(kind: Any) -> _Plan:
    found = _PLANS.get(kind)
    if found is None:
        found = _PLANS[kind] = _Plan(kind)
    return found


def _message_class(name: str) -> Any:
    for module in _MODULES:
        found = getattr(module, name, None)
        if found is not None:
            return found
    raise TypeError(f"No message is named {name}")


Outward = Callable[[Any], Any]
Inward = Callable[[Any, str], Any]


def _crossing(hint: Any, field: Field[Any]) -> tuple[Outward, Inward]:
    """How a field of this type goes out and comes in."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (each for each in args if each is not type(None))
        outward, inward = _crossing(inner, field)
        return (
            lambda value: None if value is None else outward(value),
            lambda message, name: inward(message, name) if message.HasField(name) else None,
        )
    if origin is tuple:
        item = args[0]
        if is_dataclass(item):
            return (
                lambda value: [_plan(item).build(each) for each in value],
                lambda message, name: tuple(_plan(item).read(each) for each in getattr(message, name)),
            )
        return list, lambda message, name: tuple(getattr(message, name))
    if origin is not None and issubclass(origin, Mapping):
        return dict, lambda message, name: dict(getattr(message, name))
    if is_dataclass(hint):
        return (
            lambda value: _plan(hint).build(value),
            lambda message, name: _plan(hint).read(getattr(message, name)),
        )
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return str, lambda message, name: _enum(hint, name, getattr(message, name))
    return _same, getattr


def _same(value: Any) -> Any:
    return value


def _enum(kind: type[StrEnum], name: str, text: str) -> StrEnum:
    try:
        return kind(text)
    except ValueError as error:
        allowed = ", ".join(kind)
        raise InvalidInput(f"{name} is one of {allowed}, not {text[:40]!r}.", param=name) from error
