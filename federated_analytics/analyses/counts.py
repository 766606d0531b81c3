"""Sizes of populations, by strata, with the attrition that led to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.person_set import OTHER_WHOLE, PersonSet
from federated_analytics.aggregates.table import Key, Table
from federated_analytics.analyses.base import (
    Analysis,
    Context,
    Estimate,
    Merged,
    Query,
    Row,
    counted,
    grouped,
    percentage,
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.omop.cohort import FIRST_STEP
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.tables import Statement

PERSONS, ATTRITION = "persons", "attrition"
STEPS = f"{OTHER_WHOLE}steps"
"""Steps divide everybody in the database, of whom the population is the last."""


class CountsQuery(Query):
    kind: Literal["counts"] = "counts"


class Counts(Analysis):
    """Persons in each population and stratum, and how many each step of its definition left."""

    kind = "counts"
    query_type = CountsQuery
    leaves = "persons in each stratum, and persons that each step of the population left"

    def select(self, query: CountsQuery, frame: Frame) -> list[Statement]:
        statements = [grouped(frame, query.by, [sa.func.count().label("persons")])]
        if frame.attrition is not None:
            candidates = frame.attrition.candidates
            columns = [
                sa.func.count().filter(candidates.c[column].is_(sa.true())).label(column)
                for _, column in frame.attrition.steps
            ]
            everybody = sa.select(sa.func.count()).select_from(frame.cdm.table("person"))
            database = everybody.scalar_subquery().label("database")
            steps = sa.select(database, *columns)
            # Without a step there is no aggregate, and a row a candidate would come back.
            statements.append(steps.select_from(candidates) if columns else steps)
        return statements

    def collect(self, query: CountsQuery, frame: Frame, results: Sequence[Sequence[Row]]) -> Table:
        table: dict[Key, Aggregate] = {
            Key(strata_of(row, query.by), PERSONS, "", "persons"): Count(row["persons"])
            for row in results[0]
        }
        for level, column in _steps(frame):
            table[Key((), ATTRITION, level, "step")] = Count(results[1][0][column])
        return table

    def counted_sets(
        self, query: CountsQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        if key.variable == PERSONS:
            yield aggregate.support[0], frozenset()
        else:  # who passed this step passed those before it: steps are intervals
            passed = (float(key.level.split(" ", 1)[0]), math.inf)
            yield aggregate.support[0], frozenset({(STEPS, passed)})

    def public_cells(self, query: CountsQuery, frame: Frame) -> Mapping[Key, type[Aggregate]]:
        steps = {Key((), ATTRITION, level, "step"): Count for level, _ in _steps(frame)}
        return {Key((), PERSONS, "", "persons"): Count, **steps}

    def public_levels(self, query: CountsQuery, frame: Frame) -> frozenset[str]:
        return frozenset(level for level, _ in _steps(frame))

    def finalize(
        self, query: CountsQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        for strata in strata_in((key for key in cells if key.variable == PERSONS), query.by):
            merged = cells[Key(strata, PERSONS, "", "persons")]
            yield from counted(merged, strata, PERSONS)
            yield from sites_behind(merged, context, strata, PERSONS)
        steps = sorted(key for key in cells if key.variable == ATTRITION)
        for position, key in enumerate(steps, start=1):
            text = key.level.split(" ", 1)[1]
            place: dict[str, Any] = {"level": text, "additional": (("step", str(position)),)}
            yield from counted(cells[key], (), ATTRITION, **place)
            share = percentage(cells[key], cells[steps[0]])
            yield Estimate((), ATTRITION, "percentage", "percentage", share, **place)


def _steps(frame: Frame) -> list[tuple[str, str]]:
    """The attrition's steps as (level, column): the level starts with the step's number."""
    if frame.attrition is None:
        return []
    steps = ((FIRST_STEP, "database"), *frame.attrition.steps)
    return [(f"{i:02d} {text}", column) for i, (text, column) in enumerate(steps)]
