"""The files of a site's state folder: ledger, audit, approvals, tickets, and the site's own key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from federated_analytics.privacy.approval import Approvals
from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.privacy.tickets import Tickets
from federated_analytics.signing import SigningKey

if TYPE_CHECKING:
    from federated_analytics.privacy.asked import Decision

KEY_FILE = "site.key"
_DECISIONS = {"approve": "approved", "refuse": "refused", "revoke": "revoked"}


@dataclass(frozen=True)
class SiteState:
    """A state folder, opened. Safe among threads and processes."""

    ledger: Ledger
    audit: Audit
    approvals: Approvals
    tickets: Tickets
    key: SigningKey

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The state of a site, made where there is none.

        Raises:
            LedgerError: it cannot be read or written, or its files are not of one time.
        """
        ledger = Ledger.open(folder)
        audit = Audit.open(folder, ledger)
        return cls(
            ledger,
            audit,
            audited_approvals(folder, audit),
            Tickets.open_folder(folder),
            site_key(folder),
        )


def audited_approvals(folder: Path, audit: Audit) -> Approvals:
    """The approvals of a state folder, with every decision in the audit."""

    def record(made: Decision) -> None:
        audit.append(
            {
                "decision": _DECISIONS[made.deed],
                "fingerprint": made.fingerprint,
                "study": made.asked.digest,
                "study_name": made.asked.study_name,
                "analyst": made.asked.analyst,
                "project": made.asked.project,
                "by": made.by,
                "reason": made.reason,
            }
        )

    return Approvals.open(folder, record)


def site_key(folder: Path) -> SigningKey:
    """The site's own key, made where there is none."""
    path = folder / KEY_FILE
    if not path.exists():
        SigningKey.new().save(path)
    return SigningKey.load(path)
