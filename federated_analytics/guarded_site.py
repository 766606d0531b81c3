"""A site that holds against whoever sends it bytes: `Site` behind keys, ledger and audit.

The order is fixed: authenticate → validate → approve → examine → charge → disclose → record →
release. Nothing leaves before the ledger and the audit hold it durably.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from datetime import time as clock
from typing import TYPE_CHECKING, Any, Self

from federated_analytics import __version__, wire
from federated_analytics.errors import (
    BadSignature,
    DatabaseTimeout,
    FederatedAnalyticsError,
    LedgerError,
    NotGranted,
    RequestRefused,
    SiteBusy,
    SiteFailed,
    UnknownAnalyst,
    UnknownProject,
    WaitingForApproval,
)
from federated_analytics.guarded_answer import Asker
from federated_analytics.messages import Request
from federated_analytics.omop.pool import ConnectionPool
from federated_analytics.omop.stop import Stop, Stopped
from federated_analytics.privacy.policy import refuse
from federated_analytics.privacy.running import RunningStudies
from federated_analytics.privacy.tickets import WAITING, Owner
from federated_analytics.request_kinds import (
    STUDY,
    Asks,
    CancelledByOperator,
    Handler,
    Working,
    asks,
)
from federated_analytics.secure_aggregation import KIND as SECURE
from federated_analytics.secure_requests import SecurePart
from federated_analytics.signing import (
    AnalystKey,
    PublicKey,
    SignedRequest,
    is_signed_request,
    request_hash,
    sign_reply,
    verify,
)
from federated_analytics.site import Site, as_refusal
from federated_analytics.site_service.works import ABANDONED, CANCELLED, TIMEOUT, Work, Works
from federated_analytics.site_state import SiteState

if TYPE_CHECKING:
    from federated_analytics.site_config import SiteConfig

log = logging.getLogger(__name__)


class NeedsSecureSum(RequestRefused):
    """A site that answers studies in secure sums alone."""

    code = "needs_secure_sum"
    default_remedy = "Run the study with --secure."


@dataclass
class GuardedSite:
    """`answer` is the whole surface; what it is given may come from anybody.

    Args:
        kinds: answers requests of other kinds than studies, by kind.
    """

    config: SiteConfig
    site: Site
    state: SiteState
    running: RunningStudies
    kinds: Mapping[str, Handler] = field(default_factory=dict)
    works: Works = field(init=False)

    def __post_init__(self) -> None:
        table = self.config.service
        self.works = Works(table.concurrent, table.abandon_seconds, self.running)

    @classmethod
    def open(cls, config: SiteConfig, kinds: Mapping[str, Handler] | None = None) -> Self:
        """The site that a configuration describes, with its state."""
        site, database = Site.from_config(config), config.database
        pool = ConnectionPool(
            site.url, config.service.concurrent, database.work_mem, database.temp_file_limit
        )
        state = SiteState.open(config.state)
        running = RunningStudies.open_folder(config.state)
        answered = dict(kinds or {})
        if config.peer:
            peers = {peer.name: PublicKey(peer.key) for peer in config.peer}
            wait = config.service.answer_seconds
            answered[SECURE] = SecurePart.open(site.name, site.policy, state, peers, wait)
        return cls(config, replace(site, pool=pool), state, running, answered)

    def info(self) -> Mapping[str, Any]:
        """The public part of the policy, for whoever may connect."""
        return {
            "site": self.site.name,
            "version": __version__,
            "key": self.state.key.public.text,
            "policy": asdict(self.site.policy.terms),
            "kinds": [STUDY, *self.kinds],
        }

    def busy(self) -> bytes:
        """A release that says that no place is free."""
        return self._refusal(SiteBusy("The site runs as many studies as it may."), "", None)

    def counts(self) -> Mapping[str, int]:
        """How many studies work, and how many wait for a place."""
        working, waiting = self.works.counts()
        return {"working": working, "waiting": waiting}

    def stop(self, seconds: float) -> None:
        """Let what is worked on finish for so long, cancel the rest, and close the connections."""
        self.works.end(seconds)
        if self.site.pool is not None:
            self.site.pool.close()

    def site_of(self, asker: Asker) -> Site:
        """The site as one request asks it: stopped, where that request is."""
        return replace(self.site, stop=self.works.stop_of(asker.request))

    def seconds_of(self, request: Request) -> float:
        """How long a request may work: as it asks, and no longer than the site lets it."""
        return min(max(request.seconds, 1.0), self.config.service.study_seconds)

    def answer(self, body: bytes, *, peer: str = "") -> bytes:
        """A signed release. Never raises; never says more."""
        request_id, asker = "", None
        try:
            if not is_signed_request(body):
                return self._introduced(body)
            request_id = request_hash(body)
            signed = verify(body, self._keys())
            asker = self._asker(signed, request_id)
            until = float(signed.expires) + 86_400
            self.state.ledger.use_nonce(signed.key, signed.nonce, request_id, until)
            return self._answered(asker, signed)
        except FederatedAnalyticsError as error:
            log.warning("refused: %s", error.code)
            return self._refusal(error, request_id, asker)
        except Exception:
            log.exception("the request could not be answered")
            return self._refusal(SiteFailed(), request_id, asker)

    def _introduced(self, body: bytes) -> bytes:
        """The site's terms, which anybody may have; a study needs a signature.

        Also a later step of what a signed request has begun, where its kind has such.
        """
        request = wire.decode_request(body)
        if carry := getattr(self.kinds.get(request.kind), "carry", None):
            try:
                return self._signed(carry(request, self), request_hash(body))
            except FederatedAnalyticsError as error:
                return self._refusal(error, request_hash(body), None)
        if request.study:
            raise UnknownAnalyst(
                "The site answers signed requests alone.",
                remedy="Run with --key and --project; `federated-analytics key new` makes a key.",
            )
        terms = self.site.policy.introduce(site=self.site.name, version=__version__)
        return wire.encode_release(terms)

    def _keys(self) -> dict[str, AnalystKey]:
        found = {}
        for analyst in self.config.analyst:
            key = PublicKey(analyst.key)
            last = analyst.until
            end = datetime.combine(last, clock.max, UTC).timestamp() if last else None
            found[key.fingerprint] = AnalystKey(key, end)
        return found

    def _asker(self, signed: SignedRequest, request_id: str) -> Asker:
        name = next(
            a.name for a in self.config.analyst if PublicKey(a.key).fingerprint == signed.key
        )
        return Asker(name, signed.project, request_id, signed.code)

    def _answered(self, asker: Asker, signed: SignedRequest) -> bytes:
        request = wire.decode_request(signed.request)
        if self.config.secure.required and request.kind == STUDY:
            raise NeedsSecureSum("The site answers studies in secure sums alone.")
        asked = asks(request, self.kinds)
        if signed.study != asked.digest:
            raise BadSignature("The signature names another study than the request holds.")
        self.grant(asker, asked)
        owner = Owner(asker.name, asker.request)
        held = self.state.tickets.redeem(asker.request, owner)
        if held is None:
            if self.works.stopping:
                raise SiteBusy("The site's service is being stopped.")
            if self.site.policy.approval == "manual" and not asked.approves:
                self.state.approvals.admit(asked.for_approval(asker, self), asker.request)
            self._start(asker, owner, asked, request)
        work = self.works.wait(asker.request, self.config.service.answer_seconds)
        held = self.state.tickets.redeem(asker.request, owner)
        if isinstance(held, bytes):
            return held
        abandoned = work is not None and work.stop.reason == ABANDONED
        if held is WAITING or abandoned:  # it is begun again when it is asked for again
            raise Working("The site is working on the study.")
        if self.works.stopping:
            raise SiteBusy("The site's service is being stopped.")
        raise SiteFailed

    def grant(self, asker: Asker, asked: Asks) -> None:
        """The project is admitted, and the analyst may ask for all that the request does.

        Raises: UnknownProject, NotGranted.
        """
        analyst = next(a for a in self.config.analyst if a.name == asker.name)
        project = next((p for p in self.config.project if p.name == asker.project), None)
        if project is None or project.name not in analyst.projects:
            raise UnknownProject("The analyst has no such project at this site.")
        if project.until is not None and datetime.now(UTC).date() > project.until:
            raise UnknownProject("The project has ended at this site.")
        for kind, where in asked.grants():
            if analyst.analyses and kind not in analyst.analyses:
                raise NotGranted(f"The analyst may not ask for {kind} at this site.", where=where)

    def _start(self, asker: Asker, owner: Owner, asked: Asks, request: Request) -> None:
        """Make the answer once: at once where that is quick, otherwise in a thread of its own."""
        if not self.state.tickets.open(asker.request, owner):
            return

        def make(stop: Stop) -> bytes:
            return self._made(asker, asked, request)

        def settle(body: bytes | None, reason: str) -> None:
            self._settle(asker, owner, asked, body, reason)

        if asked.quick:
            try:
                settle(make(Stop()), "")
            finally:
                self.state.tickets.drop(asker.request, owner)
            return
        seconds = self.seconds_of(request)
        names = asker.request, asker.name, asker.project, asked.name
        self.works.start(Work(*names, seconds, make, settle))

    def _made(self, asker: Asker, asked: Asks, request: Request) -> bytes:
        """The signed answer; Stopped where the study was."""
        try:
            return self._signed(asked.release(asker, request, self), asker.request)
        except (Stopped, WaitingForApproval):
            raise  # neither is an answer to keep
        except FederatedAnalyticsError as error:
            log.warning("refused: %s (%s)", error.code, type(error.__cause__).__name__)
            return self._refusal(error, asker.request, asker)
        except Exception:
            log.exception("the study could not be answered")
            return self._refusal(SiteFailed(), asker.request, asker)

    def _settle(
        self, asker: Asker, owner: Owner, asked: Asks, body: bytes | None, reason: str
    ) -> None:
        """Keep an answer; of a study that was stopped, what is told to who asks again."""
        try:
            if reason == TIMEOUT:
                error = DatabaseTimeout("The study did not finish in time.")
                body = self._refusal(error, asker.request, asker)
            elif reason:
                body = self._cancelled(asker, asked, reason)
            if body is not None:
                self.state.tickets.done(asker.request, owner, body)
        finally:
            self.state.tickets.drop(asker.request, owner)

    def _cancelled(self, asker: Asker, asked: Asks, reason: str) -> bytes | None:
        """The audit's line of it, and where the operator cancelled it her word for the analyst."""
        found = self.running.find(asker.request) if reason == CANCELLED else None
        by, why = (found.cancelled_by, found.reason) if found else ("", "")
        event = {"decision": "cancelled", "code": reason, "by": by, "reason": why}
        event |= {"study": asked.digest, "study_name": asked.name}
        self.state.audit.append(event | _whose(asker.request, asker))
        if reason != CANCELLED:
            return None
        error = CancelledByOperator(f"The site's operator cancelled the study: {why or 'no word'}.")
        return self._refused(error, asker.request)

    def _refusal(
        self, error: FederatedAnalyticsError, request_id: str, asker: Asker | None
    ) -> bytes:
        if error.code != Working.code:
            event = {"decision": "refused", "code": error.code, "where": as_refusal(error).where}
            # A refusal that cannot be recorded is still a refusal: nothing leaves with it.
            with contextlib.suppress(LedgerError):
                self.state.audit.append(event | _whose(request_id, asker))
        return self._refused(error, request_id)

    def _refused(self, error: FederatedAnalyticsError, request_id: str) -> bytes:
        refusal, name = as_refusal(error), self.site.name
        release = refuse(refusal, site=name, study="", round=0, version=__version__)
        return self._signed(wire.encode_release(release), request_id)

    def _signed(self, release: bytes, request_id: str) -> bytes:
        return sign_reply(release, self.state.key, request=request_id, site=self.site.name)


def _whose(request_id: str, asker: Asker | None) -> dict[str, str]:
    name, project = (asker.name, asker.project) if asker else ("", "")
    return {"request": request_id, "analyst": name, "project": project}
