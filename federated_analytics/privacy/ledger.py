"""R10, R8, R5: what a site has given away so far, durable before anything of it leaves.

One file, `ledger.sqlite`, in the site's state folder. Every transaction that writes raises a
counter, which audit lines carry. The ledger holds the hash of the audit line that is about to be
written, and number and hash of the last that was: an older ledger that is put back is behind the
audit, an audit that lost lines is behind the ledger (`audit_lines.mismatch`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from federated_analytics.errors import LedgerError, RequestRefused, ReusedNonce
from federated_analytics.privacy import answered_sets
from federated_analytics.privacy.accounting import Charge
from federated_analytics.privacy.audit_lines import Head
from federated_analytics.privacy.state_file import StateFile

if TYPE_CHECKING:
    import sqlite3

    from federated_analytics.aggregates.person_set import PersonSet
    from federated_analytics.privacy.count_relations import CountedSet
    from federated_analytics.privacy.overlap import Answered

_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, counter INTEGER NOT NULL,
    audit_lines INTEGER NOT NULL, audit_hash TEXT NOT NULL, announced TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS charges (
    request TEXT PRIMARY KEY, analyst TEXT NOT NULL, dataset TEXT NOT NULL,
    rho REAL NOT NULL, delta REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charges_by_analyst ON charges (analyst, dataset, at);
CREATE TABLE IF NOT EXISTS nonces (
    analyst TEXT NOT NULL, nonce BLOB NOT NULL, request TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (analyst, nonce)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, body BLOB NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    population TEXT NOT NULL, persons_of TEXT NOT NULL, persons INTEGER NOT NULL,
    released INTEGER NOT NULL, PRIMARY KEY (population, persons_of)
) WITHOUT ROWID;
"""
    + answered_sets.SCHEMA
)
PLACES_HELD = 64
_TOLD = "UPDATE head SET audit_lines = ?, audit_hash = ?"


@dataclass(frozen=True)
class Entry:
    """One charge, as it is shown to the site operator."""

    request: str
    charge: Charge


