"""R5 over a fragment's rows: sets of persons against those that were asked for before."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from federated_analytics.aggregates.table import Strata
from federated_analytics.errors import TooSimilar
from federated_analytics.privacy.overlap import (
    Answered,
    similar_strata,
    sizes_near,
)
from federated_analytics.privacy.person_bitmap import PersonBitmap
from federated_analytics.privacy.policy import Policy
from federated_analytics.privacy.remembered import Remembered

if TYPE_CHECKING:
    from federated_analytics.privacy.ledger import Ledger


@dataclass
class Compared:
    """R5: sets of persons against those that were asked for before, which they then join.

    Which columns were asked for makes no difference. It lasts as long as the site does.
    """

    ledger: Ledger | None
    policy: Policy
    fragment: str
    _held: Remembered | None = field(default=None, repr=False)

    def persons(self, sets: Sequence[PersonBitmap], place: str) -> None:
        """TooSimilar where one differs by too few from earlier ones, or from a group's."""
        ledger, k = self.ledger, self.policy.min_count
        if ledger is None or not self.policy.overlap:
            return
        strata = ledger.strata(sizes_near(sets, k), besides="")
        if similar_strata(sets, self._about, strata, k) or self._remembered(ledger).refuses(sets):
            raise TooSimilar(
                "These rows differ from rows that were asked for before by too few persons.",
                where=place,
                remedy=f"Ask for rows that differ by none or by at least {k} persons.",
            )

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

    def _remembered(self, ledger: Ledger) -> Remembered:
        if self._held is None:
            self._held = Remembered(ledger, self._about, self.fragment, self.policy.min_count)
        return self._held

    @property
    def _about(self) -> frozenset[str]:
        return frozenset({f"{self.fragment}/rows"})
