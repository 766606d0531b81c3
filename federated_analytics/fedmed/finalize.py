"""From merged aggregates to numbers, with the bounds that the aggregates leave open."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, TypeVar

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.fedmed import dates
from federated_analytics.fedmed.batch import Query
from federated_analytics.fedmed.errors import NotAnswered
from federated_analytics.fedmed.gathered import Gathered, Group, gather, whole
from federated_analytics.fedmed.lazy import Outcome
from federated_analytics.fedmed.schema import DATE, TRUTH
from federated_analytics.fedmed.tables import Rows

T = TypeVar("T")
Bounds = tuple[Any, Any] | None
Edge = Callable[[int], float]
GRID_END = 1e300
"""An edge beyond this is the grid's own end: it says nothing of the values."""


@dataclass(frozen=True)
class Estimate:
    """A number, and what it is known between where it is not exact."""

    value: Any
    bounds: Bounds = None


Finish = Callable[[Aggregate | None, Edge], Estimate]
"""From a merged aggregate, and the edges of the public grid that its intervals are of."""
Check = Callable[[str | None], None]
"""Raises where the kind of what was reduced is not the reduction's."""


def total(state: Aggregate | None, edge: Edge) -> Estimate:
    """Sum of the values, rounded once: of whole numbers it is a whole number. 0 of none."""
    moments = as_moments(state)
    exact = moments.n * (Fraction(moments.mean) + Fraction(moments.residual))
    return Estimate(float(exact))


def rows(state: Aggregate | None, edge: Edge) -> Estimate:
    """Number of rows; 0 of none."""
    return Estimate(_count(state))


def mean(state: Aggregate | None, edge: Edge) -> Estimate:
    moments = as_moments(state)
    return Estimate(moments.mean + moments.residual if moments.n else math.nan)


def variance(df: int) -> Finish:
    """Of denominator n - df; NaN where that is not positive."""

    def finish(state: Aggregate | None, edge: Edge) -> Estimate:
        moments = as_moments(state)
        return Estimate(moments.m2 / (moments.n - df) if moments.n > df else math.nan)

    return finish


def deviation(df: int) -> Finish:
    """Square root of `variance`."""
    return lambda state, edge: Estimate(math.sqrt(variance(df)(state, edge).value))


def extreme(largest: bool) -> Finish:
    """Smallest or largest value: exact, or the edge of the outermost interval with its bounds."""

    def finish(state: Aggregate | None, edge: Edge) -> Estimate:
        if state is None or (isinstance(state, IntervalCounts) and not state.n):
            return Estimate(math.nan)
        if not isinstance(state, IntervalCounts):
            held: Any = state
            if not held.n:
                return Estimate(math.nan)
            return Estimate(float(held.high if largest else held.low))
        if largest:
            low = max(low for low, _, _ in state.intervals)
            high = max(high for _, high, _ in state.intervals)
        else:
            low = min(low for low, _, _ in state.intervals)
            high = min(high for _, high, _ in state.intervals)
        bounds = _open(edge(low)), _open(edge(high))
        value = bounds[0] if math.isfinite(bounds[0]) else bounds[1]
        return Estimate(value, bounds)

    return finish


def quantile(probability: float) -> Finish:
    """Hyndman & Fan's type 7 between guaranteed bounds, from rows in intervals of the grid."""

    def finish(state: Aggregate | None, edge: Edge) -> Estimate:
        if state is None:
            return Estimate(math.nan)
        return _quantile(_as(state, IntervalCounts), edge, probability)

    return finish


def _quantile(state: IntervalCounts, edge: Edge, probability: float) -> Estimate:
    if not state.n:
        return Estimate(math.nan)
    position = (state.n - 1) * probability
    ends = sorted({index for low, high, _ in state.intervals for index in (low, high)})
    most = _below(ends, [(low + 1, n) for low, _, n in state.intervals])
    fewest = _below(ends, [(high, n) for _, high, n in state.intervals])
    lower = max(i for i, n in enumerate(most) if n <= math.floor(position))
    upper = min(i for i, n in enumerate(fewest) if n >= math.ceil(position) + 1)
    bounds = _open(edge(ends[lower])), _open(edge(ends[upper]))
    value = _spread(state, edge, position + 0.5)
    return Estimate(min(max(value, bounds[0]), bounds[1]), bounds)


