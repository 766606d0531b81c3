"""The features of one OMOP domain: for each person a value and the records it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array

from federated_analytics.omop.concept_set import ConceptSet, members
from federated_analytics.omop.tables import Cdm

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

FINITE = (-1e140, 1e140)
"""Numbers whose squares can be summed: NaN sorts above them in PostgreSQL, the infinities outside.

Anything beyond is read as missing: it cannot be a measurement, and would overflow the variance.
"""


def domain_features(
    cdm: Cdm, domain: str, features: Sequence[Feature], persons: sa.FromClause | None
) -> sa.Subquery:
    """One pass over a domain's table: person_id and, for each feature, value v and records n.

    `persons` gives the index dates; None where windows do not apply.
    """
    if domain == "death":
        return _death(cdm, features, persons)
    sources = list(dict.fromkeys(_source(f) for f in features))
    record = _records(cdm, domain, sources, persons)
    columns: list[sa.ColumnElement[Any]] = []
    for i, feature in enumerate(features):
        usable = sa.and_(
            record.c.source == sources.index(_source(feature)),
            *_window(feature, record),
            *_plausible(feature, record),
        )
        columns.append(_one_value(feature, record, usable).label(f"v{i}"))
        columns.append(sa.func.count().filter(usable).label(f"n{i}"))
    return (
        sa.select(record.c.person_id, *columns)
        .group_by(record.c.person_id)
        .subquery(f"{domain}_feature")
    )


@dataclass(frozen=True)
class _Source:
    """Where a feature's records come from: features that share it share the work."""

    concepts: ConceptSet
    unit_concept_id: int | None
    units: tuple[tuple[int, float, float], ...]


def _source(feature: Feature) -> _Source:
    concepts = ConceptSet(tuple(c.id for c in feature.concepts), (), feature.descendants)
    if not has_value(feature):
        return _Source(concepts, None, ())
    units = tuple((u.unit_concept_id, u.factor, u.offset) for u in feature.units)
    return _Source(concepts, feature.unit_concept_id, units)


def has_value(feature: Feature) -> bool:
    return feature.aggregation not in ("any", "count")


def _records(
    cdm: Cdm, domain: str, sources: Sequence[_Source], persons: sa.FromClause | None
) -> sa.Subquery:
    """A domain's records of all sources: person, date, source, and value in the source's unit.

    OFFSET 0 keeps the planner from copying the value's expression into each place that reads
    it: PostgreSQL turns numeric into double by way of text, which is worth doing once.
    """
    event = cdm.events(domain)
    source = members(cdm, [s.concepts for s in sources])
    joined: sa.FromClause = event.join(source, source.c.concept_id == event.c.concept_id)
    columns = [event.c.person_id, event.c.start_date, event.c.record_id, source.c.source]
    if "value_as_number" in event.c:
        values = {_literal(i): _converted(s, event) for i, s in enumerate(sources)}
        columns.append(sa.case(values, value=source.c.source).label("value"))
    if persons is not None:
        joined = joined.join(persons, persons.c.person_id == event.c.person_id)
        columns.append(persons.c.index_date)
    query = sa.select(*columns).select_from(joined).offset(sa.literal_column("0"))
    return query.subquery(f"{domain}_record")


def _literal(number: int) -> sa.ColumnElement[int]:
    return sa.literal_column(str(int(number)), sa.Integer)


def _converted(source: _Source, event: sa.Subquery) -> sa.ColumnElement[Any]:
    """The record's number in the source's unit; NULL for a unit that is not known.

    A record without a unit is taken to be in the feature's own; the plausible range then
    removes what is not.
    """
    value = sa.cast(event.c.value_as_number, sa.Double)
    if source.unit_concept_id is None:
        return value
    unit = sa.func.coalesce(event.c.unit_concept_id, 0)
    of_unit: dict[sa.ColumnElement[int], sa.ColumnElement[Any]] = {
        _literal(source.unit_concept_id): value,
        _literal(0): value,
    }
    for concept, factor, offset in source.units:
        of_unit[_literal(concept)] = (
            value if (factor, offset) == (1, 0) else value * factor + offset
        )
    return sa.case(of_unit, value=unit)


def _plausible(feature: Feature, record: sa.Subquery) -> list[sa.ColumnElement[bool]]:
    """The record has a usable number; no condition where none is asked for."""
    if not has_value(feature):
        return []
    value = record.c.value
    return [value.between(*feature.range) if feature.range else value.between(*FINITE)]


def _one_value(
    feature: Feature, record: sa.Subquery, usable: sa.ColumnElement[bool]
) -> sa.ColumnElement[Any]:
    """The person's value from the usable records, by the feature's aggregation."""
    if feature.aggregation == "any":
        return sa.func.coalesce(sa.func.bool_or(usable), sa.false())
    if feature.aggregation == "count":
        return sa.func.count().filter(usable)
    value = record.c.value
    simple: dict[str, Any] = {"mean": sa.func.avg, "minimum": sa.func.min, "maximum": sa.func.max}
    if feature.aggregation in simple:
        return sa.type_coerce(simple[feature.aggregation](value).filter(usable), sa.Double)
    # The greatest (day, record, value) is the latest record's: an aggregate, where a sort of
    # all records would cost several times as much. Doubles hold days and record ids exactly.
    day = sa.cast(record.c.start_date - sa.literal_column("DATE '2000-01-01'"), sa.Double)
    dated = array([day, sa.cast(record.c.record_id, sa.Double), value])
    chosen = sa.func.max(dated) if feature.aggregation == "latest" else sa.func.min(dated)
    return sa.type_coerce(sa.type_coerce(chosen.filter(usable), sa.ARRAY(sa.Double))[3], sa.Double)


def _window(feature: Feature, record: sa.Subquery) -> list[sa.ColumnElement[bool]]:
    """The record lies in the feature's window; no condition without an index date."""
    if "index_date" not in record.c:
        return []
    first, last = feature.window
    conditions: list[sa.ColumnElement[bool]] = []
    if first != "any":
        earliest = record.c.index_date + sa.literal_column(str(int(first)))
        conditions.append(record.c.start_date >= earliest)
    if last != "any":
        latest = record.c.index_date + sa.literal_column(str(int(last)))
        conditions.append(record.c.start_date <= latest)
    return conditions


def _death(cdm: Cdm, features: Sequence[Feature], persons: sa.FromClause | None) -> sa.Subquery:
    death = cdm.table("death")
    columns: list[sa.ColumnElement[Any]] = [
        death.c.person_id,
        death.c.death_date.label("start_date"),
    ]
    joined: sa.FromClause = death
    if persons is not None:
        joined = death.join(persons, persons.c.person_id == death.c.person_id)
        columns.append(persons.c.index_date)
    record = sa.select(*columns).select_from(joined).subquery("death_record")
    found: list[sa.ColumnElement[Any]] = []
    for i, feature in enumerate(features):
        inside = sa.and_(sa.true(), *_window(feature, record))
        found.append(sa.func.bool_or(inside).label(f"v{i}"))
        found.append(sa.func.count().filter(inside).label(f"n{i}"))
    query = sa.select(record.c.person_id, *found).group_by(record.c.person_id)
    return query.subquery("death_feature")
