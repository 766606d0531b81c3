"""The columns of OMOP CDM 5.3 and 5.4 that are read, and in which schemas they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.expression import TableClause

Statement = sa.Select[*tuple[Any, ...]]
"""A SELECT with any columns."""

VOCABULARY_TABLES = frozenset(
    {"concept", "concept_ancestor", "concept_relationship", "vocabulary", "domain"}
)
RESULTS_TABLES = frozenset({"cohort", "cohort_definition"})

_INT, _DATE, _TEXT, _FLOAT = sa.BigInteger, sa.Date, sa.Text, sa.Float

_COLUMNS: dict[str, dict[str, type[sa.types.TypeEngine[Any]]]] = {
    "person": {
        "person_id": _INT,
        "gender_concept_id": _INT,
        "year_of_birth": _INT,
        "month_of_birth": _INT,
        "day_of_birth": _INT,
        "race_concept_id": _INT,
        "ethnicity_concept_id": _INT,
    },
    "observation_period": {
        "person_id": _INT,
        "observation_period_start_date": _DATE,
        "observation_period_end_date": _DATE,
    },
    "death": {"person_id": _INT, "death_date": _DATE},
    "concept": {"concept_id": _INT, "concept_name": _TEXT},
    "concept_ancestor": {"ancestor_concept_id": _INT, "descendant_concept_id": _INT},
    "cohort": {
        "cohort_definition_id": _INT,
        "subject_id": _INT,
        "cohort_start_date": _DATE,
        "cohort_end_date": _DATE,
    },
    "cdm_source": {
        "cdm_source_name": _TEXT,
        "cdm_source_abbreviation": _TEXT,
        "cdm_version": _TEXT,
    },
}


@dataclass(frozen=True)
class EventTable:
    """How one domain's table names the columns that every domain has."""

    table: str
    record_id: str
    concept_id: str
    start_date: str
    values: Mapping[str, type[sa.types.TypeEngine[Any]]]


_MEASURED = {"value_as_number": _FLOAT, "unit_concept_id": _INT}

EVENT_TABLES: Mapping[str, EventTable] = {
    domain: EventTable(table, record_id, concept_id, start_date, values)
    for domain, table, record_id, concept_id, start_date, values in (
        (
            "condition",
            "condition_occurrence",
            "condition_occurrence_id",
            "condition_concept_id",
            "condition_start_date",
            {},
        ),
        (
            "drug",
            "drug_exposure",
            "drug_exposure_id",
            "drug_concept_id",
            "drug_exposure_start_date",
            {},
        ),
        (
            "procedure",
            "procedure_occurrence",
            "procedure_occurrence_id",
            "procedure_concept_id",
            "procedure_date",
            {},
        ),
        (
            "measurement",
            "measurement",
            "measurement_id",
            "measurement_concept_id",
            "measurement_date",
            _MEASURED,
        ),
        (
            "observation",
            "observation",
            "observation_id",
            "observation_concept_id",
            "observation_date",
            _MEASURED,
        ),
        (
            "visit",
            "visit_occurrence",
            "visit_occurrence_id",
            "visit_concept_id",
            "visit_start_date",
            {},
        ),
    )
}


@dataclass(frozen=True)
class Cdm:
    """The tables of one database, in the schemas where it keeps them.

    Args:
        cdm_schema, vocabulary_schema, results_schema: schema names; None is the role's default.
    """

    cdm_schema: str | None = None
    vocabulary_schema: str | None = None
    results_schema: str | None = None

    def schema_of(self, name: str) -> str | None:
        """The schema in which the OMOP table `name` stands."""
        if name in VOCABULARY_TABLES:
            return self.vocabulary_schema or self.cdm_schema
        if name in RESULTS_TABLES:
            return self.results_schema or self.cdm_schema
        return self.cdm_schema

    def table(self, name: str) -> TableClause:
        """A table with the columns that are read here."""
        columns = [sa.column(c, kind) for c, kind in _COLUMNS[name].items()]
        return sa.table(name, *columns, schema=self.schema_of(name))

    def events(self, domain: str) -> sa.Subquery:
        """A domain's records as person_id, record_id, concept_id, start_date and its values."""
        event = EVENT_TABLES[domain]
        kinds: dict[str, Any] = {
            event.record_id: _INT,
            event.concept_id: _INT,
            event.start_date: _DATE,
            **event.values,
        }
        table = sa.table(
            event.table,
            sa.column("person_id", _INT),
            *(sa.column(name, kind) for name, kind in kinds.items()),
            schema=self.schema_of(event.table),
        )
        return sa.select(
            table.c.person_id,
            table.c[event.record_id].label("record_id"),
            table.c[event.concept_id].label("concept_id"),
            table.c[event.start_date].label("start_date"),
            *(table.c[name] for name in event.values),
        ).subquery(f"{domain}_event")
