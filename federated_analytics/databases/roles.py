"""The databases and roles of a PostgreSQL server: an owner, and a reader for the sites."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

OWNER = "omop"
READER = "omop_reader"
DATABASE = "omop"
PASSWORD_VARIABLES = {
    OWNER: "FEDERATED_ANALYTICS_DB_PASSWORD",
    READER: "FEDERATED_ANALYTICS_DB_READER_PASSWORD",
}


def password(role: str) -> str:
    """The role's password: from its environment variable, else its name (synthetic data)."""
    return os.environ.get(PASSWORD_VARIABLES[role]) or role


def define_database(connection: psycopg.Connection[Any], name: str = DATABASE) -> None:
    """Create a database, if it is not there; the connection is in autocommit mode."""
    from psycopg import sql

    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    if not found:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def define_reader(connection: psycopg.Connection[Any]) -> None:
    """Create the reader's role, or give it its password of today."""
    from psycopg import sql

    found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [READER]).fetchone()
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
            sql.SQL("ALTER" if found else "CREATE"),
            sql.Identifier(READER),
            sql.Literal(password(READER)),
        )
    )


def grant_reading(
    connection: psycopg.Connection[Any], schemas: tuple[str, ...] = ("public",)
) -> None:
    """Let the reader's role, where there is one, read all tables of `schemas`, now and later."""
    from psycopg import sql

    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [READER]).fetchone():
        return
    reader = sql.Identifier(READER)
    database = sql.Identifier(connection.info.dbname)
    connection.execute(
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, reader)
    )
    for schema in map(sql.Identifier, schemas):
        for grant in (
            "GRANT USAGE ON SCHEMA {schema} TO {reader}",
            "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader}",
        ):
            connection.execute(sql.SQL(grant).format(schema=schema, reader=reader))


def empty_database(owner_url: str, name: str) -> str:
    """Create a database, dropping one of that name first; its URL."""
    import psycopg
    from sqlalchemy.engine import make_url

    drop_database(owner_url, name)
    with psycopg.connect(owner_url, autocommit=True) as connection:
        define_database(connection, name)
    return make_url(owner_url).set(database=name).render_as_string(hide_password=False)


def drop_database(owner_url: str, name: str) -> None:
    """Drop a database, ending its connections, if it is there."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(owner_url, autocommit=True) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(drop.format(sql.Identifier(name)))
