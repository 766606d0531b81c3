"""R5: the person sets that the ledger holds, of answered populations and of their strata.

Sets are found by their size before any is read: two that differ by fewer than k persons on
either side are of about the same size.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from federated_analytics.errors import LedgerError
from federated_analytics.privacy.overlap import Answered
from federated_analytics.privacy.person_bitmap import PersonBitmap

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS populations (
    key TEXT NOT NULL, data_version TEXT NOT NULL, variables TEXT NOT NULL,
    persons BLOB NOT NULL, at REAL NOT NULL, PRIMARY KEY (key, data_version, variables)
);
CREATE INDEX IF NOT EXISTS populations_by_size ON populations (hex(substr(persons, 1, 8)));
CREATE TABLE IF NOT EXISTS strata (
    size INTEGER NOT NULL, fingerprint BLOB NOT NULL, population TEXT NOT NULL,
    variables TEXT NOT NULL, persons BLOB NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (size, fingerprint, population, variables)
)
"""
POPULATIONS_KEPT = 100_000
STRATA_KEPT = 10_000_000


def keep_populations(connection: sqlite3.Connection, answered: Iterable[Answered]) -> int:
    """The row of the last of all. LedgerError where no room is left."""
    last = last_population(connection)
    if last >= POPULATIONS_KEPT:
        raise LedgerError("The ledger holds as many populations as it can.", where="state")
    now = time.time()
    made = connection.executemany(
        "INSERT OR IGNORE INTO populations VALUES (?, ?, ?, ?, ?)",
        [
            (one.key, one.data_version, _variables(one), one.population.to_bytes(), now)
            for one in answered
        ],
    )
    return int(last + made.rowcount)  # nothing is ever taken out of the table


def last_population(connection: sqlite3.Connection) -> int:
    """The row of the population that was kept last; 0 where there is none."""
    return connection.execute("SELECT max(rowid) FROM populations").fetchone()[0] or 0


def population(connection: sqlite3.Connection, row: int) -> Answered:
    """The population of a row; LedgerError where it is gone."""
    found = connection.execute("SELECT * FROM populations WHERE rowid = ?", [row]).fetchone()
    if found is None:
        raise LedgerError("The ledger has lost a population.", where="state")
    return _answered(found, found["key"], found["data_version"])


def populations_after(connection: sqlite3.Connection, row: int) -> Iterator[tuple[int, Answered]]:
    """What was kept after a row, with the row of each, one at a time in their order."""
    found = connection.execute(
        "SELECT rowid AS number, * FROM populations WHERE rowid > ? ORDER BY rowid", [row]
    )
    for one in found:
        yield one["number"], _answered(one, one["key"], one["data_version"])


def populations(
    connection: sqlite3.Connection, sizes: Iterable[int] | None = None
) -> Iterator[Answered]:
    """Every population, one at a time; those of some sizes alone where these are given."""
    if sizes is None:
        yield from (answered for _, answered in populations_after(connection, 0))
        return
    heads = [size.to_bytes(8, "little").hex().upper() for size in set(sizes)]
    found = connection.execute(
        "SELECT * FROM populations "
        "WHERE hex(substr(persons, 1, 8)) IN (SELECT value FROM json_each(?))",
        [json.dumps(heads)],
    )
    for row in found:
        yield _answered(row, row["key"], row["data_version"])


def keep_strata(connection: sqlite3.Connection, strata: Iterable[Answered]) -> None:
    """Strata, whose `key` is the population that they divide; LedgerError without room."""
    last = connection.execute("SELECT max(rowid) FROM strata").fetchone()[0] or 0
    if last >= STRATA_KEPT:
        raise LedgerError("The ledger holds as many strata as it can.", where="state")
    now = time.time()
    connection.executemany(
        "INSERT OR IGNORE INTO strata VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                one.population.persons,
                hashlib.blake2b(one.population.data, digest_size=16).digest(),
                one.key,
                _variables(one),
                one.population.to_bytes(),
                now,
            )
            for one in strata
        ],
    )


def strata(
    connection: sqlite3.Connection, sizes: Iterable[int], besides: str
) -> Iterator[Answered]:
    """The strata of some sizes, but those of the population `besides`."""
    found = connection.execute(
        "SELECT * FROM strata WHERE size IN (SELECT value FROM json_each(?)) AND population <> ?",
        [json.dumps(sorted(set(sizes))), besides],
    )
    for row in found:
        yield _answered(row, row["population"], "")


def _answered(row: sqlite3.Row, key: str, data_version: str) -> Answered:
    persons = PersonBitmap.from_bytes(row["persons"])
    return Answered(persons, frozenset(json.loads(row["variables"])), data_version, key)


def _variables(answered: Answered) -> str:
    return json.dumps(sorted(answered.variables))
