"""Visits of synthetic patients: routine contacts, and one for each diagnosis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from federated_analytics.databases.careers import Careers
from federated_analytics.databases.case_mix import SiteProfile
from federated_analytics.databases.copying import Block
from federated_analytics.databases.diseases import DISEASES, EMERGENCY, INPATIENT, OUTPATIENT
from federated_analytics.databases.draws import Draws
from federated_analytics.databases.population import (
    DAYS_A_YEAR,
    FROM_RECORDS,
    NEVER_DAY,
    Persons,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from federated_analytics.databases.draws import Floats, Ids

_ROUTINE_A_YEAR = 0.4
_EVENT_KEYS = 4096
"""Keys of events within a person: person_id * _EVENT_KEYS + its number."""

_RANK = {OUTPATIENT: 0, EMERGENCY: 1, INPATIENT: 2}


@dataclass(frozen=True)
class Visits:
    """Visits sorted by person and day; all arrays of one length v.

    Shapes: int64[v] person (row of Persons), day, last_day, concept, key (unlike any other's of
        the site, for draws), visit_id; bool[v] diagnosis (a disease is first recorded then).
    """

    person: Ids
    day: Ids
    last_day: Ids
    concept: Ids
    key: Ids
    visit_id: Ids
    diagnosis: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.day)

    def find(self, person: Ids, day: Ids) -> Ids:
        """Position of the visit of each person that begins on `day` (there must be one)."""
        order = self.person * NEVER_DAY + self.day
        position: Ids = np.searchsorted(order, person * NEVER_DAY + day)
        return position


def visits(
    draws: Draws, profile: SiteProfile, people: Persons, course: Careers, first_id: int
) -> Visits:
    """All visits of `people`; their ids count from `first_id`."""
    kinds = [_routine(draws, profile, people, course), *_diagnoses(people, course)]
    person, day, concept = (np.concatenate(parts) for parts in zip(*kinds, strict=True))
    routine = np.arange(len(day)) < len(kinds[0][0])
    keep = _gravest_of_a_day(person, day, concept, routine)
    person, day, concept = person[keep], day[keep], concept[keep]
    key = people.person_id[person] * _EVENT_KEYS + _number_within(person)
    return Visits(
        person=person,
        day=day,
        last_day=_last_day(draws, key, day, concept, course.end[person]),
        concept=concept,
        key=key,
        visit_id=first_id + np.arange(len(day), dtype=np.int64),
        diagnosis=~routine[keep],
    )


def _gravest_of_a_day(person: Ids, day: Ids, concept: Ids, routine: NDArray[np.bool_]) -> Ids:
    """Positions of one visit a person and day, sorted by both: the gravest, if possible one at
    which a disease is found."""
    rank = np.select([concept == kind for kind in _RANK], list(_RANK.values()))
    order: Ids = np.lexsort((-rank, routine, day, person))
    first = np.ones(len(order), dtype=bool)
    same_person = person[order[1:]] == person[order[:-1]]
    first[1:] = ~(same_person & (day[order[1:]] == day[order[:-1]]))
    return order[first]


def chronic_diseases(course: Careers) -> Ids:
    """How many lasting diseases are on each person's record at the end."""
    lasting = (d.feature for d in DISEASES if not d.acute)
    count: Ids = sum(
        ((course.recorded[name] < NEVER_DAY).astype(np.int64) for name in lasting),
        start=np.zeros(len(course.end), dtype=np.int64),
    )
    return count


def _routine(
    draws: Draws, profile: SiteProfile, people: Persons, course: Careers
) -> tuple[Ids, Ids, Ids]:
    stay = course.end - people.entry
    rate = _ROUTINE_A_YEAR * profile.contacts * np.exp(0.45 * people.contact_z - 0.1)
    rate = rate * (1 + 0.42 * np.minimum(chronic_diseases(course), 7))
    count = draws.poisson("visits", people.person_id, rate * stay / DAYS_A_YEAR)
    person = np.repeat(np.arange(len(people)), count)
    key = people.person_id[person] * _EVENT_KEYS + _number_within(person)
    when = draws.uniform("visit day", key) * (stay[person] + 1)
    day = people.entry[person] + when.astype(np.int64)
    concept = np.array([OUTPATIENT, EMERGENCY, INPATIENT])[
        draws.choice("visit kind", key, [0.88, 0.08, 0.04])
    ]
    return person, day, concept


def _diagnoses(people: Persons, course: Careers) -> Iterator[tuple[Ids, Ids, Ids]]:
    for disease in DISEASES:
        day = course.recorded[disease.feature]
        person = np.flatnonzero(day < NEVER_DAY)
        fresh = course.onset[disease.feature][person] >= people.entry[person]
        yield person, day[person], np.where(fresh, disease.visit, OUTPATIENT)


def _last_day(draws: Draws, key: Ids, day: Ids, concept: Ids, end: Ids) -> Ids:
    nights = np.where(concept == INPATIENT, 1 + 5 * draws.exponential("nights", key), 0)
    last: Ids = np.minimum(day + nights.astype(np.int64), end)
    return last


def _number_within(person: Ids) -> Ids:
    """0, 1, 2 … within each run of equal values."""
    starts = np.flatnonzero(np.concatenate([[True], person[1:] != person[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(person)]]))
    number: Ids = np.arange(len(person)) - np.repeat(starts, sizes)
    return number


def visit_blocks(people: Persons, seen: Visits) -> Iterator[Block]:
    """Rows of `visit_occurrence`."""
    yield Block(
        "visit_occurrence",
        {
            "visit_occurrence_id": seen.visit_id,
            "person_id": people.person_id[seen.person],
            "visit_concept_id": seen.concept,
            "visit_start_date": seen.day.astype("datetime64[D]"),
            "visit_end_date": seen.last_day.astype("datetime64[D]"),
            "visit_type_concept_id": FROM_RECORDS,
        },
    )


def share_of(draws: Draws, channel: str, seen: Visits, probability: Floats | float) -> Ids:
    """Positions of the visits at which something happens with a probability."""
    return np.flatnonzero(draws.chance(channel, seen.key, probability))
