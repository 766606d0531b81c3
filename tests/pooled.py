"""The pooled answer, by pandas, over random OMOP tables: the oracle of the federated one.

Nothing here is shared with the code under test: windows, units, plausible ranges, ages, strata
and quantiles are written again, on data frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Tables = Mapping[str, pd.DataFrame]

SYSTOLIC, BMI, HBA1C = 3004249, 3038553, 3004410
DIABETES, DIABETES_CHILD, HYPERTENSION = 201826, 443238, 320128
PERCENT, MMOL_PER_MOL, MM_HG, KG_M2, NO_SUCH_UNIT = 8554, 9579, 8876, 9531, 4000000
PLAUSIBLE = {SYSTOLIC: (50.0, 300.0), BMI: (10.0, 80.0), HBA1C: (3.0, 20.0)}


def random_tables(seed: int, persons: int) -> dict[str, pd.DataFrame]:
    """Tables with everything that goes wrong in real ones: missing, outliers, units, no visits."""
    rng = np.random.default_rng(seed)
    ids = np.arange(1, persons + 1)
    year = rng.integers(1890, 2015, persons)
    person = pd.DataFrame(
        {
            "person_id": ids,
            "gender_concept_id": rng.choice([8507, 8532, 0], persons, p=[0.47, 0.5, 0.03]),
            "year_of_birth": year,
            "month_of_birth": [int(m) if m else None for m in rng.integers(0, 13, persons)],
            "day_of_birth": [int(d) if d else None for d in rng.integers(0, 29, persons)],
            "race_concept_id": rng.choice([8527, 8516, 0], persons),
            "ethnicity_concept_id": 0,
        }
    )
    start = pd.to_datetime("2005-01-01") + pd.to_timedelta(rng.integers(0, 2000, persons), "D")
    end = start + pd.to_timedelta(rng.integers(100, 4000, persons), "D")
    observation = pd.DataFrame(
        {
            "person_id": ids,
            "observation_period_start_date": start,
            "observation_period_end_date": end,
        }
    )
    observation = observation[rng.random(persons) > 0.05]
    return {
        "person": person,
        "observation_period": observation,
        "condition_occurrence": _conditions(rng, ids),
        "measurement": _measurements(rng, ids),
        "visit_occurrence": _events(
            rng, ids, 2, "visit_occurrence_id", "visit_concept_id", "visit_start_date", [9201, 9202]
        ),
        "death": pd.DataFrame(
            {
                "person_id": ids[rng.random(persons) < 0.1],
            }
        ).assign(death_date=pd.Timestamp("2016-05-05")),
    }


def _events(
    rng: np.random.Generator,
    ids: np.ndarray,
    mean: float,
    record: str,
    concept: str,
    date: str,
    concepts: list[int],
) -> pd.DataFrame:
    who = np.repeat(ids, rng.poisson(mean, len(ids)))
    days = rng.integers(0, 5000, len(who))
    return pd.DataFrame(
        {
            record: np.arange(1, len(who) + 1),
            "person_id": who,
            concept: rng.choice(concepts, len(who)),
            date: pd.to_datetime("2004-06-01") + pd.to_timedelta(days, "D"),
        }
    )


def _conditions(rng: np.random.Generator, ids: np.ndarray) -> pd.DataFrame:
    return _events(
        rng,
        ids,
        1.2,
        "condition_occurrence_id",
        "condition_concept_id",
        "condition_start_date",
        [DIABETES, DIABETES_CHILD, HYPERTENSION, HYPERTENSION, 0],
    )


def _measurements(rng: np.random.Generator, ids: np.ndarray) -> pd.DataFrame:
    table = _events(
        rng,
        ids,
        6,
        "measurement_id",
        "measurement_concept_id",
        "measurement_date",
        [SYSTOLIC, BMI, HBA1C],
    )
    n, concept = len(table), table.measurement_concept_id
    value = np.select(
        [concept == SYSTOLIC, concept == BMI],
        [rng.normal(130, 20, n).round(), rng.normal(27, 5, n).round(1)],
        rng.normal(6.5, 1.2, n).round(1),
    )
    unit = np.select([concept == SYSTOLIC, concept == BMI], [MM_HG, KG_M2], PERCENT).astype(float)
    ifcc = (concept == HBA1C) & (rng.random(n) < 0.4)
    value = np.where(ifcc, ((value - 2.152) / 0.09148).round(), value)
    unit = np.where(ifcc, MMOL_PER_MOL, unit)
    odd = rng.random(n)
    value = np.where(odd < 0.03, 999.0, np.where(odd < 0.05, np.nan, value))
    unit = np.where(odd > 0.97, NO_SUCH_UNIT, np.where(odd > 0.93, np.nan, unit))
    return table.assign(value_as_number=value, unit_concept_id=unit)


def concept_tables() -> dict[str, pd.DataFrame]:
    """The vocabulary that every site has."""
    names = {8527: "White", 8516: "Black", DIABETES: "Type 2 diabetes mellitus"}
    ancestors = [(c, c) for c in (DIABETES, DIABETES_CHILD, HYPERTENSION)]
    ancestors.append((DIABETES, DIABETES_CHILD))
    return {
        "concept": pd.DataFrame(names.items(), columns=["concept_id", "concept_name"]),
        "concept_ancestor": pd.DataFrame(
            ancestors, columns=["ancestor_concept_id", "descendant_concept_id"]
        ),
    }


def part_of(tables: Tables, site: int, sites: int, *, empty: bool) -> dict[str, pd.DataFrame]:
    """The rows of one site's persons; the last site holds nobody where `empty`."""
    holding = sites - 1 if empty and sites > 1 else sites
    return {
        name: table[table.person_id % holding == site] if site < holding else table[:0]
        for name, table in tables.items()
    }


