"""Medians and other quantiles in one round, with guaranteed bounds and no raw value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.person_set import PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.analyses.base import (
    Analysis,
    Context,
    Estimate,
    FeatureQuery,
    Merged,
    Row,
    number,
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.analyses.binned import binned, needs_range
from federated_analytics.omop.features import fine_grid
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.tables import Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

Probability = Annotated[float, Field(gt=0, lt=1)]


class QuantilesQuery(FeatureQuery):
    kind: Literal["quantiles"] = "quantiles"
    probabilities: tuple[Probability, ...] = Field(
        default=(0.05, 0.25, 0.5, 0.75, 0.95), min_length=1, max_length=99
    )


class Quantiles(Analysis):
    """Quantiles (Hyndman & Fan's type 7) from persons in intervals of a public grid.

    The answer is an estimate with `_lower` and `_upper`: the pooled quantile lies between them,
    whatever the values inside the intervals are. Values outside the feature's plausible range
    (in a flat table) count as its ends.

    References: Hyndman & Fan (1996), The American Statistician 50:361
    """

    kind = "quantiles"
    query_type = QuantilesQuery
    leaves = "persons in intervals of a public grid, joined until each holds enough"
    feature_types = frozenset({"numeric"})

    def check(self, query: QuantilesQuery, feature: Feature, where: str) -> None:

        needs_range(feature, where)

    def select(self, query: QuantilesQuery, frame: Frame) -> list[Statement]:
        return [
            binned(frame, query.by, name, edges(frame.columns[name].feature))
            for name in query.features
        ]

    def collect(
        self, query: QuantilesQuery, frame: Frame, results: Sequence[Sequence[Row]]
    ) -> Table:
        table: dict[Key, Aggregate] = {}
        for name, rows in zip(query.features, results, strict=True):
            last = len(edges(frame.columns[name].feature)) - 2
            found: dict[Strata, list[tuple[int, int, int]]] = {}
            for row in rows:
                low = min(max(row["bin"] - 1, 0), last)
                found.setdefault(strata_of(row, query.by), []).append(
                    (low, low + 1, row["persons"])
                )
            for strata, counts in found.items():
                table[Key(strata, name, "", "intervals")] = IntervalCounts.of(counts, last + 1)
        return table

    def counted_sets(
        self, query: QuantilesQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        grid = list(edges(frame.columns[key.variable].feature))
        grid[0], grid[-1] = -math.inf, math.inf  # what lies outside counts as the ends
        if isinstance(aggregate, IntervalCounts):
            for low, high, persons in aggregate.intervals:
                yield persons, frozenset({(key.variable, (grid[low], grid[high]))})

    def public_cells(self, query: QuantilesQuery, frame: Frame) -> Mapping[Key, type[Aggregate]]:
        return {Key((), name, "", "intervals"): IntervalCounts for name in query.features}

    def finalize(
        self, query: QuantilesQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        for strata in strata_in(cells, query.by):
            for name in query.features:
                merged = cells.get(Key(strata, name, "", "intervals"))
                if merged is None:
                    continue
                state = merged.value
                held = isinstance(state, IntervalCounts)
                n = str(state.n) if isinstance(state, IntervalCounts) else merged.shown_as
                yield Estimate(strata, name, "count", "integer", n)
                for probability in query.probabilities:
                    numbers = ("-", "-", "-")
                    if held and isinstance(state, IntervalCounts):
                        grid = edges(context.features[name])
                        numbers = tuple(map(number, quantile(state, grid, probability)))  # type: ignore[assignment]
                    label = estimate_name(probability)
                    for suffix, text in zip(("", "_lower", "_upper"), numbers, strict=True):
                        yield Estimate(strata, name, label + suffix, "numeric", text)
                yield from sites_behind(merged, context, strata, name)


def edges(feature: Feature) -> list[float]:
    """Edges of the feature's fine public grid, in its unit."""
    low, step, bins = fine_grid(feature)
    return [round(low + i * step, 10) for i in range(bins + 1)]


def estimate_name(probability: float) -> str:
    """ "median", "q25", "q02_5" …"""
    if probability == 0.5:
        return "median"
    return (
        f"q{100 * probability:05.2f}".rstrip("0").rstrip(".").replace(".", "_")
        if (100 * probability != int(100 * probability))
        else f"q{int(100 * probability):02d}"
    )


def quantile(
    state: IntervalCounts, grid: Sequence[float], probability: float
) -> tuple[float, float, float]:
    """Estimate, lower and upper bound of a quantile, in the grid's unit.

    Bounds hold for the two order statistics that type 7 interpolates between.
    """
    n = state.n
    if not n:
        return math.nan, math.nan, math.nan
    position = (n - 1) * probability
    most, fewest = _below(state, len(grid))
    rank_low, rank_high = math.floor(position) + 1, math.ceil(position) + 1
    lower = max(i for i, persons in enumerate(most) if persons <= rank_low - 1)
    upper = min(i for i, persons in enumerate(fewest) if persons >= rank_high)
    estimate = _interpolate(state, grid, position + 0.5)
    return min(max(estimate, grid[lower]), grid[upper]), grid[lower], grid[upper]


def _below(state: IntervalCounts, size: int) -> tuple[list[int], list[int]]:
    """Most and fewest persons that can be below each edge."""
    starts, ends = [0] * (size + 1), [0] * (size + 1)
    for low, high, persons in state.intervals:
        starts[low + 1] += persons
        ends[high] += persons
    return list(accumulate(starts))[:size], list(accumulate(ends))[:size]


def _interpolate(state: IntervalCounts, grid: Sequence[float], target: float) -> float:
    """Where `target` persons are below, with each interval's persons spread evenly over it."""
    slope = [0.0] * (len(grid) + 1)
    for low, high, persons in state.intervals:
        share = persons / (high - low)
        slope[low] += share
        slope[high] -= share
    below = 0.0
    for i, inside in enumerate(accumulate(slope[: len(grid) - 1])):
        if below + inside >= target and inside > 0:
            return grid[i] + (target - below) / inside * (grid[i + 1] - grid[i])
        below += inside
    return grid[-1]
