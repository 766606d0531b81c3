"""A site that holds against whoever sends it bytes: `Site` behind keys, ledger and audit.

The order is fixed: authenticate → validate → approve → examine → charge → disclose → record →
release. Nothing leaves before the ledger and the audit hold it durably.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from datetime import time as clock
from typing import TYPE_CHECKING, Any, Self

from federated_analytics import __version__, wire
from federated_analytics.errors import (
    BadSignature,
    FederatedAnalyticsError,
    LedgerError,
    NotGranted,
    RequestRefused,
    SiteBusy,
    SiteFailed,
    UnknownAnalyst,
    UnknownProject,
)
from federated_analytics.guarded_answer import Asker, GuardedAnswer
from federated_analytics.messages import Refusal, Request
from federated_analytics.privacy.policy import refuse
from federated_analytics.privacy.tickets import WAITING, Owner
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
from federated_analytics.site_state import SiteState
from federated_analytics.study import Study

if TYPE_CHECKING:
    from federated_analytics.site_config import SiteConfig

log = logging.getLogger(__name__)


class Working(RequestRefused):
    """Not an error: the answer is being made, and is fetched by the same request."""

    code = "working"
    default_remedy = "The same request is sent again, and is answered once."


@dataclass
class GuardedSite:
    """`answer` is the whole surface; what it is given may come from anybody."""

    config: SiteConfig
    site: Site
    state: SiteState
    _work: dict[str, threading.Event] = field(default_factory=dict, init=False)

    @classmethod
    def open(cls, config: SiteConfig) -> Self:
        """The site that a configuration describes, with its state."""
        return cls(config, Site.from_config(config), SiteState.open(config.state))

    def info(self) -> Mapping[str, Any]:
        """The public part of the policy, for whoever may connect."""
        return {
            "site": self.site.name,
            "version": __version__,
            "key": self.state.key.public.text,
            "policy": asdict(self.site.policy.terms),
        }

    def busy(self) -> bytes:
        """A release that says that no place is free."""
        return self._refusal(SiteBusy("The site runs as many studies as it may."), "", None)

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
        """The site's terms, which anybody may have; a study needs a signature."""
        if wire.decode_request(body).study:
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
        study = Study.from_json(request.study)
        if signed.study != study.digest:
            raise BadSignature("The signature names another study than the request holds.")
        self._grant(asker, study)
        owner = Owner(asker.name, asker.request)
        held = self.state.tickets.redeem(asker.request, owner)
        if held is None:
            self._approve(asker, study, request)
            self._start(asker, owner, study, request)
        event = self._work.get(asker.request)
        if event is not None:
            event.wait(self.config.service.answer_seconds)
        held = self.state.tickets.redeem(asker.request, owner)
        if held is WAITING:
            raise Working("The site is working on the study.")
        if held is None:
            raise SiteFailed
        assert isinstance(held, bytes)
        return held

    def _grant(self, asker: Asker, study: Study) -> None:
        """The project is admitted, and the analyst may ask for every analysis."""
        analyst = next(a for a in self.config.analyst if a.name == asker.name)
        project = next((p for p in self.config.project if p.name == asker.project), None)
        if project is None or project.name not in analyst.projects:
            raise UnknownProject("The analyst has no such project at this site.")
        if project.until is not None and datetime.now(UTC).date() > project.until:
            raise UnknownProject("The project has ended at this site.")
        for i, query in enumerate(study.analysis):
            if analyst.analyses and query.kind not in analyst.analyses:
                raise NotGranted(
                    f"The analyst may not ask for {query.kind} at this site.",
                    where=f"analysis[{i}].kind",
                )

    def _approve(self, asker: Asker, study: Study, request: Request) -> None:
        if self.site.policy.approval == "manual":
            from federated_analytics.approval_request import approval_request

            asked = approval_request(self.site, asker, study)
            self.state.approvals.admit(asked, asker.request)

    def _start(self, asker: Asker, owner: Owner, study: Study, request: Request) -> None:
        """Make the answer in a thread of its own, once."""
        if not self.state.tickets.open(asker.request, owner):
            return
        done = self._work[asker.request] = threading.Event()

        def run() -> None:
            try:
                body = self._made(asker, study, request)
                self.state.tickets.done(asker.request, owner, body)
            except Exception:
                log.exception("the answer could not be kept")
                self.state.tickets.drop(asker.request, owner)
            finally:
                done.set()
                self._work.pop(asker.request, None)

        threading.Thread(target=run, daemon=True).start()

    def _made(self, asker: Asker, study: Study, request: Request) -> bytes:
        table = self.config
        seconds = min(max(request.seconds, 1.0), table.service.study_seconds)
        work = GuardedAnswer(self.site, self.state, asker, study, table.database.version, seconds)
        try:
            return self._signed(work.release(request), asker.request)
        except FederatedAnalyticsError as error:
            log.warning("refused: %s (%s)", error.code, type(error.__cause__).__name__)
            return self._refusal(error, asker.request, asker)
        except Exception:
            log.exception("the study could not be answered")
            return self._refusal(SiteFailed(), asker.request, asker)

    def _refusal(
        self, error: FederatedAnalyticsError, request_id: str, asker: Asker | None
    ) -> bytes:
        refusal = as_refusal(error)
        if not isinstance(error, Working):
            # A refusal that cannot be recorded is still a refusal: nothing leaves with it.
            with contextlib.suppress(LedgerError):
                self.state.audit.append(_event(refusal, request_id, asker))
        release = refuse(refusal, site=self.site.name, study="", round=0, version=__version__)
        return self._signed(wire.encode_release(release), request_id)

    def _signed(self, release: bytes, request_id: str) -> bytes:
        return sign_reply(release, self.state.key, request=request_id, site=self.site.name)


def _event(refusal: Refusal, request_id: str, asker: Asker | None) -> dict[str, Any]:
    return {
        "decision": "refused",
        "code": refusal.code,
        "where": refusal.where,
        "request": request_id,
        "analyst": asker.name if asker else "",
        "project": asker.project if asker else "",
    }
