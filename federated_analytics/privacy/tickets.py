"""Tickets: a study that takes longer than a few seconds is answered when it is asked again.

A ticket belongs to the analyst and the request that opened it: another's request id opens
nothing and tells nothing. What is running is known to the process alone, so a restart forgets
it and the study is run again; a result is durable until it expires.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Self

from federated_analytics.errors import SiteBusy
from federated_analytics.privacy.state_file import StateFile

RESULT_SECONDS = 86_400.0
"""How long a result waits to be fetched."""
RUNNING_AT_ONCE = 100
RESULTS_KEPT = 1_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    ticket BLOB PRIMARY KEY, made_at REAL NOT NULL, released BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_by_age ON results (made_at)
"""


class _Waiting(Enum):
    WAITING = "waiting"


WAITING: Final = _Waiting.WAITING
"""The study of a ticket is still running."""


@dataclass(frozen=True)
class Owner:
    """Whose a ticket is: fingerprint of the analyst's key, SHA-256 of her request."""

    analyst: str
    request_hash: str


@dataclass(frozen=True)
class Tickets:
    """The tickets of one site service; results in `tickets.sqlite`. Safe among threads."""

    file: StateFile
    _running: set[bytes] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open_folder(cls, folder: Path) -> Self:
        """The tickets of a state folder; LedgerError where it cannot be read or written."""
        return cls(StateFile(folder / "tickets.sqlite", _SCHEMA, version=1))

    def open(self, request_id: str, owner: Owner) -> bool:
        """True where the caller is the one who is to run the study; SiteBusy where too many run.

        False where it runs already or its result is there: redeem it.
        """
        ticket = _ticket(request_id, owner)
        with self._lock:
            if ticket in self._running or self._result(ticket, time.time()) is not None:
                return False
            if len(self._running) >= RUNNING_AT_ONCE:
                raise SiteBusy("Too many studies are running.")
            self._running.add(ticket)
        return True

    def done(
        self, request_id: str, owner: Owner, released: bytes, now: float | None = None
    ) -> None:
        """Keeps the result of a study, durably; the oldest make room."""
        ticket = _ticket(request_id, owner)
        now = time.time() if now is None else now
        try:
            with self.file.transaction() as connection:
                connection.execute("DELETE FROM results WHERE made_at < ?", [now - RESULT_SECONDS])
                connection.execute(
                    "INSERT OR IGNORE INTO results VALUES (?, ?, ?)", [ticket, now, released]
                )
                connection.execute(
                    "DELETE FROM results WHERE ticket IN "
                    "(SELECT ticket FROM results ORDER BY made_at DESC LIMIT -1 OFFSET ?)",
                    [RESULTS_KEPT],
                )
        finally:  # a result that could not be kept is computed again
            self.drop(request_id, owner)

    def drop(self, request_id: str, owner: Owner) -> None:
        """Forgets a running study that will have no result: it was cancelled, or it failed."""
        with self._lock:
            self._running.discard(_ticket(request_id, owner))

    def redeem(
        self, request_id: str, owner: Owner, now: float | None = None
    ) -> bytes | _Waiting | None:
        """The result; WAITING while it is being made; None where there is no such ticket.

        Redeeming takes nothing away: a reply that was lost on its way can be fetched again.
        """
        ticket = _ticket(request_id, owner)
        with self._lock:
            running = ticket in self._running
        # After `running`: what ends in between is found as a result.
        released = self._result(ticket, time.time() if now is None else now)
        return released if released is not None else (WAITING if running else None)

    def _result(self, ticket: bytes, now: float) -> bytes | None:
        with self.file.reading() as connection:
            row = connection.execute(
                "SELECT released FROM results WHERE ticket = ? AND made_at >= ?",
                [ticket, now - RESULT_SECONDS],
            ).fetchone()
        return bytes(row["released"]) if row else None


def _ticket(request_id: str, owner: Owner) -> bytes:
    hashed = hashlib.sha256(b"federated_analytics ticket 1")
    for part in (request_id, owner.analyst, owner.request_hash):
        hashed.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return hashed.digest()
