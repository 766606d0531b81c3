"""ATLAS cohorts: OHDSI's own counts, as a read-only role, and hostile definitions."""

from __future__ import annotations

import copy
import json
import secrets
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from federated_analytics.errors import CohortError, ConfigError, MissingExtra
from federated_analytics.omop.atlas import CompiledCohort, compile_cohort
from federated_analytics.omop.atlas_definition import MAX_NESTED_GROUPS, MAX_RULES
from federated_analytics.omop.database import database_url
from tests.samples import FOLDER, load_gibleed, load_synthea, needs_samples

SITES = 3


def compiled(definition: Any, schema: str = "cdm", vocabulary: str | None = None) -> CompiledCohort:
    text = definition if isinstance(definition, str) else json.dumps(definition)
    return compile_cohort(text, cdm_schema=schema, vocabulary_schema=vocabulary or schema)


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


CONCEPT = {"CONCEPT_ID": 8532, "CONCEPT_NAME": "FEMALE", "VALID_START_DATE": 0}
DATES = {"Value": "1990-01-01", "Extent": "2020-12-31", "Op": "bt"}
AGE = {"Value": 18, "Extent": 99.5, "Op": "!bt"}
TEXT = {"Text": "recovered, well (2020)", "Op": "contains"}
OTHERS = {"CodesetId": 1, "IsExclusion": True}
EVENT = {"CodesetId": 0, "First": True, "OccurrenceStartDate": DATES, "Age": AGE}
WHO = {"Gender": [CONCEPT], "GenderCS": OTHERS, "VisitType": [CONCEPT]}
ERA = {
    "CodesetId": 0,
    "EraStartDate": DATES,
    "EraEndDate": DATES,
    "AgeAtStart": AGE,
    "EraLength": AGE,
}
CRITERIA: list[dict[str, Any]] = [
    {"ConditionOccurrence": {**EVENT, **WHO, "StopReason": TEXT, "ConditionSourceConcept": 1}},
    {"ConditionEra": {**ERA, "OccurrenceCount": {"Value": 1, "Op": "gte"}}},
    {"Death": {"CodesetId": 0, "OccurrenceStartDate": DATES, "DeathType": [CONCEPT]}},
    {"DeviceExposure": {**EVENT, "UniqueDeviceId": {"Text": "A1", "Op": "!endsWith"}}},
    {"DoseEra": {"CodesetId": 0, "DoseValue": {"Value": 1.25, "Op": "gt"}}},
    {"DrugEra": {**ERA, "GapDays": AGE}},
    {"DrugExposure": {**EVENT, **WHO, "LotNumber": {"Text": "B", "Op": "startsWith"}}},
    {"Measurement": {**EVENT, "ValueAsNumber": {"Value": 6.5, "Op": "gte"}, "Unit": [CONCEPT]}},
    {"Observation": {**EVENT, "ValueAsString": {"Text": "zo\u00eb", "Op": "contains"}}},
    {"ObservationPeriod": {"UserDefinedPeriod": {"StartDate": "2001-01-01", "EndDate": ""}}},
    {"ProcedureOccurrence": {**EVENT, **WHO, "Modifier": [CONCEPT]}},
    {"Specimen": {**EVENT, "SourceId": {"Text": "1", "Op": "contains"}}},
    {"VisitOccurrence": {**EVENT, "VisitLength": AGE, "ProviderSpecialty": [CONCEPT]}},
    {"VisitDetail": {"CodesetId": 0, "VisitDetailStartDate": DATES}},
    {"PayerPlanPeriod": {"PeriodStartDate": DATES, "PeriodLength": AGE}},
]
GROUP = {
    "Type": "AT_LEAST",
    "Count": 1,
    "CriteriaList": [
        {
            "Criteria": criterion,
            "StartWindow": {"Start": {"Days": 30, "Coeff": -1}, "End": {"Days": 0, "Coeff": 1}},
            "EndWindow": {"Start": {"Days": 9, "Coeff": -1}, "End": {"Coeff": 1}},
            "RestrictVisit": False,
            "Occurrence": {"Type": 2, "Count": 1, "IsDistinct": True, "CountColumn": "START_DATE"},
        }
        for criterion in CRITERIA[:2]
    ],
    "DemographicCriteriaList": [{"Age": AGE, "Gender": [CONCEPT], "OccurrenceStartDate": DATES}],
    "Groups": [{"Type": "ANY", "CriteriaList": [], "DemographicCriteriaList": [], "Groups": []}],
}
EVERYTHING: dict[str, Any] = {
    "Title": "Everything",
    "cdmVersionRange": ">=5.0.0",
    "ConceptSets": [
        {
            "id": i,
            "name": "A set",
            "expression": {
                "items": [
                    {"concept": CONCEPT, "includeDescendants": True, "includeMapped": True},
                    {"concept": {"CONCEPT_ID": 1}, "isExcluded": True},
                ]
            },
        }
        for i in (0, 1)
    ],
    "PrimaryCriteria": {
        "CriteriaList": [
            {"ConditionOccurrence": {"CodesetId": 0, "CorrelatedCriteria": GROUP}},
            *CRITERIA,
        ],
        "ObservationWindow": {"PriorDays": 365, "PostDays": 0},
        "PrimaryCriteriaLimit": {"Type": "First"},
    },
    "AdditionalCriteria": GROUP,
    "QualifiedLimit": {"Type": "Last"},
    "ExpressionLimit": {"Type": "All"},
    "InclusionRules": [{"name": "A rule", "description": "Its reason", "expression": GROUP}],
    "EndStrategy": {"CustomEra": {"DrugCodesetId": 0, "GapDays": 30, "Offset": 0}},
    "CensoringCriteria": [CRITERIA[2]],
    "CollapseSettings": {"CollapseType": "ERA", "EraPad": 7},
    "CensorWindow": {"StartDate": "1980-01-01", "EndDate": "2030-01-01"},
}


