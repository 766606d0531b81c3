"""Values out of a JSON tree and its binary parts: how each kind is read, none by pickle."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from federated_analytics.errors import MissingExtra
from federated_analytics.flame.chunks import CHUNK, ChunkReader, DamagedObject


def value_of(tree: Any, parts: list[Any]) -> Any:
    """The value behind the JSON tree that `serialisation.dump` wrote, its parts at hand."""
    if isinstance(tree, list):
        return [value_of(each, parts) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        ((key, inner),) = tree.items()
        if key.startswith("$"):
            return _BUILDERS[key](inner, parts)
    return {key: value_of(each, parts) for key, each in tree.items()}


def _series(inner: Any, parts: list[Any]) -> Any:
    name, reference = inner
    return value_of(reference, parts)["values"].rename(value_of(name, parts))


def _scalar(inner: Any, parts: list[Any]) -> Any:
    import numpy

    return numpy.dtype(inner[0]).type(inner[1])


_BUILDERS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "$part": lambda inner, parts: parts[inner],
    "$tuple": lambda inner, parts: tuple(value_of(each, parts) for each in inner),
    "$set": lambda inner, parts: {value_of(each, parts) for each in inner},
    "$frozenset": lambda inner, parts: frozenset(value_of(each, parts) for each in inner),
    "$map": lambda inner, parts: {value_of(k, parts): value_of(v, parts) for k, v in inner},
    "$scalar": _scalar,
    "$series": _series,
}


def _read_array(source: BinaryIO) -> Any:
    import numpy

    return numpy.lib.format.read_array(source, allow_pickle=False)


def _read_frame(source: BinaryIO) -> Any:
    pyarrow = arrow()
    try:
        with pyarrow.ipc.open_stream(source) as stream:
            table = stream.read_all()
        table.validate(full=True)
        return table.to_pandas()
    except (pyarrow.ArrowException, OSError) as fault:
        if isinstance(fault, ConnectionError):
            raise
        raise DamagedObject("The bytes are not a saved frame.") from fault


_READERS: dict[str, Callable[[BinaryIO], Any]] = {
    "bytes": lambda source: source.read(),
    "text": lambda source: source.read().decode("utf-8", "surrogatepass"),
    "array": _read_array,
    "scalar": lambda source: _read_array(source)[()],
    "frame": _read_frame,
}


def read_part(kind: str, source: BinaryIO) -> Any:
    """One binary part, to its end; KeyError for a kind that nobody writes."""
    chunks = ChunkReader(source)
    value = _READERS[kind](io.BufferedReader(chunks, CHUNK))
    chunks.finish()
    return value


def arrow() -> Any:
    """pyarrow; MissingExtra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise MissingExtra("pyarrow", "flame", "Sending a pandas frame") from None
    return pyarrow
