"""What the console shows, as plain data: it reads no file and asks no database by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from federated_analytics.privacy.approval import Approvals


@dataclass(frozen=True)
class Budget:
    """R10: what an analyst has spent on a data set in the running period.

    Fields:
        spent, limit: in `unit`
        since: beginning of the period, seconds since 1970, UTC
    """

    analyst: str
    dataset: str
    spent: float
    limit: float
    unit: str
    since: float

    @property
    def remaining(self) -> float:
        return max(self.limit - self.spent, 0.0)


@dataclass(frozen=True)
class Charge:
    """One charge to a budget; `at` in seconds since 1970, UTC."""

    at: float
    analyst: str
    dataset: str
    amount: float
    unit: str
    request_id: str


@dataclass(frozen=True)
class AuditLine:
    """One line of the audit; `at` as the audit writes it."""

    number: int
    at: str
    analyst: str
    project: str
    study_name: str
    decision: str
    rule: str
    hash: str


@dataclass(frozen=True)
class PolicyLine:
    """One key of the site's policy, and what it does."""

    key: str
    value: str
    default: str
    explanation: str


@dataclass(frozen=True)
class ConsoleState:
    """Everything behind the console's pages.

    Fields:
        site: the site's name
        operator: who decides, as the audit is to name her
        approvals: whose `record` writes each decision to the audit
        charges: the last ones, at most so many, the newest first
        audit_lines: the last ones before a number (None: the end), at most so many, newest first
        audit_problems: what verifying the audit finds, a sentence each; empty where it is whole
        policy_text: the policy file as it stands; "" where the site has none of its own
    """

    site: str
    operator: str
    approvals: Approvals
    budgets: Callable[[], Sequence[Budget]]
    charges: Callable[[int], Sequence[Charge]]
    audit_lines: Callable[[int | None, int], Sequence[AuditLine]]
    audit_problems: Callable[[], Sequence[str]]
    policy: Callable[[], Sequence[PolicyLine]]
    policy_text: Callable[[], str]
