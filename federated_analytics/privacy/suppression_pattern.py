"""Which counts are withheld, what the rules tell of them, and what is proved to be open."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from federated_analytics.aggregates.person_set import PersonSet
from federated_analytics.privacy.count_relations import CountedSet
from federated_analytics.privacy.disclosure_bounds import TOLERANCE, Moves

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

ZERO_PRICE = 1000.0
"""An empty count is withheld only where nothing else helps."""


class Pattern:
    """Which groups are withheld, and how far that lets each sum move.

    A sum is withheld, "open", when every group that counts it is. Shapes: all arrays hold one
    number a sum.
    """

    def __init__(
        self,
        counts: Sequence[CountedSet],
        sum_of: Mapping[PersonSet, int],
        withheld: Iterable[Hashable],
        width: int,
    ) -> None:
        import numpy as np

        size = max(sum_of.values()) + 1
        self.width = width
        self.withheld: set[Hashable] = set()
        self.groups_of: list[set[Hashable]] = [set() for _ in range(size)]
        self.sums_of: dict[Hashable, set[int]] = {}
        self.persons: Numbers = np.zeros(size)
        for count in counts:
            i = sum_of[count.of]
            self.persons[i] = count.persons
            self.groups_of[i].add(count.group)
            self.sums_of.setdefault(count.group, set()).add(i)
        self.small = (self.persons > 0) & (self.persons < width)
        # Fewest groups first; among equally many, those of the fewest persons.
        self._price = np.where(self.persons > 0, 1 + np.log2(1 + self.persons) / 10, ZERO_PRICE)

        self.opened: NDArray[np.bool_] = np.zeros(size, dtype=bool)
        self.withhold(group for group in withheld if group in self.sums_of)
        self._least = self._least_told()

    def withhold(self, groups: Iterable[Hashable]) -> None:
        for group in groups:
            self.withheld.add(group)
            for i in self.sums_of[group]:
                self.opened[i] = self.groups_of[i] <= self.withheld

    def release(self, group: Hashable) -> None:
        """Takes a group back that was not withheld for a small count."""
        self.withheld.remove(group)
        self.opened[list(self.sums_of[group])] = False

    def persons_of(self, group: Hashable) -> float:
        """The largest count of a group."""
        return float(max(self.persons[i] for i in self.sums_of[group]))

    def prices_now(self) -> Numbers:
        """What it costs to move each sum by one person: nothing where it is withheld already."""
        import numpy as np

        closed = np.array([len(groups - self.withheld) for groups in self.groups_of], dtype=float)
        return np.where(self.opened, 0.0, self._price * closed)

    def price_of(self, moves: Moves) -> float:
        prices = self.prices_now()
        return float(sum(prices[i] * abs(moves.sums[i]) for i in self._closed(moves)))

    def groups_held_by(self, moves: Moves) -> set[Hashable]:
        """The groups that must be withheld for these moves to be possible."""
        return {group for i in self._closed(moves) for group in self.groups_of[i]} - self.withheld

    def _closed(self, moves: Moves) -> list[int]:
        return [i for i in moves.touched() if not self.opened[i]]

    def _least_told(self) -> Numbers:
        """The least that the rules tell of each sum, were it withheld.

        Groups with a small count are withheld from the start and for good.
        """
        import numpy as np

        least = np.where(self.persons >= self.width, float(self.width), 0.0)
        for group in self.withheld:
            sums = list(self.sums_of[group])
            if self.small[sums].any():  # each of its counts may be what it is withheld for
                least[sums] = 1.0 if len(sums) == 1 else 0.0
        return least

    def room(self, *, told: bool, rigid: bool) -> tuple[Numbers, Numbers]:
        """How far each sum may move down and up.

        Args:
            told: within what the rules tell of a withheld sum, or only down to 0?
            rigid: may released ones not move at all? Else they move as if they were withheld.
        """
        import numpy as np

        opened, least = self.opened, self._least
        down = self.persons - (least if told else np.where(opened, 0.0, least))
        up = np.full(len(down), np.inf)
        if told:
            up[self.small] = self.width - 1 - self.persons[self.small]
        if rigid:
            down, up = np.where(opened, down, 0.0), np.where(opened, up, 0.0)
        return down, up


class Proofs:
    """The tables found so far that the attacker cannot tell from the true one.

    Fields:
        low, high: how far each sum gets in them; by True within what the rules tell of others,
            by False without that
        wanted_low, wanted_high: how far each small sum shall get within what the rules tell
        hidden: moves that open a hidden set, by its position
    """

    def __init__(self, pattern: Pattern) -> None:
        persons = pattern.persons
        self._pattern = pattern
        self._moves: list[Moves] = []
        self._reached: list[dict[bool, tuple[Numbers, Numbers]]] = []
        self.low = {True: persons.copy(), False: persons.copy()}
        self.high = {True: persons.copy(), False: persons.copy()}
        self.wanted_low, self.wanted_high = persons.copy(), persons.copy()
        self.wanted_low[pattern.small] = 1.0
        self.wanted_high[pattern.small] = pattern.width - 1.0
        self.hidden: dict[int, Moves] = {}

    def add(self, moves: Moves) -> None:
        """What these moves show, made forwards and backwards as far as they can be."""
        import numpy as np

        reached: dict[bool, tuple[Numbers, Numbers]] = {}
        persons = self._pattern.persons
        for told in (True, False):
            down, up = self._pattern.room(told=told, rigid=True)
            ends = [
                persons + direction * moves.furthest(down, up, direction) * moves.sums
                for direction in (1.0, -1.0)
            ]
            reached[told] = np.minimum(*ends), np.maximum(*ends)
        self._moves.append(moves)
        self._reached.append(reached)
        self._extend(reached)

    def _extend(self, reached: Mapping[bool, tuple[Numbers, Numbers]]) -> None:
        import numpy as np

        for told, (low, high) in reached.items():
            np.minimum(self.low[told], low, out=self.low[told])
            np.maximum(self.high[told], high, out=self.high[told])

    def without(self, group: Hashable) -> Proofs:
        """Those that hold although a group is released, which still is withheld."""
        sums = [i for i in self._pattern.sums_of[group] if self._pattern.opened[i]]
        kept = Proofs(self._pattern)
        kept.wanted_low, kept.wanted_high = self.wanted_low, self.wanted_high
        for moves, reached in zip(self._moves, self._reached, strict=True):
            if not moves.sums[sums].any():
                kept._moves.append(moves)
                kept._reached.append(reached)
                kept._extend(reached)
        kept.hidden = {i: m for i, m in self.hidden.items() if not m.sums[sums].any()}
        return kept

    def reaches(self, i: int, to: float) -> bool:
        """Is it shown that a sum may be `to`, within what the rules tell?"""
        return bool(self.low[True][i] - TOLERANCE <= to <= self.high[True][i] + TOLERANCE)

    def narrow_small(self) -> list[int]:
        """Small sums that do not reach what is wanted of them, the largest first."""
        import numpy as np

        found = [
            i
            for i in map(int, np.flatnonzero(self._pattern.small))
            if not (self.reaches(i, self.wanted_low[i]) and self.reaches(i, self.wanted_high[i]))
        ]
        return sorted(found, key=lambda i: -self._pattern.persons[i])

    def narrow(self) -> list[int]:
        """Withheld sums of which no interval of `width` is shown."""
        import numpy as np

        wide = self.high[False] - self.low[False] >= self._pattern.width - TOLERANCE
        return [int(i) for i in np.flatnonzero(self._pattern.opened & ~wide)]

    def missing_width(self, i: int) -> float:
        """By how much the interval of a sum is too narrow."""
        return float(self._pattern.width - (self.high[False][i] - self.low[False][i]))
