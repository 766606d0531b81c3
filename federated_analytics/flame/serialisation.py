"""Values between nodes as self-describing bytes: a JSON tree and its binary parts, no pickle.

    FLAME1\\n | uint64 length of the tree | the tree, JSON | part | part …

A part (an array, a frame, bytes, a long text) is a run of chunks, each a uint32 length and
at most 1 MiB, closed by a chunk of length 0: neither side holds a part a second time.
"""

from __future__ import annotations

import json
import struct
import sys
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from federated_analytics.flame.chunks import (
    CHUNK,
    ChunkWriter,
    DamagedObject,
    exactly,
)
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.value_parts import arrow, read_part, value_of

MAGIC = b"FLAME1\n"
LONG_TEXT = 1 << 16
"""Characters from which a text travels as a part of its own."""
_TREE_LIMIT = 1 << 30
_PARTS_LIMIT = 1 << 20
_UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)
_REMEDY = (
    "Send numbers, text, bytes, lists, dictionaries, numpy arrays or pandas frames: a model as "
    "its arrays (model.coef_), a date as date.isoformat(), an object as a dictionary."
)


class UnsendableValue(FlameError, TypeError):
    """A value that has no form without pickle."""

    code = "unsendable_value"
    default_remedy = _REMEDY


@dataclass(frozen=True)
class _Part:
    """What is written after the tree: the kind (a key of `_READERS`) and its writer."""

    kind: str
    write: Callable[[BinaryIO], object]


def dump(value: Any, out: BinaryIO) -> None:
    """Write a value so that `load` gives it back.

    None, bool, int, float (NaN and infinities too), str, bytes, list, tuple, set and dict, any
    of them nested; numpy arrays and scalars that hold no Python objects; pandas DataFrame and
    Series.

    Raises:
        UnsendableValue: the first value that is none of these, by its place.
    """
    parts: list[_Part] = []
    try:
        tree = _tree(value, "data", parts)
        text = json.dumps({"value": tree, "parts": [part.kind for part in parts]})
    except RecursionError:
        raise UnsendableValue(
            "The value is nested too deeply, or holds itself.", where="data"
        ) from None
    encoded = text.encode()
    out.write(MAGIC + struct.pack(">Q", len(encoded)))
    out.write(encoded)
    for part in parts:
        chunks = ChunkWriter(out)
        part.write(cast(BinaryIO, chunks))
        chunks.finish()


def load(source: BinaryIO) -> Any:
    """The value that `dump` wrote.

    Raises:
        DamagedObject: the bytes are not a whole value.
    """
    try:
        if exactly(source, len(MAGIC)) != MAGIC:
            raise DamagedObject("The bytes do not begin as a saved value does.")
        (length,) = struct.unpack(">Q", exactly(source, 8))
        if length > _TREE_LIMIT:
            raise DamagedObject("The saved value claims an impossible size.")
        head = json.loads(exactly(source, length))
        kinds = head["parts"]
        if len(kinds) > _PARTS_LIMIT:
            raise DamagedObject("The saved value claims an impossible number of parts.")
        return value_of(head["value"], [read_part(kind, source) for kind in kinds])
    except DamagedObject:
        raise
    except _UNREADABLE as fault:
        raise DamagedObject("The bytes are not a saved value.") from fault


def _tree(value: Any, where: str, parts: list[_Part]) -> Any:
    """The JSON of a value; what JSON cannot hold becomes `{"$kind": …}`."""
    kind = type(value)
    if value is None or kind in (bool, int, float):
        return value
    if kind is str:
        if len(value) < LONG_TEXT:
            return value
        return _reference(parts, "text", lambda out: _write_text(value, out))
    if kind is list:
        return [_tree(each, f"{where}[{i}]", parts) for i, each in enumerate(value)]
    if kind in (tuple, set, frozenset):
        name = "tuple" if kind is tuple else kind.__name__
        items = [_tree(each, f"{where}[{i}]", parts) for i, each in enumerate(value)]
        return {f"${name}": items}
    if isinstance(value, dict):
        return _mapping(value, where, parts)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _reference(parts, "bytes", lambda out: out.write(value))
    return _scientific(value, where, parts)


def _mapping(value: dict[Any, Any], where: str, parts: list[_Part]) -> dict[str, Any]:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _tree(each, f"{where}[{key!r}]", parts) for key, each in value.items()}
    pairs = [
        [_tree(key, f"{where}: a key", parts), _tree(each, f"{where}[{key!r}]", parts)]
        for key, each in value.items()
    ]
    return {"$map": pairs}


def _scientific(value: Any, where: str, parts: list[_Part]) -> Any:
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.generic) and _fits_json(value.dtype):
        return {"$scalar": [value.dtype.str, value.item()]}
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        return _array(numpy, value, where, parts)
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return _reference(parts, "frame", _frame_writer(value, where))
    if pandas is not None and isinstance(value, pandas.Series):
        name = _tree(value.name, f"{where}.name", parts)
        frame = value.to_frame(name="values")
        return {"$series": [name, _reference(parts, "frame", _frame_writer(frame, where))]}
    if isinstance(value, (str, int, float)):  # an enumeration, or another subclass
        base = next(each for each in (str, int, float) if isinstance(value, each))
        return _tree(base(value), where, parts)
    raise UnsendableValue(f"A {_name(value)} cannot be saved or sent.", where=where)


def _fits_json(dtype: Any) -> bool:
    """Whether Python's own number holds the scalar exactly."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _array(numpy: Any, value: Any, where: str, parts: list[_Part]) -> Any:
    scalar = isinstance(value, numpy.generic)
    if isinstance(value, numpy.ma.MaskedArray):
        raise UnsendableValue(
            "A masked array cannot be sent.", where=where, remedy="Send array.filled(numpy.nan)."
        )
    array = numpy.asarray(value)
    if array.dtype.hasobject:
        raise UnsendableValue(
            "A numpy array of Python objects cannot be sent.",
            where=where,
            remedy="Give it a numeric or text type: array.astype(float) or array.tolist().",
        )

    def write(out: BinaryIO) -> None:
        numpy.lib.format.write_array(out, array, allow_pickle=False)

    return _reference(parts, "scalar" if scalar else "array", write)


def _frame_writer(frame: Any, where: str) -> Callable[[BinaryIO], None]:
    pyarrow = arrow()
    try:
        table = pyarrow.Table.from_pandas(frame)
    except (pyarrow.ArrowException, ValueError, TypeError) as fault:
        raise UnsendableValue(
            "The frame has a column of mixed types or of objects, or a repeated name.",
            where=where,
            remedy="Give each column one type: frame.astype({'column': str}).",
        ) from fault

    def write(out: BinaryIO) -> None:
        with pyarrow.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table, max_chunksize=1 << 16)
            if not len(frame):  # a table without rows writes no batch, and loses its categories
                stream.write_batch(pyarrow.RecordBatch.from_pandas(frame, schema=table.schema))

    return write


def _write_text(text: str, out: BinaryIO) -> None:
    for start in range(0, len(text), CHUNK):
        out.write(text[start : start + CHUNK].encode("utf-8", "surrogatepass"))


def _reference(parts: list[_Part], kind: str, write: Callable[[BinaryIO], object]) -> Any:
    parts.append(_Part(kind, write))
    return {"$part": len(parts) - 1}


def _name(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"
