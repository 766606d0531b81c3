"""Which integer of the vector stands for what: both sides derive it from the study alone."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from federated_analytics.aggregates.base import Aggregate, PublicScale
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import RequestRefused
from federated_analytics.secure_aggregation.errors import NotAdditive
from federated_analytics.secure_aggregation.public_cells import public_cells
from federated_analytics.secure_aggregation.words import BITS

if TYPE_CHECKING:
    from federated_analytics.study import Study

MAX_SITES = 1_000
LARGEST = 2 ** (BITS - 1) // MAX_SITES
"""No site's integer may reach it, so that no sum over sites wraps around."""
MAX_NUMBERS = 400_000
"""Integers in a study: 6.4 MB, which fits a message."""

Place = tuple[int, str, Key]
"""Analysis, population and cell."""


@dataclass(frozen=True)
class Slot:
    """Where a cell stands: a presence (1 where the site has the cell), then its integers."""

    place: Place
    kind: type[Aggregate]
    scale: PublicScale
    start: int
    end: int


@dataclass(frozen=True)
class Layout:
    """The cells of a study, in their order.

    Fields:
        size: integers in all
    """

    slots: tuple[Slot, ...]
    size: int

    @classmethod
    def of(cls, study: Study) -> Layout:
        """The layout of a study.

        Raises:
            NotAdditive: an analysis has cells that only the data know or that are no sums, a
                number has no plausible range, or there are too many cells.
        """
        slots: list[Slot] = []
        at = 0
        for i, query in enumerate(study.analysis):
            for population in study.populations_of(query):
                for key, kind, scale in public_cells(study, i, query, population):
                    width = 1 + kind.additive_size(scale)
                    slots.append(Slot((i, population.name, key), kind, scale, at, at + width))
                    at += width
                    if at > MAX_NUMBERS:
                        raise NotAdditive(
                            f"The study has more than {MAX_NUMBERS:,} numbers to add up.",
                            where=f"analysis[{i}]",
                            remedy="Ask for fewer features, strata or populations at a time.",
                        )
        return cls(tuple(slots), at)

    def numbers(self, cells: Mapping[Place, Aggregate], summed: Container[Place]) -> list[int]:
        """A site's integers.

        Args:
            summed: the cells whose numbers are added; of others only the presence is told.

        Raises:
            RequestRefused: a number is beyond what the sum can hold.
        """
        numbers = [0] * self.size
        for slot in self.slots:
            cell = cells.get(slot.place)
            if cell is None:
                continue
            numbers[slot.start] = 1
            if slot.place in summed:
                own = cell.additive(slot.scale)
                if any(abs(number) >= LARGEST for number in own):
                    raise RequestRefused(
                        "A sum is far outside the plausible range of its variable.",
                        where=slot.place[2].variable,
                        remedy="Give the feature a range that its values lie in.",
                    )
                numbers[slot.start + 1 : slot.end] = own
        return numbers

    def cells(
        self, numbers: Sequence[int], summed: Container[Place]
    ) -> dict[Place, tuple[int, Aggregate]]:
        """How many sites have each cell, and their sum: of cells that any site has."""
        found: dict[Place, tuple[int, Aggregate]] = {}
        for slot in self.slots:
            presence = numbers[slot.start]
            if presence and slot.place in summed:
                own = numbers[slot.start + 1 : slot.end]
                found[slot.place] = presence, slot.kind.from_additive(own, slot.scale)
            elif presence:
                found[slot.place] = presence, slot.kind.zero()
        return found
