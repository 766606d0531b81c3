"""The cells of a study and what is public of their variables: known without any database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from federated_analytics.aggregates.base import Aggregate, PublicScale
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.normal_equations import NormalEquations
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.risk_table import RiskTable
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.secure_aggregation.errors import NotAdditive

if TYPE_CHECKING:
    from federated_analytics.analyses.base import Analysis, Query
    from federated_analytics.omop.frame import Frame
    from federated_analytics.study import Study

Kinds = dict[Key, type[Aggregate]]
Bounds = Mapping[str, tuple[float, float]]


def public_cells(
    study: Study, position: int, query: Query, population: Any
) -> list[tuple[Key, type[Aggregate], PublicScale]]:
    """The cells of one analysis in one population, in order.

    Raises:
        NotAdditive: they are known from the data alone, are no sums, or lack a plausible range.
    """
    from federated_analytics.analyses.base import analyses
    from federated_analytics.public_domain import public_domain

    where = f"analysis[{position}]"
    at_site = query.model_copy(update={"by": tuple(s for s in query.by if s != "site")})
    frame = public_frame(study, query, population)
    analysis = cast("Analysis", _WithSums(analyses()[query.kind]))
    try:
        domain = public_domain(analysis, at_site, frame, study.strata_of(query, population))
        return [
            (key, kind, _SCALES[kind](domain.bounds, key, query, frame))
            for key, kind in sorted(domain.keys.items(), key=lambda item: item[0])
        ]
    except NotAdditive as error:
        error.where = f"{where}.{error.where}"
        raise
    except FederatedAnalyticsError as error:
        raise NotAdditive(error.message, where=f"{where}.{error.where}") from error


def public_frame(study: Study, query: Query, population: Any) -> Frame:
    """The frame of a population as far as the study tells it: over no database."""
    import sqlalchemy as sa

    from federated_analytics.omop.cohort import Atlas, FlatTable, population_query
    from federated_analytics.omop.frame import Attrition, Frame, FrameColumn
    from federated_analytics.omop.tables import Cdm

    nowhere = sa.table("nowhere")
    columns = {
        name: FrameColumn(feature, sa.column(name), None, sa.column(name))
        for name, feature in study.features_of(query, population).items()
    }
    attrition = None
    if not isinstance(population, FlatTable):
        names = ("subject_id", "cohort_start_date", "cohort_end_date")
        cohort = sa.table("cohort", *map(sa.column, names))
        given = cohort if isinstance(population, Atlas) else None
        attrition = Attrition(nowhere, population_query(Cdm(), population, given).steps)
    return Frame(nowhere, columns, {}, Cdm(), attrition)


@dataclass(frozen=True)
class _WithSums:
    """An analysis, with the cells that are sums though they have no form with noise."""

    analysis: Analysis

    def public_cells(self, query: Any, frame: Frame) -> Mapping[Key, type[Aggregate]] | None:
        found = self.analysis.public_cells(query, frame)
        more = _MORE.get(self.analysis.kind)
        return found if more is None else {**(found or {}), **more(query)}


def _records(query: Any) -> Kinds:
    return {Key((), name, "", "records"): Records for name in query.features}


def _risk_tables(query: Any) -> Kinds:
    return {Key((), name, "", "risk_table"): RiskTable for name in query.features}


def _equations(query: Any) -> Kinds:
    missing = Key((), query.outcome, "", "missing")
    return {Key((), query.outcome, "", "equations"): NormalEquations, missing: Count}


_MORE: Mapping[str, Callable[[Any], Kinds]] = {
    "summary": _records,
    "survival": _risk_tables,
    "linear_regression": _equations,
}
"""By analysis, the cells that noise leaves out."""


def _plain_scale(bounds: Bounds, key: Key, query: Any, frame: Frame) -> PublicScale:
    return PublicScale()


def _moments_scale(bounds: Bounds, key: Key, query: Any, frame: Frame) -> PublicScale:
    return PublicScale(*_middle(bounds, key.variable))


def _grid_scale(bounds: Bounds, key: Key, query: Any, frame: Frame) -> PublicScale:
    from federated_analytics.omop.features import fine_grid

    return PublicScale(bins=fine_grid(frame.columns[key.variable].feature)[2])


def _time_scale(bounds: Bounds, key: Key, query: Any, frame: Frame) -> PublicScale:
    return PublicScale(bins=len(query.edges))


def _columns_scale(bounds: Bounds, key: Key, query: Any, frame: Frame) -> PublicScale:
    return PublicScale(
        columns=tuple(
            (0.5, 0.5) if column.level else _middle(bounds, column.feature)
            for column in query.columns_and_outcome(frame)
        )
    )


_SCALES: Mapping[type[Aggregate], Callable[[Bounds, Key, Any, Frame], PublicScale]] = {
    Count: _plain_scale,
    Records: _plain_scale,
    Moments: _moments_scale,
    IntervalCounts: _grid_scale,
    RiskTable: _time_scale,
    NormalEquations: _columns_scale,
}


def _middle(bounds: Bounds, variable: str) -> tuple[float, float]:
    """The middle of a variable's plausible range, and half its length."""
    low, high = bounds.get(variable, (0.0, 0.0))
    if not low < high:
        raise NotAdditive(
            f"{variable!r} has no plausible range, about which its values could be summed.",
            where="features",
            remedy=f"Write [feature.{variable}] with range = [lowest, highest] and step.",
        )
    return low / 2 + high / 2, high / 2 - low / 2
