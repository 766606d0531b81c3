"""The diseases of synthetic patients: how often, to whom, after what, and how dangerous.

The figures are round numbers in the range of published incidence and mortality of high-income
countries; they make plausible data, they estimate nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

OUTPATIENT: Final = 9202
INPATIENT: Final = 9201
EMERGENCY: Final = 9203


@dataclass(frozen=True)
class Disease:
    """One disease, named as the feature of the catalogue that holds its concepts.

    Args:
        hazard: cumulative incidence hazard up to the age of 70 of an average man who never smoked.
        shape: the cumulative hazard rises with the age to this power (Weibull).
        women: ratio of the hazard of women to that of men.
        men: ratio for men; 0 for diseases of women alone.
        bmi, blood_pressure, sugar, lipids: ratio of the hazard by standard deviation of the trait.
        smoking: ratio for smokers; ex-smokers have its square root.
        other_origin: ratio for persons who are not White.
        after: ratio of the hazard once another disease has begun.
        mortality: ratio of the hazard of death once it has begun.
        fatal: share of those of 70 years who die within 30 days.
        acute: it passes; what happened before the first contact is not on record.
        delay_days: mean time from the onset to the diagnosis.
        visit: concept of the visit at which it is diagnosed.
        outbreak: first and last day and share of persons, instead of a hazard by age.
    """

    feature: str
    hazard: float = 0.0
    shape: float = 1.0
    women: float = 1.0
    men: float = 1.0
    bmi: float = 1.0
    blood_pressure: float = 1.0
    sugar: float = 1.0
    lipids: float = 1.0
    smoking: float = 1.0
    other_origin: float = 1.0
    after: Mapping[str, float] = field(default_factory=dict)
    mortality: float = 1.0
    fatal: float = 0.0
    acute: bool = False
    delay_days: float = 60.0
    visit: Literal[9202, 9201, 9203] = 9202
    outbreak: tuple[str, str, float] | None = None


_D = Disease

# A disease stands after those that its own hazard depends on.
DISEASES: tuple[Disease, ...] = (
    _D("type_1_diabetes", 0.005, 0.6, mortality=1.5, delay_days=5, visit=INPATIENT),
    _D(
        "type_2_diabetes",
        *(0.24, 3.4, 0.8),
        bmi=1.9,
        sugar=1.8,
        other_origin=1.5,
        mortality=1.35,
        delay_days=500,
    ),
    _D(
        "hypertension",
        *(0.72, 3.1, 0.92),
        after={"type_2_diabetes": 1.7},
        bmi=1.35,
        blood_pressure=1.9,
        mortality=1.1,
        delay_days=300,
    ),
    _D(
        "hyperlipidaemia",
        *(0.5, 2.8, 0.9),
        after={"type_2_diabetes": 1.5},
        lipids=1.8,
        bmi=1.1,
        delay_days=400,
    ),
    _D("obesity", 0.16, 1.2, 1.1, bmi=6.0, delay_days=700),
    _D(
        "atrial_fibrillation",
        *(0.055, 6.0, 0.7),
        after={"hypertension": 1.6},
        bmi=1.2,
        mortality=1.3,
    ),
    _D(
        "ischaemic_heart_disease",
        *(0.08, 4.5, 0.5),
        after={"type_2_diabetes": 1.8, "hypertension": 1.5, "hyperlipidaemia": 1.5},
        smoking=1.8,
        mortality=1.3,
    ),
    _D(
        "myocardial_infarction",
        *(0.03, 4.0, 0.4),
        after={"ischaemic_heart_disease": 3.0, "type_2_diabetes": 1.6, "hypertension": 1.4},
        smoking=2.0,
        mortality=1.5,
        fatal=0.10,
        delay_days=0,
        visit=INPATIENT,
    ),
    _D(
        "stroke",
        *(0.035, 5.2, 0.8),
        after={"hypertension": 1.9, "atrial_fibrillation": 2.5, "type_2_diabetes": 1.5},
        smoking=1.6,
        mortality=1.6,
        fatal=0.11,
        delay_days=0,
        visit=INPATIENT,
    ),
    _D(
        "heart_failure",
        *(0.022, 6.5, 0.8),
        after={"myocardial_infarction": 4.0, "hypertension": 1.6, "atrial_fibrillation": 2.0},
        bmi=1.2,
        mortality=2.3,
        delay_days=20,
        visit=INPATIENT,
    ),
    _D(
        "ckd",
        *(0.06, 5.5),
        after={"type_2_diabetes": 2.3, "hypertension": 1.8, "type_1_diabetes": 6.0},
        mortality=1.6,
        delay_days=600,
    ),
    _D(
        "peripheral_vascular_disease",
        *(0.025, 5.5, 0.7),
        after={"type_2_diabetes": 2.3},
        smoking=3.0,
        mortality=1.4,
    ),
    _D("copd", 0.03, 4.8, 0.9, smoking=7.0, mortality=1.8, delay_days=600),
    _D("asthma", 0.09, 0.5, 1.3, bmi=1.1, delay_days=150),
    _D("depression", 0.22, 1.2, 1.7, smoking=1.3, mortality=1.15, delay_days=200),
    _D("breast_cancer", 0.075, 3.6, men=0.007, mortality=2.2, delay_days=60),
    _D("prostate_cancer", 0.07, 7.0, women=0.0, mortality=1.5, delay_days=120),
    _D("colon_cancer", 0.025, 5.5, 0.75, smoking=1.2, mortality=3.2, visit=INPATIENT),
    _D("lung_cancer", 0.008, 6.0, 0.9, smoking=14.0, mortality=12.0, visit=INPATIENT),
    _D("osteoarthritis", 0.22, 4.0, 1.4, bmi=1.4, delay_days=500),
    _D("osteoporosis", 0.025, 6.0, 4.5, bmi=0.7, delay_days=700),
    _D("hypothyroidism", 0.03, 1.8, 4.5, delay_days=250),
    _D("gastro_oesophageal_reflux", 0.14, 1.8, bmi=1.3, delay_days=300),
    _D("anaemia", 0.07, 2.2, 1.6, after={"ckd": 2.5}, mortality=1.2),
    _D("gout", 0.05, 3.5, 0.3, bmi=1.5, after={"ckd": 1.8}, delay_days=40),
    _D("rheumatoid_arthritis", 0.006, 2.4, 2.6, smoking=1.4, mortality=1.3, delay_days=200),
    _D("psoriasis", 0.03, 1.0, delay_days=300),
    _D("inflammatory_bowel_disease", 0.008, 0.9, delay_days=200),
    _D("epilepsy", 0.012, 0.7, mortality=1.4, delay_days=60),
    _D("schizophrenia", 0.006, 0.9, 0.8, smoking=2.0, mortality=1.8),
    _D("dementia", 0.012, 11.0, 1.1, after={"stroke": 2.0}, mortality=2.2, delay_days=600),
    _D("chronic_liver_disease", 0.015, 2.5, 0.6, bmi=1.3, mortality=2.0),
    _D("hip_fracture", 0.008, 9.0, 1.9, fatal=0.05, acute=True, delay_days=0, visit=INPATIENT),
    _D("venous_thrombosis", 0.02, 2.8, bmi=1.3, acute=True, delay_days=3, visit=EMERGENCY),
    _D("pulmonary_embolism", 0.01, 3.2, bmi=1.3, fatal=0.07, delay_days=0, visit=INPATIENT),
    _D(
        "pneumonia",
        *(0.12, 2.6, 0.85),
        after={"copd": 2.5, "dementia": 2.0},
        smoking=1.3,
        fatal=0.04,
        acute=True,
        delay_days=2,
        visit=INPATIENT,
    ),
    _D(
        "sepsis",
        0.02,
        4.5,
        after={"ckd": 1.8},
        fatal=0.2,
        acute=True,
        delay_days=0,
        visit=INPATIENT,
    ),
    _D("urinary_tract_infection", 0.12, 1.5, 4.0, acute=True, delay_days=2),
    _D(
        "gastrointestinal_haemorrhage",
        *(0.03, 3.5, 0.7),
        fatal=0.04,
        acute=True,
        delay_days=0,
        visit=EMERGENCY,
    ),
    _D("covid_19", acute=True, delay_days=2, outbreak=("2020-03-01", "2023-12-31", 0.22)),
)
