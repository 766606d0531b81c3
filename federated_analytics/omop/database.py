"""A connection to a site's PostgreSQL, and what its refusals mean without their text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from federated_analytics.errors import (
    ConfigError,
    DatabaseError,
    DatabaseRefused,
    DatabaseTimeout,
    DatabaseUnreachable,
    FederatedAnalyticsError,
    MissingColumn,
    MissingGrant,
    MissingTable,
    NotNumeric,
    UnsupportedCdm,
)
from federated_analytics.omop.tables import Cdm

if TYPE_CHECKING:
    from federated_analytics.omop.stop import Stop

CONNECT_SECONDS = 10
WORK_MEMORY = "128MB"
"""Memory of one sort or hash in the database; enough that a frame of 1,000,000 persons fits."""

NOTICE = "2s"
"""How soon the database ends a statement whose client was killed."""

READABLE_CDM = ("5.3", "5.4")


def database_url(text: str) -> URL:
    """A SQLAlchemy URL for psycopg; ConfigError for what is no PostgreSQL. Never echoes `text`."""
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigError(
            "The database URL cannot be read.",
            where="db-url",
            remedy="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
        ) from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigError(
            f"{url.get_backend_name()!r} databases are not read.",
            where="db-url",
            remedy="Give the URL of a PostgreSQL database: postgresql://…",
        )
    return url.set(drivername="postgresql+psycopg")


@contextmanager
def snapshot(url: URL, seconds: float) -> Iterator[sa.Connection]:
    """One repeatable-read transaction, rolled back at its end: nothing is left in the database.

    On a connection of its own; a service holds a `pool.ConnectionPool`.

    Args:
        seconds: limit of each statement.
    Raises:
        DatabaseError: one of its kinds, without the database's own words.
    """
    engine = sa.create_engine(
        url,
        poolclass=sa.NullPool,
        connect_args=connect_options(seconds),
        isolation_level="REPEATABLE READ",
        hide_parameters=True,
    )
    try:
        with transaction(engine, seconds) as connection:
            yield connection
    finally:
        engine.dispose()


def connect_options(seconds: float = CONNECT_SECONDS) -> dict[str, str | int]:
    """How a connection is opened (libpq's parameters)."""
    return {
        "connect_timeout": max(1, min(CONNECT_SECONDS, int(seconds))),
        "application_name": "federated_analytics",
    }


@contextmanager
def transaction(
    engine: sa.Engine,
    seconds: float,
    *,
    work_mem: str = WORK_MEMORY,
    temp_file_limit: str = "",
    stop: Stop | None = None,
) -> Iterator[sa.Connection]:
    """A transaction of `engine` under a study's limits, rolled back at its end.

    Raises: as `snapshot`; and Stopped where `stop` was asked to.
    """
    limit = str(max(1, int(seconds * 1000)))
    settings = {"statement_timeout": limit, "lock_timeout": limit, "work_mem": work_mem}
    try:
        with engine.connect() as connection:
            try:
                with connection.begin() as begun, stop.over(connection) if stop else nullcontext():
                    _set(connection, settings | {"jit": "off"})
                    if temp_file_limit and _may_set(connection, "temp_file_limit"):
                        _set(connection, {"temp_file_limit": temp_file_limit})
                    yield connection
                    begun.rollback()
            finally:
                if stop is not None and stop.reason:
                    connection.invalidate()  # a cancel may still be on its way to it
    except exc.SQLAlchemyError as error:
        if stop is not None:
            stop.check()
        raise explained(error) from error


def _set(connection: sa.Connection, settings: Mapping[str, str]) -> None:
    """Settings for the rest of the transaction, in one statement."""
    calls: list[sa.ColumnElement[Any]] = [
        sa.func.set_config(name, value, True) for name, value in settings.items()
    ]
    if (connection.dialect.server_version_info or (0,)) >= (14,):
        notice = sa.func.set_config("client_connection_check_interval", NOTICE, True)
        # Other systems cannot, and refuse it.
        calls.append(sa.case((sa.func.version().contains("linux"), notice)))
    connection.execute(sa.select(*calls))


def _may_set(connection: sa.Connection, name: str) -> bool:
    """Whether the role may change a setting that is a superuser's (PostgreSQL 15 can grant it)."""
    granted = (
        "has_parameter_privilege(:name, 'SET')"
        if (connection.dialect.server_version_info or (0,)) >= (15,)
        else "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user AND :name <> '')"
    )
    return bool(connection.execute(sa.text(f"SELECT {granted}"), {"name": name}).scalar())


class DatabaseSpace(DatabaseError):
    """A study that needs more disk for its own files than a study may have."""

    code = "database_space"
    default_remedy = "Ask for fewer features, strata or concepts at once."


_BY_STATE: dict[str, type[DatabaseError]] = {
    "28": DatabaseRefused,
    "3D000": DatabaseRefused,
    "42P01": MissingTable,
    "3F000": MissingTable,
    "42501": MissingGrant,
    "42703": MissingColumn,
    "57014": DatabaseTimeout,
    "55P03": DatabaseTimeout,
    "22P02": NotNumeric,
    "42846": NotNumeric,
    "42883": NotNumeric,
    "42804": NotNumeric,
    "08": DatabaseUnreachable,
    "57P": DatabaseUnreachable,
    "53300": DatabaseUnreachable,
    "53100": DatabaseSpace,
    "53400": DatabaseSpace,
}

_MESSAGES: dict[type[DatabaseError], str] = {
    DatabaseRefused: "The database refused the site's user.",
    MissingTable: "The database lacks a table that the study needs.",
    MissingGrant: "The site's role may not read a table that the study needs.",
    MissingColumn: "A table lacks a column that the study needs.",
    DatabaseTimeout: "The database did not finish in time.",
    NotNumeric: "A column that should be numeric is not.",
    DatabaseUnreachable: "The database does not answer.",
    DatabaseSpace: "The study needs more disk in the database than it may use.",
    DatabaseError: "The database could not answer the study.",
}


def explained(error: exc.SQLAlchemyError) -> FederatedAnalyticsError:
    """The database's refusal as one of our errors: kind and remedy, none of its text."""
    original = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None)
    kind: type[DatabaseError] = DatabaseError
    if state:
        kind = next((k for prefix, k in _BY_STATE.items() if state.startswith(prefix)), kind)
    elif isinstance(error, exc.OperationalError | exc.InterfaceError):
        refused = "authentication failed" in str(original) or "does not exist" in str(original)
        kind = DatabaseRefused if refused else DatabaseUnreachable
    return kind(_MESSAGES[kind])


