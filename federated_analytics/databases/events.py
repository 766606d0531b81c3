"""Conditions, procedures, observations, deaths and cohorts of synthetic patients, as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from federated_analytics.databases.careers import Careers
from federated_analytics.databases.copying import Block
from federated_analytics.databases.diseases import DISEASES, OUTPATIENT, Disease
from federated_analytics.databases.draws import Draws
from federated_analytics.databases.population import FROM_RECORDS, NEVER_DAY, Persons
from federated_analytics.databases.visits import Visits, share_of
from federated_analytics.databases.vocabulary import concept_ids, descendant_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from federated_analytics.databases.draws import Ids

COHORTS: Mapping[int, tuple[str, str]] = {
    1: ("type_2_diabetes", "Type 2 diabetes, from the first diagnosis to the end of observation"),
    2: ("hypertension", "Hypertension, from the first diagnosis to the end of observation"),
}

_CODED_AGAIN = 0.09
_AT_MAIN_CONCEPT = 0.65
_SMOKER, _EX_SMOKER, _NEVER_SMOKED = 4298794, 4310250, 4144272
_SMOKING_ASKED = 0.75


def condition_blocks(
    draws: Draws, people: Persons, course: Careers, seen: Visits, first_id: int
) -> Iterator[Block]:
    """Rows of `condition_occurrence`: first records, and later ones of what lasts."""
    for disease in DISEASES:
        recorded = course.recorded[disease.feature]
        person = np.flatnonzero(recorded < NEVER_DAY)
        concept = _concept(draws, people.person_id, disease)
        first = seen.find(person, recorded[person])
        again = np.zeros(0, dtype=np.int64)
        if not disease.acute:
            again = share_of(draws, f"again/{disease.feature}", seen, _CODED_AGAIN)
            again = again[recorded[seen.person[again]] < seen.day[again]]
        at = np.concatenate([first, again])
        yield Block(
            "condition_occurrence",
            {
                "condition_occurrence_id": first_id + np.arange(len(at)),
                "person_id": people.person_id[seen.person[at]],
                "condition_concept_id": concept[seen.person[at]],
                "condition_start_date": seen.day[at].astype("datetime64[D]"),
                "condition_type_concept_id": FROM_RECORDS,
                "visit_occurrence_id": seen.visit_id[at],
            },
        )
        first_id += len(at)


def _concept(draws: Draws, ids: Ids, disease: Disease) -> Ids:
    """Each person's concept for a disease: the feature's last one, or a narrower one."""
    main = concept_ids(disease.feature)
    theirs = {concept_ids(d.feature)[-1] for d in DISEASES if d is not disease}
    others = [c for c in [*main[:-1], *descendant_ids(main[-1])] if c not in theirs]
    if not others:
        return np.full(len(ids), main[-1])
    share = (1 - _AT_MAIN_CONCEPT) / len(others)
    weights = [_AT_MAIN_CONCEPT, *(share for _ in others)]
    chosen: Ids = np.array([main[-1], *others])[
        draws.choice(f"concept/{disease.feature}", ids, weights)
    ]
    return chosen


# Procedure feature, the disease that it follows, share of those with it, mean delay in days.
_PROCEDURES = (
    ("coronary_intervention", "myocardial_infarction", 0.5, 1.0),
    ("coronary_bypass", "ischaemic_heart_disease", 0.06, 400.0),
    ("echocardiograms", "heart_failure", 0.8, 15.0),
    ("echocardiograms", "atrial_fibrillation", 0.5, 30.0),
    ("electrocardiograms", "ischaemic_heart_disease", 0.8, 10.0),
    ("electrocardiograms", "atrial_fibrillation", 0.9, 2.0),
    ("colonoscopies", "colon_cancer", 0.9, 0.5),
    ("colonoscopies", "inflammatory_bowel_disease", 0.7, 30.0),
    ("dialysis", "ckd", 0.06, 1500.0),
    ("knee_replacement", "osteoarthritis", 0.08, 1200.0),
    ("hip_replacement", "osteoarthritis", 0.05, 1300.0),
    ("hip_replacement", "hip_fracture", 0.45, 1.0),
)
# Procedures at visits of their own accord: feature, share of the visits, from age.
_SCREENING = (("electrocardiograms", 0.05, 40), ("colonoscopies", 0.015, 50))


def procedure_blocks(
    draws: Draws, people: Persons, course: Careers, seen: Visits, first_id: int
) -> Iterator[Block]:
    """Rows of `procedure_occurrence`."""
    for feature, person, day in _procedures(draws, people, course, seen):
        yield Block(
            "procedure_occurrence",
            {
                "procedure_occurrence_id": first_id + np.arange(len(person)),
                "person_id": people.person_id[person],
                "procedure_concept_id": concept_ids(feature)[0],
                "procedure_date": day.astype("datetime64[D]"),
                "procedure_type_concept_id": FROM_RECORDS,
            },
        )
        first_id += len(person)


def _procedures(
    draws: Draws, people: Persons, course: Careers, seen: Visits
) -> Iterator[tuple[str, Ids, Ids]]:
    for feature, disease, share, delay in _PROCEDURES:
        channel = f"procedure/{feature}/{disease}"
        done = draws.chance(channel, people.person_id, share)
        wait = delay * draws.exponential(channel + "/delay", people.person_id)
        day = course.recorded[disease] + wait.astype(np.int64)
        person = np.flatnonzero(done & (day <= course.end))
        yield feature, person, day[person]
    for feature, share, from_age in _SCREENING:
        at = share_of(draws, f"screening/{feature}", seen, share)
        at = at[people.age(seen.day[at], seen.person[at]) >= from_age]
        yield feature, seen.person[at], seen.day[at]


def smoking_known(draws: Draws, people: Persons) -> NDArray[np.bool_]:
    """Who was ever asked about smoking."""
    return draws.chance("smoking asked", people.person_id, _SMOKING_ASKED)


def observation_blocks(
    draws: Draws, people: Persons, seen: Visits, first_id: int
) -> Iterator[Block]:
    """Rows of `observation`: smoking status, at the first outpatient visit."""
    status = np.where(people.ex_smoker, _EX_SMOKER, _NEVER_SMOKED)
    status = np.where(people.smoker, _SMOKER, status)
    outpatient = np.flatnonzero(seen.concept == OUTPATIENT)
    person, first = np.unique(seen.person[outpatient], return_index=True)
    asked = smoking_known(draws, people)[person]
    at = outpatient[first][asked]
    yield Block(
        "observation",
        {
            "observation_id": first_id + np.arange(len(at)),
            "person_id": people.person_id[person[asked]],
            "observation_concept_id": status[person[asked]],
            "observation_date": seen.day[at].astype("datetime64[D]"),
            "observation_type_concept_id": FROM_RECORDS,
            "visit_occurrence_id": seen.visit_id[at],
        },
    )


def death_blocks(people: Persons, course: Careers) -> Iterator[Block]:
    """Rows of `death`: those who die while under observation."""
    dead = np.flatnonzero(course.death < NEVER_DAY)
    yield Block(
        "death",
        {
            "person_id": people.person_id[dead],
            "death_date": course.death[dead].astype("datetime64[D]"),
            "death_type_concept_id": FROM_RECORDS,
        },
    )


def cohort_blocks(people: Persons, course: Careers) -> Iterator[Block]:
    """Rows of `cohort`, for each of COHORTS."""
    for cohort_id, (disease, _) in COHORTS.items():
        recorded = course.recorded[disease]
        member = np.flatnonzero(recorded < NEVER_DAY)
        yield Block(
            "cohort",
            {
                "cohort_definition_id": cohort_id,
                "subject_id": people.person_id[member],
                "cohort_start_date": recorded[member].astype("datetime64[D]"),
                "cohort_end_date": course.end[member].astype("datetime64[D]"),
            },
        )
