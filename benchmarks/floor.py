"""The floor: the same answers by one hand-written SQL statement on one site's PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from benchmarks.data import CDM_CONCEPTS, CDM_FEATURES, FLAT_FEATURES, FLAT_TABLE

_PROBABILITIES = "ARRAY[0.05, 0.25, 0.5, 0.75, 0.95]"
_BINS = "0, 300, 60"


def _moments(column: str) -> str:
    return f"count({column}), avg({column}), stddev_samp({column})"


def _quantiles(column: str) -> str:
    return f"percentile_cont({_PROBABILITIES}) WITHIN GROUP (ORDER BY {column})"


FLAT_MOMENTS = f"SELECT {', '.join(map(_moments, FLAT_FEATURES))} FROM {FLAT_TABLE}"
FLAT_QUANTILES = f"SELECT {', '.join(map(_quantiles, FLAT_FEATURES))} FROM {FLAT_TABLE}"
FLAT_HISTOGRAMS = " UNION ALL ".join(
    f"SELECT '{name}', width_bucket({name}, {_BINS}), count(*) FROM {FLAT_TABLE} "
    f"WHERE {name} IS NOT NULL GROUP BY 2"
    for name in FLAT_FEATURES
)

_LATEST = (
    "SELECT DISTINCT ON (person_id, measurement_concept_id) "
    "measurement_concept_id AS concept, value_as_number::double precision AS value "
    f"FROM measurement WHERE measurement_concept_id IN {CDM_CONCEPTS} "
    "ORDER BY person_id, measurement_concept_id, measurement_date DESC, measurement_id DESC"
)
CDM_MOMENTS = f"SELECT concept, {_moments('value')} FROM ({_LATEST}) AS latest GROUP BY concept"
CDM_ALL = (
    f"WITH latest AS MATERIALIZED ({_LATEST}), "
    f"moment AS (SELECT concept, {_moments('value')}, {_quantiles('value')} FROM latest "
    "GROUP BY concept), "
    f"bin AS (SELECT concept, width_bucket(value, {_BINS}), count(*) FROM latest GROUP BY 1, 2) "
    "SELECT (SELECT count(*) FROM moment), (SELECT count(*) FROM bin)"
)

STATEMENTS: Mapping[str, Sequence[str]] = {
    "flat": (FLAT_MOMENTS,),
    "flat+": (FLAT_MOMENTS, FLAT_QUANTILES, FLAT_HISTOGRAMS),
    "omop": (CDM_MOMENTS,),
    "omop+": (CDM_ALL,),
}
"""Statements of each question; a trailing + asks for quantiles and histograms as well."""


def seconds(url: str, statements: Sequence[str]) -> float:
    """Wall seconds of the statements, from opening the connection to the last row.

    `work_mem` and `jit` are as the site sets them for its own statements.
    """
    started = time.monotonic()
    with psycopg.connect(url) as connection:
        connection.execute("SET work_mem = '128MB'")
        connection.execute("SET jit = off")
        for statement in statements:
            connection.execute(statement).fetchall()
    return time.monotonic() - started


def at_once(urls: Sequence[str], statements: Sequence[str]) -> float:
    """Seconds of the slowest of all sites asked at the same time on this machine."""
    with ThreadPoolExecutor(len(urls)) as pool:
        return max(pool.map(lambda url: seconds(url, statements), urls))


def pooled_means(urls: Sequence[str], question: str) -> dict[str, float]:
    """Mean of each feature over all sites, from the floor's own counts and averages."""
    totals: dict[str, tuple[int, float]] = {}
    for url in urls:
        with psycopg.connect(url) as connection:
            rows = connection.execute(STATEMENTS[question.rstrip("+")][0]).fetchall()
        for name, count, mean in _cells(rows):
            before, total = totals.get(name, (0, 0.0))
            totals[name] = (before + count, total + count * mean)
    return {name: total / count for name, (count, total) in totals.items()}


def _cells(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, int, float]]:
    """(feature, count, mean) in the rows of either statement of moments."""
    if len(rows) == 1:
        for i, name in enumerate(FLAT_FEATURES):
            yield name, int(rows[0][3 * i]), float(rows[0][3 * i + 1])
        return
    names = dict(zip(CDM_CONCEPTS, CDM_FEATURES, strict=True))
    for concept, count, mean, _ in rows:
        yield names[concept], int(count), float(mean)
