"""What the benchmarks ran on: cores, memory and versions, never a name or a path."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import psycopg

_PACKAGES = ("flwr", "sqlalchemy", "psycopg", "pandas", "numpy")


@dataclass(frozen=True)
class Machine:
    """One machine on one day.

    Fields:
        load: runnable processes, mean of the minute before the start; others' work shows here
    """

    cores: int
    memory_gib: float
    system: str
    python: str
    postgresql: str
    packages: str
    date: str
    load: float

    def __str__(self) -> str:
        database = f"PostgreSQL {self.postgresql}, " if self.postgresql else ""
        return (
            f"{self.cores} cores, {self.memory_gib:.0f} GiB of memory, {self.system}; "
            f"Python {self.python}, {database}{self.packages}; {self.date}, "
            f"load at the start {self.load:.1f}"
        )


def describe(url: str = "") -> Machine:
    """This machine, and the PostgreSQL at `url` where one takes part."""
    row = None
    if url:
        with psycopg.connect(url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cores=os.cpu_count() or 1,
        memory_gib=memory / 2**30,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        postgresql=str(row[0]).split()[0] if row else "",
        packages=", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        date=datetime.now(UTC).date().isoformat(),
        load=os.getloadavg()[0],
    )
