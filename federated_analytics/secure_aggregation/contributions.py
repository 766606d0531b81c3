"""What a site says in clear of what it adds, and the answers that follow from a sum.

The site's policy has been applied before. What it withheld adds nothing, and is named as in any
release; refusals travel as they are; numbers never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.table import Cell
from federated_analytics.messages import Answer, Disclosure
from federated_analytics.privacy.places import NOWHERE
from federated_analytics.secure_aggregation.layout import Layout, Place
from federated_analytics.secure_aggregation.messages import Contribution, Told


def cells_of(disclosure: Disclosure) -> dict[Place, Aggregate]:
    """A release's cells: what is summed."""
    return {
        (answer.analysis, answer.population, cell.key): cell.value
        for answer in disclosure.answers
        if answer.refusal is None
        for cell in answer.cells
    }


def without_cells(disclosure: Disclosure) -> tuple[Disclosure, tuple[Told, ...]]:
    """What of a release may be told in clear, and which cells it has where that must be told.

    A site that does not mention a cell has nobody in it, unless it keeps silent on some; only
    of such an answer the cells are named.
    """
    bare = tuple(replace(answer, cells=()) for answer in disclosure.answers)
    told = tuple(
        Told(answer.analysis, answer.population, tuple(cell.key for cell in answer.cells))
        for answer in disclosure.answers
        if _is_silent(answer, disclosure)
    )
    return replace(disclosure, answers=bare), told


def _is_silent(answer: Answer, disclosure: Disclosure) -> bool:
    terms = disclosure.terms
    hidden = any(place.key == NOWHERE for place in answer.withheld)
    return hidden or (terms is not None and terms.zero_is_sensitive)


@dataclass(frozen=True)
class Standing:
    """Where one site stands behind the sums."""

    contribution: Contribution

    @cached_property
    def _answered(self) -> dict[tuple[int, str], Answer]:
        answers = self.contribution.disclosure.answers
        return {(a.analysis, a.population): a for a in answers if a.refusal is None}

    @cached_property
    def _withheld(self) -> set[Place]:
        return {
            (*of, place.key) for of, answer in self._answered.items() for place in answer.withheld
        }

    @cached_property
    def _told(self) -> dict[tuple[int, str], frozenset[object]]:
        return {(t.analysis, t.population): frozenset(t.keys) for t in self.contribution.told}

    def tells(self, place: Place) -> bool:
        """Whether the site says of itself that it has this cell."""
        return place[2] in self._told.get(place[:2], ())

    def adds(self, place: Place) -> bool:
        """Whether the site's persons are in the sum of a cell, be they nobody."""
        of = place[:2]
        if of not in self._answered or place in self._withheld:
            return False
        return of not in self._told or self.tells(place)


def summed(layout: Layout, standings: Iterable[Standing], quorum: int) -> frozenset[Place]:
    """The cells with enough sites behind them: of others no number leaves any site (R12)."""
    held = list(standings)
    return frozenset(
        slot.place
        for slot in layout.slots
        if sum(standing.adds(slot.place) for standing in held) >= quorum
    )


def disclosures(
    standings: Mapping[str, Standing], sums: Mapping[Place, tuple[int, Aggregate]]
) -> dict[str, Disclosure]:
    """A disclosure a site, whose cells merge to the sums: not one of them is the site's own.

    Each sum stands with one of the sites that add to it; others that say that they have the cell
    hold its zero.
    """
    cells: dict[str, dict[tuple[int, str], list[Cell]]] = {site: {} for site in standings}
    for place, (_, value) in sums.items():
        adding = [site for site, standing in standings.items() if standing.adds(place)]
        bearer = min(adding, key=lambda site: (not standings[site].tells(place), site))
        for site in adding:
            if site == bearer or standings[site].tells(place):
                held = value if site == bearer else type(value).zero()
                cells[site].setdefault(place[:2], []).append(Cell(place[2], held))
    return {site: _with(standings[site].contribution, cells[site]) for site in standings}


def _with(contribution: Contribution, cells: Mapping[tuple[int, str], list[Cell]]) -> Disclosure:
    disclosure = contribution.disclosure
    answers = tuple(
        replace(answer, cells=tuple(cells.get((answer.analysis, answer.population), ())))
        for answer in disclosure.answers
    )
    terms = disclosure.terms
    shown = None if terms is None else replace(terms, per_site=False)
    return replace(disclosure, site=contribution.site, answers=answers, terms=shown)
