"""The frame: one row a person with index date, strata and features. It stays in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from federated_analytics.omop.cohort import age
from federated_analytics.omop.domain_features import FINITE, domain_features, has_value
from federated_analytics.omop.strata import Stratum
from federated_analytics.omop.tables import Cdm, Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature


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
        found = domain_features(cdm, domain, asked, persons if indexed else None)
        joined = joined.outerjoin(found, found.c.person_id == persons.c.person_id)
        for i, feature in enumerate(asked):
            value = found.c[f"v{i}"]
            if not has_value(feature):
                nothing = sa.false() if feature.type == "boolean" else sa.literal_column("0")
                value = sa.func.coalesce(value, nothing)
            values[feature.name] = (value, sa.func.coalesce(found.c[f"n{i}"], 0))
    query = _select(persons, joined, values, features, strata, dated=indexed)
    return FrameQuery(query, tuple(features), tuple(strata), cdm, attrition)


def _select(
    persons: sa.FromClause,
    joined: sa.FromClause,
    values: Mapping[str, tuple[sa.ColumnElement[Any], sa.ColumnElement[Any] | None]],
    features: Sequence[Feature],
    strata: Sequence[Stratum],
    *,
    dated: bool,
) -> Statement:
    columns: list[sa.ColumnElement[Any]] = [persons.c.person_id]
    if dated:  # of everyone, PostgreSQL then need not look up when observation ended
        columns += [persons.c.index_date, persons.c.end_date]
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
