"""Domain objects as JSON and back, by their own fields.

Comes in: frozen dataclasses of services.domain. Goes out: what json.dumps takes, and the same objects again. Does not
know: what they mean. A field that the file does not have takes its default: an older backup stays readable.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from services.errors import InvalidInput

T = TypeVar("T")


def plain(value: Any) -> Any:
    """As JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value.value if isinstance(value, StrEnum) else value


def made(kind: type[T], value: Any) -> T:
    """The object again. InvalidInput where the file holds something else."""
    try:
        return typing.cast(T, _made(kind, value))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidInput(f"The backup holds a {kind.__name__} that this Twin cannot read.") from error


@lru_cache(maxsize=100)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _made(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast(type, kind))
        given = {field.name: _made(hints[field.name], value[field.name]) for field in dataclasses.fields(kind)
                 if field.name in value}  # fmt: skip
        return typing.cast(Any, kind)(**given)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _made(next(each for each in arguments if each is not type(None)), value)
    if origin is tuple:
        return tuple(_made(arguments[0], each) for each in value)
    if origin is not None and issubclass(origin, Mapping):
        return {name: _made(arguments[1], each) for name, each in value.items()}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return float(value) if kind is float else value
