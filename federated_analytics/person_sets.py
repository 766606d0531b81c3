"""Which persons an analysis' counts are of, with the strata's conditions and canonical names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.person_set import MISSING, Condition, Interval, PersonSet
from federated_analytics.aggregates.table import Key, Table
from federated_analytics.canonical import feature_key
from federated_analytics.omop.strata import UNKNOWN, Stratum

if TYPE_CHECKING:
    from federated_analytics.analyses.base import Analysis, Query
    from federated_analytics.omop.feature import Feature
    from federated_analytics.omop.frame import Frame
    from federated_analytics.privacy.draft import Counted


def counted_with(
    analysis: Analysis, query: Query, frame: Frame, strata: Sequence[Stratum]
) -> Counted:
    """The persons of each count of an analysis, strata included."""
    by_name = {s.name: s for s in strata}
    features = {name: column.feature for name, column in frame.columns.items()}
    dimensions = {name: _dimension(name, features) for name in features}

    @cache
    def of_stratum(name: str, level: str) -> Condition:
        return _of_stratum(by_name[name], level, features)

    def counted(key: Key, aggregate: Aggregate) -> Iterable[tuple[int, PersonSet]]:
        groups = [of_stratum(name, level) for name, level in key.strata]
        for persons, of in analysis.counted_sets(query, frame, key, aggregate):
            named = [(dimensions.get(name, name), level) for name, level in of]
            joined = _all_of([*groups, *named])
            if joined is not None:
                yield persons, joined

    return counted


def partial_dimensions(analysis: Analysis, query: Query, table: Table) -> frozenset[str]:
    """The dimensions of an answer of which not every level is counted."""
    return analysis.partial_dimensions(query, table)


def _dimension(name: str, features: Mapping[str, Feature]) -> str:
    """One name for one definition: a renamed feature is the same dimension."""
    feature = features.get(name)
    if feature is None:
        return name
    return feature_key(feature)[:16]


def _of_stratum(stratum: Stratum, level: str, features: Mapping[str, Feature]) -> Condition:
    if not stratum.feature:
        return stratum.name, level
    dimension = _dimension(stratum.feature, features)
    if not stratum.breaks:
        return dimension, level
    feature = features.get(stratum.feature)
    least = feature.range[0] if feature is not None and feature.range else -math.inf
    if least < stratum.breaks[0]:
        # "Unknown" then also holds those below the first break: no level of the feature's own.
        return f"{dimension}:{stratum.breaks[0]:g}", level
    if level == UNKNOWN:
        return dimension, MISSING
    return dimension, _interval(stratum, level)


def _interval(stratum: Stratum, level: str) -> Interval:
    position = stratum.levels().index(level)
    ends = (*stratum.breaks, math.inf)
    low = -math.inf if position == 0 else ends[position]
    return low, ends[position + 1]


def _all_of(conditions: Sequence[Condition]) -> PersonSet | None:
    """All conditions as a set; None where two of one dimension exclude each other.

    A feature may be both asked for and a stratum: intervals are then intersected.
    """
    found: dict[str, str | Interval] = {}
    for dimension, level in conditions:
        held = found.setdefault(dimension, level)
        if held == level:
            continue
        if isinstance(held, str) or isinstance(level, str):
            return None
        low, high = max(held[0], level[0]), min(held[1], level[1])
        if low >= high:
            return None
        found[dimension] = (low, high)
    return frozenset(found.items())
