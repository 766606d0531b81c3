"""ATLAS cohorts: OHDSI's own counts, as a read-only role, and hostile definitions."""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from federated_analytics.omop.atlas import CompiledCohort
from federated_analytics.omop.database import database_url
from tests.omop.definitions import EVERYTHING, compiled
from tests.samples import FOLDER, load_gibleed, load_synthea, needs_samples

SITES = 3


def sample(number: int) -> str:
    return (FOLDER / "cohorts" / f"{number}.json").read_text("utf-8")


def _role(url: str, schemas: list[str]) -> str:
    """URL of a new role that can only read `schemas` and make temporary tables."""
    role, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(url, autocommit=True) as owner:
        name = sql.Identifier(role)
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, password))
        owner.execute("REVOKE CREATE ON SCHEMA public FROM public")
        for schema in schemas:
            place = sql.Identifier(schema)
            owner.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(place, name))
            owner.execute(
                sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(place, name)
            )
    return str(
        database_url(url)
        .set(username=role, password=password, drivername="postgresql")
        .render_as_string(hide_password=False)
    )


@pytest.fixture(scope="module")
def reader(database: str) -> Iterator[sa.Engine]:
    """A read-only role's connection to GiBleed (whole, and over three sites) and Synthea."""
    clinical = {"person", "observation_period", "condition_occurrence"}
    load_gibleed(database, schema="gibleed", tables=clinical | {"concept", "concept_ancestor"})
    for site in range(SITES):
        load_gibleed(database, (site, SITES), schema=f"site {site}", tables=clinical)
    load_synthea(database, schema="synthea")
    schemas = ["gibleed", "synthea", *(f"site {site}" for site in range(SITES))]
    role = _role(database, schemas)
    engine = sa.create_engine(database_url(role), isolation_level="REPEATABLE READ")
    yield engine
    engine.dispose()
    name = sql.Identifier(str(engine.url.username))
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(name, name))


def counts(connection: sa.Connection, cohort: CompiledCohort) -> tuple[int, int]:
    """Rows and persons of a cohort after its statements have run."""
    for statement in cohort.statements:
        connection.exec_driver_sql(statement)
    query = f"SELECT count(*), count(DISTINCT subject_id) FROM {cohort.table}"
    rows, persons = connection.exec_driver_sql(query).one()
    return rows, persons


@needs_samples
@pytest.mark.parametrize(("number", "expected"), [(1184, (2_630, 2_630)), (1285, (8_184, 2_543))])
def test_phenotype_library_cohorts(
    reader: sa.Engine, number: int, expected: tuple[int, int]
) -> None:
    with reader.begin() as connection:
        assert counts(connection, compiled(sample(number), "gibleed")) == expected


@needs_samples
def test_sites_add_up_to_the_whole(reader: sa.Engine) -> None:
    rows = persons = 0
    for site in range(SITES):
        with reader.begin() as connection:
            found = counts(connection, compiled(sample(1285), f"site {site}", "gibleed"))
            assert found[0] > 0
            rows, persons = rows + found[0], persons + found[1]
    assert (rows, persons) == (8_184, 2_543)


@needs_samples
def test_several_cohorts_in_one_transaction(reader: sa.Engine) -> None:
    with reader.begin() as connection:
        first, second = compiled(sample(1184), "gibleed"), compiled(sample(1285), "gibleed")
        assert counts(connection, first)[0] == 2_630
        assert counts(connection, second)[0] == 8_184
        assert counts(connection, first)[0] == 2_630
        query = f"SELECT count(*) FROM {second.table}"
        assert connection.exec_driver_sql(query).scalar() == 8_184


@needs_samples
def test_nothing_is_left_behind(reader: sa.Engine) -> None:
    with reader.begin() as connection:
        cohort = compiled(sample(1285), "gibleed")
        counts(connection, cohort)
        left = "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
        names = set(connection.exec_driver_sql(left).scalars())
        assert names == {cohort.table, cohort.attrition}
    with reader.begin() as connection:
        assert connection.exec_driver_sql(left).first() is None


@needs_samples
def test_attrition_counts_the_rules_that_persons_passed_in_order(reader: sa.Engine) -> None:
    definition = json.loads(sample(1285))
    never = copy.deepcopy(definition["InclusionRules"][0])
    never["name"] = "five\u0007  of\nthem"
    never["expression"]["CriteriaList"][0]["Occurrence"] = {"Type": 2, "Count": 5}
    definition["InclusionRules"].append(never)
    cohort = compiled(definition, "gibleed")
    assert cohort.rules == ("no acute bronchitis in prior 30d", "five of them")
    with reader.begin() as connection:
        assert counts(connection, cohort) == (0, 0)
        query = f"SELECT passed, count(*) FROM {cohort.attrition} GROUP BY passed ORDER BY passed"
        assert [tuple(row) for row in connection.exec_driver_sql(query)] == [(1, 2_543)]


@needs_samples
@pytest.mark.parametrize(
    "end", [EVERYTHING["EndStrategy"], {"DateOffset": {"DateField": "EndDate"}}]
)
def test_every_kind_of_criterion_runs_as_a_reader(reader: sa.Engine, end: Any) -> None:
    with reader.begin() as connection:
        cohort = compiled({**EVERYTHING, "EndStrategy": end}, "synthea")
        rows, persons = counts(connection, cohort)
        assert 0 < persons <= 28
        assert rows >= persons
