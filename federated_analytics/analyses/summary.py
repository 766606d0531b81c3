"""Persons, records, missing, mean, spread and confidence interval of numeric features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments, two_sum
from federated_analytics.aggregates.person_set import (
    ANY_VALUE,
    MISSING,
    OTHER_WHOLE,
    PersonSet,
)
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.analyses.base import (
    Analysis,
    Context,
    Estimate,
    FeatureQuery,
    Merged,
    Row,
    grouped,
    number,
    percentage,
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.analyses.confidence import count_interval, mean_interval
from federated_analytics.omop.domain_features import FINITE
from federated_analytics.omop.frame import Frame, FrameColumn, NotFinite
from federated_analytics.omop.tables import Statement

CONFIDENCE = 0.95


EstimateName = Literal[
    "count",
    "count_records",
    "count_missing",
    "percentage_missing",
    "mean",
    "sd",
    "variance",
    "sum",
    "coefficient_of_variation",
    "conf_low",
    "conf_high",
]


class SummaryQuery(FeatureQuery):
    """`estimates` keeps only those in the result; all of them where left out."""

    kind: Literal["summary"] = "summary"
    estimates: tuple[EstimateName, ...] = ()


class Summary(Analysis):
    """Mean, standard deviation and what stands beside them in a paper's first table.

    Exact: merged from centred moments, so it equals the pooled answer up to floating point.
    The confidence interval of the mean is Student's, at 95 %.
    """

    kind = "summary"
    query_type = SummaryQuery
    leaves = (
        "for each stratum and feature: persons with a value, without one, records, the "
        "mean and the sum of squared deviations from it"
    )
    feature_types = frozenset({"numeric"})

    def select(self, query: SummaryQuery, frame: Frame) -> list[Statement]:
        columns: list[sa.ColumnElement[Any]] = []
        for i, name in enumerate(query.features):
            columns += _columns(frame.columns[name], i)
        return [grouped(frame, query.by, [sa.func.count().label("persons"), *columns])]

    def collect(self, query: SummaryQuery, frame: Frame, results: Sequence[Sequence[Row]]) -> Table:
        table: dict[Key, Aggregate] = {}
        for row in results[0]:
            strata = strata_of(row, query.by)
            for i, name in enumerate(query.features):
                n = row[f"n_{i}"]
                records = row.get(f"records_{i}", n) or 0
                moments = _moments(row, i, frame.columns[name].origin)
                table[Key(strata, name, "", "moments")] = moments
                table[Key(strata, name, "", "missing")] = Count(row["persons"] - n)
                most = int(row.get(f"most_{i}", 1 if n else 0) or 0)
                table[Key(strata, name, "", "records")] = Records(int(records), n, most)
        return table

    def counted_sets(
        self, query: SummaryQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        level = MISSING if key.name == "missing" else ANY_VALUE
        yield aggregate.support[0], frozenset({(key.variable, level)})
        if key.name == "moments":
            # Sums follow from other sums alone, whoever tells of how many persons they are.
            sums = (f"{OTHER_WHOLE}sums of {key.variable}", "Yes")
            yield aggregate.support[0], frozenset({sums})

    def public_cells(self, query: SummaryQuery, frame: Frame) -> Mapping[Key, type[Aggregate]]:
        moments = {Key((), name, "", "moments"): Moments for name in query.features}
        return moments | {Key((), name, "", "missing"): Count for name in query.features}

    def finalize(
        self, query: SummaryQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        for strata in strata_in(cells, query.by):
            for name in query.features:
                moments = cells.get(Key(strata, name, "", "moments"))
                if moments is None:
                    continue
                for estimate in (
                    *_person_estimates(cells, strata, name, moments),
                    *_moment_estimates(strata, name, moments, context.features[name].range),
                ):
                    if not query.estimates or estimate.name in query.estimates:
                        yield estimate
                yield from sites_behind(moments, context, strata, name)


def _columns(column: FrameColumn, i: int) -> list[sa.ColumnElement[Any]]:
    value = sa.cast(column.unguarded, sa.Double)
    from_origin = value - sa.cast(column.origin, sa.Double) if column.origin else value
    columns: list[sa.ColumnElement[Any]] = [
        sa.func.count(value).label(f"n_{i}"),
        sa.func.avg(from_origin).label(f"mean_{i}"),
        sa.func.var_pop(from_origin).label(f"variance_{i}"),
        sa.func.min(value).label(f"minimum_{i}"),
        sa.func.max(value).label(f"maximum_{i}"),
    ]
    if column.records is not None:
        columns.append(sa.func.sum(column.records).label(f"records_{i}"))
        columns.append(sa.func.max(column.records).label(f"most_{i}"))
    if _can_be_zero(column):
        columns.append(sa.func.count(sa.func.nullif(value, 0)).label(f"not_zero_{i}"))
    return columns


def _can_be_zero(column: FrameColumn) -> bool:
    bounds = column.feature.range
    # A flat table's values are not held to the plausible range.
    return bounds is None or column.records is None or bounds[0] <= 0 <= bounds[1]


def _moments(row: Row, i: int, origin: float) -> Moments:
    """The moments in a row whose mean is counted from `origin`."""
    n = row[f"n_{i}"]
    if not n:
        return Moments.zero()
    mean, m2 = float(row[f"mean_{i}"]), float(row[f"variance_{i}"]) * n
    least, greatest = float(row[f"minimum_{i}"]), float(row[f"maximum_{i}"])
    if not (math.isfinite(mean) and FINITE[0] <= least <= greatest <= FINITE[1]):
        raise NotFinite
    two = _two_groups(n, mean, m2, least - origin, greatest - origin)
    groups = [row.get(f"not_zero_{i}", n), *two]
    fewest = min((group for group in groups if group), default=0)
    whole, residual = two_sum(origin, mean)
    extreme = max(abs(least), abs(greatest))
    one_sign = least >= 0 or greatest <= 0
    return Moments(n, whole, m2, fewest, residual, extreme, one_sign, least, greatest)


def _two_groups(n: int, mean: float, m2: float, least: float, greatest: float) -> list[int]:
    """Persons at the least and at the greatest value, where there are no others.

    The mean of such a column (0/1, 1/2 …) is a count in disguise. A column takes two values only
    when its variance is (mean - least) × (greatest - mean), the most that it can be.

    References: Bhatia & Davis (2000), American Mathematical Monthly 107:353
    """
    most = (mean - least) * (greatest - mean)
    if least == greatest or m2 / n < most * (1 - 1e-9):
        return []
    above = round(n * (mean - least) / (greatest - least))
    return [above, n - above]


def _person_estimates(
    cells: Mapping[Key, Merged], strata: Strata, name: str, moments: Merged
) -> Iterable[Estimate]:
    missing = cells.get(Key(strata, name, "", "missing"))
    records = cells.get(Key(strata, name, "", "records"))
    state = moments.value
    n = str(state.n) if isinstance(state, Moments) else moments.shown_as
    yield Estimate(strata, name, "count", "integer", n)
    if isinstance(state, Moments) and "persons" in moments.noise:
        ends = count_interval(state.n, moments.noise["persons"])
        for suffix, end in zip(("_lower", "_upper"), ends, strict=True):
            yield Estimate(strata, name, f"count{suffix}", "integer", str(end))
    held = records.value if records else None
    text = str(held.records) if isinstance(held, Records) and state is not None else "-"
    yield Estimate(strata, name, "count_records", "integer", text)
    gone = missing.value if missing else None
    text = str(gone.persons) if isinstance(gone, Count) else missing.shown_as if missing else "-"
    yield Estimate(strata, name, "count_missing", "integer", text)
    share = "-"
    if isinstance(gone, Count) and isinstance(state, Moments):
        whole = Merged(Count(gone.persons + state.n), 0)
        share = percentage(missing, whole)
    yield Estimate(strata, name, "percentage_missing", "percentage", share)


def _moment_estimates(
    strata: Strata, name: str, merged: Merged, bounds: tuple[float, float] | None
) -> Iterable[Estimate]:
    state = merged.value
    values = dict.fromkeys(_MOMENT_ESTIMATES, "-")
    if isinstance(state, Moments):
        low, high = confidence_interval(state)
        if merged.noise and bounds is not None:
            variances = merged.noise["persons"], merged.noise["sum"]
            low, high = mean_interval(
                state, bounds, n_variance=variances[0], sum_variance=variances[1]
            )
        cv = state.sd / state.mean if state.n and state.mean else math.nan
        mean = state.mean if state.n else math.nan
        numbers = (mean, state.sd, state.variance, state.total, cv, low, high)
        values = dict(zip(_MOMENT_ESTIMATES, map(number, numbers), strict=True))
    for estimate, text in values.items():
        yield Estimate(strata, name, estimate, "numeric", text)


_MOMENT_ESTIMATES = (
    "mean",
    "sd",
    "variance",
    "sum",
    "coefficient_of_variation",
    "conf_low",
    "conf_high",
)


def confidence_interval(state: Moments) -> tuple[float, float]:
    """Student's 95 % interval of the mean; NaN below two persons."""
    if state.n < 2:
        return math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(state.n - 1, (1 + CONFIDENCE) / 2)) * state.sd / math.sqrt(state.n)
    return state.mean - half, state.mean + half
