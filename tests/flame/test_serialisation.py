"""Values that travel between nodes: what `dump` writes, `load` gives back, and nothing else."""

from __future__ import annotations

import datetime
import io
import math
import pickle
import tracemalloc
from collections import OrderedDict
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_analytics.flame.chunks import CHUNK, DamagedObject
from federated_analytics.flame.serialisation import LONG_TEXT, UnsendableValue, dump, load


def written(value: Any) -> bytes:
    out = io.BytesIO()
    dump(value, out)
    return out.getvalue()


def back(value: Any) -> Any:
    return load(io.BytesIO(written(value)))


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(max_size=100),
)
KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.tuples(st.integers(), st.text()))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.frozensets(st.integers(), max_size=4),
        st.sets(st.text(), max_size=4),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_plain_values_come_back_with_their_types(value: Any) -> None:
    # repr tells 1 from True, a list from a tuple, and NaN from nothing.
    assert repr(back(value)) == repr(value) or back(value) == value
    assert type(back(value)) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        {"$part": 0},
        {"$tuple": [1]},
        {"$": {"$map": []}},
        {1: "one", "1": "text"},
        {"a": {2: (3, {4, 5})}},
        "",
        b"",
        [],
        "ü" * (LONG_TEXT + 1),
        "\ud800" * (LONG_TEXT + 1),
        bytes(range(256)) * 5000,
        [b"x" * CHUNK, b"y" * (CHUNK + 1)],
        2**200,
        -math.inf,
    ],
    ids=lambda value: str(value).encode("ascii", "replace")[:20].decode(),
)
def test_values_that_look_like_our_own_marks_or_cross_a_chunk(value: Any) -> None:
    assert back(value) == value
    assert type(back(value)) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(3.5),
        np.empty((0, 4)),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array(["a", "bcd"]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.array([(1, 2.0)], dtype=[("n", "i4"), ("x", "f8")]),
        np.array([np.nan, np.inf, -0.0]),
        np.arange(400_000, dtype=np.float32)[::3],
        np.array([1, 2], dtype=">i2"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_keep_type_shape_and_every_bit(array: np.ndarray) -> None:
    found = back({"coef": array})["coef"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "scalar",
    [
        *(np.float64(0.1), np.float32(0.1), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True)),
        *(np.longdouble(1) / 3, np.complex64(1j), np.datetime64("2020-01-01"), np.str_("a")),
    ],
    ids=lambda scalar: type(scalar).__name__,
)
def test_numpy_scalars_keep_their_type(scalar: Any) -> None:
    found = back([scalar])[0]
    assert type(found) is type(scalar)
    assert found == scalar


def test_frames_and_series_come_back_equal() -> None:
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], dtype="Int64"),
            "x": [0.5, np.nan, 2.0],
            "text": ["a", None, "ü"],
            "when": pd.to_datetime(["2020-01-01", "2021-05-05", None]),
            "kind": pd.Categorical(["a", "b", "a"]),
        },
        index=pd.MultiIndex.from_tuples([("s", 1), ("s", 2), ("t", 1)], names=["site", "k"]),
    )
    pd.testing.assert_frame_equal(back(frame), frame)
    pd.testing.assert_series_equal(back(frame["x"]), frame["x"])
    unnamed = pd.Series([1, 2], index=[7, 9])
    pd.testing.assert_series_equal(back(unnamed), unnamed)
    numbered = pd.DataFrame(np.eye(3))
    pd.testing.assert_frame_equal(back([numbered])[0], numbered)
    pd.testing.assert_frame_equal(back(frame.iloc[:0]), frame.iloc[:0])


def test_many_parts_in_one_value() -> None:
    value = {"a": np.ones(3), "b": [b"\x00\xff", pd.DataFrame({"x": [1]})], "c": (np.int64(4), "d")}
    found = back(value)
    np.testing.assert_array_equal(found["a"], np.ones(3))
    assert found["b"][0] == b"\x00\xff"
    assert found["b"][1]["x"].tolist() == [1]
    assert found["c"] == (4, "d")


def test_a_subclass_becomes_its_base() -> None:
    assert back(OrderedDict(a=1)) == {"a": 1}
    assert back(bytearray(b"x")) == b"x"


class Model:
    pass


HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)


@pytest.mark.parametrize(
    ("value", "place", "remedy"),
    [
        (Model(), "data", "model.coef_"),
        ({"fit": [1, Model()]}, "data['fit'][1]", "model.coef_"),
        (datetime.date(2020, 1, 1), "data", "isoformat()"),
        (lambda x: x, "data", "dictionaries"),
        (np.array([object()]), "data", "astype(float)"),
        (np.ma.masked_array([1], [True]), "data", "filled"),
        (pd.DataFrame({"x": [1, "a", object()]}), "data", "astype"),
        (HOLDS_ITSELF, "data", ""),
        (range(3), "data", "lists"),
    ],
)
def test_what_needs_pickle_is_refused_with_its_place_and_remedy(
    value: Any, place: str, remedy: str
) -> None:
    with pytest.raises(UnsendableValue) as caught:
        written(value)
    assert caught.value.where == place
    assert remedy in caught.value.remedy
    assert isinstance(caught.value, TypeError)


def test_a_pickle_is_never_read() -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    hostile = io.BytesIO()
    np.save(hostile, np.array([Attack()], dtype=object), allow_pickle=True)
    good = written(np.array([1.0]))
    head = good[: good.index(b"\x93NUMPY") - 4]
    body = hostile.getvalue()
    forged = head + len(body).to_bytes(4, "big") + body + bytes(4)
    for bad in (pickle.dumps(Attack()), forged):
        with pytest.raises(DamagedObject):
            load(io.BytesIO(bad))


SAMPLE = written({"a": np.arange(3.0), "b": b"xyz", "c": (1, 2), "f": pd.DataFrame({"x": [1]})})


@given(st.integers(0, len(SAMPLE) - 1))
def test_a_truncated_value_is_an_error_and_not_a_value(length: int) -> None:
    with pytest.raises(DamagedObject):
        load(io.BytesIO(SAMPLE[:length]))


@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_a_value_or_our_error(place: int, change: int) -> None:
    changed = bytearray(SAMPLE)
    changed[place] ^= change
    with suppress(DamagedObject):
        load(io.BytesIO(bytes(changed)))


class Slow(io.BytesIO):
    """A socket's way: fewer bytes than asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 7) if size and size > 0 else size)


def test_a_source_may_give_fewer_bytes_than_asked_for() -> None:
    np.testing.assert_array_equal(load(Slow(SAMPLE))["a"], np.arange(3.0))


class Discard(io.RawIOBase):
    length = 0

    def write(self, data: Any, /) -> int:
        self.length += len(data)
        return len(data)


@pytest.mark.parametrize("value", [bytes(64 << 20), np.zeros(8 << 20)], ids=["bytes", "array"])
def test_writing_takes_no_second_copy(value: Any) -> None:
    out = Discard()
    tracemalloc.start()
    try:
        dump(value, out)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert out.length > 64 << 20
    assert peak < 24 << 20
