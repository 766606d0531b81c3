"""Servers of our own: twice is once, what is in the way is said, kill -9 does no harm."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from federated_analytics.databases import programs
from federated_analytics.databases.errors import (
    DiskFull,
    MissingProgram,
    PortInUse,
    ServerFailed,
    StateFolderError,
)
from federated_analytics.databases.postgres import (
    Cluster,
    clusters,
    free_port,
    known_clusters,
    start_clusters,
)
from federated_analytics.databases.roles import drop_database, empty_database

pytestmark = pytest.mark.xdist_group("databases")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    from federated_analytics.databases.postgres import temporary_cluster

    with temporary_cluster() as running:
        yield running


def answer(cluster: Cluster) -> str:
    with psycopg.connect(cluster.reader_url(), connect_timeout=5) as connection:
        row = connection.execute("SHOW server_version").fetchone()
        assert row is not None
        return str(row[0])


def test_starting_and_stopping_twice_changes_nothing(server_folder: Path) -> None:
    port = free_port()
    (cluster,) = clusters(1, port=port, state=server_folder)
    assert not cluster.stop()
    assert cluster.start()
    pid = cluster.pid()
    assert not cluster.start()
    assert start_clusters(1, port=port, state=server_folder) == [cluster]
    assert known_clusters(server_folder) == [cluster]
    assert cluster.pid() == pid
    assert answer(cluster).startswith("18")
    assert cluster.stop()
    assert not cluster.stop()
    assert not cluster.is_running()
    assert cluster.start()  # its data are still there
    cluster.remove()
    assert known_clusters(server_folder) == []


def test_the_reader_reads_and_makes_temporary_tables_only(cluster: Cluster) -> None:
    with psycopg.connect(cluster.owner_url(), autocommit=True) as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS x")
    with psycopg.connect(cluster.reader_url(), autocommit=True) as reader:
        assert reader.execute("SELECT x FROM kept").fetchone() == (1,)
        reader.execute("CREATE TEMP TABLE mine AS SELECT 1 AS x")
        for forbidden in ("DELETE FROM kept", "CREATE TABLE other (x int)", "DROP TABLE kept"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(forbidden.encode())


def test_only_with_a_password_and_only_on_loopback(cluster: Cluster) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(cluster.owner_url().replace("omop:omop@", "omop:wrong@"))
    with psycopg.connect(cluster.owner_url()) as connection:
        for name, value in (("listen_addresses", "127.0.0.1"), ("unix_socket_directories", "")):
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)


def test_a_killed_server_starts_again(cluster: Cluster) -> None:
    pid = cluster.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while cluster.is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not cluster.is_running()
    assert cluster.start()
    assert answer(cluster)


def test_another_process_with_the_old_id_is_not_the_server(cluster: Cluster) -> None:
    cluster.stop()
    (cluster.data / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.data}\n")
    assert not cluster.is_running()
    assert cluster.start()
    assert answer(cluster)


def test_port_in_use_is_said(server_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse) as refused:
            Cluster(server_folder / "postgres", port).start()
    assert str(port) in refused.value.where
    assert "--port" in refused.value.remedy
    assert not (server_folder / "postgres").exists()


def test_full_disk_is_said(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(server_folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    with pytest.raises(DiskFull, match="5 MB are free"):
        Cluster(server_folder / "postgres", free_port()).start()


def test_missing_package_is_said(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingProgram) as missing:
        Cluster(server_folder / "postgres", free_port()).start()
    assert "pip install" in missing.value.remedy


def test_a_state_folder_that_is_a_file_is_said(server_folder: Path) -> None:
    (server_folder / "file").write_text("")
    with pytest.raises(StateFolderError):
        Cluster(server_folder / "file" / "postgres", free_port()).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another user only as root")
def test_a_state_folder_that_the_server_may_not_enter_is_said(server_folder: Path) -> None:
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StateFolderError, match="may not enter"):
        Cluster(closed / "state" / "postgres", free_port()).start()
    os.chown(closed, 65534, 65534)
    with pytest.raises(StateFolderError, match="another user"):
        Cluster(closed / "postgres", free_port()).start()


def test_a_failed_start_shows_the_servers_last_words(server_folder: Path) -> None:
    cluster = Cluster(server_folder / "postgres", free_port())
    cluster.start()
    cluster.stop()
    (cluster.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ServerFailed, match=r"no_such_setting|configuration"):
        cluster.start()
    cluster.remove()


def test_passwords_come_from_the_environment(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDERATED_ANALYTICS_DB_PASSWORD", "o'wner @:/%")
    monkeypatch.setenv("FEDERATED_ANALYTICS_DB_READER_PASSWORD", "re'ader")
    cluster = Cluster(server_folder / "postgres", free_port())
    cluster.start()
    assert answer(cluster)
    cluster.stop()
    monkeypatch.setenv("FEDERATED_ANALYTICS_DB_PASSWORD", "another")
    with pytest.raises(ServerFailed) as refused:
        cluster.start()
    assert "FEDERATED_ANALYTICS_DB_PASSWORD" in refused.value.remedy
    assert not cluster.is_running()
    cluster.remove()


def test_an_empty_database_is_empty_each_time(cluster: Cluster) -> None:
    server = cluster.owner_url("postgres")
    for _ in range(2):
        url = empty_database(server, "fresh")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE person (person_id int)")
    drop_database(server, "fresh")
    drop_database(server, "fresh")


@pytest.mark.parametrize("root", [True, False])
def test_the_state_folder_by_default(root: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.delenv("FEDERATED_ANALYTICS_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/ada/.state")
    expected = "/var/tmp/federated-analytics" if root else "/home/ada/.state/federated-analytics"
    assert programs.state_folder() == Path(expected)
    monkeypatch.setenv("FEDERATED_ANALYTICS_STATE", "/srv/state")
    assert programs.state_folder() == Path("/srv/state")
    assert programs.state_folder("/mnt/other") == Path("/mnt/other")


def test_what_a_killed_test_left_behind_is_deleted(cluster: Cluster) -> None:
    from federated_analytics.databases.postgres import temporary_cluster

    orphan = Path(cluster.directory.parent)
    (orphan / "owner").write_text("4194305")  # beyond the largest process id
    with temporary_cluster():
        assert not cluster.is_running()
        assert not orphan.exists()
