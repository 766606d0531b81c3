"""Dates of columns: differences in days, moved dates, ends, means and bins, as pandas has them.

Each in memory, over HTTP and in a database; and what a policy leaves of them.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from federated_analytics import fedmed as fm
from federated_analytics.fedmed import dates, grid
from federated_analytics.fedmed.errors import WrongKind
from federated_analytics.omop.database import database_url
from tests.fedmed.fake_site import FakeSite, FakeSource
from tests.fedmed.servers import exact_servers

DAY = pd.Timedelta(days=1)
Over = Callable[[list[pd.DataFrame]], fm.FedData]


def stays(seed: int, rows: int) -> pd.DataFrame:
    """Admissions at any time of day, discharges that may be missing, and births without times."""
    random = np.random.default_rng(seed)
    admitted = pd.Timestamp("2019-12-25") + pd.to_timedelta(random.uniform(0, 900, rows), unit="D")
    found = pd.DataFrame(
        {
            "admission": admitted.floor("us"),
            "discharge": (admitted + pd.to_timedelta(random.gamma(2, 3, rows), unit="D")).floor(
                "us"
            ),
            "birth": pd.Timestamp("1901-03-01")
            + pd.to_timedelta(random.integers(0, 40_000, rows), unit="D"),
            "extra": random.integers(-30, 400, rows) / 4,
            "ward": random.choice(["a", "b"], rows),
            "text": "2020-02-29",
        }
    )
    found.loc[random.random(rows) < 0.2, "discharge"] = pd.NaT
    found.loc[random.random(rows) < 0.1, "extra"] = np.nan
    return found


FRAMES = [stays(1, 40), stays(2, 0), stays(3, 25)]
POOLED = pd.concat([frame for frame in FRAMES if len(frame)], ignore_index=True)


@pytest.fixture(scope="module", params=["in process", "http", "database"])
def data(request: pytest.FixtureRequest) -> Iterator[fm.FedData]:
    if request.param == "in process":
        yield fm.FedData([fm.Local(frame) for frame in FRAMES])
    elif request.param == "http":
        with exact_servers(len(FRAMES)) as served:
            yield fm.FedData(served(FRAMES))
    else:
        engine = sa.create_engine(database_url(request.getfixturevalue("database")))
        for i, frame in enumerate(FRAMES):
            frame.to_sql(f"stays{i}", engine, index=False, dtype={"text": sa.Text()})
        yield fm.FedData([fm.Local(fm.SQLTable(engine, f"stays{i}")) for i in range(len(FRAMES))])
        engine.dispose()


DAYS: dict[str, tuple[Callable[[Any], Any], Callable[[pd.DataFrame], pd.Series]]] = {
    "difference": (
        lambda d: d["discharge"] - d["admission"],
        lambda p: (p["discharge"] - p["admission"]) / DAY,
    ),
    "to a constant": (
        lambda d: d["admission"] - "2020-01-31T06:00",
        lambda p: (p["admission"] - pd.Timestamp("2020-01-31T06:00")) / DAY,
    ),
    "from a Timestamp": (
        lambda d: pd.Timestamp("2024-01-01") - d["birth"],
        lambda p: (pd.Timestamp("2024-01-01") - p["birth"]) / DAY,
    ),
    "from a date": (
        lambda d: date(2024, 1, 1) - d["birth"],
        lambda p: (pd.Timestamp("2024-01-01") - p["birth"]) / DAY,
    ),
    "from NumPy's": (
        lambda d: np.datetime64("2024-01-01T12:00", "ns") - d["birth"],
        lambda p: (pd.Timestamp("2024-01-01T12:00") - p["birth"]) / DAY,
    ),
    "from another zone": (
        lambda d: pd.Timestamp("2024-01-01", tz="Asia/Tokyo") - d["birth"],
        lambda p: (pd.Timestamp("2023-12-31T15:00") - p["birth"]) / DAY,
    ),
    "since 1970": (lambda d: d["birth"].days(), lambda p: (p["birth"] - pd.Timestamp(0)) / DAY),
    "of text": (
        lambda d: d["admission"] - d["text"].date(),
        lambda p: (p["admission"] - pd.Timestamp("2020-02-29")) / DAY,
    ),
    "of moved ones": (
        lambda d: (d["admission"] + d["extra"]) - (d["birth"] - 3),
        lambda p: (p["admission"] + p["extra"] * DAY - (p["birth"] - 3 * DAY)) / DAY,
    ),
}


@pytest.mark.parametrize("name", DAYS)
def test_differences_are_days(data: fm.FedData, name: str) -> None:
    ask, oracle = DAYS[name]
    found, expected = ask(data), oracle(POOLED)
    with fm.Batch():
        total, mean, low = found.sum(), found.mean(), found.min()
        spread, high, counted = found.std(), found.max(), (found > 5).sum()
    assert float(total) == pytest.approx(expected.sum(), rel=1e-12)
    assert float(mean) == pytest.approx(expected.mean(), rel=1e-12)
    assert float(spread) == pytest.approx(expected.std(), rel=1e-9)
    assert (float(low), float(high)) == pytest.approx((expected.min(), expected.max()), rel=1e-13)
    assert counted == (expected > 5).sum()
    assert total.missing == expected.isna().sum()


MOVED: dict[str, tuple[Callable[[Any], Any], Callable[[pd.DataFrame], pd.Series]]] = {
    "itself": (lambda d: d["admission"], lambda p: p["admission"]),
    "with missing ones": (lambda d: d["discharge"], lambda p: p["discharge"]),
    "days alone": (lambda d: d["birth"], lambda p: p["birth"]),
    "later": (lambda d: d["birth"] + 30, lambda p: p["birth"] + 30 * DAY),
    "later, reflected": (lambda d: 0.25 + d["birth"], lambda p: p["birth"] + 0.25 * DAY),
    "by a column": (lambda d: d["birth"] + d["extra"], lambda p: p["birth"] + p["extra"] * DAY),
    "earlier": (lambda d: d["birth"] - d["extra"], lambda p: p["birth"] - p["extra"] * DAY),
    "from a constant": (
        lambda d: date(2020, 2, 28) + d["extra"],
        lambda p: pd.Timestamp("2020-02-28") + p["extra"] * DAY,
    ),
    "by a mask": (
        lambda d: d["birth"] + (d["extra"] > 5),
        lambda p: p["birth"] + (p["extra"] > 5).astype(int) * DAY,
    ),
}


def moment(value: Any) -> pd.Timestamp:
    """A number of dates, which is Python's date or datetime and nothing else."""
    assert type(value) in (date, datetime.datetime)
    assert type(value) is date or value.time() != datetime.time()
    return pd.Timestamp(value)


