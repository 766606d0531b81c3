"""Treatment of synthetic patients: which drugs, for which diagnoses, when, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from federated_analytics.databases.careers import Careers
from federated_analytics.databases.copying import Block
from federated_analytics.databases.draws import Draws
from federated_analytics.databases.population import (
    DAYS_A_YEAR,
    FROM_RECORDS,
    NEVER_DAY,
    Persons,
)
from federated_analytics.databases.vocabulary import concept_ids, descendant_ids

if TYPE_CHECKING:
    from federated_analytics.databases.draws import Floats, Ids

RENEWAL_DAYS = 180
_FULL_EFFECT_DAYS = 75
_COMMON_INGREDIENTS = 4
_AS_PRODUCT = 0.7
"""Share recorded as a drug product, where the catalogue names one; else as the ingredient."""


@dataclass(frozen=True)
class Treatment:
    """A class of drugs, named as the feature of the catalogue that holds its ingredients.

    Args:
        indications: share of those treated, by disease.
        delay_days: mean time from the diagnosis to the start.
        course_days: how long a course lasts; 0 means for good.
        stop_a_year: share of those who give up in a year.
    """

    feature: str
    indications: Mapping[str, float]
    delay_days: float = 30.0
    course_days: int = 0
    stop_a_year: float = 0.08


_T = Treatment

TREATMENTS: tuple[Treatment, ...] = (
    _T("metformin", {"type_2_diabetes": 0.78}, 45),
    _T("sulfonylureas", {"type_2_diabetes": 0.22}, 1100),
    _T("sglt2_inhibitors", {"type_2_diabetes": 0.2, "heart_failure": 0.2}, 1200),
    _T("dpp4_inhibitors", {"type_2_diabetes": 0.14}, 1300),
    _T("glp1_agonists", {"type_2_diabetes": 0.14}, 1500),
    _T("insulin_analogues", {"type_1_diabetes": 0.97, "type_2_diabetes": 0.16}, 300),
    _T(
        "statins",
        {
            "hyperlipidaemia": 0.55,
            "type_2_diabetes": 0.45,
            "ischaemic_heart_disease": 0.75,
            "myocardial_infarction": 0.9,
            "stroke": 0.7,
        },
        70,
    ),
    _T("ace_inhibitors", {"hypertension": 0.42, "heart_failure": 0.5, "ckd": 0.3}, 60),
    _T("arbs", {"hypertension": 0.22, "heart_failure": 0.2}, 200),
    _T("calcium_channel_blockers", {"hypertension": 0.32}, 300),
    _T("thiazides", {"hypertension": 0.2}, 400),
    _T(
        "beta_blockers",
        {
            "myocardial_infarction": 0.8,
            "heart_failure": 0.7,
            "atrial_fibrillation": 0.55,
            "ischaemic_heart_disease": 0.5,
            "hypertension": 0.08,
        },
        20,
    ),
    _T("loop_diuretics", {"heart_failure": 0.7, "ckd": 0.12}, 15),
    _T("aldosterone_antagonists", {"heart_failure": 0.35}, 120),
    _T(
        "aspirin",
        {"myocardial_infarction": 0.9, "ischaemic_heart_disease": 0.6, "stroke": 0.55},
        15,
    ),
    _T("p2y12_inhibitors", {"myocardial_infarction": 0.65, "stroke": 0.3}, 5, course_days=365),
    _T(
        "anticoagulants",
        {"atrial_fibrillation": 0.68, "pulmonary_embolism": 0.9, "venous_thrombosis": 0.8},
        5,
    ),
    _T("ssris", {"depression": 0.5}, 30, stop_a_year=0.35),
    _T("salbutamol", {"asthma": 0.8, "copd": 0.75}, 10),
    _T("systemic_corticosteroids", {"rheumatoid_arthritis": 0.45, "copd": 0.25}, 200, 30),
    _T("levothyroxine", {"hypothyroidism": 0.85}, 20, stop_a_year=0.02),
    _T("allopurinol", {"gout": 0.5}, 60),
    _T("alendronate", {"osteoporosis": 0.55}, 40, stop_a_year=0.2),
    _T("proton_pump_inhibitors", {"gastro_oesophageal_reflux": 0.7}, 20, stop_a_year=0.25),
    _T("paracetamol", {"osteoarthritis": 0.5, "covid_19": 0.3}, 30, 60),
    _T("nsaids", {"osteoarthritis": 0.35, "rheumatoid_arthritis": 0.5}, 40, 90),
    _T("opioids", {"hip_fracture": 0.6, "lung_cancer": 0.6, "colon_cancer": 0.4}, 10, 30),
    _T("amoxicillin", {"pneumonia": 0.5, "urinary_tract_infection": 0.25}, 0.5, 7),
)


@dataclass(frozen=True)
class Course:
    """When each person takes a class of drugs; NEVER_DAY where not at all. int64[n] each."""

    start: Ids
    stop: Ids

    def effect(self, day: Ids, rows: Ids) -> Floats:
        """0 without the drug, rising to 1 within _FULL_EFFECT_DAYS of its start."""
        since = day - self.start[rows]
        ramp: Floats = np.clip(since / _FULL_EFFECT_DAYS, 0, 1) * (day <= self.stop[rows])
        return ramp


def courses(draws: Draws, people: Persons, course: Careers) -> dict[str, Course]:
    """Every treatment; none begins before the diagnosis that it is for is on record."""
    return {t.feature: _course(draws, people, t, course) for t in TREATMENTS}


def _course(draws: Draws, people: Persons, treatment: Treatment, course: Careers) -> Course:
    ids, start = people.person_id, np.full(len(people), NEVER_DAY)
    for disease, share in treatment.indications.items():
        channel = f"treatment/{treatment.feature}/{disease}"
        known = course.recorded[disease]
        treated = draws.chance(channel, ids, share) & (known < NEVER_DAY)
        # Who has had the disease for long is treated at once.
        years = np.maximum(people.entry - course.onset[disease], 0) / DAYS_A_YEAR
        delay = treatment.delay_days * draws.exponential(channel + "/delay", ids) / (1 + years)
        start = np.minimum(start, np.where(treated, known + delay.astype(np.int64), NEVER_DAY))
    start = np.where(start <= course.end, start, NEVER_DAY)
    lasting = draws.exponential(f"stop/{treatment.feature}", ids) / treatment.stop_a_year
    length = (
        np.full(len(people), treatment.course_days)
        if treatment.course_days
        else (lasting * DAYS_A_YEAR)
    )
    stop = np.minimum(start + length.astype(np.int64), course.end)
    return Course(start, np.where(start < NEVER_DAY, stop, NEVER_DAY))


def drug_blocks(
    draws: Draws, people: Persons, taken: Mapping[str, Course], first_id: int
) -> Iterator[Block]:
    """Rows of `drug_exposure`: prescriptions, renewed every RENEWAL_DAYS; ids from `first_id`."""
    for treatment in TREATMENTS:
        course = taken[treatment.feature]
        treated = np.flatnonzero(course.start < NEVER_DAY)
        count = (course.stop[treated] - course.start[treated]) // RENEWAL_DAYS + 1
        person = np.repeat(treated, count)
        number = np.arange(len(person)) - np.repeat(np.cumsum(count) - count, count)
        start = course.start[person] + number * RENEWAL_DAYS
        end = np.minimum(start + RENEWAL_DAYS - 1, course.stop[person])
        drug = _drug(draws, people.person_id[treated], treatment.feature)
        yield Block(
            "drug_exposure",
            {
                "drug_exposure_id": first_id + np.arange(len(person)),
                "person_id": people.person_id[person],
                "drug_concept_id": np.repeat(drug, count),
                "drug_exposure_start_date": start.astype("datetime64[D]"),
                "drug_exposure_end_date": end.astype("datetime64[D]"),
                "drug_type_concept_id": FROM_RECORDS,
                "days_supply": (end - start + 1).astype(np.int64),
            },
        )
        first_id += len(person)


def _drug(draws: Draws, ids: Ids, feature: str) -> Ids:
    """Each person's drug of a class: an ingredient, or a product of it."""
    ingredients = concept_ids(feature)[:_COMMON_INGREDIENTS]
    weights = [1 / (2 + 3 * i) for i in range(len(ingredients))]
    chosen = np.array(ingredients)[draws.choice(f"ingredient/{feature}", ids, weights)]
    as_product = draws.chance(f"product/{feature}", ids, _AS_PRODUCT)
    drug: Ids = chosen.copy()
    for ingredient in ingredients:
        products = descendant_ids(ingredient)
        if products:
            pick = draws.choice(f"which/{ingredient}", ids, [1.0] * len(products))
            drug = np.where((chosen == ingredient) & as_product, np.array(products)[pick], drug)
    return drug
