"""One study at a guarded site: examined, compared with the past, charged, disclosed, recorded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from federated_analytics import __version__, wire
from federated_analytics.canonical import questions, variables
from federated_analytics.errors import TooSimilar
from federated_analytics.messages import Answer
from federated_analytics.noisy_study import charged_answers
from federated_analytics.omop.database import data_version
from federated_analytics.omop.person_ids import person_ids
from federated_analytics.privacy.complementary_cells import counted_sets
from federated_analytics.privacy.overlap import Answered, too_similar
from federated_analytics.privacy.person_bitmap import PersonBitmap

if TYPE_CHECKING:
    import sqlalchemy as sa

    from federated_analytics.analyses.base import Query
    from federated_analytics.messages import Request
    from federated_analytics.omop.frame import Frame
    from federated_analytics.site import Examined, Site
    from federated_analytics.site_state import SiteState
    from federated_analytics.study import Study


@dataclass(frozen=True)
class Asker:
    """Who asks, as far as a signature proves it.

    Fields:
        request: SHA-256 of the signed request
        code: digest of the code that she asks with
    """

    name: str
    project: str
    request: str
    code: str


@dataclass
class GuardedAnswer:
    """The work on one study.

    Args:
        version: state of the data; read from the database where "".
        seconds: how long the database may work.
    """

    site: Site
    state: SiteState
    asker: Asker
    study: Study
    version: str
    seconds: float
    _populations: dict[str, Answered] = field(default_factory=dict, init=False)
    _charge: dict[str, float] = field(default_factory=dict, init=False)

    def release(self, request: Request) -> bytes:
        """The encoded release, which the audit holds before it is returned.

        Raises:
            FederatedAnalyticsError: a refusal; nothing was released.
        """
        version = self.version or data_version(self.site.url, self.site.cdm, self.seconds)
        key = self._key(version)
        policy = self.site.policy
        held = self.state.ledger.answer(key) if policy.same_answer else None
        if held is None:
            body = self._made(request, version)
            held = self.state.ledger.keep_answer(key, body) if policy.same_answer else body
        self.state.audit.append(
            {
                "decision": "released",
                "request": self.asker.request,
                "analyst": self.asker.name,
                "project": self.asker.project,
                "study": self.study.digest,
                "study_name": self.study.study.name,
                "app_code": self.asker.code,
                "charge": self._charge,
            },
            released=held,
        )
        return held

    def _made(self, request: Request, version: str) -> bytes:
        site, started = self.site, time.monotonic()
        examined = site.examine(
            self.study, request.run, self.seconds, self._compare if self._compares else None
        )
        if site.policy.mode == "dp":
            answers, charged = charged_answers(
                site.policy, self.state.ledger, self.asker, self.study, examined.evidence, version
            )
            self._charge = {"epsilon": charged[0], "remaining": charged[1]}
        else:
            answers, charged = self._exact(examined, version), (0.0, 0.0)
        release = site.policy.release(
            (),
            answers=answers,
            charged=charged,
            site=site.name,
            study=self.study.digest,
            round=request.round,
            version=__version__,
            database=examined.database,
            synthetic=examined.synthetic,
            seconds=round(time.monotonic() - started, 3),
        )
        return wire.encode_release(release)

    def _exact(self, examined: Examined, version: str) -> tuple[Answer, ...]:
        """The rules over this study and, in the same populations, over those before it."""
        ledger, policy = self.state.ledger, self.site.policy
        places = {
            name: f"{version}/{answered.population.persons}/{answered.population.fingerprint}"
            for name, answered in self._populations.items()
        }
        with ledger.exclusive():  # of two studies at once, the second sees what the first told
            past = {name: ledger.counts(place) for name, place in places.items()}
            drafts = policy.drafts(examined.evidence, past)
            for (population, whole), counts in counted_sets(drafts).items():
                if population in places and not whole:
                    ledger.keep_counts(places[population], counts)
        return policy.disclose((), drafts)

    @property
    def _compares(self) -> bool:
        policy = self.site.policy
        return policy.mode == "exact" and (policy.overlap or policy.complementary)

    def _compare(
        self,
        connection: sa.Connection,
        population: Any,
        frame: Frame,
        asked: Sequence[tuple[int, Query]],
    ) -> None:
        """R5, before anything is counted in a population."""
        ids = person_ids(connection, frame)
        if ids is None:
            return
        bitmap = PersonBitmap.from_ids(ids)
        of = frozenset[str]().union(
            *(variables(q) for q in questions(self.study) if q.population == population.name)
        )
        answered = Answered(bitmap, of, "", self.study.digest)
        ledger, policy = self.state.ledger, self.site.policy
        with ledger.exclusive():  # of two studies at once, the second sees the first's
            if policy.overlap and too_similar(bitmap, of, ledger.populations(), policy.min_count):
                raise TooSimilar(
                    "The population differs from one that was answered by too few persons.",
                    where=f"population {population.name}",
                )
            ledger.keep_population(answered)
        self._populations[population.name] = answered

    def _key(self, version: str) -> str:
        policy = self.site.policy.model_dump_json()
        own = f"{self.study.digest}/{version}/{policy}/{self.site.name}"
        return hashlib.sha256(own.encode()).hexdigest()