@dataclass(frozen=True)
class Pooled:
    """All persons of a population, one row each: index date and features, by pandas."""

    frame: pd.DataFrame


def everyone(tables: Tables) -> pd.DataFrame:
    person = tables["person"].set_index("person_id", drop=False)
    ends = tables["observation_period"].groupby("person_id").observation_period_end_date.max()
    return person.assign(index_date=pd.NaT, reference=person.person_id.map(ends))


def first_diabetes(tables: Tables, prior_days: int) -> pd.DataFrame:
    """First record of type 2 diabetes or a descendant, observed, with prior observation."""
    events = tables["condition_occurrence"]
    events = events[events.condition_concept_id.isin([DIABETES, DIABETES_CHILD])]
    first = events.groupby("person_id").condition_start_date.min()
    person = tables["person"].set_index("person_id", drop=False)
    person = person[person.index.isin(first.index)].assign(index_date=first)
    periods = tables["observation_period"].set_index("person_id")
    begin = person.index.map(periods.observation_period_start_date)
    end = person.index.map(periods.observation_period_end_date)
    inside = (person.index_date >= begin) & (person.index_date <= end)
    enough = (person.index_date - pd.Series(begin, person.index)).dt.days >= prior_days
    person = person[inside & enough]
    return person.assign(reference=person.index_date)


def with_features(tables: Tables, persons: pd.DataFrame) -> pd.DataFrame:
    """The persons with age, sex, measurements, diabetes and visits, as the catalogue defines."""
    frame = persons.copy()
    frame["sex"] = frame.gender_concept_id.map({8507: "Male", 8532: "Female"}).fillna("Unknown")
    frame["age"] = _age(frame)
    bounds = [-np.inf, 0, 20, 40, 60, 80, np.inf]
    labels = ["Unknown", "0 to 19", "20 to 39", "40 to 59", "60 to 79", "80 or over"]
    groups = pd.cut(frame.age, bounds, right=False, labels=labels).astype(object)
    frame["age_group"] = groups.where(frame.age.notna(), "Unknown")
    for name, concept in (("systolic_bp", SYSTOLIC), ("bmi", BMI), ("hba1c", HBA1C)):
        usable = _usable(tables["measurement"], concept)
        usable = _in_window(usable, frame, "measurement_date", -365, 0)
        usable = usable.sort_values(["measurement_date", "measurement_id"])
        grouped = usable.groupby("person_id").value
        frame[name] = frame.person_id.map(grouped.last())
        frame[f"{name}_records"] = frame.person_id.map(grouped.size()).fillna(0)
    visits = tables["visit_occurrence"]
    visits = _in_window(visits, frame, "visit_start_date", -365, 0)
    visits = visits[visits.visit_concept_id == 9202]
    frame["outpatient_visits"] = frame.person_id.map(visits.groupby("person_id").size()).fillna(0)
    ill = tables["condition_occurrence"]
    ill = ill[ill.condition_concept_id == HYPERTENSION]
    ill = _in_window(ill, frame, "condition_start_date", -100_000, 0)
    frame["hypertension"] = np.where(frame.person_id.isin(ill.person_id), "Yes", "No")
    return frame


