"""The tables of OMOP CDM 5.4, in any schemas: defined without keys, indexed after the load.

Columns come from the package omop-cdm (`omop_cdm.regular.cdm54`), which leaves out the cohort
tables. Foreign keys are left out: a partial vocabulary would break them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from federated_analytics.errors import MissingExtra

if TYPE_CHECKING:
    import sqlalchemy as sa

COHORT_TABLES = ("cohort", "cohort_definition")
SUMMARY_TABLE = "person_summary"
SYNTHETIC = "SYNTHETIC DATA: computer-generated, no real person is described."

NOTE = "synthetic data"
"""Name of the row of `metadata` that says how the data were made."""


@dataclass(frozen=True)
class Schemas:
    """In which schema each part of the CDM stands; the names may be the same."""

    cdm: str = "public"
    vocabulary: str = "public"
    results: str = "public"

    def names(self) -> tuple[str, ...]:
        """The schemas' names, each once."""
        return tuple(dict.fromkeys(getattr(self, f.name) for f in fields(self)))


def define_tables(schemas: Schemas) -> sa.MetaData:
    """All tables of CDM 5.4, the cohort tables and `person_summary`; no keys, no indexes.

    Raises:
        MissingExtra: the package omop-cdm is not installed.
    """
    import sqlalchemy as sa

    try:
        from omop_cdm.constants import VOCAB_SCHEMA
        from omop_cdm.regular.cdm54 import Base
    except ImportError as error:
        raise MissingExtra("omop-cdm", "demo", "Defining OMOP tables") from error
    metadata = sa.MetaData()
    for table in Base.metadata.tables.values():
        schema = schemas.vocabulary if table.schema == VOCAB_SCHEMA else schemas.cdm
        columns = [sa.Column(c.name, c.type, nullable=c.nullable) for c in table.columns]
        sa.Table(table.name, metadata, *columns, schema=schema)
    _define_cohorts(metadata, schemas.results)
    _define_summary(metadata, schemas.cdm)
    return metadata


def _define_cohorts(metadata: sa.MetaData, schema: str) -> None:
    import sqlalchemy as sa

    sa.Table(
        "cohort",
        metadata,
        sa.Column("cohort_definition_id", sa.Integer, nullable=False),
        sa.Column("subject_id", sa.Integer, nullable=False),
        sa.Column("cohort_start_date", sa.Date, nullable=False),
        sa.Column("cohort_end_date", sa.Date, nullable=False),
        schema=schema,
    )
    sa.Table(
        "cohort_definition",
        metadata,
        sa.Column("cohort_definition_id", sa.Integer, nullable=False),
        sa.Column("cohort_definition_name", sa.String(255), nullable=False),
        sa.Column("cohort_definition_description", sa.Text),
        sa.Column("definition_type_concept_id", sa.Integer, nullable=False),
        sa.Column("cohort_definition_syntax", sa.Text),
        sa.Column("subject_concept_id", sa.Integer, nullable=False),
        sa.Column("cohort_initiation_date", sa.Date),
        schema=schema,
    )


def _define_summary(metadata: sa.MetaData, schema: str) -> None:
    """One row a person: age (years), sex, the latest measurements in one unit, smoking."""
    import sqlalchemy as sa

    measured = ("bmi", "systolic_bp", "diastolic_bp", "hba1c", "total_cholesterol")
    sa.Table(
        SUMMARY_TABLE,
        metadata,
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("age", sa.Integer, nullable=False),
        sa.Column("sex", sa.Text, nullable=False),
        *(sa.Column(name, sa.Double) for name in measured),
        sa.Column("smoker", sa.Boolean),
        schema=schema,
    )


def table_statements(metadata: sa.MetaData) -> Iterator[str]:
    """`CREATE TABLE IF NOT EXISTS`, for every table."""
    from sqlalchemy.dialects.postgresql.psycopg import dialect
    from sqlalchemy.schema import CreateTable

    postgresql = dialect()  # type: ignore[no-untyped-call]
    for table in metadata.tables.values():
        yield str(CreateTable(table, if_not_exists=True).compile(dialect=postgresql))


# What is read by person, by concept, and what the frame's sort ("latest value") wants.
_KEYS = {
    "person": "person_id",
    "observation_period": "observation_period_id",
    "visit_occurrence": "visit_occurrence_id",
    "condition_occurrence": "condition_occurrence_id",
    "drug_exposure": "drug_exposure_id",
    "procedure_occurrence": "procedure_occurrence_id",
    "measurement": "measurement_id",
    "observation": "observation_id",
    "death": "person_id",
    "concept": "concept_id",
    "vocabulary": "vocabulary_id",
    "domain": "domain_id",
    "cohort_definition": "cohort_definition_id",
    SUMMARY_TABLE: "person_id",
}
_INDEXES = (
    ("observation_period", "(person_id)"),
    ("visit_occurrence", "(person_id, visit_start_date)"),
    ("condition_occurrence", "(person_id)"),
    ("condition_occurrence", "(condition_concept_id, person_id, condition_start_date)"),
    ("drug_exposure", "(person_id)"),
    ("drug_exposure", "(drug_concept_id, person_id, drug_exposure_start_date)"),
    ("procedure_occurrence", "(person_id)"),
    ("procedure_occurrence", "(procedure_concept_id, person_id, procedure_date)"),
    ("measurement", "(person_id)"),
    (
        "measurement",
        "(measurement_concept_id, person_id, measurement_date DESC) INCLUDE (value_as_number)",
    ),
    ("observation", "(person_id)"),
    ("observation", "(observation_concept_id, person_id, observation_date)"),
    ("concept_ancestor", "(ancestor_concept_id, descendant_concept_id)"),
    ("concept_ancestor", "(descendant_concept_id)"),
    ("concept_relationship", "(concept_id_1)"),
    ("cohort", "(cohort_definition_id, subject_id)"),
)


def index_statements(metadata: sa.MetaData) -> Iterator[str]:
    """Primary keys and indexes, to be run after the load."""
    places = {table.name: qualified(table) for table in metadata.tables.values()}
    for name, column in _KEYS.items():
        yield f"ALTER TABLE {places[name]} ADD PRIMARY KEY ({column})"
    for name, columns in _INDEXES:
        yield f"CREATE INDEX ON {places[name]} {columns}"


def comment_statements(metadata: sa.MetaData) -> Iterator[str]:
    """`COMMENT ON TABLE` for every table: it holds synthetic data."""
    for table in metadata.tables.values():
        yield f"COMMENT ON TABLE {qualified(table)} IS '{SYNTHETIC}'"


def qualified(table: sa.Table) -> str:
    """A table's name with its schema, quoted where it must be."""
    return ".".join(_quoted(name) for name in (str(table.schema), table.name))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
