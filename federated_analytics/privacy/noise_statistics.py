"""What noise is added to in each type of aggregate: integers of bounded sensitivity.

Neighbouring databases differ by one person, who has one row (add or remove one). A statistic
says how much that person can move the integers that stand for a cell, and how a cell is rebuilt
from noisy ones. Integers, because the sum of floating-point numbers can move by more than its
largest term (Casacuberta et al. 2022, CCS, Widespread Underestimation of Sensitivity in
Differentially Private Libraries), and because discrete noise has no low-order bits to read.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import RequestRefused
from federated_analytics.privacy.consistency import Relation, consistent

LATTICE = 2**10
"""Steps of the lattice that half a feature's range is divided into."""
_SLACK = 4
"""Steps that a sum may move beyond its bound: 1 by rounding, the others by floating point.

Adding n numbers of at most 1 errs by at most n² 2⁻⁵³ (Higham 2002, Accuracy and Stability of
Numerical Algorithms, section 4.2): below 1.5 steps for two sums over 3 million persons.
"""
BRANCHES = 16
"""Children of a node in the tree of intervals."""
LARGEST = 2**62
"""Integers are cut here, far beyond any count of persons, so that they fit 64 bits."""


@dataclass(frozen=True)
class PublicDomain:
    """All that noise needs to know, none of it learnt from the data.

    Fields:
        keys: every cell that the answer has, empty ones too, with its aggregate's type
        bounds: the least and the greatest value of each variable; each person's value was held
            to them (nulled or clamped in the frame) before it was aggregated
        max_records: most records of one person that were counted, by variable
        bins: bins of each variable's public grid
        exclusive: names of cells of whose levels a person is in at most one; the levels of any
            other (the steps of an attrition) are charged one by one
    """

    keys: Mapping[Key, type[Aggregate]]
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_records: Mapping[str, int] = field(default_factory=dict)
    bins: Mapping[str, int] = field(default_factory=dict)
    exclusive: frozenset[str] = frozenset({"bin", "category"})


class Statistic(ABC):
    """One type of aggregate, for one variable, as a vector of integers.

    Fields:
        l1, l2: how far one person can move the vector of the one cell that the person is in
        units: name of each released statistic, and how much one step of the noise's scale is
    """

    l1: float
    l2: float
    units: Mapping[str, float]

    @abstractmethod
    def __init__(self, variable: str, domain: PublicDomain) -> None:
        """RequestRefused where the domain lacks the variable's public bounds."""

    @abstractmethod
    def encode(self, aggregate: Aggregate) -> list[int]:
        """The exact integers of a cell."""

    @abstractmethod
    def decode(self, noisy: Sequence[int]) -> Aggregate:
        """A cell with possible numbers (no negative counts) from noisy integers."""

    @abstractmethod
    def estimates(self, noisy: Sequence[int]) -> tuple[float, ...]:
        """Unbiased estimates of `units`, in order; they may be negative."""


class PersonCount(Statistic):
    """Persons; one person moves the count by 1."""

    def __init__(self, variable: str, domain: PublicDomain) -> None:
        self.l1 = self.l2 = 1.0
        self.units = {"persons": 1.0}

    def encode(self, aggregate: Aggregate) -> list[int]:
        assert isinstance(aggregate, Count)
        return [aggregate.persons]

    def decode(self, noisy: Sequence[int]) -> Count:
        return Count(max(0, noisy[0]))

    def estimates(self, noisy: Sequence[int]) -> tuple[float, ...]:
        return (float(noisy[0]),)


class RecordCount(Statistic):
    """Records and persons; one person moves the first by at most `max_records`."""

    def __init__(self, variable: str, domain: PublicDomain) -> None:
        self.most = domain.max_records.get(variable, 0)
        if self.most < 1:
            raise _unbounded(variable, "most records that one person contributes")
        # Persons are counted in steps of 1 / most, so that both numbers move by as much.
        self.l1, self.l2 = 2.0 * self.most, math.sqrt(2) * self.most
        self.units = {"persons": 1 / self.most, "records": 1.0}

    def encode(self, aggregate: Aggregate) -> list[int]:
        assert isinstance(aggregate, Records)
        return [aggregate.persons * self.most, aggregate.records]

    def decode(self, noisy: Sequence[int]) -> Records:
        persons = max(0, round(noisy[0] / self.most))
        return Records(max(persons, noisy[1]), persons)

    def estimates(self, noisy: Sequence[int]) -> tuple[float, ...]:
        return noisy[0] / self.most, float(noisy[1])


