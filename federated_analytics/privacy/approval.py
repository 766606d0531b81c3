"""R14: a person at the site looks at a study before it runs.

An approval is pinned to a fingerprint of the study's bytes, of the code that will run, of the
analyst and of the project: one changed byte makes another fingerprint, which asks again. It is
good for one run, or for a number of days. Decisions are durable before they are told.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from federated_analytics.errors import (
    ConfigError,
    RefusedByOperator,
    RequestRefused,
    SiteBusy,
    WaitingForApproval,
)
from federated_analytics.privacy.asked import Asked, Decision, Deed, Entry, State
from federated_analytics.privacy.state_file import StateFile

if TYPE_CHECKING:
    import sqlite3

DAY_SECONDS = 86_400.0
LONGEST_DAYS = 366
UNUSED_DAYS = 30
"""How long an approval for one run waits for that run."""
RUN_SECONDS = DAY_SECONDS
"""How long after its first message a run may go on using its approval."""
LONGEST_REASON = 200
PENDING_EACH = 50
"""Studies of one analyst that may wait: a flood of them would hide the others."""
PENDING_ALL = 1_000
SHORTEST_PREFIX = 4
LONGEST_STUDY = 1_000_000
"""Characters in all that a person could be asked to read."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    fingerprint TEXT PRIMARY KEY,
    study_name TEXT NOT NULL, study TEXT NOT NULL, digest TEXT NOT NULL,
    analyst TEXT NOT NULL, project TEXT NOT NULL,
    question TEXT NOT NULL, sql TEXT NOT NULL, leaves TEXT NOT NULL, cost TEXT NOT NULL,
    code_digest TEXT NOT NULL, asked_at REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    decided_by TEXT NOT NULL DEFAULT '', decided_at REAL, reason TEXT NOT NULL DEFAULT '',
    days INTEGER, valid_until REAL, uses INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    fingerprint TEXT NOT NULL, run TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (fingerprint, run)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS studies_by_state ON studies (state, asked_at)