def _below(ends: Sequence[int], steps: Iterable[tuple[int, int]]) -> list[int]:
    """Rows counted below each of `ends`, where each step counts from its index on."""
    counts = [0] * (len(ends) + 1)
    for index, n in steps:
        counts[bisect_left(ends, index)] += n
    return list(accumulate(counts))[: len(ends)]


def _spread(state: IntervalCounts, edge: Edge, target: float) -> float:
    """Where `target` rows are below, each interval's rows spread evenly between its edges."""
    slopes: defaultdict[float, float] = defaultdict(float)
    points: defaultdict[float, float] = defaultdict(float)
    for low, high, n in state.intervals:
        start, stop = _open(edge(low)), _open(edge(high))
        start, stop = (stop, stop) if not math.isfinite(start) else (start, stop)
        stop = stop if math.isfinite(stop) else start
        if stop > start:
            slopes[start] += n / (stop - start)
            slopes[stop] -= n / (stop - start)
        else:
            points[start] += n
    below, slope, last = 0.0, 0.0, -math.inf
    for place in sorted({*slopes, *points} - {math.inf, -math.inf}):
        inside = slope * (place - last) if math.isfinite(last) else 0.0
        if slope > 0 and below + inside >= target:
            return last + (target - below) / slope
        below += inside + points[place]
        if below >= target:
            return place
        slope, last = slope + slopes[place], place
    return last if math.isfinite(last) else math.nan


def binned(state: Aggregate | None, edges: Sequence[T]) -> tuple[list[T], list[int]]:
    """Edges that no interval crosses, and the rows between them."""
    if state is None:
        return list(edges), [0] * (len(edges) - 1)
    intervals = _as(state, IntervalCounts).intervals
    kept = [i for i in range(len(edges)) if not any(low < i < high for low, high, _ in intervals)]
    counts = [0] * (len(kept) - 1)
    for _, high, n in intervals:
        place = bisect_left(kept, high) - 1
        if 0 <= place < len(counts):
            counts[place] += n
    return [edges[i] for i in kept], counts


def finished(
    finish: Finish, state: Aggregate | None, kind: str | None, *, is_total: bool = False
) -> Estimate:
    """A number of one group's aggregate; of dates it is a date where it is no number of them.

    Args:
        is_total: it is the sum of a mask, which is a number of rows.
    """
    estimate = finish(state, grid_edge(kind))
    if kind == DATE and not isinstance(estimate.value, int):
        return _dated(estimate)
    is_whole = is_total and kind == TRUTH and float(estimate.value).is_integer()
    return Estimate(int(estimate.value)) if is_whole else estimate


def _dated(estimate: Estimate) -> Estimate:
    """Days since 1970-01-01 as dates; NaN of none stays."""
    if math.isnan(estimate.value):
        return estimate
    value = dates.date_of(estimate.value)
    if estimate.bounds is None:
        return Estimate(value)
    low, high = estimate.bounds
    return Estimate(value, (dates.date_of(low), dates.date_of(high)))


def number(
    query: Query, finish: Finish, check: Check, *, is_total: bool = False, is_count: bool = False
) -> Outcome[Any]:
    """The one number of a query without groups. AskFailed where a server gives no part of it.

    Args:
        is_total: it is a sum; that of a mask is a whole number of rows.
        is_count: it is known to be the sum of a mask.
    """
    gathered = whole(gather(query), query.partial)
    check(gathered.kind)
    kind = TRUTH if is_count else gathered.kind
    estimate = finished(finish, gathered.merged(((), "", "")), kind, is_total=is_total)
    return _outcome(estimate.value, gathered, estimate.bounds)


