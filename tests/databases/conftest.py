"""Two synthetic hospitals in schemas of one database, and folders that servers may live in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federated_analytics.databases.generator import generate

PERSONS = 3_000
SITES = (0, 1)


@pytest.fixture(scope="module")
def hospitals(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to hospitals 0 and 1, in the schemas site_0 and site_1."""
    for site in SITES:
        schema = f"site_{site}"
        generate(
            database,
            persons=PERSONS,
            site=site,
            cdm_schema=schema,
            vocabulary_schema=schema,
            results_schema=schema,
        )
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """An empty folder that PostgreSQL may enter: pytest's own is closed to `nobody`."""
    parent = "/var/tmp" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="test-databases-", dir=parent))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
