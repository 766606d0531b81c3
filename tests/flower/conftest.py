"""Two hospitals in PostgreSQL servers of their own, and a real federation over them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from federated_analytics.databases.postgres import Cluster, grant_reading, temporary_cluster
from federated_analytics.local.processes import CONNECTION, LocalFederation, local_federation
from federated_analytics.local.program import program
from tests import pooled
from tests.sites import load

PERSONS = 900
NAMES = ("hospital-a", "hospital-b")


@dataclass(frozen=True)
class Outcome:
    """What a `flwr` command printed, and how it ended."""

    code: int
    text: str


Flwr = Callable[..., Outcome]


@pytest.fixture(scope="session")
def hospitals() -> Iterator[list[Cluster]]:
    """Random persons, partitioned over two servers, in the tables' usual places."""
    tables = pooled.random_tables(20261123, PERSONS)
    with temporary_cluster() as first, temporary_cluster() as second:
        for position, cluster in enumerate((first, second)):
            with psycopg.connect(cluster.owner_url()) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
            part = pooled.part_of(tables, position, 2, empty=False)
            load(cluster.owner_url(), "public", {**part, **pooled.concept_tables()})
            with psycopg.connect(cluster.owner_url()) as connection:
                grant_reading(connection)
        yield [first, second]


@pytest.fixture(scope="session")
def federation(
    hospitals: list[Cluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalFederation]:
    """A SuperLink, whose working directory is `folder`, and a SuperNode a hospital."""
    folder = tmp_path_factory.mktemp("federation")
    configs = [{"db-port": c.port, "site": n} for c, n in zip(hospitals, NAMES, strict=True)]
    before = Path.cwd()
    os.chdir(folder)  # the ServerApp's working directory is the SuperLink's
    try:
        with local_federation(configs, folder) as running:
            os.chdir(before)
            yield running
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def app(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app as Flower takes it, apart from what else lies in the checkout."""
    import shutil

    folder = tmp_path_factory.mktemp("app") / "federated-analytics"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("federated_analytics", "studies"):
        shutil.copytree(root / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder / name)
    return folder


@pytest.fixture
def flwr(federation: LocalFederation, app: Path) -> Flwr:
    """`flwr run` of the app over the federation, with a run-config."""
    return lambda run_config="", *, seconds=240.0: flwr_run(
        federation, app, run_config, seconds=seconds
    )


def flwr_run(
    federation: LocalFederation, app: Path, run_config: str = "", *, seconds: float = 240.0
) -> Outcome:
    command = [program("flwr"), "run", ".", CONNECTION, "--stream"]
    if run_config:
        command += ["--run-config", run_config]
    done = subprocess.run(
        command,
        cwd=app,
        env={**os.environ, **federation.environment, "NO_COLOR": "1", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Outcome(done.returncode, done.stdout + done.stderr)
