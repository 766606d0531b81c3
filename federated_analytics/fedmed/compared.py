"""R5 over a fragment's rows: sets of persons against those that were asked for before."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from federated_analytics.aggregates.table import Strata
from federated_analytics.errors import TooSimilar
from federated_analytics.privacy.overlap import (
    Answered,
    similar_strata,
    sizes_near,
    too_similar,
)
from federated_analytics.privacy.person_bitmap import PersonBitmap
from federated_analytics.privacy.policy import Policy

if TYPE_CHECKING:
    from federated_analytics.privacy.ledger import Ledger


@dataclass(frozen=True)
class Compared:
    """R5: sets of persons against those that were asked for before, which they then join.

    Which columns were asked for makes no difference.
    """

    ledger: Ledger | None
    policy: Policy
    fragment: str

    def persons(self, persons: PersonBitmap, place: str) -> None:
        """TooSimilar where they differ by too few from earlier ones, or from a group's."""
        ledger, k = self.ledger, self.policy.min_count
        if ledger is None or not self.policy.overlap:
            return
        strata = ledger.strata(sizes_near([persons], k), besides="")
        if too_similar(persons, self._about, ledger.populations(), k) or similar_strata(
            [persons], self._about, strata, k
        ):
            raise TooSimilar(
                "These rows differ from rows that were asked for before by too few persons.",
                where=place,
                remedy=f"Ask for rows that differ by none or by at least {k} persons.",
            )
        # One set under one name: a second under the name of the first would not be kept.
        key = f"{self.fragment}/{persons.persons}/{persons.fingerprint}"
        ledger.keep_population(Answered(persons, self._about, "", key))

    def groups(self, groups: Mapping[Strata, PersonBitmap]) -> frozenset[Strata]:
        """The groups that are too similar; the others are kept."""
        ledger, k = self.ledger, self.policy.min_count
        if ledger is None or not self.policy.overlap or not groups:
            return frozenset()
        sizes = sizes_near(groups.values(), k)
        past = itertools.chain(ledger.populations(sizes), ledger.strata(sizes, besides=""))
        found = similar_strata(groups.values(), self._about, past, k)
        ledger.keep_strata(
            Answered(persons, self._about, "", self.fragment)
            for persons in groups.values()
            if persons not in found
        )
        return frozenset(strata for strata, persons in groups.items() if persons in found)

    @property
    def _about(self) -> frozenset[str]:
        return frozenset({f"{self.fragment}/rows"})