@pytest.mark.parametrize("name", MOVED)
def test_dates_have_ends_means_and_quantiles(data: fm.FedData, name: str) -> None:
    ask, oracle = MOVED[name]
    found, expected = ask(data), oracle(POOLED).astype("datetime64[us]")
    with fm.Batch():
        low, high, mean, median = found.min(), found.max(), found.mean(), found.median()
        tenth, years, missing = found.quantile(0.1), found.year().mean(), found.count_missing()
    assert moment(low.value) == expected.min()
    assert moment(high.value) == expected.max()
    assert abs(moment(mean.value) - expected.mean()) <= pd.Timedelta(microseconds=2)
    assert mean.bounds == (mean.value, mean.value)
    for number, q in ((median, 0.5), (tenth, 0.1)):
        start, end = map(moment, number.bounds)
        assert start <= expected.quantile(q) <= end
        assert start <= moment(number.value) <= end
    assert float(years) == pytest.approx(expected.dt.year.mean())
    assert missing == expected.isna().sum()


def test_each_group_has_its_dates(data: fm.FedData) -> None:
    grouped, expected = data.groupby("ward")["discharge"], POOLED.groupby("ward")["discharge"]
    with fm.Batch():
        lows, means, sizes = grouped.min(), grouped.mean(), grouped.len()
    assert {k: moment(v) for k, v in lows.items()} == expected.min().to_dict()
    for ward, mean in expected.mean().items():
        assert abs(moment(means[ward]) - mean) <= pd.Timedelta(microseconds=2)
    assert dict(sizes) == expected.size().to_dict()
    every = data.groupby("ward").max().to_frame()
    assert moment(every.loc["a", "birth"]) == POOLED[POOLED["ward"] == "a"]["birth"].max()
    assert list(data.groupby("ward").std().to_frame().columns) == ["extra"]


