"""Histograms of numeric features on a public grid or on edges that the analyst asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.person_set import ANY_VALUE, PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.analyses.base import (
    Analysis,
    Context,
    Estimate,
    FeatureQuery,
    Merged,
    Row,
    counted,
    number,
    percentage,
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.analyses.binned import binned, needs_range
from federated_analytics.omop.features import public_edges
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.tables import Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature


class HistogramQuery(FeatureQuery):
    """`bins` asks for about so many on the public grid; `edges` are taken as they are."""

    kind: Literal["histogram"] = "histogram"
    bins: int | None = Field(default=None, ge=2, le=200)
    edges: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = Field(
        default=None, min_length=2, max_length=201
    )

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if edges is not None and list(edges) != sorted(set(edges)):
            raise ValueError("edges must rise from each to the next")
        return edges

    def edges_of(self, feature: Feature) -> list[float]:
        """The edges for one feature, in its unit; known to everybody."""
        return list(self.edges) if self.edges is not None else public_edges(feature, self.bins)


class Histogram(Analysis):
    """Persons, percent and density a bin [lower, upper); exact where a bin is not withheld.

    `count` of the feature without a level is everybody with a value, also outside the edges.
    """

    kind = "histogram"
    query_type = HistogramQuery
    leaves = "persons in each bin of a public grid, and persons with a value"
    feature_types = frozenset({"numeric"})

    def check(self, query: HistogramQuery, feature: Feature, where: str) -> None:
        if query.edges is None:
            needs_range(feature, where)

    def select(self, query: HistogramQuery, frame: Frame) -> list[Statement]:
        return [
            binned(frame, query.by, name, query.edges_of(frame.columns[name].feature))
            for name in query.features
        ]

    def collect(
        self, query: HistogramQuery, frame: Frame, results: Sequence[Sequence[Row]]
    ) -> Table:
        table: dict[Key, Aggregate] = {}
        for name, rows in zip(query.features, results, strict=True):
            inside = range(1, len(query.edges_of(frame.columns[name].feature)))
            for row in rows:
                strata, position, persons = strata_of(row, query.by), row["bin"], row["persons"]
                total = Key(strata, name, "", "persons")
                table[total] = table.get(total, Count.zero()).merge(Count(persons))
                if position in inside:
                    table[Key(strata, name, str(position - 1), "bin")] = Count(persons)
        return table

    def counted_sets(
        self, query: HistogramQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        interval = ANY_VALUE
        if key.name == "bin":
            edges = query.edges_of(frame.columns[key.variable].feature)
            interval = (edges[int(key.level)], edges[int(key.level) + 1])
        yield aggregate.support[0], frozenset({(key.variable, interval)})

    def public_cells(self, query: HistogramQuery, frame: Frame) -> Mapping[Key, type[Aggregate]]:
        found: dict[Key, type[Aggregate]] = {}
        for name in query.features:
            found[Key((), name, "", "persons")] = Count
            for i in range(len(query.edges_of(frame.columns[name].feature)) - 1):
                found[Key((), name, str(i), "bin")] = Count
        return found

    def public_levels(self, query: HistogramQuery, frame: Frame) -> frozenset[str]:
        return frozenset(map(str, range(201)))

    def finalize(
        self, query: HistogramQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        for strata in strata_in(cells, query.by):
            for name in query.features:
                total = cells.get(Key(strata, name, "", "persons"))
                if total is not None:
                    yield from counted(total, strata, name)
                    yield from sites_behind(total, context, strata, name)
                    edges = query.edges_of(context.features[name])
                    yield from _bins(cells, strata, name, edges, total)


def _bins(
    cells: Mapping[Key, Merged], strata: Strata, name: str, edges: Sequence[float], total: Merged
) -> Iterable[Estimate]:
    for i, (low, high) in enumerate(pairwise(edges)):
        merged = cells.get(Key(strata, name, str(i), "bin"))
        place: dict[str, Any] = {
            "level": f"[{low:g}, {high:g})",
            "additional": (("bin_lower", f"{low:g}"), ("bin_upper", f"{high:g}")),
        }
        share = percentage(merged, total)
        density = share if share in ("-", "NA") else number(float(share) / 100 / (high - low))
        yield from counted(merged, strata, name, **place)
        yield Estimate(strata, name, "percentage", "percentage", share, **place)
        yield Estimate(strata, name, "density", "numeric", density, **place)
