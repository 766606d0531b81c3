"""Which persons an analysis' counts are of: as conditions on them, and as sets of person ids."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.person_set import MISSING, Condition, Interval, PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.canonical import feature_key
from federated_analytics.omop.strata import UNKNOWN, Stratum
from federated_analytics.privacy.person_bitmap import PersonBitmap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


@dataclass(frozen=True)
class CrossedStrata:
    """The persons of each combination of levels; they stay at the site.

    Shapes: persons: of each combination int64[persons], person ids in any order
    """

    names: tuple[str, ...]
    persons: Mapping[tuple[str, ...], NDArray[np.int64]]

    def everybody(self) -> NDArray[np.int64]:
        """The persons of all combinations. Shape: int64[persons]"""
        import numpy as np

        return np.concatenate([np.empty(0, np.int64), *self.persons.values()])

    def sets(self, groups: Iterable[Strata]) -> dict[Strata, PersonBitmap]:
        """The persons of each of `groups`, whose strata are among these."""
        import numpy as np

        by_names: dict[tuple[str, ...], list[Strata]] = defaultdict(list)
        for group in groups:
            by_names[tuple(name for name, _ in group)].append(group)
        found: dict[Strata, PersonBitmap] = {}
        for names, wanted in by_names.items():
            places = [self.names.index(name) for name in names]
            parts: dict[tuple[str, ...], list[NDArray[np.int64]]] = defaultdict(list)
            for levels, persons in self.persons.items():
                parts[tuple(levels[i] for i in places)].append(persons)
            for group in wanted:
                ids = parts.get(tuple(level for _, level in group))
                if ids:
                    found[group] = PersonBitmap.from_ids(np.concatenate(ids))
        return found


def crossed_strata(
    connection: sa.Connection, frame: Frame, by: Iterable[Sequence[str]]
) -> list[CrossedStrata]:
    """The persons of a frame by its strata, for each of `by` that no other holds.

    8 bytes a person travel from the database, which groups them without a sort. Nothing where
    the frame is a flat table's that names no persons.
    """
    if "person_id" not in frame.relation.c:
        return []
    wanted = {frozenset(names) for names in by} - {frozenset()}
    widest = [names for names in wanted if not any(names < other for other in wanted)]
    return [_crossed(connection, frame, tuple(sorted(names))) for names in widest]


def _crossed(connection: sa.Connection, frame: Frame, names: tuple[str, ...]) -> CrossedStrata:
    import numpy as np

    columns = [frame.strata[name].label(f"stratum_{i}") for i, name in enumerate(names)]
    id_bytes: Any = sa.func.int8send(sa.cast(frame.person_id, sa.BigInteger))
    joined = sa.func.string_agg(id_bytes, sa.literal_column("''::bytea")).label("ids")
    query = sa.select(*columns, joined).select_from(frame.relation)
    query = query.where(frame.person_id.is_not(None)).group_by(*columns)
    persons = {
        tuple(row[f"stratum_{i}"] for i in range(len(names))): np.frombuffer(
            row["ids"], dtype=">i8"
        ).astype(np.int64)
        for row in connection.execute(query).mappings()
    }
    return CrossedStrata(names, persons)