def test_histograms_of_dates_equal_numpy(data: fm.FedData) -> None:
    column, values = data["admission"], POOLED["admission"].to_numpy()
    texts = ["2020-01-01", "2020-07-01", "2021-01-01T12:00", "2023-01-01"]
    for edges in (texts, [pd.Timestamp(t) for t in texts]):
        counts, _ = np.histogram(values, np.array(texts, dtype="datetime64[us]"))
        found = column.hist(edges)
        assert found.counts == tuple(counts)
        assert [pd.Timestamp(edge) for edge in found.edges] == [pd.Timestamp(t) for t in texts]
    some = column.hist(7)
    assert sum(some.counts) == len(values)
    ends = np.array(some.edges, dtype="datetime64[us]")
    assert some.counts == tuple(np.histogram(values, ends)[0])
    assert (ends[0], ends[-1]) == (values.min(), values.max())
    assert "2020-01-01 to 2020-07-01" in str(column.hist(texts))
    assert data["discharge"][data["birth"] > "2100-01-01"].hist(3).counts == (0, 0, 0)


def test_no_dates_have_no_mean(data: fm.FedData) -> None:
    nobody = data["birth"][data["birth"] > "2100-01-01"]
    with fm.Batch():
        ends = nobody.min(), nobody.max(), nobody.mean(), nobody.median()
    assert all(math.isnan(end) for end in ends)


WRONG: dict[str, Callable[[fm.FedData], Any]] = {
    "date + date": lambda d: d["birth"] + d["admission"],
    "number - date": lambda d: d["extra"] - d["birth"],
    "number - constant": lambda d: d["extra"] - date(2020, 1, 1),
    "date * number": lambda d: d["birth"] * 2,
    "date + text": lambda d: d["birth"] + d["text"],
    "text - date": lambda d: d["text"] - d["birth"],
    "date + no date": lambda d: d["birth"] + "soon",
    "-date": lambda d: -d["birth"],
    "sum": lambda d: d["birth"].sum(),
    "deviation": lambda d: d["birth"].std(),
    "squares": lambda d: d["birth"].sqsum(),
    "group's sum": lambda d: d.groupby("ward")["birth"].sum(),
    "rounded": lambda d: round(d["birth"], 1),
    "numbers as edges": lambda d: d["birth"].hist([1, 2]),
    "dates as edges of numbers": lambda d: d["extra"].hist(["2020-01-01", "2021-01-01"]),
    "days of numbers": lambda d: d["extra"].days(),
}


def used(asked: Any) -> Any:
    """The value of what was asked; of an expression, the number of its rows."""
    return (asked.sum() if isinstance(asked, fm.FedData) else asked).value


@pytest.mark.parametrize("name", WRONG)
def test_what_is_of_no_kind_is_said(data: fm.FedData, name: str) -> None:
    """Once the columns are known before anything is sent; otherwise when it is used."""
    fresh = fm.FedData(data._sources)
    with pytest.raises(WrongKind):
        used(WRONG[name](fresh))
    assert data.columns
    with pytest.raises(WrongKind):
        WRONG[name](data)


def test_wrong_kinds_are_known_before_anything_is_sent() -> None:
    site = FakeSite({"f": {"n": [1.0, 2.0], "t": ["a", "b"]}})
    data = fm.FedData([FakeSource(site, "f")])
    assert data.columns == ["n", "t"]
    asked = len(site.asked)
    for wrong in (
        lambda: data["n"] - date(2020, 1, 1),
        lambda: data["t"] - date(2020, 1, 1),
        lambda: data["n"] + "3",
        lambda: data["n"].hist([date(2020, 1, 1), date(2021, 1, 1)]),
        lambda: data["t"].mean(),
    ):
        with pytest.raises(WrongKind):
            wrong()
    assert len(site.asked) == asked


