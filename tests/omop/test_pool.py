"""The connections that a service holds: used again, limited for each study, never left unclean."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from federated_analytics.errors import DatabaseTimeout, DatabaseUnreachable
from federated_analytics.omop.database import DatabaseSpace, database_url
from federated_analytics.omop.pool import ConnectionPool
from federated_analytics.omop.stop import Stop, Stopped


@pytest.fixture
def pool(database: str) -> Iterator[ConnectionPool]:
    made = ConnectionPool(database_url(database), 2, "77MB", "5MB")
    yield made
    made.close()


def value(connection: sa.Connection, sql: str) -> object:
    return connection.execute(sa.text(sql)).scalar()


def backend(pool: ConnectionPool) -> object:
    with pool.snapshot(5) as connection:
        return value(connection, "SELECT pg_backend_pid()")


def test_a_connection_is_used_again(pool: ConnectionPool) -> None:
    assert len({backend(pool) for _ in range(5)}) == 1


def test_settings_are_the_studys_alone(pool: ConnectionPool) -> None:
    with pool.snapshot(12) as connection:
        shown = [
            value(connection, f"SHOW {name}")
            for name in ("work_mem", "temp_file_limit", "statement_timeout", "lock_timeout", "jit")
        ]
        assert shown == ["77MB", "5MB", "12s", "12s", "off"]
        assert value(connection, "SHOW transaction_isolation") == "repeatable read"
    with pool._engine.connect() as connection:
        assert value(connection, "SHOW work_mem") != "77MB"
        assert value(connection, "SHOW temp_file_limit") == "-1"
        assert value(connection, "SHOW statement_timeout") == "0"


def test_a_role_that_may_not_limit_its_files_is_not_stopped_by_that(database: str) -> None:
    owner = sa.create_engine(database_url(database), isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS plain_reader"))
        connection.execute(sa.text("CREATE ROLE plain_reader LOGIN PASSWORD 'pw'"))
    try:
        url = database_url(database).set(username="plain_reader", password="pw")
        pool = ConnectionPool(url, 1, "77MB", "5MB")
        with pool.snapshot(5) as connection:
            assert value(connection, "SHOW work_mem") == "77MB"
            assert value(connection, "SHOW temp_file_limit") == "-1"
        pool.close()
    finally:
        with owner.connect() as connection:
            connection.execute(sa.text("DROP ROLE plain_reader"))
        owner.dispose()


def test_a_study_that_fills_the_disk_is_refused(pool: ConnectionPool) -> None:
    rows = "SELECT repeat('x', 900) || i FROM generate_series(1, 200000) i ORDER BY 1 OFFSET 0"
    small = replace(pool, work_mem="64kB")
    with pytest.raises(DatabaseSpace), small.snapshot(30) as connection:
        value(connection, f"SELECT count(*) FROM ({rows}) s")
    small.close()


def test_nothing_is_left_of_a_study(pool: ConnectionPool) -> None:
    """One table's name with other columns in each study, often enough to be prepared."""
    for i in range(12):
        kind, number = ("int", "7") if i % 2 else ("text", "'7'")
        with pool.snapshot(5) as connection:
            connection.execute(
                sa.text(f"CREATE TEMPORARY TABLE frame ON COMMIT DROP AS SELECT {number}::{kind} x")
            )
            found = value(connection, "SELECT x FROM frame")
        assert found == (7 if i % 2 else "7")


def test_statements_have_their_time(pool: ConnectionPool) -> None:
    began = time.monotonic()
    with pytest.raises(DatabaseTimeout), pool.snapshot(1) as connection:
        value(connection, "SELECT pg_sleep(20)")
    assert time.monotonic() - began < 3


def test_a_study_is_stopped_in_the_middle_of_a_statement(pool: ConnectionPool) -> None:
    stop, before = Stop(), backend(pool)
    threading.Timer(0.3, stop.ask, ["abandoned"]).start()
    began = time.monotonic()
    with pytest.raises(Stopped, match="abandoned"), pool.snapshot(30, stop) as connection:
        value(connection, "SELECT pg_sleep(20)")
    assert time.monotonic() - began < 3
    assert backend(pool) != before, "a connection that was cancelled is not used again"


def test_a_study_is_stopped_between_its_statements(pool: ConnectionPool) -> None:
    stop = Stop()

    def study() -> None:
        with pool.snapshot(5, stop) as connection:
            value(connection, "SELECT 1")
            stop.ask("cancelled")
            value(connection, "SELECT 1")

    with pytest.raises(Stopped):
        study()
    with pytest.raises(Stopped), pool.snapshot(5, stop):
        raise AssertionError("it had been stopped before it began")


def test_a_stop_is_not_swallowed_by_an_analysis_that_fails(pool: ConnectionPool) -> None:
    """An analysis runs in a savepoint, and its own errors refuse it alone."""
    stop = Stop()

    def study() -> None:
        with pool.snapshot(5, stop) as connection:
            for _ in range(3):
                try:
                    with connection.begin_nested():
                        stop.ask("cancelled")
                        value(connection, "SELECT 1")
                except sa.exc.SQLAlchemyError:
                    continue

    with pytest.raises(Stopped):
        study()


def test_a_database_that_was_started_again_is_found_again(pool: ConnectionPool) -> None:
    first = backend(pool)
    other = sa.create_engine(pool.url, poolclass=sa.NullPool)
    with other.connect() as connection:
        value(connection, f"SELECT pg_terminate_backend({first})")
    assert backend(pool) != first
    gone = ConnectionPool(pool.url.set(port=1), 1)
    with pytest.raises(DatabaseUnreachable), gone.snapshot(2):
        pass
