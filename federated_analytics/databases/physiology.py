"""What would be measured: values that follow age, sex, build, disease and treatment.

Each function takes the situation of v visits and gives v values in the catalogue's unit. The
coefficients are round numbers in the range of population surveys and trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from federated_analytics.databases.careers import Careers
from federated_analytics.databases.draws import Draws
from federated_analytics.databases.population import Persons
from federated_analytics.databases.treatments import Course

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from federated_analytics.databases.draws import Floats, Ids


@dataclass(frozen=True)
class Situation:
    """Persons at their visits.

    Shapes: int64[v] person (row of Persons), day, key (of the visit, for draws).
    """

    draws: Draws
    people: Persons
    course: Careers
    taken: Mapping[str, Course]
    person: Ids
    day: Ids
    key: Ids

    @cached_property
    def age(self) -> Floats:
        return self.people.age(self.day, self.person)

    @cached_property
    def woman(self) -> NDArray[np.bool_]:
        return self.people.woman[self.person]

    @cached_property
    def bmi(self) -> Floats:
        """Body mass index on that day, kg/m2."""
        day_to_day = 0.3 * self.noise("bmi")
        slimmed = 1.3 * self.on("glp1_agonists") + 0.6 * self.on("sglt2_inhibitors")
        return np.clip(self.people.bmi(self.day, self.person) + day_to_day - slimmed, 13.5, 75)

    @cached_property
    def systolic(self) -> Floats:
        return np.clip(_systolic(self), 75, 250)

    def sick(self, disease: str) -> Floats:
        return self.course.has(disease, self.day, self.person)

    def on(self, treatment: str) -> Floats:
        return self.taken[treatment].effect(self.day, self.person)

    def noise(self, channel: str) -> Floats:
        """Standard normal, anew at each visit."""
        return self.draws.normal(f"noise/{channel}", self.key)

    def trait(self, channel: str) -> Floats:
        """Standard normal, the same at all visits of a person."""
        return self.draws.normal(f"trait/{channel}", self.people.person_id)[self.person]


def _systolic(at: Situation) -> Floats:
    drugs = sum(
        (at.on(d) for d in ("ace_inhibitors", "arbs", "calcium_channel_blockers", "thiazides")),
        start=np.zeros(len(at.day)),
    )
    level = 119 + 0.32 * (at.age - 40) + 0.65 * (at.bmi - 26)
    # Women have lower pressure when young, not later.
    level -= np.where(at.woman, np.clip(6 - 0.2 * (at.age - 35), 0, 6), 0)
    level += 7.5 * at.people.bp_z[at.person] + 13 * at.sick("hypertension")
    level += 4 * at.sick("ckd") - 5 * at.sick("heart_failure")
    level -= 9.5 * np.minimum(drugs, 2.2) + 3 * at.on("beta_blockers")
    values: Floats = level + 8.5 * at.noise("systolic")
    return values


def _diastolic(at: Situation) -> Floats:
    level = 77.5 + 0.42 * (at.systolic - 127) - 0.28 * np.maximum(at.age - 55, 0)
    return np.clip(level + 5.5 * at.noise("diastolic"), 38, at.systolic - 15)


def _height(at: Situation) -> Floats:
    tall = np.where(at.woman, 164.0, 177.5) + np.where(at.woman, 6.3, 7.0) * at.trait("height")
    # One is measured as tall as one is, a little less in old age, whatever the day.
    return np.clip(tall - 0.06 * np.maximum(at.age - 60, 0), 140, 210)


def _weight(at: Situation) -> Floats:
    values: Floats = at.bmi * (_height(at) / 100) ** 2
    return values


def _hba1c(at: Situation) -> Floats:
    normal = 5.3 + 0.006 * (at.age - 45) + 0.022 * (at.bmi - 26)
    normal += 0.2 * at.people.sugar_z[at.person] + 0.12 * at.noise("hba1c")
    excess = np.exp(0.62 + 0.38 * at.trait("diabetes") + 0.12 * at.people.sugar_z[at.person])
    years = at.course.years_with("type_2_diabetes", at.day, at.person)
    beginning = np.clip(years / 1.5, 0.3, 1)
    lowered = 1 - 0.42 * at.on("metformin") - 0.2 * at.on("sulfonylureas")
    lowered -= 0.14 * at.on("dpp4_inhibitors") + 0.2 * at.on("glp1_agonists")
    lowered -= 0.16 * at.on("sglt2_inhibitors") + 0.4 * at.on("insulin_analogues")
    diabetic = excess * beginning * np.maximum(lowered, 0.15) + 0.05 * np.minimum(years, 20)
    level = normal + at.sick("type_2_diabetes") * (diabetic + 0.3 * at.noise("hba1c diabetic"))
    level += at.sick("type_1_diabetes") * np.exp(0.8 + 0.4 * at.trait("diabetes"))
    return np.clip(level, 3.8, 17)


def _glucose(at: Situation) -> Floats:
    """Mostly fasting: below the mean glucose that HbA1c stands for (ADAG, 2008)."""
    mean = 28.7 * _hba1c(at) - 46.7
    return np.clip(0.9 * mean * np.exp(0.11 * at.noise("glucose")), 42, 850)


def _ldl(at: Situation) -> Floats:
    level = 112 + 0.55 * (np.minimum(at.age, 62) - 45) - 0.5 * np.maximum(at.age - 68, 0)
    level += 20 * at.people.lipid_z[at.person] + 22 * at.sick("hyperlipidaemia")
    level *= 1 - 0.37 * at.on("statins")
    return np.clip(level + 11 * at.noise("ldl"), 22, 330)


def _hdl(at: Situation) -> Floats:
    level = np.where(at.woman, 60.0, 49.5) - 0.65 * (at.bmi - 26) + 9 * at.trait("hdl")
    level -= 4 * at.sick("type_2_diabetes") + 4 * at.people.smoker[at.person]
    return np.clip(level + 3 * at.noise("hdl"), 18, 120)


def _triglycerides(at: Situation) -> Floats:
    level = 4.66 + 0.022 * (at.bmi - 26) + 0.22 * at.sick("type_2_diabetes")
    level += 0.1 * at.sick("hyperlipidaemia") - 0.12 * at.on("statins")
    level += 0.33 * at.trait("triglycerides") + 0.22 * at.noise("triglycerides")
    return np.clip(np.exp(level), 28, 1200)


def _total_cholesterol(at: Situation) -> Floats:
    """Friedewald (1972): LDL + HDL + a fifth of the triglycerides."""
    return _ldl(at) + _hdl(at) + np.minimum(_triglycerides(at), 400) / 5


def _egfr(at: Situation) -> Floats:
    level = 111 - 0.8 * (at.age - 28) + 10 * at.trait("kidney") + 4 * at.noise("kidney")
    # Some lose a little, some lose the kidney.
    pace = np.exp(0.6 * at.trait("kidney disease") - 0.2)
    lost = np.minimum((12 + 0.9 * at.course.years_with("ckd", at.day, at.person)) * pace, 55)
    level -= at.sick("ckd") * lost + 4 * at.sick("heart_failure")
    # What is left of it wanes, it does not become negative.
    left: Floats = np.clip(12 * np.log1p(np.exp(level / 12)), 4, 135)
    return left


def _creatinine(at: Situation) -> Floats:
    """CKD-EPI 2021 (Inker et al., NEJM 385:1737), solved for creatinine in mg/dL."""
    kappa = np.where(at.woman, 0.7, 0.9)
    alpha = np.where(at.woman, -0.241, -0.302)
    ratio = _egfr(at) / (142 * 0.9938**at.age * np.where(at.woman, 1.012, 1.0))
    power = np.where(ratio < 1, -1 / 1.2, 1 / alpha)
    return np.clip(kappa * ratio**power, 0.2, 15)


def _heart_rate(at: Situation) -> Floats:
    level = 72 + 0.25 * (at.bmi - 26) + 6 * at.sick("atrial_fibrillation")
    level += 5 * at.trait("pulse") + 3 * at.people.smoker[at.person] - 8 * at.on("beta_blockers")
    return np.clip(level + 6 * at.noise("pulse"), 38, 160)


def _haemoglobin(at: Situation) -> Floats:
    level = np.where(at.woman, 13.5, 15.0) - 0.012 * np.maximum(at.age - 60, 0)
    level -= 2.6 * at.sick("anaemia") + 0.8 * at.sick("ckd")
    return np.clip(level + 0.75 * at.trait("blood") + 0.4 * at.noise("blood"), 5, 20)


def _potassium(at: Situation) -> Floats:
    level = 4.2 + 0.25 * at.sick("ckd") + 0.1 * at.on("ace_inhibitors")
    level += 0.2 * at.on("aldosterone_antagonists") - 0.2 * at.on("loop_diuretics")
    return np.clip(level + 0.33 * at.noise("potassium"), 2.5, 7.5)


def _alt(at: Situation) -> Floats:
    level = 3.05 + 0.02 * (at.bmi - 26) - 0.15 * at.woman + 0.5 * at.sick("chronic_liver_disease")
    return np.clip(np.exp(level + 0.35 * at.trait("liver") + 0.25 * at.noise("liver")), 5, 900)


def _crp(at: Situation) -> Floats:
    level = 0.5 + 0.05 * (at.bmi - 26) + 1.2 * at.sick("rheumatoid_arthritis")
    level += 0.3 * at.people.smoker[at.person] + 0.9 * at.noise("inflammation")
    return np.clip(np.exp(level), 0.2, 350)


def _nt_probnp(at: Situation) -> Floats:
    level = 4.1 + 0.03 * (at.age - 55) + 2.2 * at.sick("heart_failure")
    level += 1.0 * at.sick("atrial_fibrillation") + 0.4 * at.sick("ckd")
    return np.clip(np.exp(level + 0.7 * at.noise("probnp")), 5, 9_900)


LEVELS: Mapping[str, Callable[[Situation], Floats]] = {
    "systolic_bp": lambda at: at.systolic,
    "diastolic_bp": _diastolic,
    "heart_rate": _heart_rate,
    "height": _height,
    "weight": _weight,
    "bmi": lambda at: at.bmi,
    "hba1c": _hba1c,
    "glucose": _glucose,
    "total_cholesterol": _total_cholesterol,
    "ldl": _ldl,
    "hdl": _hdl,
    "triglycerides": _triglycerides,
    "creatinine": _creatinine,
    "egfr": _egfr,
    "haemoglobin": _haemoglobin,
    "potassium": _potassium,
    "alt": _alt,
    "crp": _crp,
    "nt_probnp": _nt_probnp,
}
