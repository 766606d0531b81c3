"""PostgreSQL servers of our own on 127.0.0.1: made, started and stopped without Docker or root.

They hold synthetic data only, so durability is traded for speed (`fsync=off`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from federated_analytics.databases.errors import PortInUse, ServerFailed, failed_server
from federated_analytics.databases.ports import HOST, command_line, free_port, is_free
from federated_analytics.databases.programs import (
    Programs,
    owned_by_server,
    prepare,
    programs,
    state_folder,
)
from federated_analytics.databases.roles import (
    DATABASE,
    OWNER,
    PASSWORD_VARIABLES,
    READER,
    define_database,
    define_reader,
    drop_database,
    empty_database,
    grant_reading,
    password,
)

__all__ = [
    "DATABASE",
    "FIRST_PORT",
    "HOST",
    "OWNER",
    "READER",
    "Cluster",
    "clusters",
    "drop_database",
    "empty_database",
    "free_port",
    "known_clusters",
    "start_clusters",
    "temporary_cluster",
]

FIRST_PORT = 5433
_TEMPORARY = "federated-analytics-"

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "256MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "jit": "off",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "2",
    "max_parallel_maintenance_workers": "2",
    # Where /dev/shm is small, as in containers, parallel queries would fail with posix memory.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL server with its data.

    Args:
        directory: holds the data and the log; made when the server is first started.
        port: where it listens on 127.0.0.1.
        state: folder of the programs' copy, see `programs`; by default the directory's parent.
    """

    directory: Path
    port: int
    state: Path | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log" / "server.log"

    def start(self) -> bool:
        """Start the server, making its data first if need be; False when it runs already.

        Raises:
            PortInUse, DiskFull, ServerFailed, MissingProgram, StateFolderError
        """
        if self.is_running():
            return False
        self._refuse_used_port()
        tools = self._programs()
        prepare(self.directory)
        owned_by_server(self.log.parent, tools.user)
        if not (self.data / "PG_VERSION").exists():
            self._make(tools)
        self._remove_stale_pid_file()
        self._launch(tools)
        self._define_roles()
        return True

    def stop(self) -> bool:
        """Stop the server, ending its connections; False when it does not run."""
        if not self.is_running():
            return False
        code, said = self._programs().run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-m", "fast", "stop"
        )
        if code and self.is_running():
            raise ServerFailed(f"The server did not stop: {said}", where=str(self.directory))
        return True

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def is_running(self) -> bool:
        """Whether this cluster's own server runs (not only something with its process id)."""
        pid = self.pid()
        return pid is not None and str(self.data) in command_line(pid)

    def pid(self) -> int | None:
        """The process id that the server left in its data, running or not."""
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def url(self, user: str = OWNER, database: str = DATABASE) -> str:
        """A URL with the role's password: `postgresql://…@127.0.0.1:PORT/DATABASE`."""
        from urllib.parse import quote

        secret = quote(password(user), safe="")
        return f"postgresql://{user}:{secret}@{HOST}:{self.port}/{database}"

    def owner_url(self, database: str = DATABASE) -> str:
        return self.url(OWNER, database)

    def reader_url(self, database: str = DATABASE) -> str:
        return self.url(READER, database)

    def _programs(self) -> Programs:
        return programs(self.state or self.directory.parent)

    def _refuse_used_port(self) -> None:
        # Children of our own server that was killed hold its port for a moment.
        patience = 20 if self.pid() is not None else 0
        while not is_free(self.port):
            if patience == 0:
                raise PortInUse(
                    "The port is in use by another program, or may not be used.",
                    where=f"{HOST}:{self.port}",
                    remedy="Stop that program, or choose other ports: --port 5500.",
                )
            patience -= 1
            time.sleep(0.25)

    def _make(self, tools: Programs) -> None:
        """initdb: passwords only, in a folder of its own until it is complete."""
        partial = self.directory / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        owned_by_server(partial, tools.user)
        secret = self.log.parent / "password"
        try:
            secret.touch(mode=0o600)
            secret.write_text(password(OWNER) + "\n")
            if tools.user:
                shutil.chown(secret, tools.user)
            code, said = tools.run(
                "initdb",
                *("-D", str(partial), "-U", OWNER, "--pwfile", str(secret)),
                *("-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"),
            )
        finally:
            secret.unlink(missing_ok=True)
        if code:
            raise failed_server("The cluster could not be made", said, self.directory)
        partial.rename(self.data)

    def _launch(self, tools: Programs) -> None:
        options = " ".join(
            [f"-p {self.port}", *(f"-c {name}='{value}'" for name, value in _SETTINGS.items())]
        )
        start = ("-D", str(self.data), "-l", str(self.log), "-w", "-t", "60", "-o", options)
        said = ""
        for _ in range(3):  # children of a killed server hold its memory for a moment
            code, said = tools.run("pg_ctl", *start, "start")
            if code == 0:
                return
            if "shared memory" not in self._last_words():
                break
            time.sleep(1)
        raise failed_server("The server did not start", self._last_words() or said, self.directory)

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(line for line in lines[-12:] if "FATAL" in line or "HINT" in line)

    def _remove_stale_pid_file(self) -> None:
        # After kill -9 and a reused process id the server would take itself for running.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _define_roles(self) -> None:
        """The database and the reader's role, unless they are there."""
        try:
            with psycopg.connect(self.owner_url("postgres"), autocommit=True) as connection:
                define_reader(connection)
                define_database(connection)
            with psycopg.connect(self.owner_url(), autocommit=True) as connection:
                grant_reading(connection)
        except psycopg.OperationalError as error:
            self.stop()
            raise ServerFailed(
                "The server refuses the owner's password.",
                where=str(self.directory),
                remedy=f"Set {PASSWORD_VARIABLES[OWNER]} to what it was when the database was "
                "made, or make it anew: federated-analytics db stop --remove",
            ) from error