def _age(frame: pd.DataFrame) -> pd.Series:
    reference = pd.to_datetime(frame.reference)
    month, day = frame.month_of_birth.fillna(1), frame.day_of_birth.fillna(1)
    before = (reference.dt.month * 100 + reference.dt.day) < (month * 100 + day)
    return (reference.dt.year - frame.year_of_birth - before).where(reference.notna())


def _usable(measurement: pd.DataFrame, concept: int) -> pd.DataFrame:
    rows = measurement[measurement.measurement_concept_id == concept]
    own = {SYSTOLIC: MM_HG, BMI: KG_M2, HBA1C: PERCENT}[concept]
    unit = rows.unit_concept_id.fillna(0)
    converted = pd.Series(np.nan, rows.index)
    converted[unit.isin([0, own])] = rows.value_as_number
    if concept == HBA1C:
        ifcc = unit == MMOL_PER_MOL
        converted[ifcc] = rows.value_as_number[ifcc] * 0.09148 + 2.152
    low, high = PLAUSIBLE[concept]
    rows = rows.assign(value=converted)
    return rows[(rows.value >= low) & (rows.value <= high)]


def _in_window(
    rows: pd.DataFrame, frame: pd.DataFrame, date: str, first: int, last: int
) -> pd.DataFrame:
    index_date = rows.person_id.map(frame.set_index("person_id").index_date)
    rows = rows[rows.person_id.isin(frame.person_id)]
    if frame.index_date.isna().all():
        return rows
    days = (rows[date] - index_date[rows.index]).dt.days
    return rows[(days >= first) & (days <= last)]


def exits(tables: Tables, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For death and for a first hypertension, the persons at risk: day of exit and if by event."""
    ends = tables["observation_period"].set_index("person_id").observation_period_end_date
    rows = frame.assign(followed=(frame.index.map(ends) - frame.index_date).dt.days)
    ill = tables["condition_occurrence"]
    ill = ill[ill.condition_concept_id == HYPERTENSION].groupby("person_id")
    found = {}
    for name, dates, first in (
        ("death", tables["death"].set_index("person_id").death_date, None),
        ("hypertension", ill.condition_start_date.min(), 1),
    ):
        day = (pd.to_datetime(rows.person_id.map(dates)) - rows.index_date).dt.days
        if first is None:
            day = day.where(day >= 0)
        at_risk = rows if first is None else rows[~(day < first)]
        day = day[at_risk.index]
        event = day <= at_risk.followed
        found[name] = at_risk.assign(day=day.where(event, at_risk.followed), event=event)
    return found


def kaplan_meier(exits: pd.DataFrame, day: int) -> float:
    """The product-limit estimate of survival after a day, from exact days."""
    survival = 1.0
    for at, rows in exits[exits.event & (exits.day <= day)].groupby("day"):
        survival *= 1 - len(rows) / (exits.day >= at).sum()
    return survival


def groups(frame: pd.DataFrame, by: list[str]) -> dict[tuple[tuple[str, str], ...], pd.DataFrame]:
    """Overall, each stratum alone and all crossed: the rows of each group that has any."""
    found: dict[tuple[tuple[str, str], ...], pd.DataFrame] = {(): frame} if len(frame) else {}
    for names in [[name] for name in by] + ([by] if len(by) > 1 else []):
        for levels, rows in frame.groupby(names):
            found[tuple(zip(names, levels, strict=True))] = rows
    return found


def summary(values: pd.Series) -> dict[str, Any]:
    """What a textbook says of one column."""
    known = values.dropna().astype(float)
    return {
        "count": len(known),
        "count_missing": int(values.isna().sum()),
        "mean": known.mean(),
        "sd": known.std(),
        "variance": known.var(),
        "sum": known.sum(),
    }
