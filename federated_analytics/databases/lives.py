"""Everything that happens to a run of persons, as blocks of rows for each table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federated_analytics.databases.careers import careers
from federated_analytics.databases.case_mix import profile
from federated_analytics.databases.copying import Block
from federated_analytics.databases.draws import Draws
from federated_analytics.databases.events import (
    cohort_blocks,
    condition_blocks,
    death_blocks,
    observation_blocks,
    procedure_blocks,
    smoking_known,
)
from federated_analytics.databases.measurements import (
    LatestValues,
    measured,
    measurement_blocks,
    summary_blocks,
)
from federated_analytics.databases.population import person_blocks, persons
from federated_analytics.databases.treatments import courses, drug_blocks
from federated_analytics.databases.visits import visit_blocks, visits


def life_blocks(
    seed: int, site: int, first: int, last: int, written: Mapping[str, int]
) -> Iterator[Block]:
    """Rows of all tables for the persons with ids first … last.

    Args:
        written: rows by table that are there already, kept up to date by the caller as it takes
            the blocks; ids go on from them.
    """
    draws, mix = Draws(seed, site), profile(site)

    def next_id(table: str) -> int:
        return written.get(table, 0) + 1

    people = persons(draws, mix, first, last)
    course = careers(draws, mix, people)
    yield from person_blocks(people, course.end)
    yield from death_blocks(people, course)
    yield from cohort_blocks(people, course)
    seen = visits(draws, mix, people, course, next_id("visit_occurrence"))
    yield from visit_blocks(people, seen)
    taken = courses(draws, people, course)
    yield from drug_blocks(draws, people, taken, next_id("drug_exposure"))
    yield from condition_blocks(draws, people, course, seen, next_id("condition_occurrence"))
    yield from procedure_blocks(draws, people, course, seen, next_id("procedure_occurrence"))
    yield from observation_blocks(draws, people, seen, next_id("observation"))
    latest = LatestValues(len(people), smoking_unknown=~smoking_known(draws, people))
    for quantity in measured(draws, people, course, taken, seen):
        latest.note(quantity, seen)
        yield from measurement_blocks(draws, people, seen, quantity, next_id("measurement"))
    yield from summary_blocks(people, course, latest)
