"""The privacy budget that local_dp draws on: one for each project, over all its analyses.

Losses are those of the Laplace mechanism, so they add up as they are (Dwork & Roth 2014,
theorem 3.16). A charge is durable before anything is released.
"""

from __future__ import annotations

import math
import secrets
import sqlite3
import time
from pathlib import Path

from federated_analytics.flame.errors import BudgetSpent, InvalidArgument
from federated_analytics.privacy.accounting import SECONDS_A_DAY
from federated_analytics.privacy.state_file import StateFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    id TEXT PRIMARY KEY, project TEXT NOT NULL, epsilon REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""
_ROUNDING = 1 + 1e-12
"""So that ten tenths are one."""


class EpsilonLedger:
    """What one project may spend in any `days` days on end; safe among threads and processes.

    Args:
        file: of all projects' charges.
        limit: epsilon in all; None: charged, and never refused.
    """

    def __init__(
        self, file: Path, project: str, limit: float | None = None, days: float = math.inf
    ) -> None:
        self._file = StateFile(file, _SCHEMA, version=1)
        self._project = project
        self._limit = limit
        self._seconds = days * SECONDS_A_DAY

    def charge(self, epsilon: float, id: str = "") -> None:
        """Charge a loss, durably.

        Args:
            id: of what is paid for; the second charge under one id costs nothing, and must not
                be larger.

        Raises:
            BudgetSpent: it would bring the project above its limit; nothing is charged.
        """
        if not (math.isfinite(epsilon) and epsilon >= 0):
            raise InvalidArgument("epsilon is finite and not negative.", where="local_dp.epsilon")
        if not self._charged(epsilon, id or secrets.token_hex(16)):
            raise BudgetSpent(
                f"The project's budget of epsilon {self._limit:g} does not cover {epsilon:g} more.",
                where="local_dp.epsilon",
            )

    def _charged(self, epsilon: float, id: str) -> bool:
        with self._file.transaction() as connection:
            known = connection.execute("SELECT epsilon FROM charges WHERE id = ?", [id]).fetchone()
            if known is not None:
                return bool(epsilon <= known["epsilon"])
            limit = math.inf if self._limit is None else self._limit * _ROUNDING
            if self._spent(connection) + epsilon > limit:
                return False
            connection.execute(
                "INSERT INTO charges VALUES (?, ?, ?, ?)",
                [id, self._project, epsilon, time.time()],
            )
        return True

    def spent(self) -> float:
        """Epsilon that the project has spent in the period that ends now."""
        with self._file.reading() as connection:
            return self._spent(connection)

    def _spent(self, connection: sqlite3.Connection) -> float:
        rows = connection.execute(
            "SELECT epsilon FROM charges WHERE project = ? AND at > ?",
            [self._project, time.time() - self._seconds],
        ).fetchall()
        return math.fsum(row["epsilon"] for row in rows)


class RunBudget:
    """What a single run may spend, of an epsilon that its sites have charged beforehand."""

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self._spent: list[float] = []

    def charge(self, epsilon: float) -> None:
        """Raises: BudgetSpent, where the run was not given so much."""
        if math.fsum([*self._spent, epsilon]) > self._epsilon * _ROUNDING:
            raise BudgetSpent(
                f"The run's epsilon of {self._epsilon:g} does not cover {epsilon:g} more.",
                where="local_dp.epsilon",
                remedy="Run it with a larger --epsilon-budget, which every site charges to the "
                "project's budget, or ask for a larger error (a smaller epsilon).",
            )
        self._spent.append(epsilon)