def test_numbers_of_dates_compute_as_dates_do() -> None:
    births = fm.FedData(
        [fm.Local(pd.DataFrame({"birth": pd.to_datetime(["1990-05-01", "1990-05-04"])}))]
    )
    low, high, mean = births["birth"].min(), births["birth"].max(), births["birth"].mean()
    assert low == date(1990, 5, 1) == low.value
    assert high > low < mean < high
    assert mean == datetime.datetime(1990, 5, 2, 12)
    assert mean > date(1990, 5, 2)
    assert (high - low, high - mean) == (3.0, 1.5)
    assert (low + 2.5).value == datetime.datetime(1990, 5, 3, 12)
    assert (2 + low).value == date(1990, 5, 3)
    assert (low - 1).value == date(1990, 4, 30)
    assert date(1990, 5, 2) - low == 1.0
    assert f"{high:%d.%m.%Y} {high}" == "04.05.1990 1990-05-04"
    with pytest.raises(TypeError):
        float(low)
    with pytest.raises(TypeError):
        _ = (low + high).value
    months = births["birth"].median()
    assert months.bounds == (date(1990, 5, 1), date(1990, 6, 1))
    assert repr(months).endswith("(between 1990-05-01 and 1990-06-01)")
    assert (months + 1).bounds == (date(1990, 5, 2), date(1990, 6, 2))
    assert (months - low).bounds == (0.0, 31.0)


@given(st.datetimes())
def test_a_date_is_its_number_of_days(at: datetime.datetime) -> None:
    """Day and time come back; of years far from 1970 the time to 50 microseconds."""
    found = dates.date_of(dates.days_of(at))
    if at.time() == datetime.time():
        assert found == at.date()
    back = pd.Timestamp(found)
    assert abs(back - pd.Timestamp(at)) <= pd.Timedelta(microseconds=50)
    memory = dates.days(np.array([at], dtype="datetime64[us]"))[0]
    assert memory == dates.days_of(at)


def test_months_are_a_public_grid() -> None:
    edges = [dates.date_of(grid.MONTHS.edge(i)) for i in range(1, grid.MONTHS.bins)]
    assert (edges[0], edges[-1], len(edges)) == (date(1800, 1, 1), date(2200, 1, 1), 4_801)
    assert all(edge.day == 1 for edge in edges)
    assert edges == sorted(set(edges))
    assert (grid.MONTHS.edge(0), grid.MONTHS.edge(grid.MONTHS.bins)) == (-math.inf, math.inf)


def guarded(frame: pd.DataFrame) -> fm.FedData:
    server = fm.Server(tokens=["t"])
    server["people"] = frame
    return fm.FedData([fm.Simulation(server, "people")])


def test_a_policy_shows_months_of_enough_persons(database: str) -> None:
    """The oldest is alone: neither in memory nor in a database is a date known to a month."""
    births = pd.to_datetime("1950-01-15") + pd.to_timedelta(np.arange(300) * 40, unit="D")
    people = pd.DataFrame({"id": range(301), "birth": [pd.Timestamp("1899-07-04"), *births]})
    engine = sa.create_engine(database_url(database))
    people.to_sql("people", engine, index=False)
    for fragment in (people, fm.SQLTable(engine, "people", key="id")):
        column = guarded(fragment)["birth"]
        low, median = column.min(), column.median()
        start, end = low.bounds
        assert (people["birth"] < pd.Timestamp(end)).sum() >= 5
        assert start < date(1899, 7, 4)
        assert pd.Timestamp(end) >= births[3]
        assert pd.Timestamp(median.bounds[0]) <= people["birth"].median()
        assert pd.Timestamp(median.bounds[1]) >= people["birth"].median()
        days = (pd.Timestamp(median.bounds[1]) - pd.Timestamp(median.bounds[0])) / DAY
        assert days < 400  # five persons have been born within seven months
    engine.dispose()


