"""Secure sums at a guarded site: who may ask for one, what is worked on, what is recorded.

The first round is the analyst's own signed request; the site looks at it as at any study. What
is relied on in the other rounds is signed by the sites, so these need no signature of hers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from federated_analytics.errors import DatabaseTimeout, FederatedAnalyticsError, SiteFailed
from federated_analytics.omop.stop import Stop, Stopped
from federated_analytics.request_kinds import StudyAsked
from federated_analytics.secure_aggregation import KIND, SecureSite
from federated_analytics.site_service.works import GRACE_SECONDS, TIMEOUT, Work
from federated_analytics.study import Study

if TYPE_CHECKING:
    from federated_analytics.guarded_answer import Asker
    from federated_analytics.guarded_site import GuardedSite
    from federated_analytics.messages import Request
    from federated_analytics.privacy.policy import Policy
    from federated_analytics.signing import PublicKey
    from federated_analytics.site_state import SiteState

MASKED_ROUND = 3


@dataclass
class SecurePart:
    """A guarded site's part in secure sums: the handler of requests of the kind "secure"."""

    site: SecureSite
    quick = True
    _recorded: set[str] = field(default_factory=set, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @classmethod
    def open(
        cls,
        name: str,
        policy: Policy,
        state: SiteState,
        peers: Mapping[str, PublicKey],
        wait_seconds: float,
    ) -> Self:
        """Under the site's own key, with its ledger as memory.

        Args:
            peers: the other sites' public keys by name.
            wait_seconds: after so long a study that still works is answered with `working`.
        """
        keep = state.ledger.keep_answer
        return cls(SecureSite(name, state.key, peers, policy.min_sites, keep, wait_seconds))

    def asked(self, request: Request) -> SecureAsked:
        """What the first round asks: a study, as far as grants and approvals go; StudyError."""
        return SecureAsked(Study.from_json(request.study), self)

    def answer(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        """The first round: the site's keys for this run. Of its data, nothing leaves yet."""
        study = Study.from_json(request.study)

        def release(plain: Request) -> bytes:
            return worked(StudyAsked(study), asker, plain, guarded)

        return self.site.advertise(
            request,
            release,
            run=asker.request,
            owner=asker.name,
            version=lambda: guarded.config.database.version,
        )

    def carry(self, request: Request, guarded: GuardedSite) -> bytes:
        """The later rounds; the masked numbers are in the audit before they leave.

        Raises:
            FederatedAnalyticsError: a refusal; see `SecureSite.step`.
        """
        body = self.site.step(request)
        if request.round == MASKED_ROUND:
            with self._lock:
                if request.run not in self._recorded:
                    event = {"decision": "released", "kind": KIND, "request": request.run}
                    guarded.state.audit.append(event, released=body)
                    self._recorded.add(request.run)
        return body


@dataclass(frozen=True)
class SecureAsked(StudyAsked):
    """The first round of a study's secure sum; the study itself is worked on in the second."""

    part: SecurePart
    quick = True

    def release(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        return self.part.answer(asker, request, guarded)


def worked(asked: StudyAsked, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
    """A study's release, worked on as any other: in its place, until it is stopped.

    Raises:
        FederatedAnalyticsError: the refusal of the study, or of one that was stopped.
    """
    found: list[bytes | FederatedAnalyticsError] = []

    def make(stop: Stop) -> bytes:
        try:
            found.append(asked.release(asker, request, guarded))
        except Stopped:
            raise
        except FederatedAnalyticsError as error:
            found.append(error)
        return b""

    def settle(body: bytes | None, reason: str) -> None:
        if reason == TIMEOUT:
            found.append(DatabaseTimeout("The study did not finish in time."))

    seconds = guarded.seconds_of(request)
    work = Work(asker.request, asker.name, asker.project, asked.name, seconds, make, settle)
    guarded.works.start(work)
    guarded.works.wait(asker.request, seconds + guarded.config.service.study_seconds)
    work.done.wait(GRACE_SECONDS)
    outcome = found[0] if found else SiteFailed()
    if isinstance(outcome, FederatedAnalyticsError):
        raise outcome
    return outcome
