"""Populations: who is asked about, from which day, and how many each step left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.dialects.postgresql import aggregate_order_by

from federated_analytics.omop.concept_set import MAX_CONCEPTS, ConceptSet, members
from federated_analytics.omop.tables import Cdm, Statement

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ConceptId = Annotated[int, Field(ge=1, le=2**31 - 1)]
Days = Annotated[int, Field(ge=0, le=36_525)]


class _Population(BaseModel):
    """What every population can restrict: sex and age at the index date."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = "population"
    sex: Literal["Female", "Male"] | None = None
    min_age: int | None = Field(default=None, ge=0, le=150)
    max_age: int | None = Field(default=None, ge=0, le=150)

    @property
    def has_index_date(self) -> bool:
        return True

    @model_validator(mode="after")
    def _ages_are_ordered(self) -> _Population:
        if None not in (self.min_age, self.max_age) and self.min_age > self.max_age:  # type: ignore[operator]
            raise ValueError("min_age is above max_age")
        return self


class _Indexed(_Population):
    """A population with an index date."""

    prior_observation_days: Days = 0
    from_date: date | None = None
    to_date: date | None = None

    @model_validator(mode="after")
    def _dates_are_ordered(self) -> _Indexed:
        if self.from_date and self.to_date and self.from_date > self.to_date:
            raise ValueError("from_date is after to_date")
        return self


class Everyone(_Population):
    """Every person of the database; no index date, age is taken at the end of observation."""

    kind: Literal["everyone"] = "everyone"
    name: Name = "everyone"

    @property
    def has_index_date(self) -> bool:
        return False


class WithEvent(_Indexed):
    """Persons with a record of a concept set; the index date is that record's start."""

    kind: Literal["condition", "drug", "procedure", "measurement", "observation"]
    concepts: tuple[ConceptId, ...] = Field(min_length=1, max_length=MAX_CONCEPTS)
    exclude: tuple[ConceptId, ...] = Field(default=(), max_length=MAX_CONCEPTS)
    descendants: bool = True
    occurrence: Literal["first", "any"] = "first"
    washout_days: Days = 0

    @model_validator(mode="after")
    def _washout_needs_any(self) -> WithEvent:
        if self.washout_days and self.occurrence == "first":
            raise ValueError(
                'washout_days goes with occurrence = "any": a first record has none before'
            )
        return self


class InCohort(_Indexed):
    """Persons of a cohort that the site keeps in its cohort table; first entry of each."""

    kind: Literal["cohort"]
    cohort_definition_id: int = Field(ge=0, le=2**31 - 1)


class Atlas(_Indexed):
    """Persons of an ATLAS (Circe) cohort definition; first entry of each.

    `file` is read when the study is loaded; its text travels in `definition`.
    """

    kind: Literal["atlas"]
    file: str = ""
    definition: str = Field(default="", max_length=2**20)


