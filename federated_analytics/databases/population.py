"""Persons of a synthetic hospital: birth, sex, origin, habits and time under observation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from federated_analytics.databases.case_mix import (
    AGE_EDGES,
    RACES,
    WHITE,
    SiteProfile,
    adults_by_age,
)
from federated_analytics.databases.copying import Block
from federated_analytics.databases.draws import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from federated_analytics.databases.draws import Floats, Ids

MALE, FEMALE = 8507, 8532
HISPANIC, NOT_HISPANIC = 38003563, 38003564
FROM_RECORDS = 32817
"""Type concept "EHR"."""

DAYS_A_YEAR = 365.25
FIRST_DAY = int(np.datetime64("2012-01-01").astype(np.int64))
LAST_ENTRY = int(np.datetime64("2025-06-30").astype(np.int64))
LAST_DAY = int(np.datetime64("2025-12-31").astype(np.int64))
NEVER_DAY = LAST_DAY + 365_000

_BMI_SPREAD = 0.175
_THERE_AT_FIRST = 0.45
_YEARS_UNTIL_LOST = 18.0
_SHORTEST_STAY = 30


@dataclass(frozen=True)
class Persons:
    """A run of persons; all arrays are of one length n. Days count from 1970-01-01.

    Shapes: int64[n] person_id, birth, entry, leave, gender, race, ethnicity (concepts);
        bool[n] woman, smoker, ex_smoker; float64[n] standard normal traits bmi_z, bp_z, sugar_z,
        lipid_z, contact_z.
    Units: birth, entry and leave (end of contact, death aside) in days.
    """

    person_id: Ids
    birth: Ids
    entry: Ids
    leave: Ids
    woman: NDArray[np.bool_]
    race: Ids
    ethnicity: Ids
    smoker: NDArray[np.bool_]
    ex_smoker: NDArray[np.bool_]
    bmi_z: Floats
    bp_z: Floats
    sugar_z: Floats
    lipid_z: Floats
    contact_z: Floats
    bmi_shift: float

    def __len__(self) -> int:
        return len(self.person_id)

    def age(self, day: Ids, rows: Ids | slice = slice(None)) -> Floats:
        """Age in years of the persons at `rows` on `day`."""
        years: Floats = (day - self.birth[rows]) / DAYS_A_YEAR
        return years

    def bmi(self, day: Ids, rows: Ids | slice = slice(None)) -> Floats:
        """Body mass index in kg/m2: rises until 60, falls slowly afterwards; skewed."""
        age = self.age(day, rows)
        middle = 26.4 + self.bmi_shift + 0.055 * (np.minimum(age, 60) - 45)
        middle -= 0.07 * np.maximum(age - 65, 0)
        level: Floats = middle * np.exp(_BMI_SPREAD * self.bmi_z[rows])
        return level


def persons(draws: Draws, profile: SiteProfile, first: int, last: int) -> Persons:
    """The persons with ids first … last of a site."""
    ids = np.arange(first, last + 1, dtype=np.int64)
    entry = _entry(draws, ids)
    age = _age_at_entry(draws, ids, profile)
    woman = draws.chance("woman", ids, profile.women + 0.0025 * np.clip(age - 50, -20, 40))
    stay = DAYS_A_YEAR * _YEARS_UNTIL_LOST * draws.exponential("lost", ids)
    leave = np.minimum(entry + _SHORTEST_STAY + stay.astype(np.int64), LAST_DAY)
    smoker, ex_smoker = _smoking(draws, ids, profile, age, woman)
    return Persons(
        person_id=ids,
        birth=entry - (age * DAYS_A_YEAR).astype(np.int64),
        entry=entry,
        leave=leave,
        woman=woman,
        race=np.array(RACES)[draws.choice("race", ids, list(profile.races))],
        ethnicity=np.where(
            draws.chance("ethnicity", ids, profile.hispanic), HISPANIC, NOT_HISPANIC
        ),
        smoker=smoker,
        ex_smoker=ex_smoker,
        bmi_z=draws.normal("bmi", ids),
        bp_z=draws.normal("blood pressure", ids),
        sugar_z=draws.normal("glycaemia", ids),
        lipid_z=draws.normal("lipids", ids),
        contact_z=draws.normal("contacts", ids),
        bmi_shift=profile.bmi_shift,
    )


def _entry(draws: Draws, ids: Ids) -> Ids:
    later = draws.uniform("entry", ids) * (LAST_ENTRY - FIRST_DAY)
    soon = draws.uniform("entry", ids) * 120
    there = draws.chance("there at first", ids, _THERE_AT_FIRST)
    day: Ids = FIRST_DAY + np.where(there, soon, later).astype(np.int64)
    return day


def _age_at_entry(draws: Draws, ids: Ids, profile: SiteProfile) -> Floats:
    share = np.concatenate([[0.0], np.cumsum(adults_by_age(profile))])
    age: Floats = np.interp(draws.uniform("age", ids), share, np.array(AGE_EDGES, dtype=float))
    return age


def _smoking(
    draws: Draws, ids: Ids, profile: SiteProfile, age: Floats, woman: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who smokes (fewer of the old and of women), and who has given up (more of the old)."""
    now = profile.smoking * np.where(woman, 0.15, 0.2) * np.clip(1.5 - age / 100, 0.4, 1.3)
    before = np.where(woman, 0.18, 0.26) * np.clip(age / 50, 0.3, 1.5)
    u = draws.uniform("smoking", ids)
    return u < now, (u >= now) & (u < now + before)


def person_blocks(people: Persons, end: Ids) -> Iterator[Block]:
    """Rows of `person` and `observation_period`; `end` is the last day under observation."""
    birth = people.birth.astype("datetime64[D]")
    month = birth.astype("datetime64[M]")
    yield Block(
        "person",
        {
            "person_id": people.person_id,
            "gender_concept_id": np.where(people.woman, FEMALE, MALE),
            "year_of_birth": birth.astype("datetime64[Y]").astype(np.int64) + 1970,
            "month_of_birth": month.astype(np.int64) % 12 + 1,
            "day_of_birth": (birth - month).astype(np.int64) + 1,
            "race_concept_id": people.race,
            "ethnicity_concept_id": people.ethnicity,
            "gender_source_value": np.where(people.woman, b"F", b"M"),
        },
    )
    yield Block(
        "observation_period",
        {
            "observation_period_id": people.person_id,
            "person_id": people.person_id,
            "observation_period_start_date": people.entry.astype("datetime64[D]"),
            "observation_period_end_date": end.astype("datetime64[D]"),
            "period_type_concept_id": FROM_RECORDS,
        },
    )


def origin_ratio(people: Persons, ratio: float) -> Floats:
    """`ratio` for persons who are not White, 1 for the others."""
    by_person: Floats = np.where(people.race == WHITE, 1.0, ratio)
    return by_person
