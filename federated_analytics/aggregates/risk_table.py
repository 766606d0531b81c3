"""Events and censorings in steps of a public time grid: the state behind survival curves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Self

from federated_analytics.aggregates.base import (
    STAYS,
    Aggregate,
    PublicScale,
    counts_in,
    nearest_multiple,
)
from federated_analytics.aggregates.dyadic_blocks import (
    Counts,
    block_count,
    counts_by_block,
    finest_blocks,
    sum_of,
    with_counts,
)

Interval = tuple[int, int, int, int]
"""(low, high, events, censored): exits in the grid's steps low, low + 1 … high - 1."""


@dataclass(frozen=True)
class RiskTable(Aggregate):
    """Persons who left follow-up in each interval of a public grid, by event or by censoring.

    Shapes: intervals: tuple of (low, high, events, censored), sorted, low < high, none twice
    Units: indices of the grid's steps; persons. Step j is the days after edge j up to edge j + 1;
        after the last edge, the horizon, follows one more step, which holds everybody who is
        followed beyond it, as censored. The grid is public, it is in the query
    Merge: union of intervals, persons of equal ones added; exact
    Discloses: that each interval holds at least as many persons as the policy asks, of events or
        of censorings; so does every number at risk, which is a sum of them

    Everybody leaves at some step, so the persons at risk need no field of their own. Sites join
    steps until each interval holds enough persons (`guarded`), so intervals of different sites
    overlap; `curve` returns guaranteed bounds beside its estimate. `beside` holds the intervals
    of the other strata of the same margin, as they are before they are joined. It stays.

    References: Kaplan & Meier (1958), JASA 53:457
    """

    intervals: tuple[Interval, ...]
    beside: tuple[tuple[Interval, ...], ...] = field(default=(), metadata=STAYS, compare=False)

    @classmethod
    def zero(cls) -> Self:
        return cls(())

    @classmethod
    def of(cls, counts: Iterable[Interval]) -> Self:
        """From any (low, high, events, censored); equal intervals are added, empty ones dropped."""
        events: Counter[tuple[int, int]] = Counter()
        censored: Counter[tuple[int, int]] = Counter()
        for low, high, d, c in counts:
            events[low, high] += d
            censored[low, high] += c
        places = sorted(events.keys() | censored.keys())
        rows = ((*place, events[place], censored[place]) for place in places)
        return cls(tuple(row for row in rows if row[2] or row[3]))

    def merge(self, other: Self) -> Self:
        return self.of((*self.intervals, *other.intervals))

    @property
    def support(self) -> tuple[int, ...]:
        return tuple(n for _, _, events, censored in self.intervals for n in (events, censored))

    @property
    def persons(self) -> int:
        """Everybody at risk on day 0."""
        return sum(self.support)

    @property
    def events(self) -> int:
        """All events up to the horizon."""
        return sum(events for _, _, events, _ in self.intervals)

    def rounded(self, base: int) -> Self:
        """Sums from the start in multiples of `base`, so the totals are rounded themselves."""
        rows: list[Interval] = []
        exact, shown = [0, 0], [0, 0]
        for low, high, *exits in self.intervals:
            for i, count in enumerate(exits):
                exact[i] += count
            sums = [nearest_multiple(total, base) for total in exact]
            rows.append((low, high, sums[0] - shown[0], sums[1] - shown[1]))
            shown = sums
        return self.of(rows)

    def guarded(self, min_count: int) -> Self | None:
        """Steps joined until each interval holds 0 or >= `min_count` events, or censorings.

        Only for one site's own disjoint intervals. Events are joined apart from censorings, which
        keeps both finer. Steps are joined in blocks of 2, 4, 8 … that start at multiples of their
        length: blocks that ended wherever enough persons are would tell that somebody left in
        their last step, which may be a single day. All strata of a margin (`beside`) have the
        same blocks, since else the rest of a total could be told in steps that are too fine.
        """
        if not self.intervals:
            return self
        joined: list[Interval] = []
        for kind in (2, 3):
            own = _only(self.intervals, kind)
            if 0 < sum_of(own) < min_count:
                return None
            others = [_only(rows, kind) for rows in self.beside]
            safe = [rows for rows in others if sum_of(rows) >= min_count]
            rest = [row for rows in others if sum_of(rows) < min_count for row in rows]
            groups = [own, *safe, *([rest] if sum_of(rest) >= min_count else [])]
            last = max((row[1] for rows in groups for row in rows), default=1)
            blocks = finest_blocks(groups, 0, 1 << (last - 1).bit_length(), min_count) or []
            for low, high in blocks:
                count = sum(n for start, _, n in own if low <= start < high)
                joined.append((low, high, count, 0) if kind == 2 else (low, high, 0, count))
        return self.of(joined)

    @classmethod
    def additive_size(cls, scale: PublicScale) -> int:
        return 2 * block_count(scale.bins)

    def additive(self, scale: PublicScale) -> tuple[int, ...]:
        """Events of each block of steps, then censorings; see `guarded` for the blocks."""
        events = counts_by_block((((lo, hi), d) for lo, hi, d, _ in self.intervals), scale.bins)
        censored = counts_by_block((((lo, hi), c) for lo, hi, _, c in self.intervals), scale.bins)
        return *events, *censored

    @classmethod
    def from_additive(cls, numbers: Sequence[int], scale: PublicScale) -> Self:
        size = block_count(scale.bins)
        counts = counts_in(numbers, 2 * size)
        events = ((*at, n, 0) for at, n in with_counts(counts[:size], scale.bins))
        censored = ((*at, 0, n) for at, n in with_counts(counts[size:], scale.bins))
        return cls.of((*events, *censored))

    def curve(self, edges: Sequence[int]) -> list[SurvivalPoint]:
        """The survival curve at each edge after the first.

        Args:
            edges: days; -1, then the last day of each step, in the end the horizon.
        """
        points: list[SurvivalPoint] = []
        at_start = SurvivalPoint(-1, 1.0, 1.0, 1.0, 0.0, self.persons, 0, 0)
        for low, high in self._blocks(len(edges) - 1):
            inside = [row for row in self.intervals if row[0] >= low and row[0] < high]
            points += _block_points(inside, range(low + 1, high + 1), edges, at_start)
            at_start = points[-1]
        return points

    def _blocks(self, last: int) -> Iterator[tuple[int, int]]:
        """Pairs of neighbouring edges that no site's interval reaches across, 0 to `last`."""
        low, reach, rows = 0, 0, iter(self.intervals)
        row = next(rows, None)
        for edge in range(1, last + 1):
            while row is not None and row[0] < edge:
                reach, row = max(reach, row[1]), next(rows, None)
            if reach <= edge or edge == last:
                yield low, edge
                low = edge