def state(query: Query) -> tuple[Aggregate | None, Gathered]:
    """The one aggregate of a query without groups, and what it is made of."""
    gathered = whole(gather(query), query.partial)
    return gathered.merged(((), "", "")), gathered


def groups(
    query: Query,
    finish: Finish,
    keys: Sequence[str],
    column: str,
    decode: Callable[[Group], Any],
    check: Check = lambda kind: None,
) -> Outcome[Rows]:
    """A number for each group; None where a server may have kept its part of one back."""
    gathered = gather(query).decoded(decode, str)
    check(gathered.kind)
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    approximate = False
    for place in gathered.places():
        found[place[0]] = (None,)
        if query.partial or not gathered.lacking(place):
            estimate = finished(finish, gathered.merged(place), gathered.kind)
            approximate |= estimate.bounds is not None
            found[place[0]] = (estimate.value,)
    marks = [*gathered.marks, *withheld_marks(gathered)]
    if approximate:
        marks.append("numbers are known between bounds")
    table = Rows(tuple(keys), (column,), _ordered(found))
    return Outcome(table, gathered.missing, None, tuple(marks), gathered.versions)


def levels(query: Query, decode: Callable[[str], Any]) -> Outcome[Rows]:
    """Rows of each value, most frequent first; None where a server may keep its part back."""
    gathered = gather(query).decoded(tuple, decode)
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for place in gathered.places():
        shown = query.partial or not gathered.lacking(place)
        found[(place[2],)] = (_count(gathered.merged(place)) if shown else None,)
    ordered = sorted(_ordered(found).items(), key=lambda item: -(item[1][0] or 0))
    table = Rows(("value",), ("rows",), dict(ordered))
    marks = (*gathered.marks, *withheld_marks(gathered))
    return Outcome(table, gathered.missing, None, marks, gathered.versions)


def _count(state: Aggregate | None) -> int:
    return 0 if state is None else int(_as(state, Count).persons)


def distinct(query: Query, decode: Callable[[str], Any]) -> Outcome[frozenset[Any]]:
    """The values that the servers' policies show."""
    gathered = gather(query).decoded(tuple, decode)
    values = frozenset(level for _, _, level in gathered.places())
    marks = (*gathered.marks, *withheld_marks(gathered))
    return Outcome(values, gathered.missing, None, marks, gathered.versions)


def withheld_marks(gathered: Gathered) -> list[str]:
    """Says at which servers a policy keeps values or groups back."""
    lacking = [part for part in gathered.parts if part.withheld]
    if not lacking:
        return []
    names = ", ".join(dict.fromkeys(part.server for part in lacking))
    return [f"not shown: what stands on too few persons at {names}"]


def _outcome(value: Any, gathered: Gathered, bounds: Bounds) -> Outcome[Any]:
    return Outcome(value, gathered.missing, bounds, gathered.marks, gathered.versions)


def _ordered(found: dict[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Any]:
    return dict(sorted(found.items(), key=lambda item: [(str(type(v)), v) for v in item[0]]))


def as_moments(state: Aggregate | None) -> Moments:
    return Moments.zero() if state is None else _as(state, Moments)


def _as(state: Aggregate, wanted: type[Any]) -> Any:
    if isinstance(state, wanted):
        return state
    raise NotAnswered(
        f"The servers answer with {type(state).__name__}, where {wanted.__name__} is needed.",
        remedy="Use the same version of federated_analytics at the client and the servers.",
    )


def _open(edge: float) -> float:
    return edge if abs(edge) < GRID_END else math.copysign(math.inf, edge)


def grid_edge(kind: str | None) -> Edge:
    """Edges of the public grid of numbers, or of that of dates."""
    from federated_analytics.fedmed.grid import MONTHS, NUMBERS

    return MONTHS.edge if kind == DATE else NUMBERS.edge
