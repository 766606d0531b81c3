"""What a node remembers of one analysis, in SQLite: inbox, outbox, partners, own state.

Every change is one transaction, so that a service that is killed finds all of it or none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from federated_analytics.flame.letters import Letter, first_bytes

SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, sender TEXT NOT NULL,
    category TEXT NOT NULL, recipients TEXT NOT NULL, payload TEXT NOT NULL,
    status TEXT NOT NULL, created_at REAL NOT NULL, arrived_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS unread ON inbox (status, category, sender);
CREATE TABLE IF NOT EXISTS acknowledgement (
    message TEXT NOT NULL, receiver TEXT NOT NULL, PRIMARY KEY (message, receiver));
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, letter TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS partner (id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS setting (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answer (client TEXT PRIMARY KEY, number INTEGER, content TEXT);
"""
_COLUMNS = "number, id, sender, category, recipients, payload, status, created_at, arrived_at"
Status = Literal["read", "unread"]


class NodeState:
    """One SQLite file; a single thread uses it at a time (its owner holds a lock).

    Args:
        durable: wait for the disk at each change; without it a crash of the machine (not of
            the process) may lose the last ones.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        self._db.executescript(SCHEMA)
        path.chmod(0o600)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction; within another, a part of it."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # own settings

    def get(self, key: str, default: Any = None) -> Any:
        row = self._db.execute("SELECT value FROM setting WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row["value"])

    def put(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, json.dumps(value)))

    # outbox

    def post(self, letter: Letter) -> None:
        self._db.execute(
            "INSERT INTO outbox (letter) VALUES (?)", (json.dumps(letter, allow_nan=False),)
        )

    def confirm(self, number: int) -> None:
        self._db.execute("DELETE FROM outbox WHERE number <= ?", (number,))

    def waiting(self, max_bytes: int) -> list[tuple[int, Letter]]:
        """The first letters of the outbox, about `max_bytes` of them."""
        rows = self._db.execute("SELECT number, letter FROM outbox ORDER BY number")
        return first_bytes(((row["number"], json.loads(row["letter"])) for row in rows), max_bytes)

    def has_outgoing(self) -> bool:
        return self._db.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is not None

    # inbox

    def store(self, letter: Mapping[str, Any], arrived_at: float) -> None:
        """Keep an incoming message, unread."""
        number = int(self.get("arrived", 0)) + 1
        self.put("arrived", number)
        row = (
            number,
            letter["id"],
            letter["sender"],
            letter["category"],
            json.dumps(letter["recipients"]),
            letter["payload"],
            "unread",
            letter["created_at"],
            arrived_at,
        )
        self._db.execute(
            f"INSERT OR IGNORE INTO inbox ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", row
        )

    def unread(
        self, sender: str, category: str, id: str | None, after: int
    ) -> list[dict[str, Any]]:
        """Unread messages of a sender and category that arrived after a number."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM inbox WHERE status = 'unread' AND category = ? "
            "AND sender = ? AND number > ? ORDER BY number",
            (category, sender, after),
        )
        return [dict(row) for row in rows if id is None or row["id"] == id]

    def with_status(self, status: Status) -> list[dict[str, Any]]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM inbox WHERE status = ? ORDER BY number", (status,)
        )
        return [dict(row) for row in rows]

    def by_number(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        found = []
        for number in numbers:
            row = self._db.execute(
                f"SELECT {_COLUMNS} FROM inbox WHERE number = ?", (number,)
            ).fetchone()
            if row is not None:
                found.append(dict(row))
        return found

    def mark_read(self, numbers: Sequence[int]) -> None:
        self._db.executemany(
            "UPDATE inbox SET status = 'read' WHERE number = ?", [(n,) for n in numbers]
        )

    def delete(self, ids: Sequence[str]) -> int:
        return sum(
            self._db.execute("DELETE FROM inbox WHERE id = ?", (id,)).rowcount for id in set(ids)
        )

    def clear(self, status: Literal["read", "unread", "all"], before: float | None) -> int:
        """Delete by status, and if given only what arrived before a time."""
        return self._db.execute(
            "DELETE FROM inbox WHERE (? = 'all' OR status = ?) AND (? IS NULL OR arrived_at < ?)",
            (status, status, before, before),
        ).rowcount

    def last_arrival(self) -> int:
        return int(self.get("arrived", 0))

    # acknowledgements

    def acknowledged(self, message: str, receiver: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO acknowledgement VALUES (?, ?)", (message, receiver))

    def acknowledgements(self, message: str) -> set[str]:
        rows = self._db.execute(
            "SELECT receiver FROM acknowledgement WHERE message = ?", (message,)
        )
        return {row["receiver"] for row in rows}

    # partners

    def set_partner(self, record: Mapping[str, Any]) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO partner VALUES (?, ?)", (record["node"], json.dumps(record))
        )

    def partners(self) -> dict[str, dict[str, Any]]:
        rows = self._db.execute("SELECT id, record FROM partner")
        return {row["id"]: json.loads(row["record"]) for row in rows}

    # answers to calls, so that one that is repeated after a restart is not done twice

    def answered(self, client: str, number: int) -> Any:
        """What call `number` of a worker's thread was answered; None when it is new."""
        row = self._db.execute(
            "SELECT content FROM answer WHERE client = ? AND number = ?", (client, number)
        ).fetchone()
        return None if row is None else json.loads(row["content"])

    def keep_answer(self, client: str, number: int, content: Any) -> None:
        """The last answer of each thread is enough: it asks one thing at a time."""
        self._db.execute(
            "INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", (client, number, json.dumps(content))
        )