def _only(rows: Iterable[Interval], kind: int) -> Counts:
    """The events (kind 2) or the censorings (kind 3) of intervals."""
    return [(row[0], row[1], row[kind]) for row in rows if row[kind]]


@dataclass(frozen=True)
class SurvivalPoint:
    """The curve at one edge of the grid.

    Fields:
        day: the edge, in days
        survival: estimate of the probability to be without event after that day
        lower, upper: between these lies the Kaplan-Meier estimate of the exact days
        variance: Greenwood's sum, the variance of log survival
        at_risk: persons followed beyond `day`; None where a site's interval reaches across it
        events, censored: since the last edge with a number; None likewise
    """

    day: int
    survival: float
    lower: float
    upper: float
    variance: float
    at_risk: int | None
    events: int | None
    censored: int | None

    def confidence_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Of `survival`, on the scale of log(-log); NaN where nobody is left without event.

        References: Kalbfleisch & Prentice (2002), The Statistical Analysis of Failure Time Data,
            section 1.4.1; Greenwood (1926), Reports on Public Health 33
        """
        if self.survival >= 1:
            return 1.0, 1.0
        if self.survival <= 0 or not math.isfinite(self.variance):
            return math.nan, math.nan
        z = NormalDist().inv_cdf((1 + level) / 2)
        width = z * math.sqrt(self.variance) / -math.log(self.survival)
        return self.survival ** math.exp(width), self.survival ** math.exp(-width)


def _block_points(
    rows: Sequence[Interval], steps: range, edges: Sequence[int], start: SurvivalPoint
) -> Iterator[SurvivalPoint]:
    """The points of a block whose both ends no interval reaches across.

    Args:
        rows: the intervals that start in the block.
        steps: the edges of the block, as indices, without its start.
        start: the point at the block's start, where everything is known exactly.
    """
    persons = start.at_risk or 0
    survival, variance, remaining = start.survival, start.variance, float(persons)
    for edge in steps:
        events, censored = _spread(rows, edge - 1, edges)
        width = edges[edge] - edges[edge - 1]
        # Exits spread evenly over the step's days; on a day, events come before censorings.
        exposed = remaining - censored * (width - 1) / (2 * width)
        if events:
            survival *= max(0.0, 1 - events / exposed)
            gone = exposed - events
            variance += events / (exposed * gone) if gone > 1e-9 * exposed else math.inf
        remaining = max(0.0, remaining - events - censored)
        lower = start.lower * _product(persons, _late(rows, edge, edges))
        upper = start.upper * _product(persons, _early(rows, edge, edges))
        exact = not any(low < edge < high for low, high, _, _ in rows)
        d, c = (sum(row[i] for row in rows if row[1] <= edge) for i in (2, 3))
        yield SurvivalPoint(
            edges[edge],
            min(max(survival, lower), upper),
            lower,
            upper,
            variance,
            persons - d - c if exact else None,
            d if exact else None,
            c if exact else None,
        )


def _spread(rows: Sequence[Interval], step: int, edges: Sequence[int]) -> tuple[float, float]:
    """Events and censorings of a step, as if those of each interval were spread by its days."""
    last, events, censored = len(edges) - 1, 0.0, 0.0
    width = edges[step + 1] - edges[step]
    for low, high, d, c in rows:
        if low <= step < high:
            days = edges[min(high, last)] - edges[low]
            beyond = edges[-1] - edges[-2] if high > last else 0
            events += d * width / days
            censored += c * width / (days + beyond)
    return events, censored


Exit = tuple[int, int, int]
"""(day, 0 for events or 1 for censorings, persons)."""


def _late(rows: Sequence[Interval], edge: int, edges: Sequence[int]) -> list[Exit]:
    """Exits up to an edge as they make survival there least: censored early, events late."""
    last = len(edges) - 1
    begun = [row for row in rows if row[0] < edge]
    exits = [(edges[min(high, edge, last)], 0, d) for _, high, d, _ in begun]
    return exits + [(edges[low] + 1, 1, c) for low, _, _, c in begun]


def _early(rows: Sequence[Interval], edge: int, edges: Sequence[int]) -> list[Exit]:
    """Exits up to an edge as they make survival there greatest: events early, the rest late."""
    ended = [row for row in rows if row[1] <= edge]
    exits = [(edges[low] + 1, 0, d) for low, _, d, _ in ended]
    return exits + [(edges[high], 1, c) for _, high, _, c in ended]


def _product(persons: int, exits: Iterable[Exit]) -> float:
    """The product-limit estimate of exits at known days, events before censorings of a day.

    Swapping an event with a censoring right after it makes the product smaller, and so does one
    more event: hence the two arrangements above bound all others.
    """
    survival = 1.0
    for _, is_censored, count in sorted(exits):
        if not is_censored and count:
            survival *= (persons - count) / persons
        persons -= count
    return survival
