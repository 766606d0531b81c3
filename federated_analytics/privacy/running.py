"""The studies that a service works on, for the operator to see and to cancel.

The service writes its own there and looks whether one was cancelled; the operator's command reads
and writes the same file. What a service that was killed left is forgotten at its next start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from federated_analytics.errors import ConfigError
from federated_analytics.privacy.state_file import StateFile

REASON_CHARACTERS = 200
FEWEST_CHARACTERS = 4
"""Of a request's id, to name it by."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS running (
    request TEXT PRIMARY KEY, analyst TEXT NOT NULL, project TEXT NOT NULL, asked TEXT NOT NULL,
    started_at REAL NOT NULL, cancelled_by TEXT NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class RunningStudy:
    """One study that is worked on.

    Fields:
        request: SHA-256 of the signed request
        asked: the study's name, or the kind of the request
        started_at: seconds since 1970, UTC
        cancelled_by: the operator who cancelled it; "" where none did
        reason: hers
    """

    request: str
    analyst: str
    project: str
    asked: str
    started_at: float
    cancelled_by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class RunningStudies:
    """Those of one site; in `running.sqlite`. Safe among threads and processes."""

    file: StateFile

    @classmethod
    def open_folder(cls, folder: Path) -> Self:
        """Those of a state folder; LedgerError where it cannot be read or written."""
        return cls(StateFile(folder / "running.sqlite", _SCHEMA, version=1))

    def clear(self) -> None:
        """Forgets all: the service starts, and runs none."""
        with self.file.transaction() as connection:
            connection.execute("DELETE FROM running")

    def begin(self, request: str, analyst: str, project: str, asked: str) -> None:
        """A study is worked on."""
        with self.file.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO running VALUES (?, ?, ?, ?, ?, '', '')",
                [request, analyst, project, asked, time.time()],
            )

    def end(self, request: str) -> None:
        """It is not any more."""
        with self.file.transaction() as connection:
            connection.execute("DELETE FROM running WHERE request = ?", [request])

    def all(self) -> list[RunningStudy]:
        """Every one, the oldest first."""
        with self.file.reading() as connection:
            rows = connection.execute("SELECT * FROM running ORDER BY started_at, request")
            return [RunningStudy(**dict(row)) for row in rows]

    def find(self, request: str) -> RunningStudy | None:
        """One by its whole id."""
        return next((one for one in self.all() if one.request == request), None)

    def cancel(self, prefix: str, by: str, reason: str) -> RunningStudy:
        """Asks the service to cancel the study whose request's id starts so.

        Raises:
            ConfigError: none does, or several do, or the reason is too long.
        """
        if len(reason) > REASON_CHARACTERS:
            raise ConfigError(f"A reason has at most {REASON_CHARACTERS} characters.")
        found = [one for one in self.all() if one.request.startswith(prefix.lower())]
        if len(prefix) < FEWEST_CHARACTERS or len(found) != 1:
            count = "Several studies have" if len(found) > 1 else "No study that runs has"
            raise ConfigError(
                f"{count} this request.",
                where="REQUEST",
                remedy="`federated-analytics site running` lists them; give more characters.",
            )
        with self.file.transaction() as connection:
            connection.execute(
                "UPDATE running SET cancelled_by = ?, reason = ? WHERE request = ?",
                [by, reason, found[0].request],
            )
        return found[0]
