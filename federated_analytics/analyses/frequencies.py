"""Persons and percent in each category of yes/no and categorical features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.person_set import PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.analyses.base import (
    Analysis,
    Context,
    Estimate,
    FeatureQuery,
    Merged,
    Row,
    counted,
    grouped,
    percentage,
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.strata import Stratum, public_levels_of
from federated_analytics.omop.tables import Statement


class FrequenciesQuery(FeatureQuery):
    kind: Literal["frequencies"] = "frequencies"


class Frequencies(Analysis):
    """Categories with their persons and percent; a missing value is the category "Unknown"."""

    kind = "frequencies"
    query_type = FrequenciesQuery
    leaves = "persons in each category"
    feature_types = frozenset({"boolean", "categorical"})

    def select(self, query: FrequenciesQuery, frame: Frame) -> list[Statement]:
        return [_categories(frame, query.by, name) for name in query.features]

    def collect(
        self, query: FrequenciesQuery, frame: Frame, results: Sequence[Sequence[Row]]
    ) -> Table:
        table: dict[Key, Aggregate] = {}
        for name, rows in zip(query.features, results, strict=True):
            for row in rows:
                strata, persons = strata_of(row, query.by), Count(row["persons"])
                total = Key(strata, name, "", "persons")
                table[total] = table.get(total, Count.zero()).merge(persons)
                table[Key(strata, name, row["category"], "category")] = persons
        return table

    def counted_sets(
        self, query: FrequenciesQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        of = {(key.variable, key.level)} if key.name == "category" else set()
        yield aggregate.support[0], frozenset(of)

    def public_cells(
        self, query: FrequenciesQuery, frame: Frame
    ) -> Mapping[Key, type[Aggregate]] | None:
        found: dict[Key, type[Aggregate]] = {}
        for name in query.features:
            levels = public_levels_of(frame.columns[name].feature)
            if levels is None:
                return None
            found[Key((), name, "", "persons")] = Count
            found |= {Key((), name, level, "category"): Count for level in levels}
        return found

    def finalize(
        self, query: FrequenciesQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        for strata in strata_in(cells, query.by):
            for name in query.features:
                total = cells.get(Key(strata, name, "", "persons"))
                for key in _levels(cells, strata, name):
                    place: dict[str, Any] = {"level": key.level}
                    yield from counted(cells[key], strata, name, **place)
                    share = percentage(cells[key], total)
                    yield Estimate(strata, name, "percentage", "percentage", share, **place)
                    yield from sites_behind(cells[key], context, strata, name, **place)


def _levels(cells: Mapping[Key, Merged], strata: Strata, name: str) -> list[Key]:
    keys = [k for k in cells if k.strata == strata and k.variable == name and k.name == "category"]
    return sorted(keys, key=lambda k: (k.level == "Unknown", k.level))


def _categories(frame: Frame, by: Sequence[str], feature: str) -> Statement:
    value = frame.columns[feature].value
    label = Stratum(feature, feature).expression(value)
    inner = sa.select(
        *(frame.strata[s].label(f"s_{i}") for i, s in enumerate(by)), label.label("category")
    )
    rows = inner.select_from(frame.relation).subquery("category_of")
    strata = {name: rows.c[f"s_{i}"] for i, name in enumerate(by)}
    source = Frame(rows, {}, strata, frame.cdm)
    return grouped(source, by, [sa.func.count().label("persons")], also_by=[rows.c.category])
