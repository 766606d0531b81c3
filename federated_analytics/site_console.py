"""What the web console shows of a site: its state folder and policy, as plain data."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics.noisy_study import DATASET
from federated_analytics.policy_page import toml_text, toml_value
from federated_analytics.privacy.accounting import Budget as PrivacyBudget
from federated_analytics.privacy.accounting import epsilon_of, remaining, spent
from federated_analytics.privacy.asked import operator
from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.privacy.policy import Policy
from federated_analytics.site_service.console.state import (
    AuditLine,
    Budget,
    Charge,
    ConsoleState,
    PolicyLine,
)
from federated_analytics.site_state import audited_approvals

if TYPE_CHECKING:
    from federated_analytics.site_config import SiteConfig

UNIT = "ε"


def console_state(config: SiteConfig) -> ConsoleState:
    """The console of a site; its decisions are written to the audit."""
    ledger = Ledger.open(config.state)
    audit = Audit.open(config.state, ledger)
    return ConsoleState(
        site=config.site.name,
        operator=operator(),
        approvals=audited_approvals(config.state, audit),
        budgets=lambda: _budgets(config, ledger),
        charges=lambda most: _charges(config.policy, ledger, most),
        audit_lines=lambda before, most: _lines(audit, before, most),
        audit_problems=lambda: [p.text for p in audit.verify()],
        policy=lambda: _policy(config.policy),
        policy_text=lambda: toml_text(config.policy),
    )


def _budgets(config: SiteConfig, ledger: Ledger) -> Sequence[Budget]:
    policy, now = config.policy, time.time()
    if policy.mode != "dp":
        return ()
    budget = PrivacyBudget(policy.budget_epsilon, policy.delta, policy.budget_days)
    charges = [entry.charge for entry in ledger.charges()]
    found = []
    for analyst in config.analyst:
        of: dict[str, Any] = {"analyst": analyst.name, "dataset": DATASET}
        left = remaining(budget, charges, now, **of)
        used = epsilon_of(spent(budget, charges, now, **of).rho, policy.delta)
        limit = used + epsilon_of(left.rho, policy.delta) if left.rho else used
        found.append(
            Budget(
                analyst.name,
                DATASET,
                used,
                min(limit, policy.budget_epsilon),
                UNIT,
                budget.since(now),
            )
        )
    return found


def _charges(policy: Policy, ledger: Ledger, most: int) -> Sequence[Charge]:
    return [
        Charge(
            e.charge.at,
            e.charge.analyst,
            e.charge.dataset,
            epsilon_of(e.charge.rho, policy.delta),
            UNIT,
            e.request,
        )
        for e in list(ledger.charges())[:most]
    ]


def _lines(audit: Audit, before: int | None, most: int) -> Sequence[AuditLine]:
    kept: dict[int, dict[str, Any]] = defaultdict(dict)
    for line in audit.lines():
        if before is None or line["line"] < before:
            kept[line["line"]] = line
    return [
        AuditLine(
            number,
            line["time"],
            line.get("analyst") or line.get("by") or "",
            line.get("project", ""),
            line.get("study_name", ""),
            line["decision"],
            line.get("code", ""),
            line["hash"],
        )
        for number, line in sorted(kept.items(), reverse=True)[:most]
    ]


def _policy(policy: Policy) -> Sequence[PolicyLine]:
    default = Policy()
    return [
        PolicyLine(
            key,
            toml_value(getattr(policy, key)),
            toml_value(getattr(default, key)),
            str(field.description),
        )
        for key, field in Policy.model_fields.items()
    ]
