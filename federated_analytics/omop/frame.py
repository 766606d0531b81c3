"""The frame: one row a person with index date, strata and features. It stays in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array

from federated_analytics.omop.cohort import age
from federated_analytics.omop.concept_set import ConceptSet, members
from federated_analytics.omop.strata import Stratum
from federated_analytics.omop.tables import Cdm

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


@dataclass(frozen=True)
class FrameColumn:
    """One feature in the frame.

    Fields:
        value: the person's value; NULL where it is missing
        records: how many records it was made from; None where a person has exactly one
    """

    feature: Feature
    value: sa.ColumnElement[Any]
    records: sa.ColumnElement[Any] | None


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

    `attrition` is None for a flat table, whose rows are taken as they are.
    """

    relation: sa.FromClause
    columns: Mapping[str, FrameColumn]
    strata: Mapping[str, sa.ColumnElement[str]]
    cdm: Cdm
    attrition: Attrition | None = None

    @property
    def person_id(self) -> sa.ColumnElement[Any]:
        """The person of a row; a flat table without the column has none."""
        return self.relation.c["person_id"]


@dataclass(frozen=True)
class FrameQuery:
    """The SELECT behind a frame, before it is decided whether to materialise it."""

    select: sa.Select[Any]
    features: tuple[Feature, ...]
    strata: tuple[Stratum, ...]
    cdm: Cdm
    attrition: Attrition | None = None

    def over(self, relation: sa.FromClause) -> Frame:
        """The frame whose rows `relation` holds: this SELECT, or a table made from it."""
        columns = {
            feature.name: FrameColumn(
                feature, relation.c[f"f{i}"], relation.c[f"r{i}"] if f"r{i}" in relation.c else None
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
    joined: sa.FromClause = persons.join(person, person.c.person_id == persons.c.person_id)
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
            if _absence_is_a_value(feature):
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
) -> sa.Select[Any]:
    columns: list[sa.ColumnElement[Any]] = [persons.c.person_id, persons.c.index_date]
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
    cdm: Cdm, table: str, features: Sequence[Feature], strata: Sequence[Stratum]
) -> FrameQuery:
    """The frame that a table with one row a person already is."""
    columns = [sa.column(f.name, _SQL_TYPES[f.type]) for f in features]
    relation = sa.table(table, *columns, schema=cdm.cdm_schema)
    values = {f.name: (_finite(f, relation.c[f.name]), None) for f in features}
    selected: list[sa.ColumnElement[Any]] = []
    for i, stratum in enumerate(strata):
        expression = stratum.expression(values[stratum.feature][0], sa.null())
        selected.append(expression.label(f"s{i}"))
    selected += [values[f.name][0].label(f"f{i}") for i, f in enumerate(features)]
    query = sa.select(*selected).select_from(relation)
    return FrameQuery(query, tuple(features), tuple(strata), cdm)


_SQL_TYPES: Mapping[str, Any] = {
    "numeric": sa.Double(),
    "boolean": sa.Boolean(),
    "categorical": sa.Text(),
}


