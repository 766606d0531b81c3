"""What is measured at which visit, in which unit, with what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from federated_analytics.databases.careers import Careers
from federated_analytics.databases.case_mix import LaboratoryUnit, other_units
from federated_analytics.databases.copying import Block, Column, Decimals, split_by_null
from federated_analytics.databases.diseases import OUTPATIENT
from federated_analytics.databases.draws import Draws
from federated_analytics.databases.physiology import LEVELS, Situation
from federated_analytics.databases.population import FROM_RECORDS, Persons
from federated_analytics.databases.treatments import Course
from federated_analytics.databases.visits import Visits, share_of
from federated_analytics.databases.vocabulary import catalogue_entries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from federated_analytics.databases.draws import Floats, Ids

_WRONG = 0.002
_NO_VALUE = 0.01
_NO_UNIT = 0.015
_UNIT_ZERO = 0.01


@dataclass(frozen=True)
class Panel:
    """Quantities that are measured together.

    Args:
        features: of the catalogue.
        share: of visits at which they are.
        at_diagnosis: share of the visits at which a disease is first recorded.
        for_disease: share of the visits of persons who are known to have a disease.
        once: at a person's first such visit only.
    """

    features: tuple[str, ...]
    share: float
    at_diagnosis: float
    for_disease: Mapping[str, float] = field(default_factory=dict)
    once: bool = False


_DIABETES = {"type_2_diabetes": 0.5, "type_1_diabetes": 0.6}

PANELS = (
    Panel(
        ("systolic_bp", "diastolic_bp"),
        *(0.32, 0.75),
        {"hypertension": 0.55, "type_2_diabetes": 0.5},
    ),
    Panel(("heart_rate",), 0.08, 0.3, {"atrial_fibrillation": 0.4}),
    Panel(("weight", "bmi"), 0.13, 0.5, {"obesity": 0.35, "type_2_diabetes": 0.3}),
    Panel(("height",), 0.5, 0.8, once=True),
    Panel(("hba1c",), 0.04, 0.25, _DIABETES),
    Panel(("glucose",), 0.08, 0.25, {"type_2_diabetes": 0.2}),
    Panel(
        ("total_cholesterol", "ldl", "hdl", "triglycerides"),
        *(0.05, 0.2),
        {"hyperlipidaemia": 0.2, "type_2_diabetes": 0.15},
    ),
    Panel(("creatinine", "egfr"), 0.07, 0.25, {"ckd": 0.45, "heart_failure": 0.35}),
    Panel(("potassium",), 0.05, 0.15, {"heart_failure": 0.35}),
    Panel(("haemoglobin",), 0.08, 0.2, {"anaemia": 0.4}),
    Panel(("alt",), 0.04, 0.12),
    Panel(("crp",), 0.03, 0.1, {"rheumatoid_arthritis": 0.4}),
    Panel(("nt_probnp",), 0.002, 0.01, {"heart_failure": 0.3}),
)

_PLACES = {"systolic_bp": 0, "diastolic_bp": 0, "heart_rate": 0, "creatinine": 2, "egfr": 0}
_PLACES |= {"total_cholesterol": 0, "ldl": 0, "hdl": 0, "triglycerides": 0, "glucose": 0}
_PLACES |= {"alt": 0, "nt_probnp": 0}
_TYPING_ERRORS = {"bmi": (999.0, 0.0), "systolic_bp": (0.0, 999.0), "hba1c": (0.0,)}
_SUMMARISED = ("bmi", "systolic_bp", "diastolic_bp", "hba1c", "total_cholesterol")


@dataclass(frozen=True)
class Measured:
    """One quantity at v visits.

    Shapes: int64[v] position (of the visit in Visits); float64[v] values in the catalogue's unit;
        bool[v] missing (no value), wrong (a typing error stands there instead).
    """

    feature: str
    position: Ids
    values: Floats
    missing: NDArray[np.bool_]
    wrong: NDArray[np.bool_]


def measured(
    draws: Draws, people: Persons, course: Careers, taken: Mapping[str, Course], seen: Visits
) -> Iterator[Measured]:
    """Every quantity, one after the other."""
    for panel in PANELS:
        position = _visits_of(draws, panel, course, seen)
        at = Situation(
            *(draws, people, course, taken),
            *(seen.person[position], seen.day[position], seen.key[position]),
        )
        for feature in panel.features:
            yield Measured(
                feature,
                position,
                LEVELS[feature](at),
                missing=draws.chance(f"no value/{feature}", at.key, _NO_VALUE),
                wrong=draws.chance(f"wrong/{feature}", at.key, _WRONG),
            )


def _visits_of(draws: Draws, panel: Panel, course: Careers, seen: Visits) -> Ids:
    share = np.where(seen.diagnosis, panel.at_diagnosis, panel.share)
    for disease, more in panel.for_disease.items():
        known = course.recorded[disease][seen.person]
        share = np.where(known <= seen.day, np.maximum(share, more), share)
        # Blood glucose is looked at when diabetes is found, and so on.
        share = np.where(known == seen.day, 0.88, share)
    share = np.where(seen.concept == OUTPATIENT, share, np.maximum(share, 0.4 * panel.at_diagnosis))
    position = share_of(draws, f"panel/{panel.features[0]}", seen, share)
    if panel.once and len(position):
        person = seen.person[position]
        position = position[np.concatenate([[True], person[1:] != person[:-1]])]
    return position


def measurement_blocks(
    draws: Draws, people: Persons, seen: Visits, taken: Measured, first_id: int
) -> Iterator[Block]:
    """Rows of `measurement` of one quantity; ids from `first_id`."""
    entry = catalogue_entries()[taken.feature]
    places = _PLACES.get(taken.feature, 1)
    unit = other_units(draws.site).get(
        taken.feature, LaboratoryUnit(entry["unit_concept_id"], places=places)
    )
    key = seen.key[taken.position]
    written = _written(draws, taken, key, unit)
    # Without its unit a value is taken to be in the catalogue's: left out where that is true.
    usual = unit.unit_concept_id == entry["unit_concept_id"]
    gap = draws.uniform(f"unit/{taken.feature}", key) if usual else np.full(len(key), 0.5)
    columns: dict[str, Column] = {
        "measurement_id": first_id + np.arange(len(key)),
        "person_id": people.person_id[seen.person[taken.position]],
        "measurement_concept_id": int(entry["concepts"][0]["id"]),
        "measurement_date": seen.day[taken.position].astype("datetime64[D]"),
        "measurement_type_concept_id": FROM_RECORDS,
        "value_as_number": Decimals(written, unit.places),
        "unit_concept_id": np.where(gap < _UNIT_ZERO, 0, unit.unit_concept_id),
        "visit_occurrence_id": seen.visit_id[taken.position],
    }
    no_unit = gap > 1 - _NO_UNIT
    missing = {"value_as_number": taken.missing, "unit_concept_id": no_unit}
    yield from split_by_null("measurement", columns, missing)


def _written(draws: Draws, taken: Measured, key: Ids, unit: LaboratoryUnit) -> Floats:
    """What stands in the record: rounded by hand, converted, sometimes mistyped."""
    values = taken.values
    if taken.feature in ("systolic_bp", "diastolic_bp"):
        # Read off a gauge: even numbers, often a multiple of ten.
        tens = draws.chance(f"tens/{taken.feature}", key, 0.25)
        values = np.where(tens, 10 * np.rint(values / 10), 2 * np.rint(values / 2))
    values = (values - unit.offset) / unit.factor
    errors = _TYPING_ERRORS.get(taken.feature)
    if errors:
        which = draws.choice(f"which error/{taken.feature}", key, [1.0] * len(errors))
        values = np.where(taken.wrong, np.array(errors)[which], values)
    return np.clip(values, 0, 9_999)


@dataclass
class LatestValues:
    """Each person's latest value of the quantities in `person_summary`, NaN without one."""

    persons: int
    smoking_unknown: NDArray[np.bool_]
    values: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for feature in _SUMMARISED:
            self.values[feature] = np.full(self.persons, np.nan)

    def note(self, taken: Measured, seen: Visits) -> None:
        """Take over what was measured; visits are sorted by day, so the last one stays."""
        if taken.feature in self.values:
            good = ~(taken.missing | taken.wrong)
            person = seen.person[taken.position][good]
            self.values[taken.feature][person] = np.round(taken.values[good], 1)


def summary_blocks(people: Persons, course: Careers, latest: LatestValues) -> Iterator[Block]:
    """Rows of `person_summary`; age on the last day under observation."""
    age = np.floor(people.age(course.end)).astype(np.int64)
    for sex, rows in (("female", people.woman), ("male", ~people.woman)):
        values = {feature: column[rows] for feature, column in latest.values.items()}
        columns: dict[str, Column] = {
            "person_id": people.person_id[rows],
            "age": age[rows],
            "sex": sex,
            "smoker": people.smoker[rows],
        }
        missing = {feature: np.isnan(column) for feature, column in values.items()}
        missing["smoker"] = latest.smoking_unknown[rows]
        yield from split_by_null("person_summary", columns | values, missing)
