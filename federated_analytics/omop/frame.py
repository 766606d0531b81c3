"""The frame: one row a person with index date, strata and features. It stays in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array

from federated_analytics.omop.cohort import age
from federated_analytics.omop.concept_set import ConceptSet, members
from federated_analytics.omop.strata import Stratum
from federated_analytics.omop.tables import Cdm, Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature


FINITE = (-1e140, 1e140)
"""Numbers whose squares can be summed: NaN sorts above them in PostgreSQL, the infinities outside.

Anything beyond is read as missing: it cannot be a measurement, and would overflow the variance.
"""


class NotFinite(Exception):
    """An aggregate met a number outside FINITE: it is asked again of the guarded frame."""


@dataclass(frozen=True)
class FrameColumn:
    """One feature in the frame.

    Fields:
        value: the person's value; NULL where it is missing
        unguarded: the same, but numbers outside FINITE are what they are; cheaper to read
        records: how many records it was made from; None where a person has exactly one
        origin: a number near the values, from which moments are taken; it stays at the site
    """

    feature: Feature
    value: sa.ColumnElement[Any]
    records: sa.ColumnElement[Any] | None
    unguarded: sa.ColumnElement[Any]
    origin: float = 0.0


@dataclass(frozen=True)
class Attrition:
    """How many candidates passed each step of a population.

    Fields:
        candidates: relation with a boolean column a step
        steps: (text, column) of each, after the first step: every person of the database
    """

    candidates: sa.FromClause
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Frame:
    """A relation with one row a person, and the meaning of its columns.

    `attrition` is None for a flat table, whose rows are taken as they are. In a guarded frame
    no number lies outside FINITE.
    """

    relation: sa.FromClause
    columns: Mapping[str, FrameColumn]
    strata: Mapping[str, sa.ColumnElement[str]]
    cdm: Cdm
    attrition: Attrition | None = None
    is_guarded: bool = False

    def guarded(self) -> Frame:
        """The same frame for a reader that cannot bear NaN and infinities at all."""
        columns = {
            name: replace(column, unguarded=column.value) for name, column in self.columns.items()
        }
        return replace(self, columns=columns, is_guarded=True)

    @property
    def person_id(self) -> sa.ColumnElement[Any]:
        """The person of a row; a flat table without the column has none."""
        return self.relation.c["person_id"]


@dataclass(frozen=True)
class FrameQuery:
    """The SELECT behind a frame, before it is decided whether to materialise it."""

    select: Statement
    features: tuple[Feature, ...]
    strata: tuple[Stratum, ...]
    cdm: Cdm
    attrition: Attrition | None = None

    def over(self, relation: sa.FromClause) -> Frame:
        """The frame whose rows `relation` holds: this SELECT, or a table made from it."""
        columns = {
            feature.name: FrameColumn(
                feature,
                relation.c[f"f{i}"],
                relation.c.get(f"r{i}"),
                relation.c.get(f"u{i}", relation.c[f"f{i}"]),
            )
            for i, feature in enumerate(self.features)
        }
        strata = {s.name: relation.c[f"s{i}"] for i, s in enumerate(self.strata)}
        return Frame(relation, columns, strata, self.cdm, self.attrition)


def frame_query(
    cdm: Cdm,
    persons: sa.FromClause,
    features: Sequence[Feature],
    strata: Sequence[Stratum],
    attrition: Attrition,
    *,
    indexed: bool,
) -> FrameQuery:
    """The frame of a population.

    Args:
        persons: relation with person_id, index_date, end_date.
        features: what is asked of each person, the strata's features included.
        attrition: how the population came about, for `counts`.
        indexed: the population has index dates; otherwise windows do not apply.
    """
    person = cdm.table("person")
    joined: sa.FromClause = persons
    if any(f.domain == "person" for f in features):
        joined = persons.join(person, person.c.person_id == persons.c.person_id)
    values: dict[str, tuple[sa.ColumnElement[Any], sa.ColumnElement[Any] | None]] = {}
    for feature in features:
        if feature.domain == "person":
            value, joined = _person_value(cdm, feature, person, persons, joined)
            values[feature.name] = (value, None)
    for domain in sorted({f.domain for f in features} - {"person"}):
        asked = [f for f in features if f.domain == domain]
        found = _domain_features(cdm, domain, asked, persons if indexed else None)
        joined = joined.outerjoin(found, found.c.person_id == persons.c.person_id)
        for i, feature in enumerate(asked):
            value = found.c[f"v{i}"]
            if not _has_value(feature):
                nothing = sa.false() if feature.type == "boolean" else sa.literal_column("0")
                value = sa.func.coalesce(value, nothing)
            values[feature.name] = (value, sa.func.coalesce(found.c[f"n{i}"], 0))
    query = _select(persons, joined, values, features, strata)
    return FrameQuery(query, tuple(features), tuple(strata), cdm, attrition)


def _select(
    persons: sa.FromClause,
    joined: sa.FromClause,
    values: Mapping[str, tuple[sa.ColumnElement[Any], sa.ColumnElement[Any] | None]],
    features: Sequence[Feature],
    strata: Sequence[Stratum],
) -> Statement:
    columns: list[sa.ColumnElement[Any]] = [
        persons.c.person_id,
        persons.c.index_date,
        persons.c.end_date,
    ]
    for i, stratum in enumerate(strata):
        value = values[stratum.feature][0] if stratum.feature else None
        columns.append(stratum.expression(value, persons.c.index_date).label(f"s{i}"))
    for i, feature in enumerate(features):
        value, records = values[feature.name]
        columns.append(value.label(f"f{i}"))
        if records is not None:
            columns.append(records.label(f"r{i}"))
    return sa.select(*columns).select_from(joined)


def flat_frame_query(
    cdm: Cdm,
    table: str,
    features: Sequence[Feature],
    strata: Sequence[Stratum],
    *,
    persons: bool = False,
    bounded: bool = False,
) -> FrameQuery:
    """The frame that a table with one row a person already is.

    Args:
        persons: the table has a column person_id.
        bounded: values outside a feature's range are missing, as they are in an OMOP frame.
    """
    columns = [sa.column(f.name, _SQL_TYPES[f.type]) for f in features]
    names = [sa.column("person_id", sa.BigInteger)] if persons else []
    relation = sa.table(table, *columns, *names, schema=cdm.cdm_schema)
    values = {f.name: (_finite(f, relation.c[f.name], bounded), None) for f in features}
    selected: list[sa.ColumnElement[Any]] = [relation.c["person_id"]] if persons else []
    for i, stratum in enumerate(strata):
        expression = stratum.expression(values[stratum.feature][0])
        selected.append(expression.label(f"s{i}"))
    for i, f in enumerate(features):
        selected.append(values[f.name][0].label(f"f{i}"))
        if f.type == "numeric":
            raw = values[f.name][0] if bounded else sa.cast(relation.c[f.name], sa.Double)
            selected.append(raw.label(f"u{i}"))
    query = sa.select(*selected).select_from(relation)
    return FrameQuery(query, tuple(features), tuple(strata), cdm)


_SQL_TYPES: Mapping[str, Any] = {
    "numeric": sa.Double(),
    "boolean": sa.Boolean(),
    "categorical": sa.Text(),
}


def _finite(
    feature: Feature, column: sa.ColumnElement[Any], bounded: bool
) -> sa.ColumnElement[Any]:
    """A numeric column as double precision, with NaN and infinities as missing."""
    if feature.type != "numeric":
        return column
    number = sa.cast(column, sa.Double)
    least, greatest = feature.range if bounded and feature.range else FINITE
    return sa.case((number.between(least, greatest), number))


_SEX = ((8507, "Male"), (8532, "Female"))


def _person_value(
    cdm: Cdm, feature: Feature, person: Any, persons: sa.FromClause, joined: sa.FromClause
) -> tuple[sa.ColumnElement[Any], sa.FromClause]:
    if feature.name == "sex":
        return sa.case(
            *((person.c.gender_concept_id == concept, label) for concept, label in _SEX),
            else_=sa.null(),
        ), joined
    if feature.name == "age":
        reference = sa.func.coalesce(persons.c.index_date, persons.c.end_date)
        return age(person, reference), joined
    if feature.name == "year_of_birth":
        return person.c.year_of_birth, joined
    column = person.c[f"{feature.name}_concept_id"]
    concept = cdm.table("concept").alias(f"{feature.name}_concept")
    joined = joined.outerjoin(
        concept, sa.and_(concept.c.concept_id == column, column.is_not(None), column != 0)
    )
    unnamed = sa.case((column != 0, sa.func.concat("Concept ", column)))
    return sa.func.coalesce(concept.c.concept_name, unnamed), joined


def _domain_features(
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
    if not _has_value(feature):
        return _Source(concepts, None, ())
    units = tuple((u.unit_concept_id, u.factor, u.offset) for u in feature.units)
    return _Source(concepts, feature.unit_concept_id, units)


def _has_value(feature: Feature) -> bool:
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
        values = [(source.c.source == i, _converted(s, event)) for i, s in enumerate(sources)]
        columns.append(sa.case(*values).label("value"))
    if persons is not None:
        joined = joined.join(persons, persons.c.person_id == event.c.person_id)
        columns.append(persons.c.index_date)
    query = sa.select(*columns).select_from(joined).offset(sa.literal_column("0"))
    return query.subquery(f"{domain}_record")


def _converted(source: _Source, event: sa.Subquery) -> sa.ColumnElement[Any]:
    """The record's number in the source's unit; NULL for a unit that is not known.

    A record without a unit is taken to be in the feature's own; the plausible range then
    removes what is not.
    """
    value = sa.cast(event.c.value_as_number, sa.Double)
    if source.unit_concept_id is None:
        return value
    unit = sa.func.coalesce(event.c.unit_concept_id, 0)
    others = [
        (unit == concept, value * factor + offset) for concept, factor, offset in source.units
    ]
    return sa.case((unit.in_([source.unit_concept_id, 0]), value), *others)


def _plausible(feature: Feature, record: sa.Subquery) -> list[sa.ColumnElement[bool]]:
    """The record has a usable number; no condition where none is asked for."""
    if not _has_value(feature):
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