class MomentSums(Statistic):
    """Persons, sum of u and sum of 2u² - 1, where u in [-1, 1] is the value in its bounds.

    u = (value - middle) / half. Each of the three moves by at most 1; the third as a sum of u²
    would too, but 2u² - 1 uses both signs and halves the variance of what it stands for.
    """

    def __init__(self, variable: str, domain: PublicDomain) -> None:
        low, high = domain.bounds.get(variable, (0.0, 0.0))
        self.low, self.high = low, high
        self.middle, self.half = low / 2 + high / 2, high / 2 - low / 2
        # Far beyond any unit, and no square of it overflows or vanishes.
        if not (1e-100 < self.half < 1e100 and abs(self.middle) < 1e100):
            raise _unbounded(variable, "plausible range")
        sums = LATTICE + _SLACK
        self.l1, self.l2 = float(LATTICE + 2 * sums), math.sqrt(LATTICE**2 + 2 * sums**2)
        self.units = {
            "persons": 1 / LATTICE,
            "sum": self.half / LATTICE,
            "sum_of_squares": self.half**2 / LATTICE / math.sqrt(2),
        }

    def encode(self, aggregate: Aggregate) -> list[int]:
        assert isinstance(aggregate, Moments)
        n = aggregate.n
        offset = (aggregate.mean - self.middle + aggregate.residual) / self.half
        squares = aggregate.m2 / self.half / self.half + n * offset * offset
        return [n * LATTICE, _lattice(n * offset), _lattice(2 * squares - n)]

    def decode(self, noisy: Sequence[int]) -> Moments:
        size, first, second = (x / LATTICE for x in noisy)
        n = max(0, round(size))
        if not n:
            return Moments.zero()
        persons = max(size, 1.0)
        u = min(max(first / persons, -1.0), 1.0)
        spread = (second + size) / 2 - persons * u * u
        # No n values in [-1, 1] with mean u have a larger sum of squares (Bhatia & Davis 2000).
        spread = min(max(spread, 0.0), n * (1 - u) * (1 + u)) if n > 1 else 0.0
        mean = min(max(self.middle + self.half * u, self.low), self.high)
        return Moments(n, mean, spread * self.half * self.half)

    def estimates(self, noisy: Sequence[int]) -> tuple[float, ...]:
        size, first, second = (x / LATTICE for x in noisy)
        return size, first * self.half, (second + size) / 2 * self.half * self.half


class IntervalTree(Statistic):
    """Persons in each bin of a grid and in each node of a 16-ary tree above the bins.

    The number of persons below an edge is what quantiles read. As a sum of bins its noise grows
    with their number; as a sum of nodes it grows with the tree's height.

    References: Hay et al. (2010), PVLDB 3:1021; Qardaji, Yang & Li (2013), Understanding
        Hierarchical Methods for Differentially Private Histograms, PVLDB 6:1954, for the width
    """

    def __init__(self, variable: str, domain: PublicDomain) -> None:
        bins = domain.bins.get(variable, 0)
        if bins < 1:
            raise _unbounded(variable, "public grid")
        self.widths = [bins]
        while self.widths[-1] > 1:
            self.widths.append(-(-self.widths[-1] // BRANCHES))
        self.l1, self.l2 = float(len(self.widths)), math.sqrt(len(self.widths))
        # Persons below an edge are at most BRANCHES / 2 nodes a level, added or taken away.
        below = math.sqrt(1 + (len(self.widths) - 1) * BRANCHES / 2)
        self.units = {"persons_in_interval": 1.0, "persons_below": below}

    def encode(self, aggregate: Aggregate) -> list[int]:
        assert isinstance(aggregate, IntervalCounts)
        level = [0] * self.widths[0]
        for low, _, persons in aggregate.intervals:
            level[min(max(low, 0), len(level) - 1)] += persons
        nodes = list(level)
        for _ in self.widths[1:]:
            level = [sum(level[i : i + BRANCHES]) for i in range(0, len(level), BRANCHES)]
            nodes += level
        return nodes

    def decode(self, noisy: Sequence[int]) -> IntervalCounts:
        counts = dict(enumerate(map(float, noisy)))
        bins = consistent(counts, dict.fromkeys(counts, 1.0), self.relations())
        return IntervalCounts.of((i, i + 1, bins[i]) for i in range(self.widths[0]))

    def estimates(self, noisy: Sequence[int]) -> tuple[float, ...]:
        return tuple(map(float, noisy[: self.widths[0]]))

    def relations(self) -> list[Relation[int]]:
        """Each node is the sum of its children; nodes are numbered level by level from bins."""
        found, start = [], 0
        for width, above in zip(self.widths, self.widths[1:], strict=False):
            for i in range(above):
                children = range(i * BRANCHES, min((i + 1) * BRANCHES, width))
                parts = tuple(start + child for child in children)
                found.append(Relation(start + width + i, parts))
            start += width
        return found


STATISTICS: Mapping[type[Aggregate], type[Statistic]] = {
    Count: PersonCount,
    Records: RecordCount,
    Moments: MomentSums,
    IntervalCounts: IntervalTree,
}
"""How each aggregate is made noisy; one that is not listed is refused."""


def statistic_of(kind: type[Aggregate], variable: str, domain: PublicDomain) -> Statistic:
    """The statistic for one variable; RequestRefused where none is known or bounds lack."""
    if kind not in STATISTICS:
        raise RequestRefused(
            "This analysis has no differentially private form.",
            where=variable,
            remedy="Ask for counts, means, histograms or quantiles, or ask a site without noise.",
        )
    return STATISTICS[kind](variable, domain)


def _lattice(number: float) -> int:
    """A sum in units of half the range as an integer of the lattice.

    What is not finite becomes 0: an error would tell of it, and no bounded sum is.
    """
    return round(number * LATTICE) if abs(number) < LARGEST / LATTICE else 0


def _unbounded(variable: str, bound: str) -> RequestRefused:
    return RequestRefused(
        f"The variable has no {bound}, which noise must be measured against.",
        where=variable,
        remedy="Give the feature a range and step, or leave it out at sites that add noise.",
    )
