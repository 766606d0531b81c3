"""A node's own OMOP site: a script's studies, answered as those of the analyst who runs it."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from federated_analytics import __version__, wire
from federated_analytics.code_digest import code_digest
from federated_analytics.errors import (
    DatabaseTimeout,
    FederatedAnalyticsError,
    SiteFailed,
    WaitingForApproval,
)
from federated_analytics.guarded_answer import Asker, GuardedAnswer
from federated_analytics.guarded_site import GuardedSite, NeedsSecureSum
from federated_analytics.messages import Request
from federated_analytics.omop.stop import Stop
from federated_analytics.privacy.policy import refuse
from federated_analytics.request_kinds import CancelledByOperator, StudyAsked
from federated_analytics.signing import sign_reply
from federated_analytics.site import as_refusal
from federated_analytics.site_config import SiteConfig
from federated_analytics.site_service.works import CANCELLED, STOPPED, Work

if TYPE_CHECKING:
    from federated_analytics.study import Study

log = logging.getLogger(__name__)
FILE_NAME = "site.toml"
_LOOK_SECONDS = 0.5


@dataclass
class ScriptStudies:
    """The studies of one script at one site.

    Each passes what a study of the analyst's passes: grant, approval where the policy asks for
    one of every study, a place among the studies that run, the rules, ledger and audit.

    Args:
        asker: who signed the script's order; each study's request begins with the order's.
        run: identifies the analysis, at all its nodes.
        granted: the analyst's grants are checked; not on the analyst's own machine.
        ended: whether nobody waits any more.
    """

    guarded: GuardedSite
    asker: Asker
    run: str
    granted: bool = True
    ended: Callable[[], bool] = lambda: False

    def release(self, study: Study) -> bytes:
        """The signed release of a study; of a refusal, the signed refusal."""
        try:
            return self._signed(self._worked(study))
        except FederatedAnalyticsError as error:
            return self._refusal(error, study)
        except Exception:
            log.exception("a script's study could not be answered")
            return self._refusal(SiteFailed(), study)

    def note(self, error: FederatedAnalyticsError) -> None:
        """Write into the audit that the script was refused something."""
        self.guarded.state.audit.append(
            {
                "decision": "refused",
                "code": error.code,
                "where": as_refusal(error).where,
                "kind": "flame",
                "request": self.asker.request,
                "analyst": self.asker.name,
                "project": self.asker.project,
            }
        )

    def _worked(self, study: Study) -> bytes:
        """The release of a study that the analyst may ask, and that a person has approved."""
        guarded, asked = self.guarded, StudyAsked(study)
        # The ledger charges a request once: each study of the script is one of its own.
        asker = replace(self.asker, request=f"{self.asker.request}/{secrets.token_hex(8)}")
        if guarded.config.secure.required:
            raise NeedsSecureSum("The site answers studies in secure sums alone.")
        if self.granted:
            guarded.grant(asker, asked)
        self._approved(asked, asker)
        return self._in_its_turn(study, asker)

    def _in_its_turn(self, study: Study, asker: Asker) -> bytes:
        """The release, made in a place among the studies that run here."""
        guarded = self.guarded
        made: list[bytes] = []
        failed: list[FederatedAnalyticsError] = []
        reasons: list[str] = []

        def make(stop: Stop) -> bytes:
            try:
                made.append(self._made(study, asker, stop))
            except FederatedAnalyticsError as error:
                failed.append(error)
            return b""

        id = hashlib.sha256(asker.request.encode()).hexdigest()
        names = id, asker.name, asker.project, study.study.name
        seconds = guarded.config.service.study_seconds
        work = Work(*names, seconds, make, lambda body, reason: reasons.append(reason))
        guarded.works.start(work)
        while not work.done.is_set():
            guarded.works.wait(id, _LOOK_SECONDS)
            if self.ended():
                work.stop.ask(STOPPED)
        if failed:
            raise failed[0]
        if not made or reasons != [""]:
            raise _stopped(reasons)
        return made[0]

    def _made(self, study: Study, asker: Asker, stop: Stop) -> bytes:
        guarded = self.guarded
        seconds = guarded.config.service.study_seconds
        site = replace(guarded.site, stop=stop)
        version = guarded.config.database.version
        work = GuardedAnswer(site, guarded.state, asker, study, version, seconds)
        return work.release(Request(study.to_json(), 1, self.run, seconds))

    def _approved(self, asked: StudyAsked, asker: Asker) -> None:
        """Where a person approves each study here: waits for her, as long as the script runs."""
        guarded = self.guarded
        if guarded.site.policy.approval != "manual":
            return
        question = asked.for_approval(asker, guarded)
        while True:
            try:
                guarded.state.approvals.admit(question, asker.request)
                return
            except WaitingForApproval:
                if not self.granted or self.ended():
                    raise
                time.sleep(_LOOK_SECONDS)

    def _refusal(self, error: FederatedAnalyticsError, study: Study) -> bytes:
        log.warning("a script's study was refused: %s", error.code)
        self.note(error)
        name = self.guarded.site.name
        release = refuse(
            as_refusal(error), site=name, study=study.digest, round=1, version=__version__
        )
        return self._signed(wire.encode_release(release))

    def _signed(self, body: bytes) -> bytes:
        guarded = self.guarded
        key, name = guarded.state.key, guarded.site.name
        return sign_reply(body, key, request=self.asker.request, site=name)


def _stopped(reasons: list[str]) -> FederatedAnalyticsError:
    if reasons == [""]:
        return SiteFailed()
    if reasons == [CANCELLED]:
        return CancelledByOperator("The site's operator cancelled the study.")
    return DatabaseTimeout("The study did not finish in time.")


@contextmanager
def local_site(folder: Path, node: str, project: str, run: str) -> Iterator[ScriptStudies | None]:
    """The site that a node's folder describes, on the analyst's own machine; None without one.

    The file is a `site.toml` as a hospital's service reads it: its database, its policy, and a
    folder of its own for ledger and audit. Its name is the node's.

    Raises:
        ConfigError, PolicyError: it cannot be used.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        yield None
        return
    config = SiteConfig.load(file)
    named = config.site.model_copy(update={"name": node})
    guarded = GuardedSite.open(config.model_copy(update={"site": named}))
    request = hashlib.sha256(run.encode()).hexdigest()
    asker = Asker("local", project, request, code_digest())
    try:
        yield ScriptStudies(guarded, asker, run, granted=False)
    finally:
        guarded.stop(0.0)
