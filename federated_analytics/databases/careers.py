"""Careers of diseases: when each begins, when it is diagnosed, when the person dies.

Ages at onset come from proportional hazards: a unit exponential draw is mapped back through the
cumulative hazard, whose slope changes when a disease that acts on it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from federated_analytics.databases.case_mix import SiteProfile
from federated_analytics.databases.diseases import DISEASES, Disease
from federated_analytics.databases.draws import Draws
from federated_analytics.databases.population import (
    DAYS_A_YEAR,
    NEVER_DAY,
    Persons,
    origin_ratio,
)

if TYPE_CHECKING:
    from federated_analytics.databases.draws import Floats, Ids

_OLDEST = 200.0
"""Years; an onset at this age never comes."""

_DEATH_HAZARD = 2.9e-5
_DEATH_SLOPE = 0.085
"""Gompertz: hazard of death a year = _DEATH_HAZARD * exp(_DEATH_SLOPE * age), healthy men."""

_DAMPED = 0.65
"""Exponent of the diseases' ratios: with several at once their product would be too much."""

_WOMEN_DIE = 0.68
_SMOKERS_DIE = 1.8
_ON_RECORD_AT_ENTRY = 0.85
_ASKED_AT_ENTRY = 0.3
_YEARS_UNTIL_TOLD = 2.0
"""What a new patient has already is asked for at the first contacts, or comes up much later."""


@dataclass(frozen=True)
class Careers:
    """Days of onset and of first record by disease (NEVER_DAY: not at all), and of death.

    Shapes: int64[n] each. `end` is the last day under observation; `recorded` lies in it.
    """

    onset: Mapping[str, Ids]
    recorded: Mapping[str, Ids]
    death: Ids
    end: Ids

    def has(self, disease: str, day: Ids, rows: Ids) -> Floats:
        """1.0 where the persons at `rows` have the disease on `day`, known or not."""
        present: Floats = (self.onset[disease][rows] <= day).astype(np.float64)
        return present

    def years_with(self, disease: str, day: Ids, rows: Ids) -> Floats:
        """Years since the onset, 0 before it."""
        years: Floats = np.maximum(day - self.onset[disease][rows], 0) / DAYS_A_YEAR
        return years


def careers(draws: Draws, profile: SiteProfile, people: Persons) -> Careers:
    """Every disease of every person, and the death."""
    ages: dict[str, Floats] = {}
    for disease in DISEASES:
        ages[disease.feature] = _onset_age(draws, profile, people, disease, ages)
    onset = {
        name: np.where(age < _OLDEST, people.birth + age * DAYS_A_YEAR, NEVER_DAY).astype(np.int64)
        for name, age in ages.items()
    }
    death = _death(draws, people, ages, onset)
    end = np.minimum(people.leave, death)
    recorded = {d.feature: _recorded(draws, people, d, onset[d.feature], end) for d in DISEASES}
    return Careers(onset, recorded, np.where(death <= people.leave, death, NEVER_DAY), end)


def _onset_age(
    draws: Draws, profile: SiteProfile, people: Persons, disease: Disease, ages: dict[str, Floats]
) -> Floats:
    ids, channel = people.person_id, f"onset/{disease.feature}"
    if disease.outbreak:
        first, last, share = disease.outbreak
        days = np.array([first, last], dtype="datetime64[D]").astype(np.int64)
        day = days[0] + draws.uniform(channel, ids) * (days[1] - days[0])
        caught = draws.chance(channel + "/caught", ids, share)
        age: Floats = np.where(caught, (day - people.birth) / DAYS_A_YEAR, _OLDEST)
        return age
    scale = np.maximum(_scale(people, disease) * profile.diseases.get(disease.feature, 1.0), 1e-12)
    turns = [scale * (ages[other] / 70) ** disease.shape for other in disease.after]
    reached = _bent(draws.exponential(channel, ids), turns, list(disease.after.values()))
    years: Floats = np.minimum(70 * (reached / scale) ** (1 / disease.shape), _OLDEST)
    return years


