"""One study at a guarded site: examined, compared with the past, charged, disclosed, recorded."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from federated_analytics import __version__, wire
from federated_analytics.canonical import Question, expansion, questions, variables
from federated_analytics.errors import TooSimilar
from federated_analytics.messages import Answer
from federated_analytics.noisy_study import charged_answers
from federated_analytics.omop.database import data_version
from federated_analytics.omop.person_ids import person_ids
from federated_analytics.person_sets import CrossedStrata, crossed_strata
from federated_analytics.privacy.complementary_cells import counted_sets
from federated_analytics.privacy.overlap import (
    Answered,
    similar_strata,
    sizes_near,
    too_similar,
)
from federated_analytics.privacy.person_bitmap import PersonBitmap

if TYPE_CHECKING:
    import sqlalchemy as sa

    from federated_analytics.aggregates.table import Key, Strata
    from federated_analytics.analyses.base import Query
    from federated_analytics.messages import Request
    from federated_analytics.omop.frame import Frame
    from federated_analytics.privacy.draft import Draft, Evidence
    from federated_analytics.privacy.ledger import Ledger
    from federated_analytics.site import Site
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
class _Asked:
    """One population of the study, and the strata that the study forms of it.

    Fields:
        place: names these persons in this state of the database
        strata: the persons of each stratum that is counted
    """

    persons: PersonBitmap
    variables: frozenset[str]
    place: str
    crossed: Sequence[CrossedStrata] = ()
    strata: Mapping[Strata, PersonBitmap] = field(default_factory=dict)

    def is_too_similar(self, ledger: Ledger, k: int) -> bool:
        """Is the population too similar to populations, or to a stratum, answered before?"""
        if too_similar(self.persons, self.variables, ledger.populations(), k):
            return True
        past = ledger.strata(sizes_near([self.persons], k), besides=self.place)
        return bool(similar_strata([self.persons], self.variables, past, k))

    def sets_of(self, keys: Iterable[Key]) -> dict[Strata, PersonBitmap]:
        """The persons of each stratum in `keys`."""
        left = {key.strata for key in keys if key.strata}
        found: dict[Strata, PersonBitmap] = {}
        for crossed in self.crossed:
            some = {s for s in left if {name for name, _ in s} <= set(crossed.names)}
            found |= crossed.sets(some)
            left -= some
        return found

    def similar(self, ledger: Ledger, earlier: Sequence[Answered], k: int) -> frozenset[Strata]:
        """The strata that are too similar to a set of another population.

        Args:
            earlier: strata of the study's populations before this one.
        """
        sizes = sizes_near(self.strata.values(), k)
        past = itertools.chain(
            (one for one in ledger.populations(sizes) if one.population != self.persons),
            ledger.strata(sizes, besides=self.place),
            (one for one in earlier if one.key != self.place),
        )
        found = similar_strata(self.strata.values(), self.variables, past, k)
        return frozenset(s for s, persons in self.strata.items() if persons in found)

    def answered(self, strata: Mapping[Strata, PersonBitmap]) -> list[Answered]:
        """Strata as the ledger keeps them."""
        return [Answered(p, self.variables, "", self.place) for p in strata.values()]


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
    _populations: dict[str, _Asked] = field(default_factory=dict, init=False)
    _questions: list[Question] = field(default_factory=list, init=False)
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

        def on_population(
            connection: sa.Connection,
            population: Any,
            frame: Frame,
            asked: Sequence[tuple[int, Query]],
        ) -> None:
            if not self._questions:
                self._questions = questions(self.study, expansion(connection, site.cdm))
            if self._compares:
                self._compare(connection, population, frame, asked, version)

        examined = site.examine(self.study, request.run, self.seconds, on_population)
        if site.policy.mode == "dp":
            answers, charged = charged_answers(
                site.policy,
                self.state.ledger,
                self.asker,
                self.study,
                examined.evidence,
                version,
                self._questions,
            )
            self._charge = {"epsilon": charged[0], "remaining": charged[1]}
        else:
            answers, charged = self._exact(examined.evidence), (0.0, 0.0)
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

    def _exact(self, evidence: Sequence[Evidence]) -> tuple[Answer, ...]:
        """The rules over this study and, in the same populations, over those before it."""
        ledger, policy = self.state.ledger, self.site.policy
        with ledger.exclusive():  # of two studies at once, the second sees what the first told
            past = {name: ledger.counts(one.place) for name, one in self._populations.items()}
            if policy.overlap:
                evidence = self._without_similar(evidence)
            drafts = policy.drafts(evidence, past)
            for (population, whole), counts in counted_sets(drafts).items():
                if population in self._populations and not whole:
                    ledger.keep_counts(self._populations[population].place, counts)
            if policy.overlap:
                self._keep_strata(drafts)
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
        version: str,
    ) -> None:
        """R5, before anything is counted in a population."""
        ledger, policy = self.state.ledger, self.site.policy
        by = [[name for name in query.by if name in frame.strata] for _, query in asked]
        crossed = crossed_strata(connection, frame, by) if policy.overlap else []
        ids = crossed[0].everybody() if crossed else person_ids(connection, frame)
        if ids is None:
            return
        bitmap = PersonBitmap.from_ids(ids)
        of = frozenset[str]().union(
            *(variables(q) for q in self._questions if q.population == population.name)
        )
        one = _Asked(bitmap, of, f"{version}/{bitmap.persons}/{bitmap.fingerprint}", crossed)
        with ledger.exclusive():  # of two studies at once, the second sees the first's
            if policy.overlap and one.is_too_similar(ledger, policy.min_count):
                raise TooSimilar(
                    "The population differs from one that was answered by too few persons.",
                    where=f"population {population.name}",
                )
            key = f"{self.study.digest}/{population.name}"
            ledger.keep_population(Answered(bitmap, of, version, key))
        self._populations[population.name] = one

    def _without_similar(self, evidence: Sequence[Evidence]) -> list[Evidence]:
        """R5 for strata: without those too similar to what was answered of other populations."""
        ledger, k = self.state.ledger, self.site.policy.min_count
        earlier: list[Answered] = []
        similar: dict[str, frozenset[Strata]] = {}
        for name, one in self._populations.items():
            keys = (key for e in evidence if e.population == name for key in e.table)
            one.strata = one.sets_of(keys)
            similar[name] = one.similar(ledger, earlier, k)
            told = {s: p for s, p in one.strata.items() if s not in similar[name]}
            earlier += one.answered(told)
        return [replace(e, similar=similar.get(e.population, frozenset())) for e in evidence]

    def _keep_strata(self, drafts: Sequence[Draft]) -> None:
        for name, one in self._populations.items():
            told = {key.strata for d in drafts if d.evidence.population == name for key in d.cells}
            kept = one.answered({s: p for s, p in one.strata.items() if s in told})
            if kept:
                self.state.ledger.keep_strata(kept)

    def _key(self, version: str) -> str:
        policy = self.site.policy.model_dump_json()
        own = f"{self.study.digest}/{version}/{policy}/{self.site.name}"
        return hashlib.sha256(own.encode()).hexdigest()
