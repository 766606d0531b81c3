"""What data a fragment may be of: each kind is as in pandas, or an error that names the place."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from federated_analytics import fedmed as fm
from federated_analytics.fedmed.fragments import Fragment, UnsupportedData

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=2))
NUMBERS: dict[str, Any] = {
    "whole numbers with missing ones": pd.array([1, None, 3], dtype="Int64"),
    "a Series of them": pd.Series([1, None, 3], dtype="Int64"),
    "Float64 with missing ones": pd.Series([1.5, None, 3], dtype="Float64"),
    "of Arrow": pd.Series([1, None, 3], dtype="int64[pyarrow]"),
    "categories of numbers": pd.Series([1, 2, 1]).astype("category"),
    "sparse": pd.Series(pd.arrays.SparseArray([0.0, 1.0, 0.0])),
    "halves": np.array([1.5, 2.5], dtype="float16"),
    "beyond int64": np.array([2**63 + 2**12, 1], dtype="uint64"),
    "beyond 64 bits": [2**70, 1],
    "decimals": [Decimal("1.25"), None, Decimal("2.5")],
    "objects": pd.Series([1, 2.5, None], dtype=object),
    "a range": range(4),
    "an Index": pd.Index([3, 4]),
    "nothing": [],
    "missing of several kinds": [1, pd.NA, None, float("nan")],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_as_in_pandas(name: str) -> None:
    held = NUMBERS[name]
    expected = pd.to_numeric(pd.Series(held, dtype=object).astype(object), errors="raise")
    expected = expected.astype("Float64").dropna().astype(float)
    data = fm.FedData([fm.Local(held)])
    assert float(data.sum()) == pytest.approx(expected.sum())
    assert int(data.len()) == len(held)
    assert int(data.count_missing()) == len(held) - len(expected)


TEXTS: dict[str, Any] = {
    "categories": pd.Series(["a", "b", None, "a"]).astype("category"),
    "string": pd.Series(["a", None], dtype="string"),
    "of Arrow": pd.Series(["a", None], dtype="string[pyarrow]"),
    "of NumPy": np.array(["a", "b"]),
    "with NaN": ["a", float("nan")],
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_as_in_pandas(name: str) -> None:
    expected = pd.Series(TEXTS[name]).dropna().astype(str).value_counts().to_dict()
    assert dict(fm.FedData([fm.Local(TEXTS[name])]).counts()) == expected


DATES: dict[str, Any] = {
    "of a zone": pd.Series(pd.to_datetime(["2020-01-01T01:00+02:00", "2020-06-01T10:00+02:00"])),
    "of several zones": [
        datetime.datetime(2020, 1, 1, tzinfo=UTC),
        datetime.datetime(2020, 1, 1, 1, tzinfo=EAST),
    ],
    "days": [datetime.date(2020, 1, 31), None],
    "categories": pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"])).astype("category"),
    "of NumPy": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "old": [datetime.date(1500, 1, 1)],
    "far": [datetime.date(9999, 12, 31)],
    "with NaT": [pd.NaT, datetime.datetime(2020, 1, 1)],
}


@pytest.mark.parametrize("name", DATES)
def test_dates_are_as_in_pandas_of_utc(name: str) -> None:
    expected = [pd.Timestamp(v) for v in pd.Series(DATES[name], dtype=object).dropna()]
    years = [(t.tz_convert("UTC") if t.tz else t).year for t in expected]
    data = fm.FedData([fm.Local(DATES[name])])
    assert float(data.year().sum()) == sum(years)
    assert int(data.year().count_missing()) == len(DATES[name]) - len(years)


def test_truth_values_with_missing_ones() -> None:
    for held in (pd.Series([True, None, False], dtype="boolean"), [True, None, False]):
        data = fm.FedData([fm.Local(held)])
        assert (int(data.sum()), int(data.count_missing())) == (1, 1)


def test_names_of_columns_are_texts_and_paths() -> None:
    numbered = Fragment.of(pd.DataFrame({1: [1, 2], "b": [3, 4]}))
    assert set(numbered.columns) == {("1",), ("b",)}
    levels = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    data = fm.FedData([fm.Local(pd.DataFrame([[1, 2], [3, 4]], columns=levels))])
    assert float(data["a", "y"].sum()) == 6


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "complex": (lambda: {"c": [1 + 2j, 3]}, r"\['c'\]: .*one kind"),
    "complex of NumPy": (lambda: {"c": np.array([1 + 2j])}, r"\['c'\]"),
    "bytes": (lambda: {"c": [b"a"]}, r"\['c'\]"),
    "bytes alone": (lambda: b"ab", "bytes"),
    "lists in lists": (lambda: {"t": {"c": [[1, 2], [3]]}}, r"\['t'\]\['c'\]"),
    "mixed kinds": (lambda: {"c": [1, "a"]}, r"\['c'\]"),
    "truths and numbers": (lambda: {"c": [True, 2]}, r"\['c'\]"),
    "times and times of a zone": (
        lambda: {"c": [datetime.datetime(2020, 1, 1, tzinfo=UTC), datetime.datetime(2020, 1, 2)]},
        r"\['c'\]: .*time zone",
    ),
    "spans of time": (lambda: {"c": pd.Series(pd.to_timedelta([1], unit="D"))}, r"\['c'\]"),
    "spans as objects": (lambda: {"c": [datetime.timedelta(1)]}, r"\['c'\]"),
    "times of day": (lambda: {"c": [datetime.time(1)]}, r"\['c'\]"),
    "periods": (lambda: {"c": pd.Series(pd.period_range("2020", periods=2, freq="M"))}, r"\['c'\]"),
    "intervals": (lambda: {"c": pd.Series(pd.interval_range(0, 2))}, r"\['c'\]"),
    "two dimensions": (lambda: {"c": np.zeros((2, 2))}, r"\['c'\]: .*one dimension"),
    "no dimension": (lambda: np.array(3), "one dimension"),
    "a number": (lambda: {"c": 5}, r"\['c'\]: .*int"),
    "None": (lambda: None, "NoneType"),
    "a set": (lambda: {"c": {1, 2}}, r"\['c'\]: .*set"),
    "one name twice": (lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]), r"\['a'\]: .*Two"),
    "1 and '1'": (lambda: pd.DataFrame([[1, 2]], columns=[1, "1"]), r"\['1'\]: .*Two"),
    "1 and '1' of a dict": (lambda: {1: [1], "1": [2]}, r"\['1'\]: .*Two"),
    "no column": (pd.DataFrame, "no column"),
    "an empty dict": (dict, "no column"),
    "a file that is not there": (lambda: "nothing.csv", "nothing.csv"),
    "a file of another kind": (lambda: "rows.xlsx", "rows.xlsx"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_fragment_is_of_is_named(name: str) -> None:
    made, said = REFUSED[name]
    server = fm.Server(config={"privacy": []}, tokens=["t"])
    with pytest.raises(UnsupportedData, match=said):
        server["x"] = made()
    assert server.fragments == []
