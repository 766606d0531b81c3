"""Random expressions over random fragments equal pandas on the concatenation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated_analytics import fedmed as fm
from federated_analytics.fedmed.data import FedData
from federated_analytics.omop.database import database_url
from tests.fedmed.expressions import (
    Expression,
    dates,
    fragments,
    frame,
    masks,
    rows_of,
    several_masks,
    values,
)
from tests.fedmed.servers import exact_servers

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
    "n": sa.Double(), "m": sa.Double(), "t": sa.Text(), "u": sa.Text(), "b": sa.Boolean(),
    "d": sa.DateTime(), "e": sa.DateTime(),
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
@given(parts=fragments, value=values, chosen=several_masks)
def test_reductions_equal_pandas(
    over: Callable[[list[pd.DataFrame]], FedData],
    parts: list[list[dict[str, Any]]],
    value: Expression,
    chosen: list[Expression],
) -> None:
    frames = [frame(part) for part in parts]
    pooled, data = pd.concat(frames, ignore_index=True), over(frames)
    rows, series = (rows_of(of, value, chosen) for of in (data, pooled))
    scale = float((series**2).sum())
    asked = {name: reduce(rows) for name, (reduce, _) in REDUCE.items()}
    for name, (_, oracle) in REDUCE.items():
        found, expected = float(asked[name]), float(oracle(series))
        assert equal(found, expected, scale), (name, value[0], chosen, found, expected)
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
    whole, truths = data["m"][mask[1](data)].counts(), data["b"].counts()
    assert dict(whole) == pooled["m"][mask[1](pooled)].value_counts().to_dict(), mask[0]
    assert dict(truths) == pooled["b"].value_counts().to_dict()
    assert data["n"].set() == set(pooled["n"].dropna())


@relaxed
@given(
    parts=fragments,
    value=values,
    chosen=several_masks,
    q=st.floats(0.01, 0.99),
    edges=st.sets(st.integers(-60, 60), min_size=2, max_size=6).map(sorted),
)
def test_quantiles_and_histograms_equal_pandas_and_numpy(
    over: Callable[[list[pd.DataFrame]], FedData],
    parts: list[list[dict[str, Any]]],
    value: Expression,
    chosen: list[Expression],
    q: float,
    edges: list[int],
) -> None:
    frames = [frame(part) for part in parts]
    pooled, data = pd.concat(frames, ignore_index=True), over(frames)
    rows, series = (rows_of(of, value, chosen) for of in (data, pooled))
    quantile, histogram = rows.quantile(q), rows.hist(edges)
    counts, _ = np.histogram(series.dropna().to_numpy(), edges)
    assert histogram.counts == tuple(counts), (value[0], chosen)
    if series.notna().any():
        low, high = quantile.bounds
        expected = series.quantile(q)
        slack = 1e-9 * max(1.0, abs(expected))
        assert low - slack <= expected <= high + slack, (value[0], chosen)
        assert low <= float(quantile) <= high
    else:
        assert math.isnan(quantile)


@relaxed
@given(parts=fragments, value=values, chosen=several_masks)
def test_correlations_and_covariances_equal_pandas(
    over: Callable[[list[pd.DataFrame]], FedData],
    parts: list[list[dict[str, Any]]],
    value: Expression,
    chosen: list[Expression],
) -> None:
    frames = [frame(part) for part in parts]
    pooled, data = pd.concat(frames, ignore_index=True), over(frames)
    m: Expression = ("m", lambda of: of["m"])
    (x, y), (a, b) = ([rows_of(of, one, chosen) for one in (value, m)] for of in (data, pooled))
    covariance, correlation = fm.stats.cov(x, y), fm.stats.corr(x, y)
    both = pd.DataFrame({"a": a, "b": b}).dropna()
    scale = float(np.sqrt((both["a"] ** 2).sum() * (both["b"] ** 2).sum()))
    expected = both["a"].cov(both["b"]) if len(both) > 1 else math.nan
    assert equal(float(covariance), expected, scale), (value[0], chosen)
    if len(both) > 1 and all(is_spread(both[name]) for name in both):
        found, expected = float(correlation), both["a"].corr(both["b"])
        assert math.isclose(found, expected, abs_tol=1e-6), (value[0], chosen)
    elif len(both) < 2:
        assert math.isnan(correlation)


def is_spread(series: pd.Series) -> bool:
    """Whether it varies by more than rounding makes of it."""
    return bool(series.std() > 1e-6 * max(1e-9, float(series.abs().max())))


@relaxed
@given(parts=fragments, value=dates, chosen=several_masks, q=st.floats(0.01, 0.99))
def test_dates_equal_pandas(
    over: Callable[[list[pd.DataFrame]], FedData],
    parts: list[list[dict[str, Any]]],
    value: Expression,
    chosen: list[Expression],
    q: float,
) -> None:
    frames = [frame(part) for part in parts]
    pooled, data = pd.concat(frames, ignore_index=True), over(frames)
    rows, series = (rows_of(of, value, chosen) for of in (data, pooled))
    low, high, mean, quantile = rows.min(), rows.max(), rows.mean(), rows.quantile(q)
    first = value[1](data).groupby(data["t"]).min()
    oldest = value[1](pooled).groupby(pooled["t"]).min().dropna()
    there = {key: pd.Timestamp(day) for key, day in first.items() if day == day}
    assert there == oldest.to_dict(), value[0]
    if not series.notna().any():
        assert all(math.isnan(one.value) for one in (low, high, mean, quantile))
        return
    assert (low, high) == (series.min().to_pydatetime(), series.max().to_pydatetime())
    near = pd.Timedelta(microseconds=2)
    assert abs(pd.Timestamp(mean.value) - series.mean()) <= near, (value[0], chosen)
    start, end = map(pd.Timestamp, quantile.bounds)
    assert start - near <= series.quantile(q) <= end + near, (value[0], chosen)
    assert rows.count_missing() == series.isna().sum()
