"""Random expressions over random fragments equal pandas on the concatenation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated_analytics import fedmed as fm
from federated_analytics.fedmed.data import FedData
from federated_analytics.omop.database import database_url
from tests.fedmed.servers import exact_servers

Expression = tuple[str, Callable[[Any], Any]]
"""Its text, and itself: a function of anything that has columns, federated or pandas."""
COLUMNS = {"n": "float64", "m": "float64", "t": "object", "b": "bool", "d": "datetime64[ns]"}

numbers = st.one_of(
    st.none(), st.integers(-50, 50).map(float), st.floats(-100, 100, width=16, allow_nan=False)
)
row = st.fixed_dictionaries(
    {
        "n": numbers,
        "m": st.integers(0, 9).map(float),
        "t": st.sampled_from(["a", "b", "ü?/", "it's"]),
        "b": st.booleans(),
        "d": st.dates(
            min_value=pd.Timestamp(1930, 1, 1).date(), max_value=pd.Timestamp.now().date()
        ),
    }
)
fragments = st.lists(st.lists(row, max_size=9), min_size=1, max_size=3).filter(
    lambda parts: any(part for part in parts)
)


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _constants() -> st.SearchStrategy[Expression]:
    return st.integers(-9, 9).map(lambda c: (str(c), lambda data: c))


def _columns() -> st.SearchStrategy[Expression]:
    return st.sampled_from([("n", lambda data: data["n"]), ("m", lambda data: data["m"])])


def _binary(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
    }

    def joined(name: str, a: Expression, b: Expression) -> Expression:
        return f"({a[0]} {name} {b[0]})", lambda data: operations[name](a[1](data), b[1](data))

    unary = {"abs": abs, "-": lambda x: -x, "half": lambda x: x / 2, "square": lambda x: x**2}

    def applied(name: str, a: Expression) -> Expression:
        return f"{name}({a[0]})", lambda data: unary[name](a[1](data))

    return st.one_of(
        st.builds(joined, st.sampled_from(list(operations)), children, _columns()),
        st.builds(joined, st.sampled_from(list(operations)), _columns(), _constants()),
        st.builds(applied, st.sampled_from(list(unary)), children),
    )


values = st.recursive(_columns(), _binary, max_leaves=4)
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
            ("d >= 1980", lambda data: data["d"] >= "1980-01-01"),
            ("t in", lambda data: data["t"].isin(["b", "ü?/"])),
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

REDUCE: dict[str, tuple[Callable[[Any], Any], Callable[[pd.Series], float]]] = {
    "sum": (lambda x: x.sum(), lambda s: s.sum()),
    "len": (lambda x: x.len(), len),
    "sqsum": (lambda x: x.sqsum(), lambda s: (s**2).sum()),
    "mean": (lambda x: x.mean(), lambda s: s.mean()),
    "var": (lambda x: x.var(), lambda s: s.var()),
    "population": (lambda x: x.std(df=0), lambda s: s.std(ddof=0)),
    "min": (lambda x: x.min(), lambda s: s.min()),
    "max": (lambda x: x.max(), lambda s: s.max()),
    "missing": (lambda x: x.count_missing(), lambda s: s.isna().sum()),
}


TABLES = {
    "n": sa.Double(), "m": sa.Double(), "t": sa.Text(), "b": sa.Boolean(), "d": sa.DateTime()
}  # fmt: skip


@pytest.fixture(scope="module", params=["in process", "http", "database"])
def over(request: pytest.FixtureRequest) -> Iterator[Callable[[list[pd.DataFrame]], FedData]]:
    """A data set of given fragments."""
    if request.param == "in process":
        yield lambda frames: fm.FedData([fm.Local(f) for f in frames])
    elif request.param == "database":
        engine = sa.create_engine(database_url(request.getfixturevalue("database")))
        tables = [
            sa.Table(f"part{i}", sa.MetaData(), *(sa.Column(c, k) for c, k in TABLES.items()))
            for i in range(3)
        ]
        for table in tables:
            table.create(engine)
        yield lambda frames: fm.FedData(_stored(frames, tables, engine))
        engine.dispose()
    else:
        with exact_servers(3) as served:
            yield lambda frames: fm.FedData(served(frames))


def _stored(
    frames: list[pd.DataFrame], tables: list[sa.Table], engine: sa.Engine
) -> list[fm.Local]:
    for rows, table in zip(frames, tables, strict=False):
        held = rows.astype(object).where(rows.notna(), None).to_dict("records")
        with engine.begin() as connection:
            connection.execute(table.delete())
            if held:
                connection.execute(table.insert(), held)
    return [fm.Local(fm.SQLTable(engine, table)) for _, table in zip(frames, tables, strict=False)]


def equal(found: float, expected: float, scale: float) -> bool:
    if math.isnan(expected):
        return math.isnan(found)
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9 * max(1.0, scale))


relaxed = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


@relaxed
@given(parts=fragments, value=values, mask=st.none() | masks)
def test_reductions_equal_pandas(
    over: Callable[[list[pd.DataFrame]], FedData],
    parts: list[list[dict[str, Any]]],
    value: Expression,
    mask: Expression | None,
) -> None:
    frames = [frame(part) for part in parts]
    pooled, data = pd.concat(frames, ignore_index=True), over(frames)
    rows, series = value[1](data), value[1](pooled)
    if mask is not None:
        rows, series = rows[mask[1](data)], series[mask[1](pooled)]
    scale = float((series**2).sum())
    asked = {name: reduce(rows) for name, (reduce, _) in REDUCE.items()}
    for name, (_, oracle) in REDUCE.items():
        found, expected = float(asked[name]), float(oracle(series))
        assert equal(found, expected, scale), (name, value[0], mask and mask[0], found, expected)
    assert asked["sum"].missing == series.isna().sum()


@relaxed
@given(parts=fragments, value=values, mask=masks)
def test_groups_equal_pandas(
    over: Callable[[list[pd.DataFrame]], FedData],
    parts: list[list[dict[str, Any]]],
    value: Expression,
    mask: Expression,
) -> None:
    frames = [frame(part) for part in parts]
    pooled, data = pd.concat(frames, ignore_index=True), over(frames)
    series = value[1](pooled)
    by = [pooled["t"], mask[1](pooled)]
    grouped = value[1](data).groupby(data["t"], mask[1](data))
    means, sizes = grouped.mean(), grouped.len()
    expected = series.groupby(by)
    assert dict(sizes) == {k: int(n) for k, n in expected.size().items()}
    for key, mean in expected.mean().items():
        assert equal(means[key], mean, float((series**2).sum())), (key, value[0], mask[0])


@relaxed
@given(parts=fragments, mask=masks)
def test_masks_sets_and_counts_equal_pandas(
    over: Callable[[list[pd.DataFrame]], FedData],
    parts: list[list[dict[str, Any]]],
    mask: Expression,
) -> None:
    frames = [frame(part) for part in parts]
    pooled, data = pd.concat(frames, ignore_index=True), over(frames)
    true, false = mask[1](data).sum(), (~mask[1](data)).sum()
    texts, days = data["t"][mask[1](data)].counts(), data["d"].set()
    kept = pooled["t"][mask[1](pooled)]
    assert (true, false) == (mask[1](pooled).sum(), (~mask[1](pooled)).sum()), mask[0]
    assert dict(texts) == kept.value_counts().to_dict(), mask[0]
    assert days == {day.date() for day in pooled["d"]}
