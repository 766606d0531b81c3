"""Synthetic tables of any size, made inside PostgreSQL: a flat table and a small OMOP CDM."""

from __future__ import annotations

import time

import psycopg
from psycopg import sql

FLAT_TABLE = "person_summary"
FLAT_FEATURES = ("age", "bmi", "systolic_bp", "diastolic_bp", "hba1c")
CDM_FEATURES = ("systolic_bp", "diastolic_bp", "bmi", "hba1c", "total_cholesterol")
CDM_CONCEPTS = (3004249, 3012888, 3038553, 3004410, 3027114)
"""Measurement concepts of `CDM_FEATURES`, in their order."""

_FLAT = """
CREATE TABLE person_summary (
    person_id integer, age integer, bmi double precision, systolic_bp double precision,
    diastolic_bp double precision, hba1c double precision
);
INSERT INTO person_summary
SELECT p, 20 + (random() * 60)::integer, 20 + random() * 20, 100 + random() * 60,
       60 + random() * 40, CASE WHEN random() < 0.8 THEN 4 + random() * 6 END
FROM generate_series(1, {persons}) AS p;
ALTER TABLE person_summary ADD PRIMARY KEY (person_id);
"""

_PERSON = """
CREATE TABLE person (
    person_id integer, gender_concept_id integer, year_of_birth integer,
    month_of_birth integer, day_of_birth integer, race_concept_id integer,
    ethnicity_concept_id integer
);
INSERT INTO person
SELECT p, 8507 + 25 * (p % 2), 1930 + (random() * 70)::integer, 1, 1, 8527, 0
FROM generate_series(1, {persons}) AS p;
ALTER TABLE person ADD PRIMARY KEY (person_id);
CREATE TABLE observation_period (
    observation_period_id integer, person_id integer, observation_period_start_date date,
    observation_period_end_date date
);
INSERT INTO observation_period
SELECT p, p, DATE '2014-01-01', DATE '2024-12-31' FROM generate_series(1, {persons}) AS p;
CREATE INDEX ON observation_period (person_id);
CREATE TABLE concept (concept_id integer PRIMARY KEY, concept_name text);
CREATE TABLE concept_ancestor (
    ancestor_concept_id integer, descendant_concept_id integer,
    PRIMARY KEY (ancestor_concept_id, descendant_concept_id)
);
"""

# Rows stand in the order of persons, as OHDSI's own index script clusters the table.
_MEASUREMENT = """
CREATE TABLE measurement (
    measurement_id bigint, person_id integer, measurement_concept_id integer,
    measurement_date date, value_as_number numeric, unit_concept_id integer
);
INSERT INTO measurement
SELECT 5 * p::bigint + position, p, concept, DATE '2015-01-01' + (random() * 3000)::integer,
       (low + (random() * span)::integer) / 10.0, unit
FROM generate_series(1, {persons}) AS p,
     (VALUES (0, 3004249, 8876, 1000, 600), (1, 3012888, 8876, 600, 400),
             (2, 3038553, 9531, 180, 220), (3, 3004410, 8554, 40, 60),
             (4, 3027114, 8840, 1200, 1500)) AS kind (position, concept, unit, low, span)
WHERE random() < 0.98;
ALTER TABLE measurement ADD PRIMARY KEY (measurement_id);
CREATE INDEX ON measurement (person_id);
CREATE INDEX ON measurement (measurement_concept_id);
"""

_TABLES = (
    "person_summary",
    "person",
    "observation_period",
    "concept",
    "concept_ancestor",
    "measurement",
)


def fill(owner_url: str, persons: int, seed: int) -> float:
    """Make all tables anew with `persons` persons and about 4.9 measurements of each.

    Returns:
        seconds that it took.

    Args:
        seed: another seed gives another site's values.
    """
    started = time.monotonic()
    with psycopg.connect(owner_url, autocommit=True) as connection:
        for table in _TABLES:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
        connection.execute("SELECT setseed(%s)", [(seed % 1000) / 1000])
        for script in (_FLAT, _PERSON, _MEASUREMENT):
            connection.execute(sql.SQL(script).format(persons=sql.Literal(persons)))
        # As autovacuum leaves tables that have stood for a while.
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
    return time.monotonic() - started