def test_no_date_is_moved_alone(database: str) -> None:
    """One person's birth, a hundred years later, would be the mean of the rest told twice."""
    births = pd.to_datetime("1950-01-15") + pd.to_timedelta(np.arange(300) * 40, unit="D")
    people = pd.DataFrame({"id": range(300), "birth": births})
    engine = sa.create_engine(database_url(database))
    people.to_sql("moved", engine, index=False)
    for fragment in (people, fm.SQLTable(engine, "moved", key="id")):
        data = guarded(fragment)
        for alone in (
            lambda d: d["birth"] + (d["id"] == 17) * 36_500,
            lambda d: d["birth"] + 0 ** abs(d["id"] - 17) * 36_500,
            lambda d: d["birth"] + (d["id"] - 298.5) * 4e6,  # in range for one alone
        ):
            with pytest.raises(fm.AskFailed, match=r"singles_out"):
                _ = alone(data).mean().value
        assert moment((data["birth"] + 10).mean().value) == births.mean() + 10 * DAY
    engine.dispose()


HARD_DATES = [
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 BC'",
    "'0001-01-01'",
    "'9999-12-31 23:59:59'",
]
HARD_DATES += ["'294276-12-31'", "NULL", "'1970-01-01'", "'2024-02-29 12:00:00.000001'"]
HARD_DAYS = [
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "0",
    "1e308",
    "-1e308",
    "1e-320",
    "3652058",
    "-3e6",
]


def test_no_row_makes_a_statement_of_dates_fail(database: str) -> None:
    engine = sa.create_engine(database_url(database))
    every = itertools.product(HARD_DATES, HARD_DATES, HARD_DAYS)
    values = ", ".join(f"({a}, {b}, {n})" for a, b, n in every)
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE hard (a timestamp, b timestamptz, n double precision)")
        )
        connection.exec_driver_sql(f"INSERT INTO hard VALUES {values}")
    data = fm.FedData([fm.Local(fm.SQLTable(engine, "hard"))])
    a, b, n = data["a"], data["b"], data["n"]
    for days in (a - b, a - "2000-01-01", date(1, 1, 1) - a, (a + n) - b, b.days() - n):
        for value in (days.mean(), days.std(), days.sqsum(), days.min(), days.median()):
            float(value)
    for moved in (a + n, b - n, a + 1e9, a - 3_652_058, "9999-12-31" + n, (a + n) - n, a + 1e300):
        for value in (moved.min(), moved.max(), moved.mean(), moved.median(), moved.hist(3)):
            assert value.value is not None
        assert moved.counts().value.rows is not None
        assert moved.count_missing() > 0
    assert a.min() == date(1, 1, 1)
    assert (a + 0).count_missing() == a.count_missing()
    assert (a - a).max() == 0
    latest = datetime.datetime(9999, 12, 31, 23, 59, 59)
    assert abs((a + n).max().value - latest) <= datetime.timedelta(microseconds=50)
    engine.dispose()


def test_dates_beyond_pythons_are_missing_in_memory_too() -> None:
    values = np.array(["-0044-03-15", "0001-01-01", "9999-12-31", "12000-01-01", "NaT"])
    data = fm.FedData([fm.Local({"d": pd.Series(values.astype("datetime64[s]"))})])["d"]
    assert data.count_missing() == 3
    assert (data.min(), data.max()) == (date(1, 1, 1), date(9999, 12, 31))
    assert (data + 1).count_missing() == 4
    assert (data - 1.0).max() == date(9999, 12, 30)
    assert len(data.set()) == 2


@pytest.mark.parametrize("wrong", [pd.NaT, np.datetime64("NaT")])
def test_what_is_no_date_is_no_constant(wrong: Any) -> None:
    data = fm.FedData([fm.Local({"d": pd.Series(pd.to_datetime(["2020-01-01"]))})])["d"]
    with pytest.raises((TypeError, ValueError)):
        data - wrong
