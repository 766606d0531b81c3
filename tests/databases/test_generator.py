"""The same recipe, the same rows; once is enough; nothing of others is touched."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from federated_analytics.databases.diseases import DISEASES
from federated_analytics.databases.errors import OtherDataThere
from federated_analytics.databases.events import _PROCEDURES, _SCREENING
from federated_analytics.databases.generator import generate
from federated_analytics.databases.physiology import LEVELS
from federated_analytics.databases.schema import Schemas
from federated_analytics.databases.treatments import TREATMENTS
from federated_analytics.databases.vocabulary import ancestry, catalogue_entries
from federated_analytics.errors import ConfigError
from tests.databases.rows import one

pytestmark = pytest.mark.xdist_group("databases")

CLINICAL = (
    "person",
    "observation_period",
    "visit_occurrence",
    "condition_occurrence",
    "drug_exposure",
    "procedure_occurrence",
    "measurement",
    "observation",
    "death",
    "cohort",
    "person_summary",
)
SCHEMAS = ("site_0", "site_1")


def digest(connection: psycopg.Connection[Any], schema: str, limit: int) -> dict[str, str]:
    """A checksum of the rows of each table for the persons up to `limit`."""
    found = {}
    for table in CLINICAL:
        person = "subject_id" if table == "cohort" else "person_id"
        query = f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t"
        found[table] = one(connection, schema, f"{query} WHERE {person} <= {limit}")[0]
    return found


@pytest.fixture(scope="module")
def twins(database: str) -> dict[str, dict[str, str]]:
    """Checksums of the first 150 persons of databases made in different ways."""
    ways: dict[str, dict[str, int]] = {
        "first": {},
        "again": {},
        "other_seed": {"seed": 2},
        "other_site": {"site": 2},
        "more": {"persons": 400},
    }
    found = {}
    with psycopg.connect(database, autocommit=True) as connection:
        for name, way in ways.items():
            schemas = {f"{s}_schema": name for s in ("cdm", "vocabulary", "results")}
            generate(database, **({"persons": 150} | way), **schemas)  # type: ignore[arg-type]
            found[name] = digest(connection, name, 150)
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
    return found


def test_the_same_seed_gives_the_same_rows(twins: dict[str, dict[str, str]]) -> None:
    assert twins["again"] == twins["first"]
    assert all(twins["first"].values())


@pytest.mark.parametrize("other", ["other_seed", "other_site"])
def test_another_seed_or_site_gives_other_rows(
    twins: dict[str, dict[str, str]], other: str
) -> None:
    assert all(twins[other][table] != twins["first"][table] for table in CLINICAL)


def test_a_life_does_not_depend_on_the_number_of_persons(
    twins: dict[str, dict[str, str]],
) -> None:
    for table in ("person", "observation_period", "death", "cohort", "person_summary"):
        assert twins["more"][table] == twins["first"][table], table


def test_twice_changes_nothing_and_other_data_are_refused(
    hospitals: psycopg.Connection[Any], database: str
) -> None:
    where = {f"{s}_schema": "site_0" for s in ("cdm", "vocabulary", "results")}
    before = digest(hospitals, "site_0", 100)
    again = generate(database, persons=3_000, site=0, **where)  # type: ignore[arg-type]
    assert not again.written
    with pytest.raises(OtherDataThere) as refused:
        generate(database, persons=3_001, site=0, **where)  # type: ignore[arg-type]
    assert "--replace" in str(refused.value)
    assert digest(hospitals, "site_0", 100) == before


def test_replace_drops_the_old_and_a_failure_leaves_them(
    hospitals: psycopg.Connection[Any], database: str
) -> None:
    where = {f"{s}_schema": "swapped" for s in ("cdm", "vocabulary", "results")}
    generate(database, persons=20, **where)  # type: ignore[arg-type]
    generate(database, persons=30, replace=True, **where)  # type: ignore[arg-type]
    assert one(hospitals, "swapped", "SELECT count(*) FROM person") == (30,)

    def fail(line: str) -> None:
        if line == "indexes":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(database, persons=40, replace=True, on_progress=fail, **where)  # type: ignore[arg-type]
    assert one(hospitals, "swapped", "SELECT count(*) FROM person") == (30,)


def test_data_that_are_not_ours_are_never_dropped(
    hospitals: psycopg.Connection[Any], database: str
) -> None:
    hospitals.execute("CREATE SCHEMA real_one")
    hospitals.execute("CREATE TABLE real_one.person (person_id int)")
    where = {f"{s}_schema": "real_one" for s in ("cdm", "vocabulary", "results")}
    with pytest.raises(OtherDataThere):
        generate(database, persons=10, replace=True, **where)  # type: ignore[arg-type]
    assert one(hospitals, "real_one", "SELECT count(*) FROM person") == (0,)


def test_parts_in_schemas_of_their_own(hospitals: psycopg.Connection[Any], database: str) -> None:
    generate(
        database,
        persons=20,
        cdm_schema="my cdm",
        vocabulary_schema="vocab",
        results_schema="results",
    )
    placed = dict(
        hospitals.execute(
            "SELECT tablename, schemaname FROM pg_tables WHERE schemaname = ANY(%s)",
            [list(Schemas("my cdm", "vocab", "results").names())],
        ).fetchall()
    )
    assert placed["person"] == placed["cdm_source"] == placed["person_summary"] == "my cdm"
    assert placed["concept"] == placed["concept_ancestor"] == "vocab"
    assert placed["cohort"] == placed["cohort_definition"] == "results"
    assert len(placed) >= 39


def test_no_persons_is_an_empty_site(hospitals: psycopg.Connection[Any], database: str) -> None:
    where = {f"{s}_schema": "nobody" for s in ("cdm", "vocabulary", "results")}
    generate(database, persons=0, **where)  # type: ignore[arg-type]
    assert one(hospitals, "nobody", "SELECT count(*) FROM person") == (0,)


@pytest.mark.parametrize("wrong", [{"persons": -1}, {"site": -1}, {"persons": 10**9}])
def test_numbers_out_of_range(database: str, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        generate(database, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_table_is_filled_and_labelled(
    hospitals: psycopg.Connection[Any], schema: str
) -> None:
    for table in (*CLINICAL, "concept", "concept_ancestor", "concept_relationship", "domain"):
        assert one(hospitals, schema, f"SELECT count(*) FROM {table}")[0] > 5, table
    name, description = one(
        hospitals, schema, "SELECT cdm_source_name, source_description FROM cdm_source"
    )
    assert name.startswith("Synthetic hospital")
    assert "SYNTHETIC" in description
    unlabelled = one(
        hospitals,
        schema,
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = "
        f"'{schema}'::regnamespace AND obj_description(oid) NOT LIKE 'SYNTHETIC%'",
    )
    assert unlabelled == (0,)


def test_the_catalogue_has_every_feature_that_is_generated() -> None:
    used = {d.feature for d in DISEASES} | {t.feature for t in TREATMENTS} | set(LEVELS)
    used |= {procedure[0] for procedure in (*_PROCEDURES, *_SCREENING)}
    assert used <= set(catalogue_entries())
    known: set[str] = set()
    for disease in DISEASES:
        assert set(disease.after) <= known, disease.feature
        known.add(disease.feature)
    assert {d for t in TREATMENTS for d in t.indications} <= known


def test_ancestry_is_the_transitive_closure() -> None:
    rows = set(ancestry([1, 2, 3, 4], [(1, 2), (2, 3), (1, 3), (3, 4)]))
    assert (1, 4, 2, 3) in rows
    assert (1, 1, 0, 0) in rows
    assert {(a, d) for a, d, _, _ in rows} == {(a, d) for a in range(1, 5) for d in range(a, 5)}