def _scale(people: Persons, disease: Disease) -> Floats:
    """Each person's cumulative hazard up to 70, before other diseases act on it."""
    scale: Floats = disease.hazard * np.where(people.woman, disease.women, disease.men)
    for ratio, trait in (
        (disease.bmi, people.bmi_z),
        (disease.blood_pressure, people.bp_z),
        (disease.sugar, people.sugar_z),
        (disease.lipids, people.lipid_z),
    ):
        if ratio != 1.0:
            # The mean of exp(b z) is exp(b²/2): divided out, so that `hazard` is the average's.
            slope = np.log(ratio)
            scale = scale * np.exp(slope * trait - slope**2 / 2)
    smoking = np.where(people.smoker, disease.smoking, 1.0)
    scale = scale * np.where(people.ex_smoker, np.sqrt(disease.smoking), smoking)
    return scale * origin_ratio(people, disease.other_origin)


def _bent(target: Floats, turns: Sequence[Floats], ratios: Sequence[float]) -> Floats:
    """Where a cumulative hazard reaches `target` when its slope is multiplied at each turn.

    Args:
        target: unit exponential draws.
        turns: the unbent cumulative hazard at which each ratio begins to act.
    """
    if not turns:
        return target
    at = np.stack(turns)
    order = np.argsort(at, axis=0)
    by_order = np.array(ratios)[order]
    reached = target
    for turn, ratio in zip(np.take_along_axis(at, order, axis=0), by_order, strict=True):
        reached = np.where(reached > turn, turn + (reached - turn) / ratio, reached)
    return reached


def _death(
    draws: Draws, people: Persons, ages: Mapping[str, Floats], onset: Mapping[str, Ids]
) -> Ids:
    """Day of death: Gompertz from the entry on, steeper with disease; or soon after an attack."""
    ids = people.person_id
    entry = people.age(people.entry)
    scale = _DEATH_HAZARD / _DEATH_SLOPE * np.where(people.woman, _WOMEN_DIE, 1.0)
    scale *= np.where(people.smoker, _SMOKERS_DIE, 1.0)
    start = np.exp(_DEATH_SLOPE * entry)
    deadly = [d for d in DISEASES if d.mortality > 1]
    turns = [
        scale * (np.exp(_DEATH_SLOPE * np.clip(ages[d.feature], entry, _OLDEST)) - start)
        for d in deadly
    ]
    ratios = [d.mortality**_DAMPED for d in deadly]
    reached = _bent(draws.exponential("death", ids), turns, ratios)
    age = np.log(reached / scale + start) / _DEATH_SLOPE
    day: Ids = np.maximum(people.birth + age * DAYS_A_YEAR, people.entry + 1).astype(np.int64)
    for disease in DISEASES:
        if disease.fatal:
            day = np.minimum(day, _attack(draws, people, disease, onset[disease.feature]))
    return day


def _attack(draws: Draws, people: Persons, disease: Disease, onset: Ids) -> Ids:
    """Day of death within 30 days of an onset under observation; NEVER_DAY for survivors."""
    ids, channel = people.person_id, f"fatal/{disease.feature}"
    share = disease.fatal * np.clip(people.age(onset) / 70, 0, 1.3) ** 3
    dies = draws.chance(channel, ids, share) & (onset > people.entry) & (onset < NEVER_DAY)
    days = 30 * draws.uniform(channel + "/days", ids)
    return np.where(dies, onset + days.astype(np.int64), NEVER_DAY)


def _recorded(draws: Draws, people: Persons, disease: Disease, onset: Ids, end: Ids) -> Ids:
    """Day of the first record: the diagnosis, or after the entry for what was known."""
    ids, channel = people.person_id, f"diagnosis/{disease.feature}"
    delay = disease.delay_days * draws.exponential(channel, ids)
    day = onset + delay.astype(np.int64)
    at_once = 90 * draws.uniform("first contact", ids) ** 2
    later = 120 + _YEARS_UNTIL_TOLD * DAYS_A_YEAR * draws.exponential(channel + "/told", ids)
    asked = draws.chance(channel + "/asked", ids, _ASKED_AT_ENTRY)
    soon = people.entry + np.where(asked, at_once, later).astype(np.int64)
    share = 0.0 if disease.acute else _ON_RECORD_AT_ENTRY
    known = draws.chance(channel + "/known", ids, share)
    day = np.where(day < people.entry, np.where(known, soon, NEVER_DAY), day)
    return np.where(day <= end, day, NEVER_DAY)
