"""Random fragments and random expressions on them, each a function of federated or pandas data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from federated_analytics import fedmed as fm

Expression = tuple[str, Callable[[Any], Any]]
"""Its text, and itself: a function of anything that has columns, federated or pandas."""
COLUMNS = {
    "n": "float64",
    "m": "float64",
    "t": "object",
    "u": "object",
    "b": "bool",
    "d": "datetime64[us]",
    "e": "datetime64[us]",
}
DAY = pd.Timedelta(days=1)

numbers = st.one_of(
    st.none(), st.integers(-50, 50).map(float), st.floats(-100, 100, width=16, allow_nan=False)
)
texts = st.sampled_from(["a", "b", "ü?/", "it's"])
moments = st.datetimes(pd.Timestamp(1930, 1, 1), pd.Timestamp(2030, 1, 1))
row = st.fixed_dictionaries(
    {
        "n": numbers,
        "m": st.integers(0, 9).map(float),
        "t": texts,
        "u": st.none() | texts,
        "b": st.booleans(),
        "d": st.dates(
            min_value=pd.Timestamp(1930, 1, 1).date(), max_value=pd.Timestamp.now().date()
        ),
        "e": st.none() | moments,
    }
)
fragments = st.lists(st.lists(row, max_size=9), min_size=1, max_size=3).filter(
    lambda parts: any(part for part in parts)
)


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


# What pandas does otherwise than a federated data set, or not at all


def _finite(values: Any) -> Any:
    """What is no number, such as a division by zero, is missing."""
    return values.where(np.isfinite(values)) if isinstance(values, pd.Series) else values


def _power(a: Any, b: Any) -> Any:
    """Also where NumPy's power has one of nothing, as in NaN ** 0."""
    found = a**b
    sides = [side for side in (a, b) if isinstance(side, pd.Series)]
    for side in sides:
        found = found.where(side.notna())
    return _finite(found)


def _between(a: Any, b: Any) -> Any:
    found = a - b
    return found / DAY if isinstance(found, pd.Series) else found


def _later(a: Any, days: Any) -> Any:
    return (a + days * DAY).dt.as_unit("us") if isinstance(a, pd.Series) else a + days


def _year(a: Any) -> Any:
    return a.dt.year.astype("float64") if isinstance(a, pd.Series) else a.year()


def _nearest(a: Any, step: float) -> Any:
    if isinstance(a, pd.Series):
        return np.floor(a / step + 0.5) * step
    return a.operator("round", step)


def _digits(a: Any, digits: int) -> Any:
    if isinstance(a, pd.Series):
        return np.floor(a * 10**digits + 0.5) / 10**digits
    return round(a, digits)


