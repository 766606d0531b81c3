"""The connections that a site service holds to its database, and what each study may use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import URL

from federated_analytics.omop.database import WORK_MEMORY, connect_options, transaction
from federated_analytics.omop.stop import Stop

RECYCLE_SECONDS = 1_800
"""A connection is replaced after so long: a server's memory for it does not grow for days."""
SPARE = 2
"""Connections beyond those of the studies, for what is asked before one runs."""
_NETWORK = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""A server that went away without a word is noticed within a minute (libpq's parameters)."""


@dataclass(frozen=True)
class ConnectionPool:
    """Connections that stay open between studies. Safe among threads.

    Args:
        size: studies that run at once
        work_mem: memory of one sort or hash, as PostgreSQL writes it
        temp_file_limit: most disk that one study may use for its own files; "" leaves it as it
            is, and so does a role that may not set it
    """

    url: URL = field(repr=False)
    size: int = 2
    work_mem: str = WORK_MEMORY
    temp_file_limit: str = ""
    _engine: sa.Engine = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        engine = sa.create_engine(
            self.url,
            pool_size=self.size,
            max_overflow=SPARE,
            pool_pre_ping=True,
            pool_recycle=RECYCLE_SECONDS,
            pool_use_lifo=True,
            connect_args=connect_options() | _NETWORK,
            isolation_level="REPEATABLE READ",
            hide_parameters=True,
        )
        object.__setattr__(self, "_engine", engine)

    @contextlib.contextmanager
    def snapshot(self, seconds: float, stop: Stop | None = None) -> Iterator[sa.Connection]:
        """One repeatable-read transaction, rolled back at its end, as `database.snapshot`.

        Args:
            seconds: limit of each statement
            stop: ends it from another thread

        Raises:
            DatabaseError: one of its kinds, without the database's own words.
            Stopped: `stop` was asked to.
        """
        with transaction(
            self._engine,
            seconds,
            work_mem=self.work_mem,
            temp_file_limit=self.temp_file_limit,
            stop=stop,
        ) as connection:
            yield connection

    def close(self) -> None:
        """Close the connections that nobody uses; those in use close when they are given back."""
        self._engine.dispose()
