"""A small durable file of a site's own state: SQLite, readable by the site's user alone.

WAL with `synchronous=FULL`: what a transaction has committed survives a kill and a power loss
(https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from federated_analytics.errors import LedgerError

BUSY_SECONDS = 10.0
"""How long a transaction waits for another process's."""


@dataclass(frozen=True)
class StateFile:
    """One SQLite file in a site's state folder.

    Args:
        path: of the file; its folder is made with mode 0700, the file with 0600.
        schema: statements that make the tables where they are missing.
        version: of the schema; a file of another version is refused.
        durable: False for a folder that its process removes at its end: nothing outlives it.

    Raises: LedgerError where the file cannot be read or written.
    """

    path: Path
    schema: str
    version: int
    durable: bool = True
    _own: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        with self._readable():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                # Never opened by us where it exists: closing it again would drop the locks that
                # this process holds on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self.path.chmod(0o600)
        with self.transaction() as connection:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, self.version):
                raise LedgerError(
                    f"{self.path.name} was written by another version of federated_analytics.",
                    where="state",
                    remedy="The site operator uses the version that wrote it.",
                )
            for statement in self.schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {self.version}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writing transaction, alone among threads and processes; durable at its end."""
        with self._readable(), self._connection() as connection:
            if self.durable:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for one query; waits for nobody."""
        with self._readable(), self._connection() as connection:
            yield connection

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One that is closed again; of a file that is this process's alone, each thread's own."""
        if self.durable:
            with contextlib.closing(self._connect()) as connection:
                yield connection
            return
        if not hasattr(self._own, "connection"):
            self._own.connection = self._connect()
            for setting in ("page_size = 32768", "journal_mode = MEMORY", "synchronous = OFF"):
                self._own.connection.execute(f"PRAGMA {setting}")
        yield self._own.connection

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: a file that somebody removed is an error, not a fresh start.
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
        )
        connection.row_factory = sqlite3.Row
        return connection

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"{self.path.name} cannot be read or written.",
                where="state",
                remedy="The site operator checks the state folder: its owner, its rights, "
                "and the free space of its disk.",
            ) from error
