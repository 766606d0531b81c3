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
from collections.abc import Callable
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
_SHORT = 4_096
_SCALARS = frozenset({str, int, float, bool, type(None)})
_WHOLE = frozenset({str, int, bool})
"""Scalars that are read as they are; a float must be finite."""


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
    text = _ENCODER.encode([VERSION, to_plain(message)]).encode()
    # The tables of a whole window would cost a short message more than its deflation does.
    window, memory = (12, 4) if len(text) <= _SHORT else (15, 8)
    deflater = zlib.compressobj(9, zlib.DEFLATED, window, memory)
    return deflater.compress(text) + deflater.flush()


def _unpack(cls: type[T], body: bytes) -> T:
    if not isinstance(body, bytes) or len(body) > MAX_BYTES:
        raise WireError(f"A message of more than {MAX_BYTES} bytes is not read.")
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(body, MAX_BYTES)
        if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
            raise WireError("The message is too large or cut short.")
        plain = _DECODER.decode(text.decode())
    except (zlib.error, ValueError, RecursionError) as error:
        raise WireError("The bytes are not a message of federated_analytics.") from error
    if not isinstance(plain, list) or len(plain) != 2 or plain[0] != VERSION:
        raise WireError("The message has another version of the wire form.")
    return typing.cast(T, from_plain(cls, plain[1], cls.__name__))


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def to_plain(value: Any) -> Any:
    """`value` as JSON types."""
    cls: Any = type(value)
    return _writer(cls)(value)


@cache
def _writer(cls: Any) -> Callable[[Any], Any]:
    """What makes JSON types of a value of just this type; made once a type."""
    if cls in _SCALARS:
        return lambda value: value
    if dataclasses.is_dataclass(cls):
        return _dataclass_writer(cls)
    if issubclass(cls, tuple | list):
        return lambda value: [to_plain(v) for v in value]
    if issubclass(cls, dict):
        return lambda value: {key: to_plain(v) for key, v in value.items()}
    raise TypeError(f"{cls.__name__} has no wire form")


def _dataclass_writer(cls: Any) -> Callable[[Any], Any]:
    names = [name for name, _ in _travelling(cls)]
    head = [cls.__name__] if issubclass(cls, Aggregate) else []

    def write(value: Any) -> Any:
        held = [getattr(value, name) for name in names]
        return head + [one if type(one) in _SCALARS else to_plain(one) for one in held]

    return write


@cache
def _travelling(cls: Any) -> list[tuple[str, Any]]:
    """Names and types of the fields of `cls` that travel."""
    hints = typing.get_type_hints(cls)
    return [(f.name, hints[f.name]) for f in dataclasses.fields(cls) if "stays" not in f.metadata]


def from_plain(expected: Any, plain: Any, where: str) -> Any:
    """`plain` as the type `expected`; WireError names the place that does not fit."""
    try:
        return _reader(expected)(plain)
    except _Misfit as misfit:
        raise WireError(misfit.message, where=where + misfit.below) from None


class _Misfit(Exception):
    """What does not fit, and where below the value that is read; made by the innermost reader."""

    def __init__(self, message: str, below: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.below = below

    def within(self, place: str) -> _Misfit:
        return _Misfit(self.message, place + self.below)


@cache
def _reader(expected: Any) -> Callable[[Any], Any]:
    """What reads JSON types as the type `expected`; made once a type."""
    if expected in _SCALARS:
        return lambda plain: _scalar(expected, plain)
    if expected is Aggregate:
        return _aggregate
    if dataclasses.is_dataclass(expected):
        return _dataclass_reader(expected)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (types.UnionType, typing.Union):
        one = _reader(next(a for a in arguments if a is not type(None)))
        is_optional = type(None) in arguments
        return lambda plain: None if plain is None and is_optional else one(plain)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is dict:
        of_values = _reader(arguments[1])
        return lambda plain: _read_dict(expected, of_values, plain)
    return lambda plain: _scalar(expected, plain)


def _aggregate(plain: Any) -> Any:
    if not isinstance(plain, list) or not plain or not isinstance(plain[0], str):
        raise _Misfit("An aggregate is expected here.")
    cls = aggregate_types().get(plain[0])
    if cls is None:
        raise _Misfit(f"There is no aggregate {plain[0][:40]!r}.")
    return _reader(cls)(plain[1:])


def _dataclass_reader(cls: Any) -> Callable[[Any], Any]:
    fields = _travelling(cls)
    readers: list[tuple[str, Any, Callable[[Any], Any]]] = []

    def read(plain: Any) -> Any:
        if not isinstance(plain, list) or len(plain) != len(fields):
            raise _Misfit(f"{cls.__name__} has {len(fields)} fields.")
        if not readers:  # not before: a class may hold others of its own kind
            readers.extend((name, hint, _reader(hint)) for name, hint in fields)
        found = {}
        for (name, hint, reader), value in zip(readers, plain, strict=True):
            try:
                is_itself = type(value) is hint and hint in _WHOLE
                found[name] = value if is_itself else reader(value)
            except _Misfit as misfit:
                raise misfit.within(f".{name}") from None
        return cls(**found)

    return read


def _tuple_reader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    is_open = len(arguments) == 2 and arguments[1] is Ellipsis
    first = _reader(arguments[0]) if is_open else None
    readers = [] if is_open else [_reader(a) for a in arguments]

    def read(plain: Any) -> Any:
        if not isinstance(plain, list):
            raise _Misfit("A list is expected here.")
        if first is None and len(readers) != len(plain):
            raise _Misfit(f"A list of {len(readers)} is expected here.")
        found = []
        for i, value in enumerate(plain):
            try:
                found.append((first or readers[i])(value))
            except _Misfit as misfit:
                raise misfit.within(f"[{i}]") from None
        return tuple(found)

    return read


def _read_dict(expected: Any, of_values: Callable[[Any], Any], plain: Any) -> Any:
    if not isinstance(plain, dict):
        return _scalar(expected, plain)
    found = {}
    for key, value in plain.items():
        try:
            found[key] = of_values(value)
        except _Misfit as misfit:
            raise misfit.within(f".{key}") from None
    return found


def _scalar(expected: Any, plain: Any) -> Any:
    if expected is float and isinstance(plain, int) and not isinstance(plain, bool):
        plain = float(plain)
    if type(plain) is not expected or (expected is float and not math.isfinite(plain)):
        name = getattr(expected, "__name__", str(expected))
        raise _Misfit(f"A value of type {name} is expected here.")
    return plain
