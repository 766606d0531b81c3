"""What an owner's policies change of results that the rules have let pass: part by part.

A result has parts, each with the names of the methods that tell it: the moments of a column tell
its `sum` and `mean`, by n its `len`, and by the squared deviations its `sqsum` and `var`. A policy
that is meant for one of them so reaches it in whatever answer it stands.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.co_moments import CoMoments
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.extremes import Extremes
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records

if TYPE_CHECKING:
    from numpy.random import Generator

SUMS = ("sum", "mean", "var", "std", "moments", "comoments", "cov", "corr")
"""Methods that the sum of a column, with its squared deviations, answers."""
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "quantiles": ("quantiles", "quantile", "median"),
    "missing": ("missing", "count_missing"),
    "set": ("set", "counts"),
    "counts": ("counts", "set"),
}


@dataclass(frozen=True)
class Asked:
    """The question that a result answers.

    Fields:
        op: the operation
        called: the name by which the owner's configuration offers it
        seed: of what is asked, on which version of the data, and of the site's secret
        secret: the site's own, for what has to be the same in every question
    """

    fragment: str
    op: str
    called: str
    seed: bytes
    secret: bytes

    def entry(self, position: int) -> Asked:
        """For one policy of several: each has draws of its own."""
        return replace(
            self,
            seed=hmac.digest(self.seed, b"policy %d" % position, "sha256"),
            secret=hmac.digest(self.secret, b"policy %d" % position, "sha256"),
        )

    def of_rows(self, rows: int) -> Asked:
        """For lengths of columns: equal ones stay equal, or they could not be combined."""
        return replace(self, seed=hmac.digest(self.secret, b"rows %d" % rows, "sha256"))

    def random(self, label: str) -> Generator:
        """Draws that the same question always has."""
        import numpy as np

        seed = hmac.digest(self.seed, label.encode(), "sha256")
        return np.random.default_rng(int.from_bytes(seed, "big"))

    def part(self, label: str, whole: bool, main: str, *others: str) -> Part:
        names = dict.fromkeys((main, *_SPELLINGS.get(main, ()), *others, self.called))
        return Part(self, label, whole, main, tuple(f"{self.fragment}.{n}()" for n in names))


@dataclass(frozen=True)
class Part:
    """One number of a result, or several alike.

    Fields:
        whole: it counts something; otherwise it is a sum, or follows from one
        main: the method whose rejection by a policy leaves it alone
        names: "FRAGMENT.METHOD()" of all methods that tell it
    """

    asked: Asked
    label: str
    whole: bool
    main: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.asked.fragment}.{self.main}()"

    def another(self, label: object) -> Part:
        """A part alike, with draws of its own."""
        return replace(self, label=f"{self.label} {label}")


class Change(Protocol):
    """One policy's change of numbers."""

    def covers(self, part: Part) -> bool: ...

    def number(self, value: Fraction, part: Part) -> Fraction:
        """A changed number."""
        ...

    def spread(self, value: float, size: float, part: Part) -> float:
        """A changed sum of squares or products of values that `size` is the range of."""
        ...


def can_change(kind: type[Aggregate]) -> bool:
    """Whether an owner's policies know the parts of an aggregate."""
    return kind in _CHANGED


def changed(aggregate: Aggregate, asked: Asked, change: Change) -> Aggregate:
    """An aggregate as a policy lets it leave."""
    return _CHANGED[type(aggregate)](aggregate, asked, change)


def _whole(value: int, part: Part, change: Change, least: int = 0) -> int:
    """A count, never below `least`; where that is more than 0, nobody stays nobody."""
    if not change.covers(part) or (least and not value):
        return value
    return max(least, math.floor(change.number(Fraction(value), part) + Fraction(1, 2)))


def _count(state: Count, asked: Asked, change: Change) -> Count:
    return Count(_whole(state.persons, asked.part("count", True, asked.op, "len"), change))


def _records(state: Records, asked: Asked, change: Change) -> Records:
    """A column's rows and those with a value."""
    part = asked.of_rows(state.records).part("rows", True, "len", asked.op)
    records = _whole(state.records, part, change, 1)
    if state.persons == state.records:
        return replace(state, records=records, persons=records)
    there = asked.of_rows(state.persons).part("rows", True, "len", asked.op, "missing")
    return replace(
        state, records=records, persons=min(records, _whole(state.persons, there, change, 1))
    )


def _intervals(state: IntervalCounts, asked: Asked, change: Change) -> IntervalCounts:
    """Rows of bins. No bin of the grid goes away: its edges are what smallest values stand on."""
    part = asked.part("bins", True, asked.op, "len", "hist")
    least = 0 if asked.op == "hist" else 1
    rows = ((lo, hi, _whole(n, part.another(lo), change, least)) for lo, hi, n in state.intervals)
    return IntervalCounts.of(rows, state.bins)


