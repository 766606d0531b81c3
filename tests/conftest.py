"""One PostgreSQL for all tests; each test module gets schemas or databases of its own in it."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from federated_analytics.omop.database import database_url

# A shell's background job is started deaf to SIGINT, and hands that on to all it starts; the
# tests that interrupt a program need one that hears it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests of real federations run by `make federation` alone."""
    if os.environ.get("FEDERATED_ANALYTICS_FEDERATION"):
        return
    later = pytest.mark.skip(reason="minutes of a real federation; make federation runs it")
    for item in items:
        if item.get_closest_marker("federation"):
            item.add_marker(later)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server's owner; FEDERATED_ANALYTICS_TEST_URL names one that is there already."""
    given = os.environ.get("FEDERATED_ANALYTICS_TEST_URL")
    if given:
        yield given
        return
    from federated_analytics.databases.postgres import temporary_cluster

    with temporary_cluster() as cluster:
        yield cluster.owner_url("postgres")


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """URL of an empty database, dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    url = database_url(postgres_url)
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).parents[1]
