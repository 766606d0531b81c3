"""Populations and their attrition, against the same definitions written in pandas.

The oracle goes through each person's entries one by one; the code under test does none of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from federated_analytics.omop.cohort import population_query
from federated_analytics.omop.database import database_url, snapshot
from federated_analytics.omop.tables import EVENT_TABLES, Cdm
from federated_analytics.report.result import Result
from federated_analytics.study import Study
from tests import pooled
from tests.sites import ask, load, sites

PERSONS = 250
PARENT, CHILD, GRANDCHILD, OTHER, UNLISTED = 201826, 443238, 4193704, 320128, 999
ANCESTORS = [(PARENT, PARENT), (PARENT, CHILD), (PARENT, GRANDCHILD), (CHILD, CHILD)]
ANCESTORS += [(CHILD, GRANDCHILD), (GRANDCHILD, GRANDCHILD), (OTHER, OTHER)]
MALE, FEMALE = 8507, 8532
DOMAINS = ("condition", "drug", "procedure", "measurement", "observation")


@cache
def tables() -> dict[str, pd.DataFrame]:
    """Events of every domain, several observation periods a person, and a cohort table."""
    rng = np.random.default_rng(7)
    base = pooled.random_tables(7, PERSONS)
    ids = np.arange(1, PERSONS + 1)
    made = {"person": base["person"], "observation_period": _periods(rng, ids)}
    for domain in DOMAINS:
        event = EVENT_TABLES[domain]
        rows = pooled._events(
            rng,
            ids,
            2.5,
            event.record_id,
            event.concept_id,
            event.start_date,
            [PARENT, CHILD, GRANDCHILD, OTHER, UNLISTED, 0],
        )
        made[event.table] = rows.assign(**dict.fromkeys(event.values, 1.0))
    made["cohort"] = _cohort(rng, ids)
    return made


def _periods(rng: np.random.Generator, ids: np.ndarray) -> pd.DataFrame:
    """One or two periods a person that do not touch; a few persons have none."""
    who = ids[rng.random(len(ids)) > 0.05]
    start = pd.to_datetime("2003-01-01") + pd.to_timedelta(rng.integers(0, 1500, len(who)), "D")
    end = start + pd.to_timedelta(rng.integers(200, 2000, len(who)), "D")
    first = pd.DataFrame(
        {
            "person_id": who,
            "observation_period_start_date": start,
            "observation_period_end_date": end,
        }
    )
    again = first[rng.random(len(who)) < 0.5].copy()
    shift = pd.to_timedelta(rng.integers(100, 600, len(again)), "D")
    again["observation_period_start_date"] = again.observation_period_end_date + shift
    length = pd.to_timedelta(rng.integers(200, 2000, len(again)), "D")
    again["observation_period_end_date"] = again.observation_period_start_date + length
    return pd.concat([first, again], ignore_index=True)


def _cohort(rng: np.random.Generator, ids: np.ndarray) -> pd.DataFrame:
    who = np.repeat(ids, rng.poisson(1, len(ids)))
    start = pd.to_datetime("2004-01-01") + pd.to_timedelta(rng.integers(0, 4000, len(who)), "D")
    return pd.DataFrame(
        {
            "cohort_definition_id": rng.choice([1, 2], len(who)),
            "subject_id": who,
            "cohort_start_date": start,
            "cohort_end_date": start + pd.to_timedelta(rng.integers(0, 500, len(who)), "D"),
        }
    )


@dataclass(frozen=True)
class Wanted:
    """A population in words that both the study and the oracle read."""

    kind: str
    concepts: tuple[int, ...] = (PARENT,)
    exclude: tuple[int, ...] = ()
    descendants: bool = True
    occurrence: str = "first"
    washout_days: int = 0
    prior_observation_days: int = 0
    from_date: str | None = None
    to_date: str | None = None
    sex: str | None = None
    min_age: int | None = None
    max_age: int | None = None
    cohort_definition_id: int = 1

    def toml(self, name: str) -> str:
        lines = ["[[population]]", f'name = "{name}"', f'kind = "{self.kind}"']
        if self.kind == "cohort":
            lines.append(f"cohort_definition_id = {self.cohort_definition_id}")
        elif self.kind != "everyone":
            lines += [
                f"concepts = {list(self.concepts)}",
                f"exclude = {list(self.exclude)}",
                f"descendants = {str(self.descendants).lower()}",
                f'occurrence = "{self.occurrence}"',
                f"washout_days = {self.washout_days}",
            ]
        if self.kind != "everyone":
            lines.append(f"prior_observation_days = {self.prior_observation_days}")
            lines += [f"{k} = {v}" for k in ("from_date", "to_date") if (v := getattr(self, k))]
        for key in ("min_age", "max_age"):
            if getattr(self, key) is not None:
                lines.append(f"{key} = {getattr(self, key)}")
        if self.sex:
            lines.append(f'sex = "{self.sex}"')
        return "\n".join(lines)


@dataclass(frozen=True)
class Found:
    """Persons with index and end date, and how many each step left."""

    persons: dict[int, tuple[pd.Timestamp | None, pd.Timestamp | None]]
    steps: list[int]


@cache
def expected(wanted: Wanted) -> Found:
    """The population, entry by entry."""
    data = tables()
    person = data["person"].set_index("person_id")
    periods = data["observation_period"]
    if wanted.kind == "everyone":
        return _expected_everyone(wanted, person, periods)
    entries = _entries(wanted, data)
    passed: list[set[int]] = [set()]
    chosen: dict[int, tuple[pd.Timestamp | None, pd.Timestamp | None]] = {}
    for who, rows in entries.groupby("person_id"):
        previous = None
        for entry in rows.sort_values(["start", "end"]).itertuples():
            period = periods[
                (periods.person_id == who)
                & (periods.observation_period_start_date <= entry.start)
                & (periods.observation_period_end_date >= entry.start)
            ]
            results = _steps(wanted, person.loc[who], entry.start, previous, period)
            previous = entry.start
            while len(passed) < len(results) + 1:
                passed.append(set())
            passed[0].add(who)
            for i in range(len(results)):
                if all(results[: i + 1]):
                    passed[i + 1].add(who)
            if all(results) and who not in chosen:
                last = period.observation_period_end_date.max()
                chosen[who] = (entry.start, last if pd.isna(entry.end) else entry.end)
    return Found(chosen, [len(person), *(len(s) for s in passed)])


def _expected_everyone(wanted: Wanted, person: pd.DataFrame, periods: pd.DataFrame) -> Found:
    ends = periods.groupby("person_id").observation_period_end_date.max()
    left = dict.fromkeys(person.index)
    steps = [len(left)]
    for passes in _person_steps(wanted):
        left = {w: None for w in left if passes(person.loc[w], ends.get(w))}
        steps.append(len(left))
    return Found({w: (None, ends.get(w)) for w in left}, steps)


def _entries(wanted: Wanted, data: dict[str, pd.DataFrame]) -> pd.DataFrame:
    if wanted.kind == "cohort":
        rows = data["cohort"]
        rows = rows[rows.cohort_definition_id == wanted.cohort_definition_id]
        columns = {
            "subject_id": "person_id",
            "cohort_start_date": "start",
            "cohort_end_date": "end",
        }
        return rows.rename(columns=columns)
    event = EVENT_TABLES[wanted.kind]
    rows = data[event.table]
    rows = rows[rows[event.concept_id].isin(_members(wanted))]
    rows = rows.rename(columns={event.start_date: "start"})[["person_id", "start"]]
    if wanted.occurrence == "first":
        rows = rows.groupby("person_id", as_index=False).start.min()
    return rows.drop_duplicates().assign(end=pd.NaT)


def _members(wanted: Wanted) -> set[int]:
    def expanded(concepts: tuple[int, ...]) -> set[int]:
        below = {d for a, d in ANCESTORS if a in concepts} if wanted.descendants else set()
        return set(concepts) | below

    return expanded(wanted.concepts) - expanded(wanted.exclude)


def _steps(
    wanted: Wanted,
    person: pd.Series,
    start: pd.Timestamp,
    previous: pd.Timestamp | None,
    period: pd.DataFrame,
) -> list[bool]:
    """Whether an entry passes each step, in the order in which they are counted."""
    results = [len(period) > 0]
    if wanted.washout_days:
        results.append(previous is None or (start - previous).days > wanted.washout_days)
    if wanted.prior_observation_days:
        begin = period.observation_period_start_date.max()
        results.append(len(period) > 0 and (start - begin).days >= wanted.prior_observation_days)
    if wanted.from_date:
        results.append(start >= pd.Timestamp(wanted.from_date))
    if wanted.to_date:
        results.append(start <= pd.Timestamp(wanted.to_date))
    return results + [passes(person, start) for passes in _person_steps(wanted)]


Passes = Callable[[pd.Series, Any], bool]


def _person_steps(wanted: Wanted) -> list[Passes]:
    steps: list[Passes] = []
    if wanted.min_age is not None:
        low = wanted.min_age
        steps.append(lambda p, day: (a := _age(p, day)) is not None and a >= low)
    if wanted.max_age is not None:
        high = wanted.max_age
        steps.append(lambda p, day: (a := _age(p, day)) is not None and a <= high)
    if wanted.sex:
        concept = {"Male": MALE, "Female": FEMALE}[wanted.sex]
        steps.append(lambda p, day: p.gender_concept_id == concept)
    return steps


def _age(person: pd.Series, day: Any) -> int | None:
    if day is None or pd.isna(day):
        return None
    month = 1 if pd.isna(person.month_of_birth) else int(person.month_of_birth)
    first = 1 if pd.isna(person.day_of_birth) else int(person.day_of_birth)
    return int(day.year - person.year_of_birth - ((day.month, day.day) < (month, first)))


EVENT = Wanted("condition")
WANTED: dict[str, Wanted] = {
    "everyone": Wanted("everyone"),
    "women": Wanted("everyone", sex="Female"),
    "elderly": Wanted("everyone", min_age=65),
    "adult_men": Wanted("everyone", sex="Male", min_age=18, max_age=64),
    "centenarians": Wanted("everyone", min_age=100),
    **{domain: Wanted(domain) for domain in DOMAINS},
    "only_the_parent": replace(EVENT, descendants=False),
    "without_a_child": replace(EVENT, exclude=(CHILD,)),
    "without_a_child_alone": replace(EVENT, exclude=(CHILD,), descendants=False),
    "two_concepts": replace(EVENT, concepts=(CHILD, OTHER)),
    "not_in_the_vocabulary": replace(EVENT, concepts=(UNLISTED,)),
    "excluding_itself": replace(EVENT, exclude=(PARENT,)),
    "nobody_has_it": replace(EVENT, concepts=(123456789,)),
    "any": replace(EVENT, occurrence="any"),
    "washout": replace(EVENT, occurrence="any", washout_days=365),
    "long_washout": replace(EVENT, occurrence="any", washout_days=36_525),
    "prior": replace(EVENT, prior_observation_days=365),
    "any_prior": replace(EVENT, occurrence="any", prior_observation_days=365),
    "from_date": replace(EVENT, from_date="2008-06-15"),
    "any_from_date": replace(EVENT, occurrence="any", from_date="2008-06-15"),
    "to_date": replace(EVENT, to_date="2007-01-01"),
    "one_day": replace(EVENT, occurrence="any", from_date="2008-06-15", to_date="2008-06-15"),
    "far_future": replace(EVENT, from_date="2500-01-01"),
    "everything": Wanted(
        "drug",
        exclude=(GRANDCHILD,),
        occurrence="any",
        washout_days=100,
        prior_observation_days=90,
        from_date="2005-01-01",
        to_date="2012-12-31",
        sex="Female",
        min_age=20,
        max_age=90,
    ),
    "kept_cohort": Wanted("cohort"),
    "other_cohort": Wanted(
        "cohort", cohort_definition_id=2, prior_observation_days=200, min_age=30
    ),
    "no_such_cohort": Wanted("cohort", cohort_definition_id=99),
}


@pytest.fixture(scope="module")
def schemas(database: str) -> list[str]:
    """Two sites, and the whole in one."""
    data = tables()
    vocabulary = {
        "concept": pd.DataFrame({"concept_id": [PARENT], "concept_name": ["Diabetes"]}),
        "concept_ancestor": pd.DataFrame(
            ANCESTORS, columns=["ancestor_concept_id", "descendant_concept_id"]
        ),
    }
    load(database, "vocabulary", vocabulary)
    load(database, "whole", data)
    for i in range(2):
        part = {name: table[_persons(table) % 2 == i] for name, table in data.items()}
        load(database, f"half_{i}", part)
    return ["half_0", "half_1"]


def _persons(table: pd.DataFrame) -> pd.Series:
    return table["subject_id" if "subject_id" in table else "person_id"]


@pytest.fixture(scope="module")
def counted(database: str, schemas: list[str]) -> Result:
    """All populations in one study, over two sites, in one round."""
    chosen = list(WANTED)
    assert len(chosen) > 20
    blocks = [WANTED[name].toml(name) for name in chosen]
    found = [
        ask(_study(blocks[i : i + 20]), sites(database, schemas, vocabulary="vocabulary"))
        for i in range(0, len(blocks), 20)
    ]
    return Result(tuple(r for one in found for r in one.rows), found[0].settings, "")


def _study(blocks: list[str], by: str = "[]") -> str:
    populations = "\n".join(blocks)
    return f'[study]\nname = "x"\n{populations}\n[[analysis]]\nkind = "counts"\nby = {by}\n'


@pytest.mark.parametrize("name", WANTED)
def test_size_and_attrition(counted: Result, name: str) -> None:
    rows = [
        r
        for r in counted.rows
        if r.cdm_name == "pooled" and r.group_level == name and r.estimate_name == "count"
    ]
    steps = [int(r.estimate_value) for r in rows if r.variable_name == "attrition"]
    size = [int(r.estimate_value) for r in rows if r.variable_name == "persons"]
    found = expected(WANTED[name])
    # Nobody entered: the oracle does not know how many steps nobody passed.
    assert steps[: len(found.steps)] == found.steps
    assert not any(steps[len(found.steps) :])
    assert size == [len(found.persons)]
    assert [r.additional["step"] for r in rows if r.variable_name == "attrition"] == [
        str(i + 1) for i in range(len(steps))
    ]


@pytest.mark.parametrize("name", WANTED)
def test_persons_index_and_end_dates(database: str, schemas: list[str], name: str) -> None:
    study = Study.parse(_study([WANTED[name].toml(name)]))
    cdm = Cdm("whole", "vocabulary")
    query = population_query(cdm, study.population[0])
    candidate = query.persons.subquery("candidate")
    passed = candidate.c[query.steps[-1][1]] if query.steps else sa.true()
    with snapshot(database_url(database), 60) as connection:
        rows = connection.execute(sa.select(candidate).where(passed.is_(sa.true()))).all()
    found = {r.person_id: (_day(r.index_date), _day(r.end_date)) for r in rows}
    persons = expected(WANTED[name]).persons
    assert found == {w: (_day(i), _day(e)) for w, (i, e) in persons.items()}
    assert len(rows) == len(found)


def _day(value: Any) -> str | None:
    return None if value is None or pd.isna(value) else str(value)[:10]


def test_the_index_year_is_a_stratum(database: str, schemas: list[str]) -> None:
    asked = sites(database, schemas, vocabulary="vocabulary")
    result = ask(_study([EVENT.toml("diabetes")], '["index_year", "sex"]'), asked)
    found = {
        r.strata_level: int(r.estimate_value)
        for r in result.rows
        if r.strata_name == "index_year" and r.estimate_name == "count" and r.cdm_name == "pooled"
    }
    persons = expected(EVENT).persons
    years = pd.Series([i.year for i, _ in persons.values() if i is not None]).value_counts()
    assert found == {str(year): count for year, count in years.items()}
    assert list(found) == sorted(found)


def test_an_analysis_may_ask_some_of_the_populations(database: str, schemas: list[str]) -> None:
    study = f"""
        [study]
        name = "two"
        {WANTED["women"].toml("women")}
        {WANTED["any"].toml("any")}
        [[analysis]]
        kind = "counts"
        [[analysis]]
        kind = "summary"
        populations = ["any"]
        features = ["age"]
    """
    result = ask(study, sites(database, schemas, vocabulary="vocabulary"))
    asked = {
        (result.result_type(r.result_id), r.group_level)
        for r in result.rows
        if r.cdm_name == "pooled"
    }
    assert asked == {("counts", "women"), ("counts", "any"), ("summary", "any")}