def clusters(count: int, *, port: int = FIRST_PORT, state: Path | None = None) -> list[Cluster]:
    """`count` clusters on `port`, `port + 1` …, started or not."""
    folder = state_folder(state)
    return [Cluster(folder / f"postgres-{port + i}", port + i) for i in range(count)]


def known_clusters(state: Path | None = None) -> list[Cluster]:
    """All clusters that were made in a state folder, by port."""
    found = (p.name.removeprefix("postgres-") for p in state_folder(state).glob("postgres-*"))
    ports = sorted(int(port) for port in found if port.isdigit())
    return [cluster for port in ports for cluster in clusters(1, port=port, state=state)]


def start_clusters(
    count: int, *, port: int = FIRST_PORT, state: Path | None = None
) -> list[Cluster]:
    """`count` running clusters; those that run already are left as they are."""
    started = clusters(count, port=port, state=state)
    for cluster in started:
        cluster.start()
    return started


@contextlib.contextmanager
def temporary_cluster(port: int | None = None) -> Iterator[Cluster]:
    """A running cluster on a free port, deleted afterwards: for tests.

    Clusters whose process was killed before it could delete them are deleted by the next.
    """
    parent = Path("/var/tmp") if os.geteuid() == 0 else Path(tempfile.gettempdir())
    for left in parent.glob(f"{_TEMPORARY}*/owner"):
        _remove_orphan(left)
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
    folder.chmod(0o755)
    (folder / "owner").write_text(str(os.getpid()))
    cluster = Cluster(folder / "postgres", port or free_port(), folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_orphan(owner: Path) -> None:
    with contextlib.suppress(OSError, ValueError, ServerFailed):  # another may be at it as well
        ours = owner.stat().st_uid == os.geteuid() and not owner.is_symlink()
        if ours and not command_line(int(owner.read_text())):
            Cluster(owner.parent / "postgres", 0, owner.parent).remove()
            shutil.rmtree(owner.parent, ignore_errors=True)
