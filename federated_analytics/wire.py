"""Requests and releases as bytes, derived from the fields of their dataclasses.

The form is JSON, deflated: floats round-trip exactly, nothing executes on reading, and a reader
in another language needs no schema compiler. A dataclass is the list of its fields in order; an
aggregate is its class name followed by them. Every message starts with the version of its form.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
import zlib
from functools import cache
from typing import Any, TypeVar

from federated_analytics.aggregates.base import Aggregate, aggregate_types
from federated_analytics.errors import WireError
from federated_analytics.messages import Disclosure, Request
from federated_analytics.privacy.release import Release

VERSION = 1
MAX_BYTES = 8 * 2**20
"""Largest message taken, before and after inflation."""

T = TypeVar("T")
_SCALARS = frozenset({str, int, float, bool, type(None)})


def encode_request(request: Request) -> bytes:
    """A request as bytes."""
    return _pack(request)


def decode_request(body: bytes) -> Request:
    """The request in `body`; WireError where it is none."""
    return _unpack(Request, body)


def encode_release(release: Release) -> bytes:
    """A release as bytes; nothing but a `Release` can leave a site."""
    if type(release) is not Release:
        raise TypeError("only a Release made by the policy can be encoded for the wire")
    return _pack(release.disclosure)


def decode_release(body: bytes) -> Disclosure:
    """What a site disclosed; WireError where `body` is no release."""
    return _unpack(Disclosure, body)


def _pack(message: Any) -> bytes:
    text = json.dumps([VERSION, to_plain(message)], separators=(",", ":"), allow_nan=False)
    return zlib.compress(text.encode(), 9)


def _unpack(cls: type[T], body: bytes) -> T:
    if not isinstance(body, bytes) or len(body) > MAX_BYTES:
        raise WireError(f"A message of more than {MAX_BYTES} bytes is not read.")
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(body, MAX_BYTES)
        if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
            raise WireError("The message is too large or cut short.")
        plain = json.loads(text, parse_constant=_refuse_constant)
    except (zlib.error, ValueError, RecursionError) as error:
        raise WireError("The bytes are not a message of federated_analytics.") from error
    if not isinstance(plain, list) or len(plain) != 2 or plain[0] != VERSION:
        raise WireError("The message has another version of the wire form.")
    return typing.cast(T, from_plain(cls, plain[1], cls.__name__))


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def to_plain(value: Any) -> Any:
    """`value` as JSON types."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Aggregate):
        return [type(value).__name__, *_field_values(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _field_values(value)
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {key: to_plain(v) for key, v in value.items()}
    raise TypeError(f"{type(value).__name__} has no wire form")


def _field_values(value: Any) -> list[Any]:
    return [to_plain(getattr(value, name)) for name, _ in _fields_of(value)]


def _fields_of(value: Any) -> list[tuple[str, Any]]:
    cls: Any = type(value)
    return _travelling(cls)


@cache
def _travelling(cls: Any) -> list[tuple[str, Any]]:
    """Names and types of the fields of `cls` that travel."""
    hints = typing.get_type_hints(cls)
    return [(f.name, hints[f.name]) for f in dataclasses.fields(cls) if "stays" not in f.metadata]


def from_plain(expected: Any, plain: Any, where: str) -> Any:
    """`plain` as the type `expected`; WireError names the place that does not fit."""
    if expected in _SCALARS:
        return _scalar(expected, plain, where)
    if expected is Aggregate:
        return _aggregate(plain, where)
    if dataclasses.is_dataclass(expected):
        return _dataclass(expected, plain, where)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (types.UnionType, typing.Union):
        if plain is None and type(None) in arguments:
            return None
        return from_plain(next(a for a in arguments if a is not type(None)), plain, where)
    if origin is tuple:
        return _tuple(arguments, plain, where)
    if origin is dict and isinstance(plain, dict):
        return {k: from_plain(arguments[1], v, f"{where}.{k}") for k, v in plain.items()}
    return _scalar(expected, plain, where)


def _aggregate(plain: Any, where: str) -> Aggregate:
    if not isinstance(plain, list) or not plain or not isinstance(plain[0], str):
        raise WireError("An aggregate is expected here.", where=where)
    cls = aggregate_types().get(plain[0])
    if cls is None:
        raise WireError(f"There is no aggregate {plain[0][:40]!r}.", where=where)
    return typing.cast(Aggregate, _dataclass(cls, plain[1:], where))


def _dataclass(cls: Any, plain: Any, where: str) -> Any:
    fields = _travelling(cls)
    if not isinstance(plain, list) or len(plain) != len(fields):
        raise WireError(f"{cls.__name__} has {len(fields)} fields.", where=where)
    pairs = zip(fields, plain, strict=True)
    return cls(**{name: from_plain(hint, v, f"{where}.{name}") for (name, hint), v in pairs})


def _tuple(arguments: tuple[Any, ...], plain: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise WireError("A list is expected here.", where=where)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(from_plain(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(plain))
    if len(arguments) != len(plain):
        raise WireError(f"A list of {len(arguments)} is expected here.", where=where)
    pairs = zip(arguments, plain, strict=True)
    return tuple(from_plain(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(pairs))


def _scalar(expected: Any, plain: Any, where: str) -> Any:
    if expected is float and isinstance(plain, int) and not isinstance(plain, bool):
        plain = float(plain)
    if type(plain) is not expected or (expected is float and not math.isfinite(plain)):
        name = getattr(expected, "__name__", str(expected))
        raise WireError(f"A value of type {name} is expected here.", where=where)
    return plain
