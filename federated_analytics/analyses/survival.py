"""Survival from the index date to an event: Kaplan-Meier on a public grid, in one round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import sqlalchemy as sa
from pydantic import Field, model_validator

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.person_set import ANY_VALUE, PersonSet
from federated_analytics.aggregates.risk_table import Interval, RiskTable, SurvivalPoint
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
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.errors import StudyError
from federated_analytics.omop.concept_set import ConceptSet, members
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.tables import Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

MAX_STEPS = 500
"""Steps of a grid: what a site sends a stratum at most."""


class SurvivalQuery(FeatureQuery):
    """`features` are the events, each with a curve of its own.

    Args:
        features: "death", or yes/no features of conditions, drugs and other records. Their
            concepts count, their window does not: the event is the first record after the index
            date (a death, on it or after), up to the horizon.
        horizon_days: length of follow-up that is looked at.
        grid_days: days of a step of the curve.
        exclude_prior: persons with a record on or before the index date are left out; without
            this, they are at risk of their next one.
    """

    kind: Literal["survival"] = "survival"
    features: tuple[str, ...] = Field(default=("death",), min_length=1, max_length=20)
    horizon_days: int = Field(default=1_825, ge=1, le=36_525)
    grid_days: int = Field(default=30, ge=1, le=3_653)
    exclude_prior: bool = True

    @model_validator(mode="after")
    def _has_few_steps(self) -> Self:
        if self.horizon_days > MAX_STEPS * self.grid_days:
            least = -(-self.horizon_days // MAX_STEPS)
            raise ValueError(f"a curve has at most {MAX_STEPS} steps; write grid_days = {least}")
        return self

    @property
    def edges(self) -> list[int]:
        """Last day of each step, after -1: day 0 is a step of its own."""
        return [-1, *range(0, self.horizon_days, self.grid_days), self.horizon_days]


class Survival(Analysis):
    """Probability to be without event after each step, with median and confidence interval.

    Follow-up starts on the index date and is censored where the population's row ends (the end
    of observation, or of the cohort) and at the horizon. On a day, events come before censorings.

    `survival` takes events and censorings as spread evenly over the days of their step (the
    actuarial estimate; with steps of a day and none joined, Kaplan & Meier's own). Whatever the
    days inside the steps are, their Kaplan-Meier estimate lies between `survival_lower` and
    `survival_upper`. Sites join steps until each holds enough persons; `at_risk`, `events` and
    `censored` are given where a step ends at all sites, and count from the last such day. The
    95 % confidence interval is Greenwood's on the log(-log) scale, of `survival`.

    References: Kaplan & Meier (1958), JASA 53:457; Cutler & Ederer (1958), Journal of Chronic
        Diseases 8:699, for the actuarial estimate
    """

    kind = "survival"
    needs_index_date = True
    query_type = SurvivalQuery
    leaves = (
        "persons with the event and persons censored in each step of a public grid of days, "
        "steps joined until each number is 0 or enough; no day of any one person"
    )
    feature_types = frozenset({"boolean"})
    needs_cdm = True

    def check(self, query: SurvivalQuery, feature: Feature, where: str) -> None:
        if feature.name in query.features and feature.domain == "person":
            raise StudyError(
                f"{feature.name} has no date, so it is no event.",
                where=where,
                remedy='Use features = ["death"], or a yes/no feature of conditions or drugs.',
            )

    def select(self, query: SurvivalQuery, frame: Frame) -> list[Statement]:
        return [_exits(query, frame, name) for name in query.features]

    def collect(
        self, query: SurvivalQuery, frame: Frame, results: Sequence[Sequence[Row]]
    ) -> Table:
        table: dict[Key, Aggregate] = {}
        for name, rows in zip(query.features, results, strict=True):
            found: dict[Strata, list[Interval]] = {}
            for row in rows:
                step = int(row["step"])
                interval = (step, step + 1, int(row["events"]), int(row["censored"]))
                found.setdefault(strata_of(row, query.by), []).append(interval)
            for strata, state in _beside(found).items():
                table[Key(strata, name, "", "risk_table")] = state
        return table

    def counted_sets(
        self, query: SurvivalQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        """Exits by day, which every grid and horizon shares, and by what happened.

        An event beyond the horizon is none for this question, so the dimension "EVENT:event"
        names its horizon; the day of those followed beyond it stays what it is.
        """
        assert isinstance(aggregate, RiskTable)
        is_death = frame.columns[key.variable].feature.domain == "death"
        among = "" if query.exclude_prior or is_death else " with prior"
        day = f"{key.variable}:day{among}"
        event = f"{key.variable}:event by day {query.horizon_days}{among}"
        yield aggregate.persons, frozenset({(day, ANY_VALUE)})
        edges = query.edges
        for low, high, events, censored in aggregate.intervals:
            ends = edges[min(high, len(edges) - 1)] + 1
            days = (edges[low] + 1, ends)
            if events:
                yield events, frozenset({(day, days), (event, "Yes")})
            if censored:
                reach = (days[0], math.inf if high >= len(edges) else ends)
                yield censored, frozenset({(day, reach), (event, "No")})

    def finalize(
        self, query: SurvivalQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        for strata in strata_in(cells, query.by):
            for name in query.features:
                merged = cells.get(Key(strata, name, "", "risk_table"))
                if merged is not None:
                    yield from _estimates(query, merged, strata, name)
                    yield from sites_behind(merged, context, strata, name)


def _beside(found: Mapping[Strata, Sequence[Interval]]) -> dict[Strata, RiskTable]:
    """Risk tables that know those of the other strata of their margin."""
    states = {strata: RiskTable.of(counts).intervals for strata, counts in found.items()}
    margins: dict[tuple[str, ...], list[Strata]] = {}
    for strata in states:
        margins.setdefault(tuple(name for name, _ in strata), []).append(strata)
    return {
        strata: RiskTable(states[strata], tuple(states[s] for s in margin if s != strata))
        for margin in margins.values()
        for strata in margin
    }


def _exits(query: SurvivalQuery, frame: Frame, name: str) -> Statement:
    """Events and censored persons in each step, by strata."""
    row = frame.relation
    first = _first_records(frame, frame.columns[name].feature, exclude_prior=query.exclude_prior)
    event_day = sa.type_coerce(first.c.first_date - row.c.index_date, sa.Integer)
    followed = sa.type_coerce(row.c.end_date - row.c.index_date, sa.Integer)
    query_days = (
        sa.select(
            *(frame.strata[s].label(f"s_{i}") for i, s in enumerate(query.by)),
            event_day.label("event_day"),
            sa.func.greatest(followed, 0).label("followed"),
        )
        .select_from(row.outerjoin(first, first.c.person_id == row.c.person_id))
        .where(
            followed.is_not(None), sa.func.coalesce(first.c.is_prior, sa.false()).is_(sa.false())
        )
    )
    days = query_days.subquery("follow_up")
    day = sa.func.least(days.c.event_day, days.c.followed)
    last = len(query.edges) - 1
    step = sa.case(
        (day > query.horizon_days, last),
        (day <= 0, 0),
        else_=(day - 1) // query.grid_days + 1,
    )
    happened = sa.and_(days.c.event_day <= days.c.followed, day <= query.horizon_days)
    stepped = sa.select(
        *(days.c[f"s_{i}"] for i in range(len(query.by))),
        step.label("step"),
        sa.func.coalesce(happened, sa.false()).label("happened"),
    ).subquery("exit")
    strata = {name: stepped.c[f"s_{i}"] for i, name in enumerate(query.by)}
    persons = sa.func.count()
    return grouped(
        Frame(stepped, {}, strata, frame.cdm),
        query.by,
        [
            persons.filter(stepped.c.happened).label("events"),
            persons.filter(sa.not_(stepped.c.happened)).label("censored"),
        ],
        also_by=[stepped.c.step],
    )


def _first_records(frame: Frame, feature: Feature, *, exclude_prior: bool) -> sa.Subquery:
    """Each person's first event: person_id, first_date, and is_prior where the person is out.

    A death before the index date is an error of the data; it is no event.
    """
    person = frame.relation.alias("at_risk")
    record: sa.FromClause
    joined: sa.FromClause
    date: sa.ColumnElement[Any]
    if feature.domain == "death":
        record = joined = frame.cdm.table("death")
        date, first_day = record.c.death_date, 0
    else:
        record = frame.cdm.events(feature.domain)
        ids = tuple(concept.id for concept in feature.concepts)
        concepts = members(frame.cdm, [ConceptSet(ids, (), feature.descendants)])
        joined = record.join(concepts, concepts.c.concept_id == record.c.concept_id)
        date, first_day = record.c.start_date, 1
    after = date >= person.c.index_date + sa.literal_column(str(first_day))
    is_out = sa.not_(after) if exclude_prior and first_day else sa.false()
    query = sa.select(
        person.c.person_id,
        sa.func.min(date).filter(after).label("first_date"),
        sa.func.bool_or(is_out).label("is_prior"),
    ).select_from(joined.join(person, person.c.person_id == record.c.person_id))
    return query.group_by(person.c.person_id).subquery("first_event")


def _estimates(
    query: SurvivalQuery, merged: Merged, strata: Strata, name: str
) -> Iterable[Estimate]:
    table = merged.value
    if not isinstance(table, RiskTable):
        yield Estimate(strata, name, "count", "integer", merged.shown_as)
        for estimate in ("count_events", *_MEDIAN):
            yield Estimate(strata, name, estimate, "numeric", "-")
        return
    yield Estimate(strata, name, "count", "integer", str(table.persons))
    yield Estimate(strata, name, "count_events", "integer", str(table.events))
    points = table.curve(query.edges) if table.persons else []
    for estimate, value in zip(_MEDIAN, _median(points), strict=True):
        yield Estimate(strata, name, estimate, "numeric", number(value))
    for point in points:
        yield from _point(point, strata, name)


_MEDIAN = ("median_survival", "median_survival_lower", "median_survival_upper")


def _median(points: Sequence[SurvivalPoint]) -> tuple[float, float, float]:
    """First day on which survival is at most one half, in days, and what bounds the exact one.

    NaN where survival stays above one half up to the horizon.
    """
    halved = next((p.day for p in points if p.survival <= 0.5), math.nan)
    certain = next((p.day for p in points if p.upper <= 0.5), math.nan)
    above = [p.day for p in points if p.lower > 0.5]
    earliest = max(above, default=-1) + 1
    return halved, earliest if points and points[-1].lower <= 0.5 else math.nan, certain


def _point(point: SurvivalPoint, strata: Strata, name: str) -> Iterable[Estimate]:
    place: dict[str, Any] = {
        "level": f"day {point.day}",
        "additional": (("time_days", str(point.day)),),
    }
    low, high = point.confidence_interval()
    counts = {"at_risk": point.at_risk, "events": point.events, "censored": point.censored}
    for estimate, count in counts.items():
        text = "-" if count is None else str(count)
        yield Estimate(strata, name, estimate, "integer", text, **place)
    for estimate, value in (
        ("survival", point.survival),
        ("survival_lower", point.lower),
        ("survival_upper", point.upper),
        ("conf_low", low),
        ("conf_high", high),
    ):
        yield Estimate(strata, name, estimate, "numeric", number(value), **place)
