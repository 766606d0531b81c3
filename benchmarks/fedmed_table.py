"""FedMed's questions to a table of PostgreSQL, beside SQL that answers them without a policy."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import psycopg

from benchmarks.fedmed_server import frame
from federated_analytics import fedmed as fm
from federated_analytics.databases.postgres import temporary_cluster

TABLE = "people"
FLOOR = {
    "mean": f"SELECT avg(pressure) FROM {TABLE}",
    "std": f"SELECT stddev_pop(pressure) FROM {TABLE}",
    "a mask": f"SELECT count(*) FILTER (WHERE age > 64) FROM {TABLE}",
    "a group-by": f"SELECT region, avg(pressure) FROM {TABLE} GROUP BY region",
}
ASKED: Mapping[str, Callable[[fm.FedData], Any]] = {
    "mean": lambda data: float(data["pressure"].mean()),
    "std": lambda data: float(data["pressure"].std(df=0)),
    "a mask": lambda data: float((data["age"] > 64).sum()),
    "a group-by": lambda data: dict(data.groupby("region")["pressure"].mean()),
}


def measure(rows: int, repeat: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by question: the statement (the median), and ours, the first time it is asked."""
    floor: dict[str, float] = {}
    ours: dict[str, float] = {}
    with temporary_cluster() as cluster, psycopg.connect(cluster.owner_url()) as connection:
        connection.autocommit = True
        _load(connection, rows)
        server = fm.Server(tokens=["benchmark"])  # the strict policy
        server[TABLE] = fm.SQLTable(cluster.owner_url(), TABLE, key="id")
        data = fm.FedData([fm.Simulation(server, TABLE)])
        _ = data.columns
        for question, statement in FLOOR.items():
            times = []
            for _ in range(repeat):
                started = time.perf_counter()
                expected = connection.execute(statement).fetchall()
                times.append(time.perf_counter() - started)
            floor[question] = median(times)
            started = time.perf_counter()
            found = ASKED[question](data)
            ours[question] = time.perf_counter() - started
            _compare(question, dict(expected) if len(expected) > 1 else expected[0][0], found)
    return floor, ours


def _load(connection: psycopg.Connection, rows: int) -> None:
    connection.execute(
        f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, age int, pressure float8, region text)"
    )
    text = io.StringIO()
    frame(0, rows)[["age", "pressure", "region"]].to_csv(text, header=False)
    with connection.cursor().copy(f"COPY {TABLE} FROM STDIN (FORMAT CSV)") as copy:
        copy.write(text.getvalue())
    connection.execute(f"VACUUM ANALYZE {TABLE}")


def _compare(question: str, expected: Any, found: Any) -> None:
    pairs = (
        [(number, found[level]) for level, number in expected.items()]
        if isinstance(expected, dict)
        else [(expected, found)]
    )
    for wanted, got in pairs:
        if not math.isclose(wanted, got, rel_tol=1e-9):
            raise AssertionError(f"{question}: {wanted} and {got}")
