"""The floor: the same answers by one hand-written SQL statement on one site's PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import psycopg

from benchmarks.data import CDM_CONCEPTS, FLAT_FEATURES, FLAT_TABLE

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
            connection.execute(statement).fetchall()  # type: ignore[arg-type]
    return time.monotonic() - started


def alone(url: str, question: str, repeat: int) -> float:
    """Median seconds of a question's statements with nothing else running."""
    return median(seconds(url, STATEMENTS[question]) for _ in range(repeat))


def at_once(urls: Sequence[str], question: str, repeat: int) -> float:
    """Median seconds of the slowest of all sites asked at the same time on this machine."""
    with ThreadPoolExecutor(len(urls)) as pool:

        def slowest() -> float:
            return max(pool.map(lambda url: seconds(url, STATEMENTS[question]), urls))

        return median(slowest() for _ in range(repeat))
