"""Persons by bins of a public grid: the SQL that histograms and quantiles share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from federated_analytics.analyses.base import grouped
from federated_analytics.errors import StudyError
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.tables import Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature


def needs_range(feature: Feature, where: str) -> None:
    """StudyError where a feature has no public range to lay a grid over."""
    if feature.range is None or feature.step is None:
        raise StudyError(
            f"{feature.name} has no plausible range, which gives the bins their public edges.",
            where=where,
            remedy=f"Define [feature.{feature.name}] with range = [low, high] and step.",
        )


def binned(frame: Frame, by: Sequence[str], feature: str, edges: Sequence[float]) -> Statement:
    """Persons in each bin [edges[i], edges[i+1]), as bin = i + 1, by strata.

    bin 0 holds what is below the first edge, len(edges) what is at or above the last. Comparing
    with the edges themselves, not dividing by a width, makes a value on an edge exact.
    """
    value = sa.cast(frame.columns[feature].value, sa.Double)
    grid = sa.cast(sa.literal(list(edges), ARRAY(sa.Double)), ARRAY(sa.Double))
    position = sa.func.width_bucket(value, grid)
    inner = sa.select(
        *(column.label(f"s_{i}") for i, column in enumerate(frame.strata[s] for s in by)),
        position.label("bin"),
    ).where(value.is_not(None))
    rows = inner.select_from(frame.relation).subquery("binned")
    strata = {name: rows.c[f"s_{i}"] for i, name in enumerate(by)}
    source = Frame(rows, {}, strata, frame.cdm)
    return grouped(source, by, [sa.func.count().label("persons")], also_by=[rows.c.bin])
