"""What the rules work on: one analysis' cells, before and while they are made safe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.person_set import PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.messages import Refusal
from federated_analytics.privacy.noise_statistics import PublicDomain

COMPLEMENTARY = "R2"

Counted = Callable[[Key, Aggregate], Iterable[tuple[int, PersonSet]]]


def _nothing(key: Key, aggregate: Aggregate) -> Iterable[tuple[int, PersonSet]]:
    return ()


@dataclass(frozen=True)
class Evidence:
    """What one analysis computed in one population, before the policy: it stays at the site.

    Fields:
        labels: names that the vocabulary gives to variables
        public: texts that are known without the data (the study's features, levels made by
            breaks, …); any other text comes from a row and leaves only with a released cell
        counted: the counts of a cell, each with the persons it is of
        partial: dimensions of which only some levels are ever counted
        domain: makes the public cells and bounds of an answer with noise; RequestRefused where
            they are not known without the data
        similar: strata whose persons are too similar to what was answered before (R5): nothing
            is told of them. They are reported as withheld by R2, which protects them.
    """

    analysis: int
    population: str
    table: Table
    labels: dict[str, str]
    public: frozenset[str]
    refusal: Refusal | None = None
    counted: Counted = field(default=_nothing, repr=False, compare=False)
    partial: frozenset[str] = frozenset()
    domain: Callable[[], PublicDomain] | None = field(default=None, repr=False, compare=False)
    similar: frozenset[Strata] = frozenset()


@dataclass(frozen=True)
class Withholding:
    """Why a cell is withheld.

    Fields:
        below: what may be said of its count: that it is 1 to below - 1; 0 is nothing
    """

    rule: str
    below: int = 0


@dataclass(frozen=True)
class Draft:
    """One analysis on its way through the rules.

    Fields:
        cells: what may still leave
        withheld: what may not, by the rule that decided it
    """

    evidence: Evidence
    cells: Mapping[Key, Aggregate]
    withheld: Mapping[Key, Withholding]

    @classmethod
    def of(cls, evidence: Evidence) -> Draft:
        whole = cls(evidence, dict(evidence.table), {})
        if not evidence.similar:
            return whole
        similar = [key for key in evidence.table if key.strata in evidence.similar]
        return whole.without(similar, COMPLEMENTARY)

    def without(self, keys: Iterable[Key], rule: str) -> Draft:
        """This draft with `keys` withheld by a rule."""
        taken = dict.fromkeys((k for k in keys if k in self.cells), Withholding(rule))
        if not taken:
            return self
        kept = {key: value for key, value in self.cells.items() if key not in taken}
        return Draft(self.evidence, kept, {**self.withheld, **taken})