"""


@dataclass(frozen=True)
class Approvals:
    """The studies that were asked for at a site and what was decided; `approvals.sqlite`.

    Args:
        file: where they are kept.
        record: told of each decision before it holds; where it raises, nothing is decided.
    """

    file: StateFile
    record: Callable[[Decision], None] = lambda decision: None

    @classmethod
    def open(cls, folder: Path, record: Callable[[Decision], None] = lambda decision: None) -> Self:
        """The approvals of a state folder, made where there are none; LedgerError otherwise."""
        return cls(StateFile(folder / "approvals.sqlite", _SCHEMA, version=1), record)

    def admit(self, asked: Asked, run: str, now: float | None = None) -> None:
        """Returns where the study may run now; asks for approval where nobody has.

        Raises: WaitingForApproval, RefusedByOperator (with the operator's reason), SiteBusy.
        """
        now = _now(now)
        if self.use(asked.fingerprint, run, now):
            return
        entry = self.ask(asked, now)
        if entry.state == "refused":
            reason = f" {entry.reason}" if entry.reason else ""
            raise RefusedByOperator(f"The site operator refused the study.{reason}")
        raise WaitingForApproval(
            f"The study waits for approval; its fingerprint is {entry.fingerprint[:12]}."
        )

    def state(self, fingerprint: str, now: float | None = None) -> State:
        """What holds for a study; an approval that ran out, or was used up, is unknown."""
        entry = self._entry(fingerprint)
        return entry.state_at(_now(now)) if entry else "unknown"

    def ask(self, asked: Asked, now: float | None = None) -> Entry:
        """Puts a study before the operator. Asking twice changes nothing.

        Raises: SiteBusy where too many wait; RequestRefused where nobody could read it all.
        """
        now = _now(now)
        values = {f.name: getattr(asked, f.name) for f in fields(Asked)}
        if sum(len(v) for v in values.values() if isinstance(v, str)) > LONGEST_STUDY:
            raise RequestRefused(
                "The study is too long for a person to approve.", remedy="Split the study."
            )
        with self.file.transaction() as connection:
            entry = _select(connection, asked.fingerprint)
            if entry is not None and entry.state_at(now) != "unknown":
                return entry
            _leave_room(connection, asked.analyst)
            values["fingerprint"] = asked.fingerprint
            connection.execute("DELETE FROM studies WHERE fingerprint = ?", [asked.fingerprint])
            connection.execute(
                f"INSERT INTO studies ({', '.join(values)}) "
                f"VALUES ({', '.join(':' + name for name in values)})",
                values,
            )
        return Entry(asked, asked.fingerprint, "pending")

    def use(self, fingerprint: str, run: str, now: float | None = None) -> bool:
        """True where an approval covers this run. One for a single run is the first run's alone.

        The later rounds of that run are covered too, for `RUN_SECONDS`.
        """
        now = _now(now)
        with self.file.transaction() as connection:
            connection.execute("DELETE FROM runs WHERE until < ?", [now])
            begun = connection.execute(
                "SELECT 1 FROM runs WHERE fingerprint = ? AND run = ?", [fingerprint, run]
            ).fetchone()
            if begun is None:
                entry = _select(connection, fingerprint)
                if entry is None or entry.state_at(now) != "approved":
                    return False
                if entry.days is None:
                    connection.execute(
                        "INSERT INTO runs VALUES (?, ?, ?)", [fingerprint, run, now + RUN_SECONDS]
                    )
                    connection.execute(
                        "UPDATE studies SET state = 'used' WHERE fingerprint = ?", [fingerprint]
                    )
            connection.execute(
                "UPDATE studies SET uses = uses + 1 WHERE fingerprint = ?", [fingerprint]
            )
        return True

    def approve(
        self, prefix: str, by: str, days: int | None = None, now: float | None = None
    ) -> Entry:
        """Lets a study run: once, or as often as it is asked for during `days`."""
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise ConfigError(
                f"An approval lasts from 1 to {LONGEST_DAYS} days.",
                where="days",
                remedy="Write --days 30, or leave it out for one run.",
            )
        now = _now(now)
        until = now + (UNUSED_DAYS if days is None else days) * DAY_SECONDS
        return self._decide("approve", prefix, by, now, days=days, until=until)

    def refuse(self, prefix: str, by: str, reason: str, now: float | None = None) -> Entry:
        """Refuses a study, also one that was approved; the analyst is told the reason."""
        return self._decide("refuse", prefix, by, _now(now), reason=_reason(reason))

    def revoke(self, prefix: str, by: str, now: float | None = None) -> Entry:
        """Takes a decision back: the study waits again."""
        return self._decide("revoke", prefix, by, _now(now))

    def pending(self) -> list[Entry]:
        """The studies that wait for a decision, the oldest first."""
        return self._entries("WHERE state = 'pending' ORDER BY asked_at, fingerprint")

    def count_pending(self) -> int:
        with self.file.reading() as connection:
            row = connection.execute("SELECT count(*) FROM studies WHERE state = 'pending'")
            return int(row.fetchone()[0])

    def all(self) -> list[Entry]:
        """Every study that was asked for, the last decided or asked first."""
        return self._entries("ORDER BY coalesce(decided_at, asked_at) DESC, fingerprint")

    def find(self, prefix: str) -> Entry:
        """The study whose fingerprint begins with `prefix`; ConfigError where none or several."""
        prefix = prefix.strip().lower()
        if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}", prefix):
            raise ConfigError(
                f"A fingerprint is {SHORTEST_PREFIX} to 64 of the characters 0-9 and a-f.",
                where="fingerprint",
                remedy=_LIST,
            )
        found = self._entries("WHERE fingerprint GLOB ? LIMIT 2", f"{prefix}*")
        if not found:
            raise ConfigError(
                f"No study has a fingerprint that begins with {prefix[:16]}.",
                where="fingerprint",
                remedy=_LIST,
            )
        if len(found) > 1:
            raise ConfigError(
                f"Several studies have fingerprints that begin with {prefix[:16]}.",
                where="fingerprint",
                remedy="Write more of its characters.",
            )
        return found[0]

    def _decide(
        self,
        deed: Deed,
        prefix: str,
        by: str,
        now: float,
        *,
        reason: str = "",
        days: int | None = None,
        until: float | None = None,
    ) -> Entry:
        entry = self.find(prefix)
        state = {"approve": "approved", "refuse": "refused", "revoke": "pending"}[deed]
        with self.file.transaction() as connection:
            connection.execute(
                "UPDATE studies SET state = ?, decided_by = ?, decided_at = ?, reason = ?, "
                "days = ?, valid_until = ?, uses = 0 WHERE fingerprint = ?",
                [state, by, now, reason, days, until, entry.fingerprint],
            )
            if deed != "approve":  # also what is left of a run that had begun
                connection.execute("DELETE FROM runs WHERE fingerprint = ?", [entry.fingerprint])
            # Before the commit: no decision holds that the audit does not have.
            self.record(Decision(deed, entry.fingerprint, entry.asked, by, reason, days))
        decided = self._entry(entry.fingerprint)
        return decided if decided is not None else entry

    def _entry(self, fingerprint: str) -> Entry | None:
        with self.file.reading() as connection:
            return _select(connection, fingerprint)

    def _entries(self, rest: str, *parameters: Any) -> list[Entry]:
        with self.file.reading() as connection:
            rows = connection.execute(f"SELECT * FROM studies {rest}", parameters)
            return [_from_row(row) for row in rows]


_LIST = "List the studies: federated-analytics site pending --all"


def _now(now: float | None) -> float:
    return time.time() if now is None else now


def _reason(reason: str) -> str:
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= LONGEST_REASON or not reason.isprintable():
        raise ConfigError(
            f"A reason is 1 to {LONGEST_REASON} printable characters; the analyst reads it.",
            where="reason",
            remedy='Write a sentence: --reason "The project has no ethics approval."',
        )
    return reason


def _leave_room(connection: sqlite3.Connection, analyst: str) -> None:
    row = connection.execute(
        "SELECT count(*) AS every, count(*) FILTER (WHERE analyst = ?) AS hers "
        "FROM studies WHERE state = 'pending'",
        [analyst],
    ).fetchone()
    if row["hers"] >= PENDING_EACH or row["every"] >= PENDING_ALL:
        raise SiteBusy(
            "Too many studies wait for approval.",
            remedy="Wait until the site operator has decided on them.",
        )


def _select(connection: sqlite3.Connection, fingerprint: str) -> Entry | None:
    row = connection.execute(
        "SELECT * FROM studies WHERE fingerprint = ?", [fingerprint]
    ).fetchone()
    return _from_row(row) if row else None


def _from_row(row: sqlite3.Row) -> Entry:
    asked = Asked(**{f.name: row[f.name] for f in fields(Asked)})
    own = [f.name for f in fields(Entry) if f.name != "asked"]
    return Entry(asked=asked, **{name: row[name] for name in own})
