"""The cells of an answer with noise, and the bounds of its numbers: all known without the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import RequestRefused
from federated_analytics.omop.features import fine_grid
from federated_analytics.omop.strata import UNKNOWN, Stratum, groupings, public_levels_of

if TYPE_CHECKING:
    from federated_analytics.analyses.base import Analysis, Query
    from federated_analytics.omop.feature import Feature
    from federated_analytics.omop.frame import Frame
    from federated_analytics.privacy.noise_statistics import PublicDomain

INDEX_YEARS = range(1990, 2050)


def public_domain(
    analysis: Analysis, query: Query, frame: Frame, strata: Sequence[Stratum]
) -> PublicDomain:
    """What an answer with noise is made of.

    Raises:
        RequestRefused: levels that only the data know, such as local codes.
    """
    from federated_analytics.privacy.noise_statistics import PublicDomain

    cells = analysis.public_cells(query, frame)
    features = {name: column.feature for name, column in frame.columns.items()}
    if cells is None:
        raise RequestRefused(
            f"The levels that {query.kind} counts here are known from the data alone.",
            where=query.kind,
            remedy="With noise, ask for numbers, yes/no features, or sex.",
        )
    keys: dict[Key, type[Aggregate]] = {}
    by_name = {s.name: s for s in strata}
    levels = [[(name, level) for level in _levels(by_name[name], features)] for name in query.by]
    for group in groupings(len(query.by)):
        for chosen in product(*(levels[i] for i in group)):
            for key, kind in cells.items():
                if not chosen or key.name != "step":  # an attrition has no strata
                    keys[Key(chosen, key.variable, key.level, key.name)] = kind
    bounded = {name: f.range for name, f in features.items() if f.range is not None}
    return PublicDomain(keys, bounded, bins=_bins(cells, features))


def _levels(stratum: Stratum, features: Mapping[str, Feature]) -> tuple[str, ...]:
    if stratum.breaks:
        return (*stratum.levels(), UNKNOWN)
    if not stratum.feature:
        return (*map(str, INDEX_YEARS), UNKNOWN)
    found = public_levels_of(features[stratum.feature])
    if found is None:
        raise RequestRefused(
            f"The levels of {stratum.name!r} are known from the data alone.",
            where="by",
            remedy="With noise, use sex, an age group, yes/no features, or breaks of a number.",
        )
    return found


def _bins(cells: Mapping[Key, type[Aggregate]], features: Mapping[str, Feature]) -> dict[str, int]:
    of = {key.variable for key, kind in cells.items() if kind is IntervalCounts}
    return {name: fine_grid(features[name])[2] for name in of}