def _ordered(operation: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """Of texts some of which are missing; pandas compares none of those."""
    if not isinstance(a, pd.Series):
        return operation(a, b)
    there = a.notna() & b.notna()
    found = pd.Series(False, index=a.index)
    found[there] = operation(a[there], b[there]).astype(bool)
    return found


def _constants() -> st.SearchStrategy[Expression]:
    return st.integers(-9, 9).map(lambda c: (str(c), lambda data: c))


def _columns() -> st.SearchStrategy[Expression]:
    return st.sampled_from([("n", lambda data: data["n"]), ("m", lambda data: data["m"])])


LEAVES: list[Expression] = [
    ("n ** 2", lambda data: _power(data["n"], 2)),
    ("n ** 3", lambda data: _power(data["n"], 3)),
    ("n ** 0", lambda data: _power(data["n"], 0)),
    ("m ** n", lambda data: _power(data["m"], data["n"] / 25)),
    ("2 ** m", lambda data: _power(2, data["m"])),
    ("n ** -1", lambda data: _power(data["n"], -1)),
    ("n / m", lambda data: _finite(data["n"] / data["m"])),
    ("m / n", lambda data: _finite(data["m"] / data["n"])),
    ("1 / m", lambda data: _finite(1 / data["m"])),
    ("d - e", lambda data: _between(data["d"], data["e"])),
    ("e - 2000", lambda data: _between(data["e"], pd.Timestamp("2000-02-29T06:00"))),
    ("2024 - d", lambda data: _between(pd.Timestamp("2024-01-01"), data["d"])),
    ("(d + m) - e", lambda data: _between(_later(data["d"], data["m"]), data["e"])),
    ("year(e)", lambda data: _year(data["e"])),
]


def _binary(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: _finite(a / b),
    }

    def joined(name: str, a: Expression, b: Expression) -> Expression:
        return f"({a[0]} {name} {b[0]})", lambda data: operations[name](a[1](data), b[1](data))

    unary: dict[str, Callable[[Any], Any]] = {
        "abs": abs,
        "-": lambda x: -x,
        "half": lambda x: x / 2,
        "square": lambda x: x**2,
        "nearest 0.5": lambda x: _nearest(x, 0.5),
        "nearest 3": lambda x: _nearest(x, 3),
        "one digit": lambda x: _digits(x, 1),
        "tens": lambda x: _nearest(x, 10) if isinstance(x, pd.Series) else round(x, -1),
    }

    def applied(name: str, a: Expression) -> Expression:
        return f"{name}({a[0]})", lambda data: unary[name](a[1](data))

    return st.one_of(
        st.builds(joined, st.sampled_from(list(operations)), children, _columns()),
        st.builds(joined, st.sampled_from(["+", "-", "*"]), _columns(), _constants()),
        st.builds(applied, st.sampled_from(list(unary)), children),
    )


values = st.recursive(_columns() | st.sampled_from(LEAVES), _binary, max_leaves=4)
_compare: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def _comparison(name: str, a: Expression, b: Expression) -> Expression:
    return f"({a[0]} {name} {b[0]})", lambda data: _compare[name](a[1](data), b[1](data))


simple = st.one_of(
    st.builds(_comparison, st.sampled_from(list(_compare)), values, _constants()),
    st.builds(_comparison, st.sampled_from(list(_compare)), values, _columns()),
    st.sampled_from(
        [
            ("b", lambda data: data["b"]),
            ("t == a", lambda data: data["t"] == "a"),
            ("t != it's", lambda data: data["t"] != "it's"),
            ("t in", lambda data: data["t"].isin(["b", "ü?/"])),
            ("m in", lambda data: data["m"].isin([1, 3, 4.0])),
            ("in nothing", lambda data: data["n"].isin([])),
            ("t == u", lambda data: data["t"] == data["u"]),
            ("t != u", lambda data: data["t"] != data["u"]),
            ("t < u", lambda data: _ordered(_compare["<"], data["t"], data["u"])),
            ("u >= t", lambda data: _ordered(_compare[">="], data["u"], data["t"])),
            ("d >= 1980", lambda data: data["d"] >= "1980-01-01"),
            ("e > d", lambda data: data["e"] > data["d"]),
            ("d + m < 2000", lambda data: _later(data["d"], data["m"]) < "2000-01-01"),
        ]
    ),
)


def _logic(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(
            lambda a, b: (f"({a[0]} & {b[0]})", lambda d: a[1](d) & b[1](d)), children, children
        ),
        st.builds(
            lambda a, b: (f"({a[0]} | {b[0]})", lambda d: a[1](d) | b[1](d)), children, children
        ),
        st.builds(lambda a: (f"~{a[0]}", lambda d: ~a[1](d)), children),
    )


masks = st.recursive(simple, _logic, max_leaves=3)
several_masks = st.lists(masks, max_size=2)
dates: st.SearchStrategy[Expression] = st.sampled_from(
    [
        ("d", lambda data: data["d"]),
        ("e", lambda data: data["e"]),
        ("d + m", lambda data: _later(data["d"], data["m"])),
        ("e - 30.25", lambda data: _later(data["e"], -30.25)),
    ]
)


def rows_of(data: Any, value: Expression, chosen: list[Expression]) -> Any:
    """The values for which every mask is true: nested filters, or one of pandas."""
    rows = value[1](data)
    found = [mask[1](data) for mask in chosen]
    if isinstance(data, fm.FedData):
        for mask in found:
            rows = rows[mask]
        return rows
    keep = pd.Series(True, index=data.index)
    for mask in found:
        keep &= mask
    return rows[keep]
