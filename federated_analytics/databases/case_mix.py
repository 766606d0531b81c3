"""How synthetic hospitals differ: ages, diseases, habits and the units of their laboratories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

AGE_EDGES = (18, 25, 35, 45, 55, 65, 75, 85, 96)
"""Ages at entry (years) between which `_ADULTS` stand."""

_ADULTS = (10.0, 16.0, 17.0, 17.0, 16.5, 13.0, 8.0, 2.5)
"""Adults by age band, in percent: an ageing population of Western Europe or North America."""

WHITE, BLACK, ASIAN, RACE_UNKNOWN = 8527, 8516, 8515, 8552
RACES = (WHITE, BLACK, ASIAN, RACE_UNKNOWN)


@dataclass(frozen=True)
class SiteProfile:
    """One hospital's patients.

    Args:
        title: what kind of hospital it is.
        age_tilt: the weight of an age band is multiplied by exp(age_tilt * (age - 50) / 10).
        women: share of women.
        races: weights of RACES.
        hispanic: share of Hispanic or Latino.
        bmi_shift: kg/m2 above the average adult's.
        smoking: ratio of the share of smokers to the average.
        contacts: ratio of the number of visits to the average.
        diseases: ratio of the incidence to the average, by disease.
    """

    title: str
    age_tilt: float = 0.0
    women: float = 0.52
    races: tuple[float, ...] = (72, 12, 8, 8)
    hispanic: float = 0.08
    bmi_shift: float = 0.0
    smoking: float = 1.0
    contacts: float = 1.0
    diseases: Mapping[str, float] = field(default_factory=dict)


_PROFILES = (
    SiteProfile(
        "urban general hospital",
        age_tilt=-0.14,
        women=0.54,
        races=(58, 20, 14, 8),
        hispanic=0.16,
        bmi_shift=-0.4,
        diseases={"asthma": 1.2, "depression": 1.2},
    ),
    SiteProfile(
        "heart centre",
        age_tilt=0.24,
        women=0.43,
        races=(82, 8, 5, 5),
        hispanic=0.04,
        bmi_shift=0.5,
        smoking=1.15,
        contacts=1.15,
        diseases={
            "hypertension": 1.6,
            "hyperlipidaemia": 1.5,
            "ischaemic_heart_disease": 2.4,
            "myocardial_infarction": 2.6,
            "heart_failure": 2.6,
            "atrial_fibrillation": 2.2,
        },
    ),
    SiteProfile(
        "diabetes and kidney clinic",
        age_tilt=0.10,
        women=0.50,
        races=(60, 22, 10, 8),
        hispanic=0.14,
        bmi_shift=2.2,
        contacts=1.25,
        diseases={"type_2_diabetes": 1.9, "ckd": 1.7, "type_1_diabetes": 4.0},
    ),
    SiteProfile(
        "rural district hospital",
        age_tilt=0.14,
        women=0.52,
        races=(93, 2, 1, 4),
        hispanic=0.03,
        bmi_shift=0.9,
        smoking=1.3,
        contacts=0.8,
        diseases={"copd": 1.5, "osteoarthritis": 1.3},
    ),
    SiteProfile(
        "university hospital",
        age_tilt=0.0,
        races=(70, 10, 12, 8),
        contacts=1.1,
        diseases={"breast_cancer": 2.0, "colon_cancer": 2.0, "lung_cancer": 2.0},
    ),
)


@dataclass(frozen=True)
class LaboratoryUnit:
    """How a site writes a quantity: value = (canonical - offset) / factor, with `places`."""

    unit_concept_id: int
    factor: float = 1.0
    offset: float = 0.0
    places: int = 1


_OTHER_UNITS = {
    "hba1c": LaboratoryUnit(9579, 0.09148, 2.152, 0),  # mmol/mol (IFCC)
    "total_cholesterol": LaboratoryUnit(8753, 38.665, places=2),  # mmol/L
    "ldl": LaboratoryUnit(8753, 38.665, places=2),
    "hdl": LaboratoryUnit(8753, 38.665, places=2),
    "triglycerides": LaboratoryUnit(8753, 88.545, places=2),
    "glucose": LaboratoryUnit(8753, 18.0156, places=1),
    "creatinine": LaboratoryUnit(8749, 0.011312, places=0),  # umol/L
    "haemoglobin": LaboratoryUnit(8636, 0.1, places=0),  # g/L
}
_POUNDS = {"weight": LaboratoryUnit(8739, 0.45359237, places=1)}


def profile(site: int) -> SiteProfile:
    """The patients of a site; after the five kinds of hospital they start again."""
    return _PROFILES[site % len(_PROFILES)]


def other_units(site: int) -> Mapping[str, LaboratoryUnit]:
    """Quantities that a site writes in another unit than the catalogue's.

    Sites with an odd number write SI units; every third site weighs in pounds.
    """
    return (_OTHER_UNITS if site % 2 else {}) | (_POUNDS if site % 3 == 2 else {})


def adults_by_age(of: SiteProfile) -> list[float]:
    """Share of a site's persons in each age band between AGE_EDGES."""
    weights = [
        weight * math.exp(of.age_tilt * ((low + high) / 2 - 50) / 10)
        for weight, low, high in zip(_ADULTS, AGE_EDGES, AGE_EDGES[1:], strict=False)
    ]
    return [weight / sum(weights) for weight in weights]


def site_name(site: int) -> str:
    """ "Synthetic hospital A" and so on."""
    letter = chr(ord("A") + site % 26)
    return f"Synthetic hospital {letter}{site // 26 if site >= 26 else ''}"