@needs_samples
@pytest.mark.parametrize(
    "end", [EVERYTHING["EndStrategy"], {"DateOffset": {"DateField": "EndDate"}}]
)
def test_every_kind_of_criterion_runs_as_a_reader(reader: sa.Engine, end: Any) -> None:
    with reader.begin() as connection:
        cohort = compiled({**EVERYTHING, "EndStrategy": end}, "synthea")
        assert counts(connection, cohort) == (0, 0)


def _strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all strings in a definition."""
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if not isinstance(value, str | int | float | None):
        for key, item in items:
            yield from _strings(item, (*path, key))


def _with(definition: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(definition)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


HOSTILE = [
    "'; DROP TABLE person; --",
    "x' OR '1'='1",
    "\\'; SELECT pg_sleep(9); --",
    "a -- b",
    "a /* b */",
    "@cdm_database_schema.person",
    "{1 = 1}?{SELECT 1}",
    "#Codesets",
    "a;b",
    "100%s",
    "$$x$$",
    'a"b',
    "a\nb",
    "a\x00b",
    "\u2019 x",
    "\ud800",
    "x" * 200,
]


def _outcome(definition: Any) -> CompiledCohort | str:
    try:
        return compiled(definition)
    except CohortError as error:
        return str(error)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_string_of_a_definition_reaches_the_sql_unread(hostile: str) -> None:
    """Each string of a definition that has every kind of string: refused, or of no effect."""
    base = {**EVERYTHING, "PrimaryCriteria": {**EVERYTHING["PrimaryCriteria"]}}
    base["InclusionRules"] = []
    base["AdditionalCriteria"] = None
    expected = compiled(base).statements
    refused = ignored = 0
    for path in _strings(base):
        found = _outcome(_with(base, path, hostile))
        if isinstance(found, CompiledCohort):
            assert found.statements == expected, path
            ignored += 1
        else:
            assert hostile not in found
            refused += 1
    assert refused > 50
    assert ignored > 5


@pytest.mark.parametrize("key", ["CodesetId", "CONCEPT_ID", "Days", "Count", "id", "PriorDays"])
@pytest.mark.parametrize("value", ["0) OR (1=1", "1", 1.5, 2**40, [1], {"a": 1}])
def test_ids_and_numbers_are_numbers(key: str, value: Any) -> None:
    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: value if k == key else replaced(v) for k, v in node.items()}
        return [replaced(item) for item in node] if isinstance(node, list) else node

    with pytest.raises(CohortError):
        compiled(replaced(EVERYTHING))


def _nested(depth: int) -> Any:
    group = copy.deepcopy(GROUP)
    for _ in range(depth):
        group = {**GROUP, "Groups": [group]}
    return {**EVERYTHING, "AdditionalCriteria": group}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "not an ATLAS cohort definition"),
        ("7", "not an ATLAS cohort definition"),
        ("null", "not an ATLAS cohort definition"),
        ('{"expression": "x"}', "not an ATLAS cohort definition"),
        ('{"PrimaryCriteria": []}', "not an ATLAS cohort definition"),
        ('{"PrimaryCriteria": {}}', "incomplete"),
        ('{"PrimaryCriteria": {"CriteriaList": [{"Nonsense": {}}]}}', "incomplete"),
        ('{"PrimaryCriteria": {"CriteriaList": 5}}', "incomplete"),
        ('{"PrimaryCriteria": {"a": NaN}}', "NaN"),
        ('{"PrimaryCriteria": {"a b": 1}}', "a key is not a word"),
        ("[" * 100_000, "nested too deeply"),
        ('{"PrimaryCriteria": ' + '{"a":' * 70 + "1" + "}" * 71, "levels deep"),
        ('{"PrimaryCriteria": {"a": ' + "1" * 5_000 + "}}", "not JSON"),
        (json.dumps({"PrimaryCriteria": {}, "name": "x" * 2**20}), "larger than 1 MiB"),
        (json.dumps(_nested(MAX_NESTED_GROUPS + 1)), "nested in criteria"),
        (json.dumps({**EVERYTHING, "InclusionRules": [{}] * (MAX_RULES + 1)}), "at most 60"),
        (json.dumps({**EVERYTHING, "InclusionRules": {}} | {"InclusionRules": 3}), "at most 60"),
    ],
)
def test_what_is_no_definition_says_so(text: str, message: str) -> None:
    with pytest.raises(CohortError, match=message) as caught:
        compiled(text)
    assert caught.value.remedy


def test_a_definition_that_becomes_too_much_sql() -> None:
    group = {**GROUP, "CriteriaList": GROUP["CriteriaList"] * 20}  # type: ignore[operator]
    primary = {**EVERYTHING["PrimaryCriteria"], "CriteriaList": CRITERIA * 5}
    with pytest.raises(CohortError, match="characters of SQL"):
        compiled({**EVERYTHING, "PrimaryCriteria": primary, "AdditionalCriteria": group})


def test_the_error_names_the_place() -> None:
    path = ("PrimaryCriteria", "CriteriaList", 1, "ConditionOccurrence", "StopReason", "Text")
    with pytest.raises(CohortError) as caught:
        compiled(_with(EVERYTHING, path, "it's"))
    where = "PrimaryCriteria.CriteriaList[1].ConditionOccurrence.StopReason.Text"
    assert caught.value.where == where
    assert "letters, digits" in caught.value.message


def test_names_have_no_effect_and_the_web_services_wrapping_is_opened() -> None:
    renamed = _with(EVERYTHING, ("ConceptSets", 0, "name"), "Robert'); DROP TABLE person;--")
    assert compiled(renamed).statements == compiled(EVERYTHING).statements
    wrapped = {"id": 7, "name": "wrapped", "expression": EVERYTHING}
    assert compiled(wrapped) == compiled(EVERYTHING)


def test_other_definitions_get_other_tables() -> None:
    other = {**EVERYTHING, "QualifiedLimit": {"Type": "First"}}
    assert compiled(other).table != compiled(EVERYTHING).table


def test_schemas_are_quoted() -> None:
    cohort = compiled(EVERYTHING, 'a "b"; DROP')
    assert any('"a ""b""; DROP".CONDITION_OCCURRENCE' in s for s in cohort.statements)
    for name in ("", "a\nb", "50%", "x" * 64):
        with pytest.raises(ConfigError):
            compiled(EVERYTHING, name)


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckcdm", None)
    with pytest.raises(MissingExtra, match="duckcdm"):
        compiled(EVERYTHING)