class FlatTable(BaseModel):
    """The rows of any table with one row a person; its columns are the features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["table"]
    name: Name = "table"
    table: str = Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f]+$")

    @property
    def has_index_date(self) -> bool:
        return False


Population = Annotated[
    Everyone | WithEvent | InCohort | Atlas | FlatTable, Field(discriminator="kind")
]


@dataclass(frozen=True)
class PopulationQuery:
    """A population in SQL.

    Fields:
        persons: person_id, index_date, end_date and a boolean column a step, one row a candidate
        steps: the attrition's steps after the first, in words, each with its column
    """

    persons: Statement
    steps: tuple[tuple[str, str], ...]


FIRST_STEP = "Persons in the database"


def population_query(
    cdm: Cdm, population: Any, cohort: sa.FromClause | None = None
) -> PopulationQuery:
    """The candidates of a population with the steps that each passed.

    Args:
        cohort: for `kind = "atlas"`, the relation that holds the materialised cohort.
    """
    if isinstance(population, Everyone):
        return _everyone(cdm, population)
    person, observation = cdm.table("person"), cdm.table("observation_period")
    events, first_step = _events(cdm, population, cohort)
    joined = events.join(person, person.c.person_id == events.c.person_id).outerjoin(
        observation,
        sa.and_(
            observation.c.person_id == events.c.person_id,
            events.c.start_date >= observation.c.observation_period_start_date,
            events.c.start_date <= observation.c.observation_period_end_date,
        ),
    )
    steps, columns, everything = _cumulated(_conditions(population, events, person, observation))
    end = sa.func.coalesce(events.c.end_date, observation.c.observation_period_end_date)
    order = (events.c.start_date, end)
    ends = sa.func.array_agg(aggregate_order_by(end, *order)).filter(everything)
    persons = (
        sa.select(
            events.c.person_id,
            sa.func.min(events.c.start_date).filter(everything).label("index_date"),
            sa.type_coerce(sa.type_coerce(ends, sa.ARRAY(sa.Date))[1], sa.Date).label("end_date"),
            sa.true().label("step_0"),
            *(sa.func.bool_or(column).label(name) for name, column in columns),
        )
        .select_from(joined)
        .group_by(events.c.person_id)
    )
    return PopulationQuery(persons, ((first_step, "step_0"), *steps))


def _cumulated(
    conditions: list[tuple[str, sa.ColumnElement[bool]]],
) -> tuple[list[tuple[str, str]], list[tuple[str, sa.ColumnElement[bool]]], sa.ColumnElement[bool]]:
    """Steps as (text, column), each column "this and all before it", and all together."""
    passed: list[sa.ColumnElement[bool]] = []
    steps: list[tuple[str, str]] = []
    columns: list[tuple[str, sa.ColumnElement[bool]]] = []
    for position, (text, condition) in enumerate(conditions, start=1):
        passed.append(condition)
        steps.append((text, f"step_{position}"))
        columns.append((f"step_{position}", sa.and_(*passed)))
    return steps, columns, sa.and_(sa.true(), *passed)


def _everyone(cdm: Cdm, population: Everyone) -> PopulationQuery:
    person, observation = cdm.table("person"), cdm.table("observation_period")
    ends = (
        sa.select(
            observation.c.person_id,
            sa.func.max(observation.c.observation_period_end_date).label("end_date"),
        )
        .group_by(observation.c.person_id)
        .subquery("observed")
    )
    steps, columns, _ = _cumulated(_person_conditions(population, person, ends.c.end_date))
    persons = sa.select(
        person.c.person_id,
        sa.cast(sa.null(), sa.Date).label("index_date"),
        ends.c.end_date,
        *(sa.func.coalesce(column, sa.false()).label(name) for name, column in columns),
    ).select_from(person.outerjoin(ends, ends.c.person_id == person.c.person_id))
    return PopulationQuery(persons, tuple(steps))


def _events(cdm: Cdm, population: Any, cohort: sa.FromClause | None) -> tuple[sa.Subquery, str]:
    """Candidate entries (person_id, start_date, end_date[, previous_date]) and their step."""
    if isinstance(population, WithEvent):
        return _domain_events(cdm, population)
    table: sa.FromClause = cdm.table("cohort") if cohort is None else cohort
    query = sa.select(
        table.c.subject_id.label("person_id"),
        table.c.cohort_start_date.label("start_date"),
        table.c.cohort_end_date.label("end_date"),
    )
    if isinstance(population, InCohort):
        query = query.where(table.c.cohort_definition_id == population.cohort_definition_id)
        return query.subquery("entry"), f"In cohort {population.cohort_definition_id}"
    return query.subquery("entry"), "In the cohort definition"


def _domain_events(cdm: Cdm, population: WithEvent) -> tuple[sa.Subquery, str]:
    event = cdm.events(population.kind)
    concepts = members(
        cdm, [ConceptSet(population.concepts, population.exclude, population.descendants)]
    )
    joined = event.join(concepts, concepts.c.concept_id == event.c.concept_id)
    no_end = sa.cast(sa.null(), sa.Date).label("end_date")
    text = f"With a {population.kind} record of the concept set"
    if population.occurrence == "first":
        query = (
            sa.select(
                event.c.person_id, sa.func.min(event.c.start_date).label("start_date"), no_end
            )
            .select_from(joined)
            .group_by(event.c.person_id)
        )
        return query.subquery("entry"), text
    days = (
        sa.select(event.c.person_id, event.c.start_date)
        .select_from(joined)
        .distinct()
        .subquery("event_day")
    )
    previous = sa.func.lag(days.c.start_date).over(
        partition_by=days.c.person_id, order_by=days.c.start_date
    )
    query_any = sa.select(
        days.c.person_id, days.c.start_date, no_end, previous.label("previous_date")
    )
    return query_any.subquery("entry"), text


def _conditions(
    population: Any, events: sa.Subquery, person: Any, observation: Any
) -> list[tuple[str, sa.ColumnElement[bool]]]:
    """The steps after the first, in the order in which they are counted."""
    observed = observation.c.person_id.is_not(None)
    steps: list[tuple[str, sa.ColumnElement[bool]]] = [
        ("Index date within an observation period", observed)
    ]
    washout = getattr(population, "washout_days", 0)
    if washout:
        gap = events.c.start_date - events.c.previous_date
        condition = sa.or_(
            events.c.previous_date.is_(None), sa.type_coerce(gap, sa.Integer) > washout
        )
        steps.append((f"No such record in the {washout} days before", condition))
    prior = population.prior_observation_days
    if prior:
        before = events.c.start_date - observation.c.observation_period_start_date
        condition = sa.type_coerce(before, sa.Integer) >= prior
        steps.append((f"At least {prior} days of prior observation", condition))
    if population.from_date:
        text = f"Index date on or after {population.from_date}"
        steps.append((text, events.c.start_date >= population.from_date))
    if population.to_date:
        text = f"Index date on or before {population.to_date}"
        steps.append((text, events.c.start_date <= population.to_date))
    return steps + _person_conditions(population, person, events.c.start_date)


def _person_conditions(
    population: _Population, person: Any, reference: sa.ColumnElement[Any]
) -> list[tuple[str, sa.ColumnElement[bool]]]:
    steps: list[tuple[str, sa.ColumnElement[bool]]] = []
    years = age(person, reference)
    if population.min_age is not None:
        steps.append((f"Aged {population.min_age} or over", years >= population.min_age))
    if population.max_age is not None:
        steps.append((f"Aged {population.max_age} or under", years <= population.max_age))
    if population.sex is not None:
        concept = {"Male": 8507, "Female": 8532}[population.sex]
        steps.append((population.sex, person.c.gender_concept_id == concept))
    return steps


def age(person: Any, reference: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Completed years at `reference`; a missing month or day of birth counts as the first."""
    month, day = sa.extract("month", reference), sa.extract("day", reference)
    born_month = sa.func.coalesce(person.c.month_of_birth, 1)
    born_day = sa.func.coalesce(person.c.day_of_birth, 1)
    not_yet = sa.or_(month < born_month, sa.and_(month == born_month, day < born_day))
    years = sa.cast(sa.extract("year", reference), sa.Integer) - person.c.year_of_birth
    return sa.type_coerce(years - sa.case((not_yet, 1), else_=0), sa.Integer)
