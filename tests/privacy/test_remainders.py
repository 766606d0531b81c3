"""R3 on remainders, against the persons themselves: whose bill is what is left of a total?"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from functools import partial

import pytest

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.person_set import ANY_VALUE, PersonSet
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key, Strata
from federated_analytics.privacy.complementary_cells import hold_complements
from federated_analytics.privacy.dominance import hold_dominance
from federated_analytics.privacy.draft import Draft, Evidence
from federated_analytics.privacy.minimum_count import hold_minimum_count
from federated_analytics.privacy.remainders import hold_remainders

K, SHARE = 5, 0.8
Person = tuple[str, str, float]
"""Ward, sex, bill."""
PROTECT = partial(hold_complements, min_count=K)


def moments(values: list[float]) -> Moments:
    mean = sum(values) / len(values)
    m2 = sum((v - mean) ** 2 for v in values)
    return Moments(len(values), mean, m2, extreme=max(map(abs, values)))


def counted(key: Key, value: Aggregate) -> Iterable[tuple[int, PersonSet]]:
    yield value.support[0], frozenset([*key.strata, ("bill", ANY_VALUE)])


def groups(people: list[Person], crossed: bool = True) -> dict[Strata, list[float]]:
    found: dict[Strata, list[float]] = {}
    for ward, sex, bill in people:
        pairs = ("ward", ward), ("sex", sex)
        wanted: list[Strata] = [(), pairs[:1], *([pairs[1:], pairs] if crossed else [])]
        for strata in wanted:
            found.setdefault(strata, []).append(bill)
    return found


def before(people: list[Person], crossed: bool = True) -> list[Draft]:
    """After R1, R2 and R3 on each group by itself."""
    table = {Key(s, "bill", "", "moments"): moments(v) for s, v in groups(people, crossed).items()}
    draft = Draft.of(Evidence(0, "all", table, {}, frozenset(), counted=counted))
    return PROTECT([hold_dominance(hold_minimum_count(draft, K), SHARE)])


def told(drafts: list[Draft]) -> set[Strata]:
    return {key.strata for draft in drafts for key in draft.cells}


def left_over(people: list[Person], released: set[Strata]) -> Iterator[list[float]]:
    """The bills behind each margin less some released groups that do not overlap.

    All choices of what to take away are tried, person by person.
    """
    for margin in released:
        inside = [p for p in people if _holds(margin, p)]
        finer = [s for s in released if set(margin) < set(s)]
        for size in range(1, len(finer) + 1):
            for some in itertools.combinations(finer, size):
                members = [sum(_holds(s, p) for s in some) for p in inside]
                if max(members) == 1 and 0 in members:
                    yield [p[2] for p, n in zip(inside, members, strict=True) if not n]


def _holds(strata: Strata, person: Person) -> bool:
    of = {"ward": person[0], "sex": person[1]}
    return all(of[name] == level for name, level in strata)


def one_person_s(people: list[Person], released: set[Strata]) -> int:
    """How many remainders are mostly one person's (a few of them are found in several ways)."""
    return sum(max(bills) > SHARE * sum(bills) for bills in left_over(people, released))


def wards(**sizes: tuple[int, float]) -> list[Person]:
    return [(ward, "F", bill) for ward, (n, bill) in sizes.items() for _ in range(n)]


def test_a_ward_of_one_beside_small_bills() -> None:
    people = wards(a=(61, 900.0), b=(1, 60_000.0), c=(30, 20.0), d=(60, 800.0))
    drafts = before(people, crossed=False)
    assert one_person_s(people, told(drafts)) == 1
    held = hold_remainders(drafts, SHARE, PROTECT)
    assert one_person_s(people, told(held)) == 0
    assert () in told(held)
    taken = held[0].withheld.items() - drafts[0].withheld.items()
    assert {(key.strata[0][1], why.rule) for key, why in taken} == {("d", "R3")}


def test_what_hides_enough_takes_nothing_more() -> None:
    people = wards(a=(60, 900.0), b=(1, 60_000.0), c=(30, 600.0), d=(60, 800.0))
    drafts = before(people, crossed=False)
    assert hold_remainders(drafts, SHARE, PROTECT) == drafts
    assert hold_remainders(drafts, 1.0, PROTECT) == drafts


def random_people(seed: int) -> list[Person]:
    rng = random.Random(seed)
    sizes = {(w, s): rng.choice([1, 3, 7, 12, 20]) for w in "abc" for s in "FM"}
    people = [(w, s, rng.uniform(1, 60)) for (w, s), n in sizes.items() for _ in range(n)]
    for _ in range(2):
        at = rng.randrange(len(people))
        people[at] = (*people[at][:2], rng.uniform(500, 3_000))
    return people


@pytest.mark.parametrize("part", range(4))
def test_no_remainder_of_random_tables_is_one_person_s(part: int) -> None:
    open_ = 0
    for seed in range(part * 15, part * 15 + 15):
        people = random_people(seed)
        drafts = before(people)
        open_ += bool(one_person_s(people, told(drafts)))
        held = hold_remainders(drafts, SHARE, PROTECT)
        assert one_person_s(people, told(held)) == 0, seed
        assert told(held) <= told(drafts)
    assert open_  # without the rule, some are


def test_records_are_sums_too() -> None:
    table: dict[Key, Aggregate] = {
        Key((("ward", ward),) if ward else (), "visits", "", "records"): Records(*cell)
        for ward, cell in {
            "": (1_235, 103, 900),
            "a": (200, 50, 9),
            "b": (900, 1, 900),
            "c": (35, 20, 5),
            "d": (100, 32, 6),
        }.items()
    }
    draft = Draft.of(Evidence(0, "all", table, {}, frozenset(), counted=counted))
    drafts = PROTECT([hold_dominance(hold_minimum_count(draft, K), SHARE)])
    assert {s[0][1] for s in told(drafts) if s} == {"a", "d"}
    held = hold_remainders(drafts, SHARE, PROTECT)
    assert {s[0][1] for s in told(held) if s} == {"d"}
