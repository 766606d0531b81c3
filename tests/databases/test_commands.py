"""`federated-analytics db …` and the two scripts, as a user meets them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from federated_analytics.databases.commands import app
from federated_analytics.databases.errors import (
    MissingProgram,
    OtherDataThere,
    PortInUse,
    ServerFailed,
)
from federated_analytics.databases.postgres import free_port, known_clusters
from federated_analytics.errors import ConfigError, DatabaseRefused, DatabaseUnreachable

pytestmark = pytest.mark.xdist_group("databases")


def db(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def two_free_ports() -> int:
    """The first of two neighbouring ports that nobody listens on."""
    import socket

    while True:
        port = free_port()
        with socket.socket() as probe:
            if port < 65_000 and probe.connect_ex(("127.0.0.1", port + 1)):
                return port


def test_start_status_stop(server_folder: Path) -> None:
    port, here = two_free_ports(), ("--state", server_folder)
    assert "no databases" in db("status", *here).output
    first = db("start", 2, "--persons", 60, "--port", port, *here)
    assert first.exit_code == 0, first.output
    assert f'--node-config="db-port={port + 1}"' in first.output
    pids = [c.pid() for c in known_clusters(server_folder)]
    again = db("start", 2, "--persons", 60, "--port", port, *here)
    assert again.output.count("nothing was changed") == 2
    assert [c.pid() for c in known_clusters(server_folder)] == pids
    for cluster, unit in zip(known_clusters(server_folder), (8840, 8753), strict=True):
        with psycopg.connect(cluster.reader_url()) as connection:
            assert connection.execute("SELECT count(*) FROM person").fetchone() == (60,)
            units = connection.execute(
                "SELECT count(*) FROM measurement WHERE unit_concept_id = %s "
                "AND measurement_concept_id = 3027114",
                [unit],
            ).fetchone()
            assert units is not None
            assert units[0] > 0
    assert isinstance(
        db("start", 2, "--persons", 61, "--port", port, *here).exception, OtherDataThere
    )
    assert "running" in db("start", "--status", *here).output
    assert db("start", "--stop", *here).output.count("stopped") == 2
    assert db("stop", *here).output == ""
    assert db("status", *here).output.count("stopped") == 2
    assert db("stop", "--remove", *here).output.count("removed") == 2
    assert "no databases" in db("status", *here).output


def test_start_on_a_port_in_use(server_folder: Path, postgres_url: str) -> None:
    from sqlalchemy.engine import make_url

    taken = make_url(postgres_url).port
    found = db("start", 1, "--port", taken, "--state", server_folder)
    assert isinstance(found.exception, PortInUse)


def test_init_twice_other_and_replaced(database: str) -> None:
    schemas = ("--cdm-schema", "cdm", "--vocabulary-schema", "vocab")
    first = db("init", database, "--persons", 50, *schemas)
    assert first.exit_code == 0, first.output
    assert "50 synthetic persons" in first.output
    assert "nothing was changed" in db("init", database, "--persons", 50, *schemas).output
    other = db("init", database, "--persons", 50, "--seed", 2, *schemas)
    assert isinstance(other.exception, OtherDataThere)
    assert "--replace" in str(other.exception)
    assert "omop:omop" not in str(other.exception)
    replaced = db("init", database, "--persons", 40, "--replace", *schemas)
    assert "40 synthetic persons" in replaced.output
    with psycopg.connect(database) as connection:
        for table in ("cdm.person", "vocab.concept", "cdm.cohort"):
            connection.execute(f"SELECT * FROM {table}".encode())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda url: url.set(password="wrong"), DatabaseRefused),
        (lambda url: url.set(database="absent"), DatabaseRefused),
        (lambda url: url.set(port=1), DatabaseUnreachable),
        (lambda url: url.set(drivername="mysql"), ConfigError),
    ],
)
def test_init_where_it_cannot_be(database: str, change: object, error: type[Exception]) -> None:
    from sqlalchemy.engine import make_url

    assert callable(change)
    url = change(make_url(database)).render_as_string(hide_password=False)
    found = db("init", url, "--persons", 10)
    assert isinstance(found.exception, error)
    assert "wrong" not in str(found.exception)


def test_init_without_the_right_to_create(database: str) -> None:
    from federated_analytics.errors import MissingGrant

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    try:
        url = database.replace("omop:omop@", "guest:guest@")
        found = db("init", url, "--persons", 10, "--cdm-schema", "theirs")
        assert isinstance(found.exception, MissingGrant)
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP ROLE guest")


def test_docker_that_is_missing_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(db("start", "--docker").exception, MissingProgram)
    assert isinstance(db("start", 3, "--docker").exception, ConfigError)
    fake = tmp_path / "docker"
    fake.write_text('#!/bin/sh\necho "$@" >"$(/usr/bin/dirname "$0")/asked"\nexit 1\n')
    fake.chmod(0o755)
    assert isinstance(db("stop", "--docker").exception, ServerFailed)
    asked = (tmp_path / "asked").read_text()
    assert "deploy/compose.yaml --profile databases stop database-1 database-2" in asked


@pytest.mark.parametrize("command", [(), ("start",), ("init",), ("stop",), ("status",)])
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    helped = db(*command, "--help").output
    assert "Usage" in helped
    assert not command or "Example: federated-analytics db" in helped


@pytest.mark.parametrize(("script", "command"), [("db_start.sh", "start"), ("db_init.sh", "init")])
def test_the_scripts_pass_everything_on(
    root: Path, tmp_path: Path, script: str, command: str
) -> None:
    copy = tmp_path / script
    copy.write_text((root / script).read_text())
    copy.chmod(0o755)
    assert os.access(root / script, os.X_OK)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    missing = subprocess.run([copy], env=environment, capture_output=True, text=True, check=False)
    assert missing.returncode != 0
    assert "not installed" in missing.stderr
    for place in (tmp_path, tmp_path / ".venv" / "bin"):  # the one in .venv comes first
        place.mkdir(parents=True, exist_ok=True)
        fake = place / "federated-analytics"
        fake.write_text(f'#!/bin/sh\nprintf "%s|" {place} "$@"\n')
        fake.chmod(0o755)
        told = subprocess.run(
            [copy, "3", "--persons", "5 0"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout == f"{place}|db|{command}|3|--persons|5 0|"
