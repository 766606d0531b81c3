"""Persons in intervals of a public grid: the state behind quantiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from federated_analytics.aggregates.base import Aggregate


@dataclass(frozen=True)
class IntervalCounts(Aggregate):
    """How many persons have a value in [edge(low), edge(high)), low and high indices of a grid.

    Shapes: intervals: tuple of (low, high, persons), sorted, low < high, no interval twice
    Units: grid indices; persons. The grid itself is public and stands in the query
    Merge: union of intervals, persons of equal ones added; exact
    Discloses: that each interval holds at least as many persons as the policy asks

    Sites widen their intervals until each holds enough persons (`guarded`), so intervals of
    different sites overlap; `persons_below` therefore returns guaranteed bounds.
    """

    intervals: tuple[tuple[int, int, int], ...]

    @classmethod
    def zero(cls) -> Self:
        return cls(())

    @classmethod
    def of(cls, counts: Iterable[tuple[int, int, int]]) -> Self:
        """From any (low, high, persons); equal intervals are added, empty ones dropped."""
        total: Counter[tuple[int, int]] = Counter()
        for low, high, persons in counts:
            total[low, high] += persons
        return cls(tuple(sorted((lo, hi, n) for (lo, hi), n in total.items() if n)))

    def merge(self, other: Self) -> Self:
        return self.of((*self.intervals, *other.intervals))

    @property
    def support(self) -> tuple[int, ...]:
        return tuple(persons for _, _, persons in self.intervals)

    @property
    def n(self) -> int:
        """All persons with a value."""
        return sum(self.support)

    def guarded(self, min_count: int) -> Self | None:
        """Neighbours joined until each interval holds at least `min_count` persons.

        Only for one site's own disjoint intervals. An interval reaches to the next one's start,
        so its end tells nothing of the largest value inside it.
        """
        if 0 < self.n < min_count:
            return None
        joined: list[tuple[int, int, int]] = []
        low, held = None, 0
        for start, end, persons in self.intervals:
            low, held = start if low is None else low, held + persons
            if held >= min_count:
                joined.append((low, end, held))
                low, held = None, 0
        if low is not None and joined:
            first, _, persons = joined.pop()
            joined.append((first, self.intervals[-1][1], persons + held))
        return type(self)(tuple(joined))

    def persons_below(self, edge: int) -> tuple[int, int]:
        """Fewest and most persons that can have a value below the grid's edge `edge`."""
        fewest = sum(n for _, high, n in self.intervals if high <= edge)
        return fewest, sum(n for low, _, n in self.intervals if low < edge)