@dataclass(frozen=True)
class Ledger:
    """A site's ledger. Safe among threads and processes."""

    file: StateFile
    _alone: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )
    _held: dict[str, list[CountedSet]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Counts of populations, where no other process writes."""

    @classmethod
    def open(cls, folder: Path, *, durable: bool = True) -> Self:
        """The ledger of a state folder, made where there is none; LedgerError otherwise.

        Args:
            durable: False for a folder that its process removes at its end.
        """
        ledger = cls(StateFile(folder / "ledger.sqlite", _SCHEMA, version=1, durable=durable))
        with ledger.file.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO head VALUES (1, ?, 0, 0, '', '')", [secrets.token_hex(16)]
            )
        return ledger

    def head(self) -> Head:
        """What the ledger says of itself and of its audit."""
        with self.file.reading() as connection:
            return _head(connection)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """One holder at a time, among threads and processes: to compare with the past and keep.

        What is read of populations and counts inside holds until the end. Not to be nested. The
        operating system takes it from a process that is killed. A folder that is this process's
        alone needs no file for it.
        """
        if not self.file.durable:
            with self._alone:
                yield
            return
        try:
            file = os.open(self.file.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LedgerError("The ledger cannot be locked.", where="state") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def charge(
        self,
        request: str,
        wanted: Charge,
        allowed: Callable[[list[Charge]], None],
    ) -> Charge:
        """Charge a request once, durably, where `allowed` lets it.

        Args:
            request: id; a request that was charged is not charged again.
            wanted: who, of which data, how much, when.
            allowed: given the analyst's earlier charges of this data set; raises BudgetSpent
                where they leave no room.

        Raises:
            RequestRefused: the request was charged before, for less or for something else.
        """
        with self.file.transaction() as connection:
            held = connection.execute("SELECT * FROM charges WHERE request = ?", [request])
            if (row := held.fetchone()) is not None:
                return _covering(_charge(row), wanted)
            rows = connection.execute(
                "SELECT * FROM charges WHERE analyst = ? AND dataset = ?",
                [wanted.analyst, wanted.dataset],
            ).fetchall()
            allowed([_charge(row) for row in rows])
            connection.execute(
                "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)",
                [request, wanted.analyst, wanted.dataset, wanted.rho, wanted.delta, wanted.at],
            )
            _count(connection)
        return wanted

    def charges(self) -> Iterator[Entry]:
        """Every charge, the latest first."""
        with self.file.reading() as connection:
            for row in connection.execute("SELECT * FROM charges ORDER BY at DESC"):
                yield Entry(row["request"], _charge(row))

    def use_nonce(self, analyst: str, nonce: bytes, request: str, until: float) -> None:
        """Take a nonce for a request; ReusedNonce where another request has it.

        The same request may come again: it is answered with the same bytes.
        """
        with self.file.transaction() as connection:
            connection.execute("DELETE FROM nonces WHERE until < ?", [time.time()])
            found = connection.execute(
                "SELECT request FROM nonces WHERE analyst = ? AND nonce = ?", [analyst, nonce]
            ).fetchone()
            if found is not None and found["request"] != request:
                raise ReusedNonce("The request's nonce was used before.")
            if found is None:
                connection.execute(
                    "INSERT INTO nonces VALUES (?, ?, ?, ?)", [analyst, nonce, request, until]
                )
                _count(connection)

    def answer(self, key: str) -> bytes | None:
        """What was answered to a question before, in its canonical form."""
        with self.file.reading() as connection:
            row = connection.execute("SELECT body FROM answers WHERE key = ?", [key]).fetchone()
        return bytes(row["body"]) if row else None

    def keep_answer(self, key: str, body: bytes) -> bytes:
        """Keep an answer; where there is one already, that one holds and is returned."""
        with self.file.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", [key, body, time.time()]
            )
            row = connection.execute("SELECT body FROM answers WHERE key = ?", [key]).fetchone()
            _count(connection)
        return bytes(row["body"])

    def keep_population(self, answered: Answered) -> None:
        """Keep the person set of an answered population; LedgerError where no room is left."""
        self.keep_populations([answered])

    def keep_populations(self, answered: Iterable[Answered]) -> int:
        """Keep several at once; the row of the last. LedgerError where no room is left."""
        with self.file.transaction() as connection:
            last = answered_sets.keep_populations(connection, answered)
            _count(connection)
        return last

    def last_population(self) -> int:
        """The row of the population that was kept last; 0 where there is none."""
        with self.file.reading() as connection:
            return answered_sets.last_population(connection)

    def population(self, row: int) -> Answered:
        """The population of a row; LedgerError where it is gone."""
        with self.file.reading() as connection:
            return answered_sets.population(connection, row)

    def populations_after(self, row: int) -> Iterator[tuple[int, Answered]]:
        """The populations that were kept after a row, and the rows, one at a time."""
        with self.file.reading() as connection:
            yield from answered_sets.populations_after(connection, row)

    def populations(self, sizes: Iterable[int] | None = None) -> Iterator[Answered]:
        """The person sets of answered populations, one at a time: all, or of some sizes."""
        with self.file.reading() as connection:
            yield from answered_sets.populations(connection, sizes)

    def keep_strata(self, strata: Iterable[Answered]) -> None:
        """Keep the person sets of strata; the `key` of each is its population's place."""
        with self.file.transaction() as connection:
            answered_sets.keep_strata(connection, strata)
            _count(connection)

    def strata(self, sizes: Iterable[int], *, besides: str) -> Iterator[Answered]:
        """The kept strata of some sizes, but those of the population `besides`."""
        with self.file.reading() as connection:
            yield from answered_sets.strata(connection, sizes, besides)

    def keep_counts(self, population: str, counts: Iterable[CountedSet]) -> None:
        """Keep what was counted in a population, for the studies after this one (R2)."""
        rows = [(population, _set_text(c.of), c.persons, int(c.released)) for c in counts]
        self._held.pop(population, None)
        with self.file.transaction() as connection:
            connection.executemany(
                "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
                "SET released = max(released, excluded.released)",
                rows,
            )
            _count(connection)

    def counts(self, population: str) -> Sequence[CountedSet]:
        """What was counted in a population before, each in a group of its own."""
        if self.file.durable:
            return self._counts(population)
        if population not in self._held:
            if len(self._held) >= PLACES_HELD:
                self._held.clear()
            self._held[population] = self._counts(population)
        return self._held[population]

    def _counts(self, population: str) -> list[CountedSet]:
        from federated_analytics.privacy.count_relations import CountedSet

        with self.file.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM counts WHERE population = ?", [population]
            ).fetchall()
        return [
            CountedSet(
                row["persons"],
                frozenset((n, v if isinstance(v, str) else (v[0], v[1])) for n, v in found),
                ("past", row["persons_of"]),
                bool(row["released"]),
            )
            for row in rows
            for found in [json.loads(row["persons_of"])]
        ]

    def announce(
        self, last: Mapping[str, Any] | None, line_after: Callable[[Head], dict[str, Any]]
    ) -> dict[str, Any]:
        """Hold the hash of the audit line that comes next, before it is written.

        Args:
            last: the audit's last line; a line that was announced and written, but not told, is
                told by this.
            line_after: makes the line; raises where `last` does not fit the ledger.
        """
        with self.file.transaction() as connection:
            line = line_after(_head(connection))
            if last is not None:
                connection.execute(_TOLD, [last["line"], last["hash"]])
            connection.execute("UPDATE head SET announced = ?", [line["hash"]])
            _count(connection)
        return line

    def note_audit(self, line: int, line_hash: str) -> None:
        """Remember the audit's last line, once it is durable."""
        with self.file.transaction() as connection:
            connection.execute(_TOLD, [line, line_hash])
            _count(connection)


def _set_text(of: PersonSet) -> str:
    return json.dumps(sorted(of, key=str))


def _count(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE head SET counter = counter + 1")


def _head(connection: sqlite3.Connection) -> Head:
    row = connection.execute("SELECT * FROM head").fetchone()
    if row is None:
        raise LedgerError("The ledger has lost its head.", where="state")
    return Head(*(row[f] for f in Head.__dataclass_fields__))


def _covering(held: Charge, wanted: Charge) -> Charge:
    same = (held.analyst, held.dataset) == (wanted.analyst, wanted.dataset)
    if not same or held.rho < wanted.rho or held.delta < wanted.delta:
        raise RequestRefused(
            "The request was charged before, for less than it costs now.",
            remedy="Run the study again: it is then a request of its own.",
        )
    return held


def _charge(row: sqlite3.Row) -> Charge:
    try:
        return Charge(
            row["rho"], row["delta"], analyst=row["analyst"], dataset=row["dataset"], at=row["at"]
        )
    except (TypeError, ValueError) as error:
        raise LedgerError("The ledger holds a charge that is none.", where="state") from error
