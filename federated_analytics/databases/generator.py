"""Synthetic patients into a PostgreSQL database: tables, rows, indexes, in one transaction.

The same seed, site and number of persons give the same rows; a person's life does not depend on
how many others there are. Adults only; from 2012 to 2025. No real person is described.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from federated_analytics.databases.case_mix import profile, site_name
from federated_analytics.databases.contents import drop_tables, recipe_there
from federated_analytics.databases.errors import OtherDataThere, refusal
from federated_analytics.databases.roles import grant_reading
from federated_analytics.databases.schema import (
    NOTE,
    SYNTHETIC,
    Schemas,
    comment_statements,
    define_tables,
    index_statements,
    qualified,
    table_statements,
)
from federated_analytics.errors import ConfigError

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa


VERSION = 1
"""Of the generator: changes when the same seed gives other rows."""

_LOCK = 5_204_178
"""Key of the advisory lock of those who fill a database."""

_PERSONS_AT_A_TIME = 40_000
_MOST_PERSONS = 20_000_000

Progress: TypeAlias = Callable[[str], None]
"""Called with a line that says what is being done."""


@dataclass(frozen=True)
class Summary:
    """What was written: rows by table, none when the same data were there already."""

    rows: Mapping[str, int]
    seconds: float = 0.0

    @property
    def written(self) -> bool:
        return bool(self.rows)

    def to_text(self) -> str:
        """One line for people."""
        if not self.written:
            return "the same data are there already; nothing was changed"
        rows = sum(self.rows.values())
        tables = ("visit_occurrence", "condition_occurrence", "drug_exposure", "measurement")
        parts = ", ".join(f"{self.rows.get(t, 0):,} {t}" for t in tables)
        return (
            f"{self.rows.get('person', 0):,} synthetic persons, {parts}; "
            f"{rows:,} rows in {self.seconds:.1f} s"
        )


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
    replace: bool = False,
    on_progress: Progress | None = None,
) -> Summary:
    """Define the CDM's tables and fill them; nothing is done when the same data are there.

    Everything happens in one transaction: a failure leaves the database as it was.

    Args:
        engine_or_url: of a role that may create tables (and schemas, where they are missing).
        persons: number of persons, ids 1 to `persons`.
        seed: of the whole federation.
        site: number of the hospital: its case mix and its units.
        replace: drop other synthetic data first; data that are not ours are never dropped.
    Raises:
        ConfigError: a number out of range. MissingExtra: a package is not installed.
        OtherDataThere, DatabaseUnreachable, DatabaseRefused, MissingGrant, DiskFull, ServerFailed
    """
    import psycopg
    from sqlalchemy.exc import DBAPIError

    recipe = Recipe(persons, seed, site)
    schemas = Schemas(cdm_schema, vocabulary_schema, results_schema)
    started = time.monotonic()
    try:
        with _transaction(engine_or_url) as connection:
            rows = _write(connection, recipe, schemas, replace, on_progress or (lambda line: None))
    except psycopg.Error as error:
        raise refusal(error) from error
    except DBAPIError as error:
        raise refusal(error.orig) from error
    return Summary(rows, time.monotonic() - started)


def _transaction(engine_or_url: sa.Engine | str) -> AbstractContextManager[sa.Connection]:
    import sqlalchemy as sa

    from federated_analytics.omop.database import database_url

    if not isinstance(engine_or_url, str):
        return engine_or_url.begin()
    url = database_url(engine_or_url)
    return sa.create_engine(
        url, poolclass=sa.NullPool, connect_args={"connect_timeout": 10}, hide_parameters=True
    ).begin()


def _write(
    connection: sa.Connection, recipe: Recipe, schemas: Schemas, replace: bool, say: Progress
) -> dict[str, int]:
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    with raw.cursor() as cursor:
        # Of two that fill one database at a time the second waits, and finds it filled.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if not _make_room(raw, recipe, schemas, replace):
            return {}
        say("defining tables")
        metadata = _define(cursor, schemas)
        places = {table.name: str(table.schema) for table in metadata.tables.values()}
        rows = _fill(cursor, places, recipe, say)
        for statement in _finish(metadata, say):
            cursor.execute(statement.encode())
    grant_reading(raw, schemas.names())
    return rows


def _make_room(
    raw: psycopg.Connection[Any], recipe: Recipe, schemas: Schemas, replace: bool
) -> bool:
    """False when the data are there already; drops other synthetic data if asked to."""
    there = recipe_there(raw, schemas)
    if there is None:
        return True
    if there == str(recipe) and not replace:
        return False
    if not replace:
        raise OtherDataThere(
            f"The database holds other synthetic data ({there}).",
            where=f"{raw.info.host}:{raw.info.port}/{raw.info.dbname}",
            remedy="Add --replace to drop them, or give the same --persons and --seed.",
        )
    drop_tables(raw, schemas)
    return True


def _define(cursor: psycopg.Cursor[Any], schemas: Schemas) -> sa.MetaData:
    from psycopg import sql

    for name in schemas.names():
        found = cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name]).fetchone()
        if not found:
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    metadata = define_tables(schemas)
    cursor.execute(";".join(table_statements(metadata)).encode())
    return metadata


def _fill(
    cursor: psycopg.Cursor[Any], places: Mapping[str, str], recipe: Recipe, say: Progress
) -> dict[str, int]:
    from federated_analytics.databases.copying import copy_block
    from federated_analytics.databases.lives import life_blocks

    rows: Counter[str] = Counter()
    for table, columns, records in _constant_rows(recipe):
        _insert(cursor, places[table], table, columns, records)
        rows[table] += len(records)
    for first in range(1, recipe.persons + 1, _PERSONS_AT_A_TIME):
        last = min(first + _PERSONS_AT_A_TIME - 1, recipe.persons)
        say(f"persons {first:,} to {last:,} of {recipe.persons:,}")
        for block in life_blocks(recipe.seed, recipe.site, first, last, rows):
            rows[block.table] += copy_block(cursor, block, places[block.table])
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


def _finish(metadata: sa.MetaData, say: Progress) -> Iterator[str]:
    """Keys, indexes, comments, statistics."""
    say("indexes")
    yield from index_statements(metadata)
    yield from comment_statements(metadata)
    say("statistics")
    for table in metadata.tables.values():
        yield f"ANALYZE {qualified(table)}"