def fingerprint(connection: sa.Connection, cdm: Cdm, salt: str) -> str:
    """The same text for the same database and schema in one run; says nothing else of it.

    The system's identifier and the database within it are hashed with the run's own `salt`, so
    two runs cannot be linked by it.
    """
    identity = connection.execute(
        sa.text(
            "SELECT current_database(), pg_postmaster_start_time(), "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    ).one()
    system = None
    try:
        with connection.begin_nested():
            system = connection.execute(
                sa.text("SELECT system_identifier FROM pg_control_system()")
            ).scalar()
    except exc.SQLAlchemyError:
        system = str(identity[1])  # the role may not read it: the server's start time serves
    text = f"{salt}/{system}/{identity[0]}/{identity[2]}/{cdm.cdm_schema}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_version(url: URL, cdm: Cdm, seconds: float) -> str:
    """A text that changes when the tables do: the release dates, and PostgreSQL's own counters.

    The counters start anew after a crash; the data then count as changed, which costs an answer
    made anew, and no more.
    """
    with snapshot(url, seconds) as connection:
        return version_of(connection, cdm)


def version_of(connection: sa.Connection, cdm: Cdm) -> str:
    """`data_version` on a connection that is there."""
    source = cdm_source(connection, cdm)
    counters = connection.execute(
        sa.text(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del), count(*) FROM pg_stat_all_tables "
            "WHERE schemaname = ANY(:schemas)"
        ),
        {"schemas": [cdm.cdm_schema or "public", cdm.results_schema or "public"]},
    ).one()
    text = "/".join(map(str, (*sorted(map(str, source.items())), *counters)))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def cdm_source(connection: sa.Connection, cdm: Cdm) -> dict[str, Any]:
    """The row of cdm_source, empty where there is none; UnsupportedCdm for another version."""
    if not has_table(connection, "cdm_source", cdm.schema_of("cdm_source")):
        return {}
    row = connection.execute(sa.select(cdm.table("cdm_source")).limit(1)).mappings().first()
    source = dict(row) if row else {}
    version = str(source.get("cdm_version") or "").lower().removeprefix("cdm").strip(" v")
    if version and not version.startswith(READABLE_CDM):
        raise UnsupportedCdm("The database has another CDM version than 5.3 or 5.4.")
    return source


def has_table(connection: sa.Connection, name: str, schema: str | None) -> bool:
    """Whether the table or view is there and may be read."""
    quote = connection.dialect.identifier_preparer.quote
    qualified = f"{quote(schema)}.{quote(name)}" if schema else quote(name)
    return bool(
        connection.execute(
            sa.text(
                "SELECT CASE WHEN to_regclass(:name) IS NULL THEN false "
                "ELSE has_table_privilege(to_regclass(:name), 'SELECT') END"
            ),
            {"name": qualified},
        ).scalar()
    )


def may_create_temporary(connection: sa.Connection) -> bool:
    """Whether the role may keep the frame in a temporary table."""
    return bool(
        connection.execute(
            sa.text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
        ).scalar()
    )