def _extremes(state: Extremes, asked: Asked, change: Change) -> Extremes:
    """Smallest and largest value, where the owner lets them leave."""
    if not state.n:
        return state
    n = _whole(state.n, asked.part("n", True, "len"), change, 1)
    ends = []
    for main, end in (("min", state.low), ("max", state.high)):
        part = asked.part("end", False, asked.op if state.low == state.high else main)
        ends.append(float(change.number(Fraction(end), part)) if change.covers(part) else end)
    return replace(state, n=n, low=min(ends), high=max(ends))


def _moments(state: Moments, asked: Asked, change: Change) -> Moments:
    if not state.n or not math.isfinite(state.mean + state.m2):
        return state
    n = _whole(state.n, asked.part("n", True, "len"), change, 1)
    before = state.n * (Fraction(state.mean) + Fraction(state.residual))
    main = "sum" if asked.op in SUMS else asked.op
    summed = asked.part("sum", _is_whole(before), main, asked.op, *SUMS)
    squares = asked.part("squares", False, "sqsum")
    total, m2 = before, state.m2
    if is_covered := _covers_sum(change, summed):
        total = change.number(before, summed)
    if _has_two_values(state, before):
        m2 = _between(state, n, total)
    elif is_covered:
        m2 = change.spread(m2, _range(m2, state.least, state.greatest), summed.another("squares"))
    elif change.covers(squares):
        m2 = float(change.number(Fraction(m2), squares))
    mean = total / n
    rounded = float(mean)
    residual = float(mean - Fraction(rounded))
    return replace(state, n=n, mean=rounded, m2=max(0.0, m2), residual=residual)


def _is_whole(total: Fraction) -> bool:
    """Whether a sum is a whole number, but for what rounding the mean has made of it."""
    lost = max(Fraction(1), abs(total)) / 10**12
    return abs(total - round(total)) <= lost


def _covers_sum(change: Change, part: Part) -> bool:
    """What is for sums covers every sum; what is for counts also one that is a whole number."""
    return change.covers(replace(part, whole=False)) or (part.whole and change.covers(part))


def _has_two_values(state: Moments, total: Fraction) -> bool:
    """Whether the squares follow from the sum: then they are as good as it (a mask's are).

    References: Bhatia & Davis (2000), American Mathematical Monthly 107:353, for equality
    """
    if not (math.isfinite(state.least) and math.isfinite(state.greatest)):
        return False
    return math.isclose(state.m2, _between(state, state.n, total), rel_tol=1e-9)


def _between(state: Moments, n: int, total: Fraction) -> float:
    """The sum of squared deviations of n values of which each is the least or the greatest."""
    low, high = Fraction(state.least), Fraction(state.greatest)
    return max(0.0, float((total - n * low) * (n * high - total) / n))


def _range(m2: float, least: float = math.inf, greatest: float = -math.inf) -> float:
    """The range of values; the largest that their squared deviations allow where not known."""
    if least <= greatest:
        return greatest - least
    return math.sqrt(2 * max(0.0, m2))


def _co_moments(state: CoMoments, asked: Asked, change: Change) -> CoMoments:
    if not state.n:
        return state
    n = _whole(state.n, asked.part("n", True, "len"), change, 1)
    totals = [state.n * Fraction(mean) for mean in state.means]
    matrix = state.matrix
    size = len(totals)
    ranges = [_range(matrix[i][i]) for i in range(size)]
    found: dict[tuple[int, int], float] = {}
    parts = [
        asked.part(f"sum {i}", _is_whole(total), "sum", asked.op, *SUMS)
        for i, total in enumerate(totals)
    ]
    covered = [_covers_sum(change, part) for part in parts]
    squares = asked.part("squares", False, "sqsum")
    for i in range(size):
        for j in range(i, size):
            found[i, j] = matrix[i][j]
            if covered[i] or covered[j]:
                part = parts[i].another(j)
                found[i, j] = change.spread(matrix[i][j], max(ranges[i], ranges[j]), part)
            elif change.covers(squares):
                value = change.number(Fraction(matrix[i][j]), squares.another((i, j)))
                found[i, j] = float(value)
    for i in range(size):
        found[i, i] = max(0.0, found[i, i])
    for i, j in found:
        most = math.sqrt(found[i, i] * found[j, j])
        found[i, j] = max(-most, min(most, found[i, j])) if i != j else found[i, j]
    means = tuple(
        float((change.number(total, part) if is_covered else total) / n)
        for total, part, is_covered in zip(totals, parts, covered, strict=True)
    )
    return replace(state, n=n, means=means, products=tuple(found.values()))


_CHANGED: Mapping[type[Aggregate], Callable[[Any, Asked, Change], Aggregate]] = {
    Count: _count,
    Records: _records,
    IntervalCounts: _intervals,
    Extremes: _extremes,
    Moments: _moments,
    CoMoments: _co_moments,
}
