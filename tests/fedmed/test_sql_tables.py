"""A table of a database as a fragment: as rows in memory, and no row leaves the database."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from federated_analytics import fedmed as fm
from federated_analytics.aggregates.count import Count
from federated_analytics.errors import ConfigError, FederatedAnalyticsError
from federated_analytics.fedmed.over_flower import load_fragments
from federated_analytics.fedmed.sql.rows import LARGEST, SMALLEST
from federated_analytics.fedmed.sql.table import Snapshot
from federated_analytics.omop.database import database_url
from federated_analytics.privacy.person_bitmap import PersonBitmap
from tests.fedmed.servers import EXACT, served

ROWS = 400
SATURATED = [
    {"policy": "fedmed.privacy.Anonymity", "params": {"k": 5}},
    {"policy": "fedmed.privacy.Saturation", "params": {"low": 25, "high": 48_000}},
]


def people() -> pd.DataFrame:
    random = np.random.default_rng(5)
    ids = np.arange(1, ROWS + 1)
    return pd.DataFrame(
        {
            "id": ids,
            "age": random.integers(20, 90, ROWS),
            "salary": random.normal(50_000, 9_000, ROWS).round(2),
            "sex": random.choice(["f", "m"], ROWS),
            "smokes": random.random(ROWS) < 0.3,
            "born": pd.to_datetime("1930-01-01") + pd.to_timedelta(ids * 50, unit="D"),
            "visited": [f"2024-0{1 + i % 9}-15" for i in range(ROWS)],
            "bmi": np.where(ids % 4 == 0, np.nan, random.normal(26, 4, ROWS)),
            "few": np.where(ids < 4, np.nan, 1.0),
        }
    )


@pytest.fixture(scope="module")
def engine(database: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url(database))
    people().to_sql("people", engine, index=False)
    visits = pd.concat([people()] * 3, ignore_index=True)
    visits.to_sql("visits", engine, index=False)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE people ADD PRIMARY KEY (id)"))
    yield engine
    engine.dispose()


Both = tuple[fm.FedData, fm.FedData]
SALARY, ID = "salary", "id"


@pytest.fixture(scope="module")
def both(engine: sa.Engine) -> Iterator[Callable[[Any], Both]]:
    """The same rows as a table and in memory, each at a new server of one configuration."""
    with ExitStack() as stack:

        def made(config: Any) -> Both:
            found = []
            for data in (fm.SQLTable(engine, "people"), people()):
                server = fm.Server(config=config, tokens=["t"])
                server["people"] = data
                address = stack.enter_context(served(server))
                found.append(fm.FedData([fm.Remote(address, "people", token="t")]))
            return found[0], found[1]

        yield made


ASKED: dict[str, Callable[[fm.FedData], Any]] = {
    "mean": lambda d: d["salary"].mean(),
    "deviation": lambda d: d["bmi"].std(),
    "total of whole numbers": lambda d: d["age"].sum(),
    "squares": lambda d: d["age"].sqsum(),
    "mask": lambda d: d["salary"][(d["age"] > 40) & ~d["smokes"]].mean(),
    "rows of a mask": lambda d: (d["age"] > 40).sum(),
    "arithmetic": lambda d: (d["salary"] / (d["age"] - 19) ** 2 + 1).mean(),
    "powers": lambda d: (d["age"] ** 0.5 * 1.01 ** (d["bmi"] - 26)).mean(),
    "groups": lambda d: d["salary"].groupby(d["sex"], d["smokes"]).mean(),
    "group sizes": lambda d: d.groupby("sex")["age"].len(),
    "counts": lambda d: d["sex"].counts(),
    "years": lambda d: d["born"].year().counts(),
    "dates": lambda d: (d["born"] < "1950-06-01").sum(),
    "texts as dates": lambda d: d["visited"].date().month().mean(),
    "texts are ordered": lambda d: (d["sex"] < "g").sum(),
    "correlation": lambda d: fm.stats.corr(d["age"], d["bmi"]),
    "matrix": lambda d: d.cov("age", "salary"),
    "median": lambda d: d["salary"].median(),
    "smallest": lambda d: d["age"].min(),
    "histogram": lambda d: d["age"].hist([20, 40, 60, 90]),
    "missing": lambda d: d["bmi"].count_missing(),
    "rows": lambda d: d["age"].len(),
    # What may not be told, and what is no question.
    "one salary": lambda d: (d["salary"] * (d["id"] == 17)).sum(),
    "one salary, as a power": lambda d: (d["salary"] * 0 ** abs(d["id"] - 17)).sum(),
    "all but one": lambda d: d["salary"][d["id"] != 17].sum(),
    "values of all but three": lambda d: d["few"].sum(),
    "text as a number": lambda d: (d["sex"] + 1).sum(),
    "unknown column": lambda d: d["agee"].sum(),
    "no edges": lambda d: d["age"].groupby(d["sex"]).quantile(0.5),
}


def told(ask: Callable[[fm.FedData], Any], data: fm.FedData) -> Any:
    """Its value, or the codes of why there is none."""
    try:
        return ask(data).value
    except fm.AskFailed as error:
        return sorted(failure.code for failure in error.failures)
    except fm.FedMedError as error:
        return type(error).__name__


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, float | int) and isinstance(b, float | int):
        return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if hasattr(a, "rows"):
        return alike(dict(a.rows), dict(b.rows))
    return bool(a == b)


@pytest.mark.parametrize("config", [EXACT, None, {"privacy": SATURATED}], ids=["off", "on", "held"])
def test_a_table_answers_as_its_rows_do(both: Callable[[Any], Both], config: Any) -> None:
    table, memory = both(config)
    found = {name: told(ask, table) for name, ask in ASKED.items()}
    expected = {name: told(ask, memory) for name, ask in ASKED.items()}
    assert not [name for name in ASKED if not alike(found[name], expected[name])], (found, expected)
    refused = {name for name, value in expected.items() if isinstance(value, list)}
    assert ("one salary" in refused) == (config is not EXACT)


@pytest.mark.parametrize("config", [EXACT, None], ids=["off", "on"])
def test_no_row_is_fetched(
    both: Callable[[Any], Both], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    real = Snapshot.fetched

    def counted(self: Snapshot, query: Any) -> Sequence[Any]:
        rows = real(self, query)
        fetched.append(len(rows))
        return rows

    monkeypatch.setattr(Snapshot, "fetched", counted)
    table, _ = both(config)
    for name in ("mean", "mask", "arithmetic", "groups", "correlation", "histogram", "missing"):
        told(ASKED[name], table)
    assert fetched
    assert max(fetched) <= 8  # groups, bins, or the k - 1 largest deviations of the guard


@pytest.mark.parametrize("gone", [(), (1,), (ROWS,), (17, 18)])
def test_everybody_of_a_table_is_everybody_with_and_without_gaps(
    engine: sa.Engine, gone: tuple[int, ...]
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS with_gaps"))
        connection.execute(sa.text("CREATE TABLE with_gaps (id int PRIMARY KEY, x int)"))
        ids = [i - 200 for i in range(1, ROWS + 1) if i not in gone]
        connection.execute(
            sa.text("INSERT INTO with_gaps VALUES (:id, 1)"), [{"id": one} for one in ids]
        )
    table = fm.SQLTable(engine, "with_gaps").open(keyed=True)
    with table.snapshot() as snapshot:
        assert table.everybody(snapshot) == PersonBitmap.from_ids(ids)


HARD = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-320, 1e-308, 1e-150, 1e150, 1e300, -1e308]
HARD += [math.nan, math.inf, -math.inf, 2.0**53, 1e-17, 709.0, -750.0]


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "pow"])
def test_no_row_makes_a_statement_fail(engine: sa.Engine, op: str) -> None:
    """Every pair of hard numbers, each pair twice; what PostgreSQL would end with an error."""
    pairs = pd.DataFrame([(a, b) for a in HARD for b in HARD], columns=["a", "b"])
    table = sa.Table(
        f"hard_{op}",
        sa.MetaData(),
        sa.Column("a", sa.Double()),
        sa.Column("b", sa.Double()),
        sa.Column("n", sa.Numeric()),
    )
    table.create(engine)
    with engine.begin() as connection:
        rows = [{"a": float(a), "b": float(b), "n": None} for a, b in pairs.to_numpy()]
        connection.execute(table.insert(), rows)
        connection.execute(sa.text(f"UPDATE hard_{op} SET n = '1e400' WHERE a = 1"))
        connection.execute(sa.text(f"UPDATE hard_{op} SET n = '1e-400' WHERE a = 3"))
    data = fm.FedData([fm.Local(fm.SQLTable(engine, table))])
    a, b = data["a"], data["b"]
    operation: Callable[[Any, Any], Any] = getattr(type(a), f"__{_DUNDER.get(op, op)}__")
    once = operation(a, b)
    twice = operation(once, b)
    for rows in (once, twice, operation(twice, once), operation(a, 3), operation(a, -0.5)):
        for value in (rows.mean(), rows.std(), rows.sqsum(), rows.median(), rows[rows > 0].len()):
            float(value)
        float(fm.stats.corr(rows, b))
    float(data["n"].mean())
    assert once.count_missing() == np.isnan(expected(pairs, op)).sum()
    inside = expected(pairs, op).dropna()
    assert (once > 0).sum() == (inside > 0).sum()


_DUNDER = {"div": "truediv"}


def expected(pairs: pd.DataFrame, op: str) -> pd.Series:
    """By NumPy, with numbers beyond the bounds missing and those nearer to 0 being 0."""

    def held(values: pd.Series) -> pd.Series:
        values = values.where(values.abs() <= LARGEST)
        return values.mask(values.abs() < SMALLEST, 0.0)

    a, b = held(pairs["a"]), held(pairs["b"])
    names = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power"}
    with np.errstate(all="ignore"):
        found = pd.Series(getattr(np, names[op])(a, b))
    found = found.where(np.isfinite(found) & a.notna() & b.notna())
    if op == "pow":  # the only one whose result is held at once
        found = held(found)
    return found


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE people; --", "%s", "%(a)s", ":a", "\\", "$1", "ü", "\ud800", "a\x00b"]
)
def test_hostile_text_is_text(both: Callable[[Any], Both], text: str) -> None:
    for config in (EXACT, None):
        table, memory = both(config)
        ask = ASKED["rows"]
        assert told(ask, table) == told(ask, memory) == ROWS
        if text.isprintable():
            assert told(lambda d: (d["sex"] == text).sum(), table) == 0
        else:
            assert isinstance(told(lambda d: (d["sex"] == text).sum(), table), list | str)


def test_persons_are_counted_not_rows(engine: sa.Engine) -> None:
    """Three rows of each person: a mask of 12 rows is one of four persons."""
    for key, told_of in (("id", False), ("", None)):
        server = fm.Server(tokens=["t"])
        if told_of is None:
            with pytest.raises(ConfigError, match="whose"):
                server["visits"] = fm.SQLTable(engine, "visits", key=key)
            continue
        server["visits"] = fm.SQLTable(engine, "visits", key=key)
        with served(server) as address:
            data = fm.FedData([fm.Remote(address, "visits", token="t")])
            assert told(lambda d: (d["id"] <= 4).sum(), data) == ["singles_out"]
            assert told(lambda d: (d["id"] <= 10).sum(), data) == 30


def test_two_asks_see_one_moment_and_a_new_row_is_another_version(engine: sa.Engine) -> None:
    rows = people()[["id", "age"]]
    rows.to_sql("growing", engine, index=False)
    data = fm.FedData([fm.Local(fm.SQLTable(engine, "growing", key="id"))])
    with fm.Batch():
        before, size = data["age"].sum(), data["age"].len()
    assert (before, size) == (rows["age"].sum(), ROWS)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO growing VALUES (1000, 30)"))
    with fm.Batch():
        after, more = data["age"].sum(), data["age"].len()
    assert (after - before, more - size) == (30, 1)
    assert before.outcome.versions != after.outcome.versions


def test_a_row_that_comes_does_not_tell_its_value(engine: sa.Engine) -> None:
    """The sum before and after: sets that differ by one person are not both answered (R5)."""
    people()[["id", "salary"]].to_sql("staff", engine, index=False)
    server = fm.Server(tokens=["t"])
    server["staff"] = fm.SQLTable(engine, "staff", key="id")
    with served(server) as address:
        data = fm.FedData([fm.Remote(address, "staff", token="t")])
        assert isinstance(told(lambda d: d["salary"].sum(), data), float)
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO staff VALUES (1000, 51234.75)"))
        assert told(lambda d: d["salary"].sum(), data) == ["overlapping_population"]


def test_a_query_is_a_fragment(engine: sa.Engine) -> None:
    table = sa.Table("people", sa.MetaData(), autoload_with=engine)
    old = sa.select(table.c.id, table.c.age).where(table.c.age > 60)
    data = fm.FedData([fm.Local(fm.SQLTable(engine, old))])
    rows = people()
    assert data["age"].len() == (rows["age"] > 60).sum()
    assert math.isclose(data["age"].mean(), rows["age"][rows["age"] > 60].mean())


def bad_tables(engine: sa.Engine) -> Iterator[tuple[Callable[[], Any], str]]:
    url = engine.url.render_as_string(hide_password=False)
    yield lambda: fm.SQLTable(engine, "peopel"), "peopel.*people"
    yield lambda: fm.SQLTable(engine, "people", key="idd"), "idd.*id"
    yield lambda: fm.SQLTable("sqlite://", "people"), "sqlite"
    yield lambda: fm.SQLTable(sa.create_engine("sqlite://"), "people"), "sqlite"
    yield lambda: fm.SQLTable(url.replace(engine.url.database or "", "none"), "people"), "database"


NEW_SAMPLES = {"policy": "fedmed.privacy.NewSamples"}


def test_what_is_no_table_is_said_at_once(engine: sa.Engine, tmp_path: Path) -> None:
    server = fm.Server(tokens=["t"])
    for table, said in bad_tables(engine):
        with pytest.raises(FederatedAnalyticsError) as caught:
            server["people"] = table()
        assert re.search(said, str(caught.value).lower(), re.DOTALL), str(caught.value)
    assert server.fragments == []
    server["people"] = fm.SQLTable(engine, "people")
    with pytest.raises(ConfigError, match="in the database"):
        server["people"].append(people())
    held = fm.Server({"privacy": [NEW_SAMPLES]}, tokens=["t"], state=tmp_path)
    with pytest.raises(ConfigError, match="held back"):
        held["people"] = fm.SQLTable(engine, "people")


def test_the_servers_own_operation_is_not_for_a_table(engine: sa.Engine) -> None:
    config = {"privacy": [], "methods": {"mine": {"map": "tests.fedmed.test_sql_tables.mine"}}}
    data = []
    for rows in (fm.SQLTable(engine, "people"), people()):
        server = fm.Server(config=config, tokens=["t"])
        server["people"] = rows
        data.append(server)
    with served(data[0]) as first, served(data[1]) as second:
        table, memory = (
            fm.FedData([fm.Remote(a, "people", token="t")], config) for a in (first, second)
        )
        assert memory["age"].mine().value is not None
        with pytest.raises(fm.AskFailed, match=r"mine.*in the database"):
            _ = table["age"].mine().value


@fm.ops.releases(Count)
def mine(ages: pd.Series) -> Count:
    return Count(int((ages > 50).sum()))


def test_a_table_of_another_servers_rows_is_not_combined(engine: sa.Engine) -> None:
    server = fm.Server(config=EXACT, tokens=["t"])
    server["people"] = fm.SQLTable(engine, "people")
    server["other"] = people()
    with served(server) as address:
        one, other = (
            fm.FedData([fm.Remote(address, name, token="t")]) for name in ("people", "other")
        )
        for a, b in ((one, other), (other, one)):
            assert told(lambda d, b=b: (d["age"] + b["age"]).sum(), a) == ["other_rows"]  # type: ignore[misc]
        assert (other["age"] + other["id"]).sum() == (one["age"] + one["id"]).sum()


def test_a_file_of_fragments_names_tables(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("CLINIC", url)
    (tmp_path / "url.txt").write_text(url)
    file = tmp_path / "fragments.yaml"
    for place in ("url_env: CLINIC", "url_file: url.txt", f"url: '{url}'"):
        file.write_text(f"state: state\nfragments: {{people: {{{place}, table: people, key: id}}}}")
        assert load_fragments(file, "a")["people"].kinds["age",] == "number"
    for place in ("table: people", "url_env: NOTHING, table: people", "url: x, table: 3"):
        file.write_text(f"state: state\nfragments: {{people: {{{place}}}}}")
        with pytest.raises(ConfigError):
            load_fragments(file, "a")