def _finite(feature: Feature, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A numeric column as double precision, with NaN and infinities as missing."""
    if feature.type != "numeric":
        return column
    number = sa.cast(column, sa.Double)
    return sa.case((number.between(-1.7976931348623157e308, 1.7976931348623157e308), number))


def _absence_is_a_value(feature: Feature) -> bool:
    """No record means "no" or 0 for these, and a missing value for the others."""
    return feature.aggregation in ("any", "count")


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
    event = cdm.events(domain)
    sets = [_concept_set(f) for f in features]
    distinct_sets = list(dict.fromkeys(sets))
    source = members(cdm, distinct_sets)
    joined: sa.FromClause = event.join(source, source.c.concept_id == event.c.concept_id)
    index_date: sa.ColumnElement[Any] | None = None
    if persons is not None:
        joined = joined.join(persons, persons.c.person_id == event.c.person_id)
        index_date = persons.c.index_date
    columns: list[sa.ColumnElement[Any]] = []
    for i, feature in enumerate(features):
        chosen = source.c.source == distinct_sets.index(sets[i])
        value = _converted(feature, event) if feature.aggregation not in ("any", "count") else None
        conditions = [chosen, *_window(feature, event.c.start_date, index_date)]
        if value is not None:
            columns.append(sa.case((sa.and_(*conditions), value)).label(f"x{i}"))
        else:
            columns.append(sa.case((sa.and_(*conditions), 1)).label(f"x{i}"))
    records = sa.select(
        event.c.person_id,
        event.c.start_date,
        event.c.record_id,
        *columns,
    ).select_from(joined)
    return _aggregated(records.subquery(f"{domain}_record"), features, domain)


def _aggregated(records: sa.Subquery, features: Sequence[Feature], domain: str) -> sa.Subquery:
    columns: list[sa.ColumnElement[Any]] = []
    for i, feature in enumerate(features):
        value = records.c[f"x{i}"]
        if feature.range is not None and feature.aggregation not in ("any", "count"):
            usable: sa.ColumnElement[bool] = value.between(*feature.range)
        else:
            usable = value.is_not(None)
        columns.append(_one_value(feature, records, value, usable).label(f"v{i}"))
        columns.append(sa.func.count().filter(usable).label(f"n{i}"))
    return (
        sa.select(records.c.person_id, *columns)
        .group_by(records.c.person_id)
        .subquery(f"{domain}_feature")
    )


def _one_value(
    feature: Feature, records: sa.Subquery, value: Any, usable: sa.ColumnElement[bool]
) -> sa.ColumnElement[Any]:
    """The person's value from the usable records, by the feature's aggregation."""
    if feature.aggregation == "any":
        return sa.func.coalesce(sa.func.bool_or(usable), sa.false())
    if feature.aggregation == "count":
        return sa.func.count().filter(usable)
    simple = {"mean": sa.func.avg, "minimum": sa.func.min, "maximum": sa.func.max}
    if feature.aggregation in simple:
        return simple[feature.aggregation](value).filter(usable)
    # The greatest (day, record, value) is the latest record's: an aggregate, where a sort of
    # all records would cost several times as much. Doubles hold days and record ids exactly.
    day = sa.cast(records.c.start_date - sa.literal_column("DATE '2000-01-01'"), sa.Double)
    dated = array([day, sa.cast(records.c.record_id, sa.Double), value])
    chosen = sa.func.max(dated) if feature.aggregation == "latest" else sa.func.min(dated)
    return sa.type_coerce(chosen.filter(usable), sa.ARRAY(sa.Double))[3]


def _concept_set(feature: Feature) -> ConceptSet:
    return ConceptSet(tuple(c.id for c in feature.concepts), (), feature.descendants)


def _window(
    feature: Feature, start_date: sa.ColumnElement[Any], index_date: sa.ColumnElement[Any] | None
) -> list[sa.ColumnElement[bool]]:
    if index_date is None:
        return []
    first, last = feature.window
    conditions: list[sa.ColumnElement[bool]] = []
    if first != "any":
        conditions.append(start_date >= index_date + sa.literal_column(str(int(first))))
    if last != "any":
        conditions.append(start_date <= index_date + sa.literal_column(str(int(last))))
    return conditions


def _converted(feature: Feature, event: sa.Subquery) -> sa.ColumnElement[Any]:
    """The record's number in the feature's unit; NULL for a unit that is not known.

    A record without a unit is taken to be in the feature's own; the plausible range then
    removes what is not.
    """
    value = sa.cast(event.c.value_as_number, sa.Double)
    if feature.unit_concept_id is None:
        return value
    unit = sa.func.coalesce(event.c.unit_concept_id, 0)
    own = (sa.or_(unit == 0, unit == feature.unit_concept_id), value)
    others = [(unit == u.unit_concept_id, value * u.factor + u.offset) for u in feature.units]
    return sa.case(own, *others)


def _death(cdm: Cdm, features: Sequence[Feature], persons: sa.FromClause | None) -> sa.Subquery:
    death = cdm.table("death")
    joined: sa.FromClause = death
    index_date = None
    if persons is not None:
        joined = death.join(persons, persons.c.person_id == death.c.person_id)
        index_date = persons.c.index_date
    columns: list[sa.ColumnElement[Any]] = []
    for i, feature in enumerate(features):
        inside = sa.and_(sa.true(), *_window(feature, death.c.death_date, index_date))
        columns.append(sa.func.bool_or(inside).label(f"v{i}"))
        columns.append(sa.func.count().filter(inside).label(f"n{i}"))
    query = sa.select(death.c.person_id, *columns).select_from(joined)
    return query.group_by(death.c.person_id).subquery("death_feature")
