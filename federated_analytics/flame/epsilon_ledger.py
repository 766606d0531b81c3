"""The privacy budget that local_dp draws on."""

from __future__ import annotations

from federated_analytics.flame.errors import BudgetSpent
from federated_analytics.flame.node_host import NodeHost


class EpsilonLedger:
    """What one analysis may spend at its aggregator; unlimited unless a limit is given."""

    def __init__(self, host: NodeHost, limit: float | None = None) -> None:
        self._host = host
        self._limit = limit

    def charge(self, epsilon: float) -> None:
        """Raises: BudgetSpent, before anything is written."""
        with self._host.locked(), self._host.state.change():
            spent = float(self._host.state.get("epsilon_spent", 0.0)) + epsilon
            if self._limit is not None and spent > self._limit * (1 + 1e-12):
                raise BudgetSpent(
                    f"The budget of epsilon {self._limit:g} does not cover {epsilon:g} more.",
                    where="local_dp.epsilon",
                )
            self._host.state.put("epsilon_spent", spent)
