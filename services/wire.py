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
from dataclasses import MISSING, dataclass, fields, is_dataclass
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
        crossings = {each.name: _crossing(hints[each.name], each.name) for each in fields(kind) if each.name in known}
        missing = [
            each.name
            for each in fields(kind)
            if each.name not in known and each.default is MISSING and each.default_factory is MISSING
        ]
        if missing:
            raise TypeError(f"{kind.__name__} cannot be read from the wire: its message lacks {missing}")
        # Compiled as `dataclass` does it: a loop over the fields would take twice as long.
        self.build: Callable[[Any], Any] = _compiled(
            self.message, {name: crossing.outward for name, crossing in crossings.items()}
        )
        """The message of a value. A field that is None is left out by the message's own constructor."""
        self.read: Callable[[Any], Any] = _compiled(
            kind, {name: crossing.inward for name, crossing in crossings.items()}
        )


def _compiled(made: type, fields: Mapping[str, _Way]) -> Callable[[Any], Any]:
    """lambda it: made(first=…, second=…)"""
    used: dict[str, Any] = {"made": made}
    written = []
    for name, way in fields.items():
        used[f"cross_{name}"] = way.through
        value = f"cross_{name}(it.{name})" if way.through is not None else f"it.{name}"
        written.append(f"{name}={value} if it.HasField('{name}') else None" if way.optional else f"{name}={value}")
    compiled: Callable[[Any], Any] = eval(f"lambda it: made({', '.join(written)})", used)
    return compiled


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


@dataclass(frozen=True, slots=True)
class _Way:
    """How a field is read from the one side for the other."""

    through: Callable[[Any], Any] | None = None
    """What makes the other side's value of it; None: it is the same."""
    optional: bool = False
    """A message's field that may be absent."""


@dataclass(frozen=True, slots=True)
class _Crossing:
    outward: _Way
    inward: _Way


def _crossing(hint: Any, name: str) -> _Crossing:
    """How a field of this type goes out and comes in."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (_crossing(each, name) for each in args if each is not type(None))
        through = inner.outward.through
        return _Crossing(
            _Way(None if through is None else lambda value: None if value is None else through(value)),
            _Way(inner.inward.through, optional=True),
        )
    if origin is tuple:
        item = args[0]
        if is_dataclass(item):
            return _Crossing(
                _Way(lambda values: [_plan(item).build(each) for each in values] if values else None),
                _Way(lambda messages: tuple([_plan(item).read(each) for each in messages]) if messages else ()),
            )
        return _Crossing(_Way(), _Way(tuple))
    if origin is not None and issubclass(origin, Mapping):
        return _Crossing(_Way(dict), _Way(dict))
    if is_dataclass(hint):
        return _Crossing(
            _Way(lambda value: _plan(hint).build(value)),
            _Way(lambda message: _plan(hint).read(message)),
        )
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _Crossing(_Way(), _Way(lambda text: _enum(hint, name, text)))
    return _Crossing(_Way(), _Way())


def _enum(kind: type[StrEnum], name: str, text: str) -> StrEnum:
    try:
        return kind(text)
    except ValueError as error:
        allowed = ", ".join(kind)
        raise InvalidInput(f"{name} is one of {allowed}, not {text[:40]!r}.", param=name) from error
