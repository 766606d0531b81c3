"""What local_dp may cost a project at a site: charged for a whole run as the run begins.

The noise is drawn by the aggregator, which is no site, and may be when no site's node runs any
more. So a run states beforehand what it may spend, the operator approves that with the script,
and every site has charged it, durably, before its worker starts; the aggregator is held to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from federated_analytics.flame.epsilon_ledger import EpsilonLedger
from federated_analytics.flame.order import ScriptOrder

if TYPE_CHECKING:
    from federated_analytics.privacy.policy import Policy


def project_budget(folder: Path, project: str, policy: Policy) -> EpsilonLedger:
    """A project's ledger at a site; its budget is the policy's.

    Args:
        folder: of the site's scripts.
    """
    return EpsilonLedger(
        folder / "epsilon.sqlite", project, policy.budget_epsilon, policy.budget_days
    )


def cost_in_words(order: ScriptOrder, policy: Policy, spent: float) -> str:
    """What a run of the script costs the project, for the person who approves it."""
    if not order.epsilon:
        return "Nothing: without an epsilon of its own, the script's local_dp is refused."
    return (
        f"ε = {order.epsilon:g} for each run, charged as it begins; the project has spent "
        f"{spent:g} of {policy.budget_epsilon:g} in {policy.budget_days} days."
    )
