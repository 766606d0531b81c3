"""Synthetic patients into a PostgreSQL database: tables, rows, indexes, in one transaction.

The same seed, site and number of persons give the same rows; a person's life does not depend on
how many others there are. Adults only; from 2014 to 2025. No real person is described.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from federated_analytics.databases.case_mix import profile, site_name
from federated_analytics.databases.schema import (
    SYNTHETIC,
    Schemas,
    comment_statements,
    define_tables,
    index_statements,
    qualified,
)
from federated_analytics.errors import ConfigError

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

    from federated_analytics.databases.copying import Block

VERSION = 1
"""Of the generator: changes when the same seed gives other rows."""

NOTE = "synthetic data"
_PERSONS_AT_A_TIME = 40_000
_MOST_PERSONS = 20_000_000

Progress: TypeAlias = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0 to 1."""


@dataclass(frozen=True)
class Summary:
    """What was written: rows by table."""

    rows: Mapping[str, int]

    @property
    def persons(self) -> int:
        return self.rows.get("person", 0)

    def to_text(self) -> str:
        """One line: the tables with their rows."""
        return ", ".join(f"{name} {count:,}" for name, count in self.rows.items())


@dataclass(frozen=True)
class Recipe:
    """What makes a database's synthetic data: the same recipe, the same rows."""

    persons: int = 2000
    seed: int = 1
    site: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("persons", 0, _MOST_PERSONS),
            ("seed", 0, 2**63),
            ("site", 0, 10_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"{getattr(self, name)} is out of range.",
                    where=f"--{name}",
                    remedy=f"Give a whole number from {low:,} to {high:,}.",
                )

    def __str__(self) -> str:
        return f"persons={self.persons} seed={self.seed} site={self.site} generator={VERSION}"


def generate(
    engine_or_url: sa.Engine | str,
    *,
    persons: int = 2000,
    seed: int = 1,
    site: int = 0,
    cdm_schema: str = "public",
    vocabulary_schema: str = "public",
    results_schema: str = "public",
    on_progress: Progress | None = None,
) -> Summary:
    """Define the CDM's tables, where they are not there yet, and fill them.

    Everything happens in one transaction: a failure leaves the database as it was.

    Args:
        engine_or_url: of a role that may create tables (and schemas, where they are missing).
        persons: number of persons, ids 1 to `persons`.
        seed: of the whole federation.
        site: number of the hospital: its case mix and its units.
    Raises:
        ConfigError: a number out of range. MissingExtra: omop-cdm or numpy is not installed.
        sqlalchemy.exc.SQLAlchemyError, psycopg.Error: what the database refuses.
    """
    recipe = Recipe(persons, seed, site)
    schemas = Schemas(cdm_schema, vocabulary_schema, results_schema)
    report = on_progress or (lambda what, share: None)
    with _transaction(engine_or_url) as connection:
        metadata = _define(connection, schemas)
        places = {table.name: str(table.schema) for table in metadata.tables.values()}
        raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        with raw.cursor() as cursor:
            rows = _fill(cursor, places, recipe, report)
            for statement in _finish(metadata, report):
                cursor.execute(statement.encode())
    return Summary(rows)


def _transaction(engine_or_url: sa.Engine | str) -> Any:
    import sqlalchemy as sa

    from federated_analytics.omop.database import database_url

    if isinstance(engine_or_url, str):
        url = database_url(engine_or_url)
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 10})
    else:
        engine = engine_or_url
    return engine.begin()


def _define(connection: sa.Connection, schemas: Schemas) -> sa.MetaData:
    import sqlalchemy as sa

    for name in schemas.names():
        if name not in sa.inspect(connection).get_schema_names():
            connection.execute(sa.schema.CreateSchema(name))
    metadata = define_tables(schemas)
    metadata.create_all(connection)
    return metadata


def _fill(
    cursor: psycopg.Cursor[Any], places: Mapping[str, str], recipe: Recipe, report: Progress
) -> dict[str, int]:
    from federated_analytics.databases.copying import copy_block
    from federated_analytics.databases.lives import life_blocks

    rows: Counter[str] = Counter()
    for table, columns, records in _constant_rows(recipe):
        _insert(cursor, places[table], table, columns, records)
        rows[table] += len(records)
    for first in range(1, recipe.persons + 1, _PERSONS_AT_A_TIME):
        report("persons", (first - 1) / recipe.persons)
        last = min(first + _PERSONS_AT_A_TIME - 1, recipe.persons)
        for block in life_blocks(recipe.seed, recipe.site, first, last, rows):
            rows[block.table] += copy_block(cursor, block, places[block.table])
    report("persons", 1.0)
    return dict(rows)


def _constant_rows(recipe: Recipe) -> Iterator[tuple[str, Any, list[tuple[Any, ...]]]]:
    """Table, columns and rows of what does not depend on the persons."""
    from federated_analytics.databases.events import COHORTS
    from federated_analytics.databases.vocabulary import vocabulary

    yield from vocabulary().rows()
    name, title = site_name(recipe.site), profile(recipe.site).title
    source = {
        "cdm_source_name": name,
        "cdm_source_abbreviation": name.replace("hospital ", ""),
        "cdm_holder": "nobody: synthetic data",
        "source_description": f"{SYNTHETIC} A {title}; {recipe}.",
        "source_release_date": "2025-12-31",
        "cdm_release_date": "2025-12-31",
        "cdm_version": "5.4",
        "cdm_version_concept_id": 0,
        "vocabulary_version": "catalogue",
    }
    yield "cdm_source", tuple(source), [tuple(source.values())]
    note = (1, 0, 0, NOTE, str(recipe), "2025-12-31")
    columns = ("metadata_id", "metadata_concept_id", "metadata_type_concept_id", "name")
    yield "metadata", (*columns, "value_as_string", "metadata_date"), [note]
    yield (
        "cohort_definition",
        (
            "cohort_definition_id",
            "cohort_definition_name",
            "cohort_definition_description",
            "definition_type_concept_id",
            "subject_concept_id",
        ),
        [(i, disease, f"{text}. {SYNTHETIC}", 0, 0) for i, (disease, text) in COHORTS.items()],
    )


def _insert(
    cursor: psycopg.Cursor[Any], schema: str, table: str, columns: Any, rows: list[Any]
) -> None:
    from psycopg import sql

    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _finish(metadata: sa.MetaData, report: Progress) -> Iterator[str]:
    """Keys, indexes, comments, statistics."""
    statements = list(index_statements(metadata))
    for done, statement in enumerate(statements):
        report("indexes", done / len(statements))
        yield statement
    report("indexes", 1.0)
    yield from comment_statements(metadata)
    for table in metadata.tables.values():
        yield f"ANALYZE {qualified(table)}"
