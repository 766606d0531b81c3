"""What a database holds already: nothing, our synthetic data, or somebody's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from federated_analytics.databases.errors import OtherDataThere
from federated_analytics.databases.schema import NOTE, Schemas

if TYPE_CHECKING:
    import psycopg


def recipe_there(connection: psycopg.Connection[Any], schemas: Schemas) -> str | None:
    """The recipe of the synthetic data in a database; None where there is no `person` table.

    Raises:
        OtherDataThere: the tables hold something else.
    """
    from psycopg import sql

    tables = _tables_there(connection, schemas)
    if "person" not in tables:
        if tables & {"concept", "measurement", "person_summary", "cohort"}:
            raise _not_ours(connection)
        return None
    if "metadata" not in tables:
        raise _not_ours(connection)
    found = connection.execute(
        sql.SQL("SELECT value_as_string FROM {} WHERE name = %s").format(
            sql.Identifier(schemas.cdm, "metadata")
        ),
        [NOTE],
    ).fetchone()
    if found is None:
        raise _not_ours(connection)
    return str(found[0])


def drop_tables(connection: psycopg.Connection[Any], schemas: Schemas) -> None:
    """Drop all tables of the CDM in `schemas`."""
    from psycopg import sql

    from federated_analytics.databases.schema import define_tables

    for table in define_tables(schemas).tables.values():
        connection.execute(
            sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(str(table.schema), table.name))
        )


def _tables_there(connection: psycopg.Connection[Any], schemas: Schemas) -> set[str]:
    rows = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = ANY(%s)", [list(schemas.names())]
    )
    return {str(row[0]) for row in rows}


def _not_ours(connection: psycopg.Connection[Any]) -> OtherDataThere:
    return OtherDataThere(
        "The schemas hold tables that are not this generator's; nothing was changed.",
        where=f"database {connection.info.dbname}",
        remedy="Give another database, or other schemas: --cdm-schema NAME.",
    )
