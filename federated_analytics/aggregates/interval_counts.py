"""Persons in intervals of a public grid: the state behind quantiles."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from federated_analytics.aggregates.base import (
    STAYS,
    Aggregate,
    PublicScale,
    counts_in,
    nearest_multiple,
)
from federated_analytics.errors import ShapeError


@dataclass(frozen=True)
class IntervalCounts(Aggregate):
    """How many persons have a value in [edge(low), edge(high)), low and high indices of a grid.

    Shapes: intervals: tuple of (low, high, persons), sorted, low < high, no interval twice
    Units: grid indices; persons. The grid itself is public and stands in the query
    Merge: union of intervals, persons of equal ones added; exact
    `bins` is how many intervals the grid has, 0 where that does not matter. It stays.
    Discloses: that each interval holds at least as many persons as the policy asks

    Sites widen their intervals until each holds enough persons (`guarded`), so intervals of
    different sites overlap; `persons_below` therefore returns guaranteed bounds.
    """

    intervals: tuple[tuple[int, int, int], ...]
    bins: int = field(default=0, metadata=STAYS, compare=False)

    @classmethod
    def zero(cls) -> Self:
        return cls(())

    @classmethod
    def of(cls, counts: Iterable[tuple[int, int, int]], bins: int = 0) -> Self:
        """From any (low, high, persons); equal intervals are added, empty ones dropped."""
        total: Counter[tuple[int, int]] = Counter()
        for low, high, persons in counts:
            total[low, high] += persons
        return cls(tuple(sorted((lo, hi, n) for (lo, hi), n in total.items() if n)), bins)

    def merge(self, other: Self) -> Self:
        return self.of((*self.intervals, *other.intervals), max(self.bins, other.bins))

    def rounded(self, base: int) -> Self:
        return self.of((lo, hi, nearest_multiple(n, base)) for lo, hi, n in self.intervals)

    @property
    def support(self) -> tuple[int, ...]:
        return tuple(persons for _, _, persons in self.intervals)

    @property
    def n(self) -> int:
        """All persons with a value."""
        return sum(self.support)

    def guarded(self, min_count: int) -> Self | None:
        """Neighbours joined until each interval holds at least `min_count` persons."""
        if 0 < self.n < min_count:
            return None
        return self.joined_at(common_ends([self], min_count))

    def joined_at(self, ends: Sequence[int]) -> Self:
        """Persons between neighbouring `ends`: one site's disjoint intervals, joined."""
        counts = Counter[int]()
        for _, high, persons in self.intervals:
            counts[bisect_left(ends, high)] += persons
        joined = tuple((ends[i - 1], ends[i], n) for i, n in sorted(counts.items()))
        return dataclasses.replace(self, intervals=joined)

    def persons_below(self, edge: int) -> tuple[int, int]:
        """Fewest and most persons that can have a value below the grid's edge `edge`."""
        fewest = sum(n for _, high, n in self.intervals if high <= edge)
        return fewest, sum(n for low, _, n in self.intervals if low < edge)

    @classmethod
    def additive_size(cls, scale: PublicScale) -> int:
        return 2 * scale.bins

    def additive(self, scale: PublicScale) -> tuple[int, ...]:
        """Persons in intervals that start with each bin, then in those that end with it.

        These add up, and `persons_below` follows from them; which interval starts and ends
        where does not.
        """
        starts, ends = [0] * scale.bins, [0] * scale.bins
        for low, high, persons in self.intervals:
            if not 0 <= low < high <= scale.bins:
                raise ShapeError("An interval does not lie on the public grid.")
            starts[low] += persons
            ends[high - 1] += persons
        return *starts, *ends

    @classmethod
    def from_additive(cls, numbers: Sequence[int], scale: PublicScale) -> Self:
        """Intervals with the same starts and ends: who starts first, ends first."""
        counts = counts_in(numbers, 2 * scale.bins)
        starts, ends = (
            [[i, persons] for i, persons in enumerate(part) if persons]
            for part in (counts[: scale.bins], counts[scale.bins :])
        )
        found: list[tuple[int, int, int]] = []
        at = 0
        for end, persons in ends:
            while persons:
                if at == len(starts) or starts[at][0] > end:
                    raise ShapeError("More persons are in intervals that end than that start.")
                both = min(persons, starts[at][1])
                found.append((starts[at][0], end + 1, both))
                persons -= both
                starts[at][1] -= both
                at += not starts[at][1]
        if at < len(starts):
            raise ShapeError("More persons are in intervals that start than that end.")
        return cls.of(found, scale.bins)


def common_ends(
    states: Sequence[IntervalCounts], min_count: int, allowed: Collection[int] | None = None
) -> list[int]:
    """Grid indices between which each of `states` holds nobody or at least `min_count` persons.

    Intervals that all states share tell nothing of the difference between two states but what
    holds enough persons itself. The first and the last end are the grid's own, so they tell
    nothing of the smallest and the largest value.

    Args:
        states: one site's, of disjoint intervals, each of nobody or of enough persons.
        allowed: indices that may be taken; any where left out.
    """
    held = [0] * len(states)
    steps: dict[int, list[tuple[int, int]]] = {}
    size = max((state.bins for state in states), default=0)
    for i, state in enumerate(states):
        for low, high, persons in state.intervals:
            size = max(size, high)
            steps.setdefault(high, []).append((i, persons))
            if min_count <= 1:
                steps.setdefault(low, [])
    ends, marks = [0], [[0] * len(states)]
    for end in sorted(steps):
        for i, persons in steps[end]:
            held[i] += persons
        fits = allowed is None or end in allowed
        if fits and end < size and _enough(held, marks[-1], min_count):
            ends.append(end)
            marks.append(list(held))
    while len(ends) > 1 and not _enough(held, marks[-1], min_count):
        ends.pop()
        marks.pop()
    return [*ends, size] if size else [0, 1]


def _enough(held: Sequence[int], before: Sequence[int], min_count: int) -> bool:
    between = [now - then for now, then in zip(held, before, strict=True)]
    some = any(between) or min_count <= 1  # an empty interval would tell the next one's least
    return some and not any(0 < n < min_count for n in between)
