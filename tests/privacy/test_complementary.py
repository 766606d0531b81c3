"""R2 against an attacker who is written here, with another solver's interface, from scratch."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from federated_analytics.aggregates.person_set import ANY_VALUE, MISSING, Condition, PersonSet
from federated_analytics.privacy.complementary import CountedSet, protect

K = 5
Person = dict[str, str | float]
Levels = Mapping[str, Sequence[Any]]


def holds(person: Person, of: PersonSet) -> bool:
    return all(
        person[name] == level
        if isinstance(level, str)
        else not isinstance(person[name], str) and level[0] <= float(person[name]) < level[1]
        for name, level in of
    )


class Attacker:
    """Knows who can exist (`kinds`), the released counts, and, with `rules`, why others are not.

    A kind is one way a person can be; a table is how many persons there are of each kind.
    """

    def __init__(
        self, kinds: Sequence[Person], counts: Sequence[CountedSet], withheld: Iterable[Hashable]
    ) -> None:
        self.counts = list(counts)
        self.withheld = set(withheld)
        self.rows = np.array([[holds(k, c.of) for k in kinds] for c in counts], dtype=float)
        self.known = np.array([c.group not in self.withheld for c in counts])

    def bounds(self, target: np.ndarray, *, rules: bool = False) -> tuple[float, float]:
        """Fewest and most persons of the kinds in `target` (0 or 1 for each kind)."""
        equal = self.rows[self.known]
        right = [c.persons for c, known in zip(self.counts, self.known, strict=True) if known]
        below, most = self.told() if rules else (None, None)
        ends = []
        for sign in (1, -1):
            found = linprog(
                sign * target, A_ub=below, b_ub=most, A_eq=equal if len(right) else None,
                b_eq=right or None, bounds=(0, None), method="highs",
            )  # fmt: skip
            assert found.status in (0, 3), found.message
            ends.append(math.inf if found.status == 3 else abs(found.fun))
        return ends[0], ends[1]

    def told(self) -> tuple[np.ndarray | None, list[float] | None]:
        """What the rules say of withheld counts: 1 to k - 1, or at least k."""
        rows, most = [], []
        for row, count, known in zip(self.rows, self.counts, self.known, strict=True):
            if known or count.persons == 0:
                continue
            small = count.persons < K
            rows.append(-row)
            most.append(-1.0 if small else -float(K))
            if small:
                rows.append(row)
                most.append(K - 1.0)
        return (np.array(rows), most) if rows else (None, None)

    def disclosed(self, *, rules: bool = True) -> list[PersonSet]:
        """Withheld counts that are known too well."""
        return [
            count.of
            for row, count, known in zip(self.rows, self.counts, self.known, strict=True)
            if not known and self.is_narrow(row, count, rules=rules)
        ]

    def is_narrow(self, row: np.ndarray, count: CountedSet, *, rules: bool) -> bool:
        low, high = self.bounds(row)
        if high - low < K - 1e-6:
            return True
        if not (rules and 0 < count.persons < K):
            return False
        low, high = self.bounds(row, rules=True)
        if low <= 1 + 1e-6 and high >= K - 1 - 1e-6:
            return False
        nothing = Attacker([], [], ())
        nothing.counts, nothing.rows = self.counts, self.rows
        nothing.known = np.zeros(len(self.counts), dtype=bool)
        least, most = nothing.bounds(row, rules=True)
        return low >= least + 1 - 1e-6 or high <= min(most, K - 1) - 1 + 1e-6

    def pinned(self, sets: Iterable[np.ndarray]) -> list[tuple[float, float]]:
        """Intervals within 1 to k - 1."""
        found = [self.bounds(s) for s in sets]
        return [(low, high) for low, high in found if low > 1e-6 and high < K - 1e-6]


def count_all(
    people: Sequence[Person], sets: Iterable[PersonSet], table: Hashable = None
) -> list[CountedSet]:
    """Counts as a site makes them: cells that hold nobody are not in its answer."""
    found = []
    for of in sets:
        n = sum(holds(p, of) for p in people)
        if n or not of:
            found.append(CountedSet(n, of, (table, of), not 0 < n < K, table))
    return found


def crossed(levels: Levels, *, margins: bool = True) -> list[PersonSet]:
    names = sorted(levels)
    return [
        frozenset(zip(chosen, cell, strict=True))
        for number in range(0 if margins else len(names), len(names) + 1)
        for chosen in itertools.combinations(names, number)
        for cell in itertools.product(*(levels[name] for name in chosen))
    ]


def people_of(rng: random.Random, levels: Levels, n: int) -> list[Person]:
    """Levels are of uneven size, so that some cells are small."""
    return [
        {
            name: rng.choices(list(values), [2.0**-i for i in range(len(values))])[0]
            for name, values in levels.items()
        }
        for _ in range(n)
    ]


def kinds_of(levels: Levels) -> list[Person]:
    return [dict(zip(levels, cell, strict=True)) for cell in itertools.product(*levels.values())]


def small(counts: Sequence[CountedSet]) -> set[Hashable]:
    return {c.group for c in counts if not c.released}


def one_way(*numbers: int) -> list[CountedSet]:
    people: list[Person] = [{"a": f"l{i}"} for i, n in enumerate(numbers) for _ in range(n)]
    return count_all(people, crossed({"a": [f"l{i}" for i in range(len(numbers))]}))


def persons(group: Any) -> PersonSet:
    """A group is named by its table and its persons."""
    found: PersonSet = group[1]
    return found


def levels_of(groups: Iterable[Hashable]) -> list[str]:
    return sorted("".join(str(level) for _, level in sorted(persons(group))) for group in groups)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((3, 10, 20), ["l1"]),  # the smallest other one
        ((10, 20, 30), []),
        ((2, 3, 50), []),  # they hide each other
        ((4, 4, 100), ["l2"]),  # with 8 together, and at most 4 each, they are known
        ((1, 5, 20), ["l2"]),  # 5 cannot become less without telling that it is too few
        ((3, 0, 20), ["l2"]),  # nobody stays nobody
    ],
)
def test_a_single_row(numbers: tuple[int, ...], expected: list[str]) -> None:
    assert levels_of(protect(one_way(*numbers), width=K)) == expected


def test_nothing_is_withheld_where_nothing_is_hidden() -> None:
    assert protect(one_way(10, 20, 30), width=K) == set()
    assert protect(one_way(1, 2, 3), width=1) == set()
    assert protect([], width=K) == set()


def test_two_way_table_closes_the_rectangle() -> None:
    numbers = {("a0", "b0"): 2}
    people: list[Person] = [
        {"a": a, "b": b}
        for a in ("a0", "a1", "a2")
        for b in ("b0", "b1", "b2")
        for _ in range(numbers.get((a, b), 12))
    ]
    levels = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}
    more = protect(count_all(people, crossed(levels)), width=K)
    assert len(more) == 3
    assert all(len(persons(group)) == 2 for group in more)


def test_across_two_analyses() -> None:
    """By sex in one, by sex and age in the other: the first holds the margins of the second."""
    sizes = {("F", "old"): 2, ("F", "young"): 30, ("M", "old"): 9, ("M", "young"): 8}
    people: list[Person] = [
        {"sex": sex, "age": age} for (sex, age), n in sizes.items() for _ in range(n)
    ]
    levels = {"sex": ["F", "M"], "age": ["old", "young"]}
    first = count_all(people, crossed({"sex": levels["sex"]}), "first")
    second = count_all(people, crossed(levels, margins=False), "second")
    alone = Attacker(kinds_of(levels), first + second, small(second))
    assert alone.disclosed()
    more = protect(first + second, width=K)
    assert not Attacker(kinds_of(levels), first + second, small(second) | more).disclosed()
    assert protect(second, width=K) == set()  # without the margins nothing follows


def test_a_margin_that_another_table_implies() -> None:
    """Sex alone is never counted, but follows from sex × age; it gives away sex × smoker."""
    rng = random.Random(4)
    people = people_of(rng, {"sex": "FM", "age": "xyz"}, 300)
    for i, person in enumerate(people):
        person["smoker"] = "yes" if i % 3 else "no"
    for person in [p for p in people if p["sex"] == "M" and p["smoker"] == "no"][3:]:
        person["smoker"] = "yes"
    levels = {"sex": "FM", "age": "xyz", "smoker": ["yes", "no"]}
    by_age = count_all(people, crossed({n: levels[n] for n in ("sex", "age")}, margins=False))
    smokers = count_all(people, crossed({n: levels[n] for n in ("sex", "smoker")}, margins=False))
    counts = by_age + smokers
    assert Attacker(kinds_of(levels), counts, small(counts)).disclosed()
    more = protect(counts, width=K)
    assert not Attacker(kinds_of(levels), counts, small(counts) | more).disclosed()


def test_three_two_way_tables_are_one_table() -> None:
    """a × b, b × c and a × c: what one withholds, the others may tell."""
    succeeded = 0
    for seed in range(8):
        rng = random.Random(seed)
        levels = {"a": "pqr", "b": "xyz", "c": "uv"}
        people = people_of(rng, levels, 90)
        pairs = [{n: levels[n] for n in pair} for pair in itertools.combinations("abc", 2)]
        counts = [c for i, pair in enumerate(pairs) for c in count_all(people, crossed(pair), i)]
        kinds = [
            kind
            for kind in kinds_of(levels)
            if sum(holds(kind, of) for of in {c.of for c in counts}) == 1 + 3 + 3
        ]
        succeeded += bool(Attacker(kinds, counts, small(counts)).disclosed())
        withheld = small(counts) | protect(counts, width=K)
        assert not Attacker(kinds, counts, withheld).disclosed()
    assert succeeded >= 4


@pytest.mark.parametrize("seed", range(4))
def test_random_codings_by_sex(seed: int) -> None:
    rng = random.Random(seed)
    people: list[Person] = [
        {"sex": rng.choice("FFM"), "age": float(int(rng.gauss(50, 12)) % 100)} for _ in range(180)
    ]
    codings = [range(0, 101, 20), range(0, 101, (7, 10, 25, 30)[seed])]
    counts: list[CountedSet] = []
    for i, edges in enumerate(codings):
        ends = [*map(float, edges), 105.0]
        bands: list[Condition] = [("age", band) for band in itertools.pairwise(ends)]
        by_sex: list[PersonSet] = [frozenset({("sex", s), band}) for s in "FM" for band in bands]
        counts += count_all(people, [*by_sex, *(frozenset({band}) for band in bands)], i)
    cuts = sorted({float(end) for edges in codings for end in edges})
    asked = {i: [c.of for c in counts if c.table == i] for i in range(2)}
    possible: list[Person] = [{"sex": sex, "age": age} for sex in "FM" for age in cuts]
    kinds = [
        kind
        for kind in possible
        if all(any(len(of) == 2 and holds(kind, of) for of in asked[i]) for i in asked)
    ]
    runs = [
        np.array([float(str(k["sex"]) in sexes and low <= float(k["age"]) < high) for k in kinds])
        for sexes in ("F", "M", "FM")
        for low, high in itertools.combinations([*cuts, 105.0], 2)
    ]
    attacker = Attacker(kinds, counts, small(counts) | protect(counts, width=K))
    assert attacker.disclosed() == []
    assert attacker.pinned(run for run in runs if run.any()) == []


def ages(edges: Sequence[float], people: Sequence[Person], table: str) -> list[CountedSet]:
    sets = [frozenset({("age", (a, b))}) for a, b in itertools.pairwise(edges)]
    return count_all(people, sets, table)


@pytest.mark.parametrize(
    ("first", "second", "sizes"),
    [
        ((40, 45, 50), (40, 50), {41: 3, 46: 20}),
        ((35, 40, 45, 50), (30, 40, 50, 60), {36: 8, 41: 3, 46: 20, 52: 40}),
        ((40, 45, 50, 55), (40, 47, 54), {41: 20, 45: 3, 48: 20, 53: 20}),
        ((40, 47, 54), (40, 45, 54), {41: 20, 45: 3, 48: 20}),
    ],
)
def test_two_codings(
    first: tuple[float, ...], second: tuple[float, ...], sizes: dict[float, int]
) -> None:
    people: list[Person] = [{"age": age} for age, n in sizes.items() for _ in range(n)]
    edges = sorted({*first, *second})
    kinds: list[Person] = [{"age": age} for age in edges[:-1]]
    counts = ages(first, people, "first") + ages(second, people, "second")
    runs = [
        np.array([float(i <= k < j) for k in range(len(kinds))])
        for i, j in itertools.combinations(range(len(kinds) + 1), 2)
    ]

    def leaks(withheld: set[Hashable]) -> bool:
        attacker = Attacker(kinds, counts, withheld)
        return bool(attacker.disclosed() or attacker.pinned(runs))

    assert leaks(small(counts))
    assert not leaks(small(counts) | protect(counts, width=K))


def test_persons_outside_of_every_level_named() -> None:
    """100 persons, 97 with a diagnosis: the 3 without it are not to be told."""
    people: list[Person] = [{"diagnosis": "Yes" if i < 97 else "other"} for i in range(100)]
    counts = count_all(people, [frozenset(), frozenset({("diagnosis", "Yes")})])
    assert len(protect(counts, width=K, partial=frozenset({"diagnosis"}))) == 1
    assert protect(counts[:1], width=K) == set()


def test_persons_without_a_value() -> None:
    people: list[Person] = [{"bmi": 20.0 + i % 10 if i < 60 else MISSING} for i in range(63)]
    whole, measured = frozenset[Condition](), frozenset({("bmi", ANY_VALUE)})
    named = count_all(people, [whole, measured, frozenset({("bmi", MISSING)})])
    unnamed = count_all(people, [whole, measured])
    assert protect(named, width=K)
    assert protect(unnamed, width=K)


def test_a_group_is_withheld_whole() -> None:
    """A cell with two counts loses both, and what they give away."""
    whole, yes = frozenset[tuple[str, str]](), frozenset({("c", "Yes")})
    groups = [
        CountedSet(3, yes, "one", False),
        CountedSet(40, whole, "one", False),
        CountedSet(37, frozenset({("c", "No")}), "two", True),
        CountedSet(40, whole, "three", True),
    ]
    assert protect(groups, width=K) in ({"two"}, {"three"})


def test_a_small_count_that_is_to_be_released_is_withheld() -> None:
    counts = [replace(c, released=True) for c in one_way(3, 10, 20)]
    assert small(one_way(3, 10, 20)) < protect(counts, width=K)


def test_a_large_count_that_another_rule_withholds() -> None:
    """It would be the total less the other."""
    counts = [replace(c, released=c.persons != 30) for c in one_way(30, 20)]
    assert levels_of(protect(counts, width=K)) == ["l1"]


def test_a_grouping_that_contradicts_others_is_withheld_and_no_other() -> None:
    """7 cannot be the sum of 6, 10 and 2; 15 is that of 7 and 8."""
    wrong = [c if c.of else replace(c, persons=7) for c in one_way(6, 10, 2)]
    assert levels_of(protect(wrong, width=K)) == ["l0", "l1"]
    wrong = [replace(c, persons=c.persons + 9) if c.of else c for c in one_way(7, 8)]
    people: list[Person] = [{"b": "x" if i < 7 else "y"} for i in range(15)]
    right = count_all(people, crossed({"b": "xyz"}), "other")
    right = [replace(c, released=c.persons != 7) for c in right]
    assert levels_of(protect([*wrong, *right], width=K)) == ["l0", "l1", "y"]


SHAPES = [{"a": "pqrs"}, {"a": "pqr", "b": "xyz"}, {"a": "pqrst", "b": "wxyz"},
          {"a": "pq", "b": "xyz", "c": "uv"}]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_no_random_table_gives_a_withheld_count_away(seed: int) -> None:
    rng = random.Random(seed)
    levels = SHAPES[seed % len(SHAPES)]
    people = people_of(rng, levels, rng.choice([30, 60, 120, 250]))
    counts = count_all(people, crossed(levels))
    kinds = [k for k in kinds_of(levels) if any(p == k for p in people)]
    withheld = small(counts) | protect(counts, width=K)
    attacker = Attacker(kinds, counts, withheld)
    assert attacker.disclosed() == []
    assert attacker.pinned(np.eye(len(kinds))) == []


def test_the_attacker_succeeds_without_the_rule() -> None:
    succeeded = 0
    for seed in range(12):
        rng = random.Random(seed)
        levels = SHAPES[seed % len(SHAPES)]
        counts = count_all(people_of(rng, levels, 120), crossed(levels))
        kinds = kinds_of(levels)
        succeeded += bool(Attacker(kinds, counts, small(counts)).disclosed())
    assert succeeded >= 6


def fewest(kinds: Sequence[Person], counts: Sequence[CountedSet], at_most: int) -> int:
    """The size of the smallest set that protects, by trying all smaller than `at_most`."""
    first = small(counts)
    others = [c.group for c in counts if c.group not in first and c.persons]
    rows = Attacker(kinds, counts, ()).rows
    for size in range(at_most):
        for more in itertools.combinations(others, size):
            withheld = first | set(more)
            if alone(rows, counts, withheld):
                continue
            if not Attacker(kinds, counts, withheld).disclosed():
                return size
    return at_most


def alone(rows: np.ndarray, counts: Sequence[CountedSet], withheld: set[Hashable]) -> bool:
    """Is a withheld count the only unknown of a row, a column or the total? A quick refusal."""
    hidden = [c.group in withheld for c in counts]
    cells = [int(row.sum()) == 1 for row in rows]
    for i, row in enumerate(rows):
        parts = [j for j in range(len(rows)) if cells[j] and row[rows[j] > 0].all()]
        if not cells[i] and hidden[i] + sum(hidden[j] for j in parts) == 1:
            return True
    return False


def test_few_more_are_withheld_than_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    used = needed = cells = 0
    for seed in range(9):
        rng = random.Random(seed)
        levels = [{"a": "pqrst"}, {"a": "pqr", "b": "xyz"}, {"a": "pqr", "b": "xy"}][seed % 3]
        counts = count_all(people_of(rng, levels, rng.choice([60, 100])), crossed(levels))
        kinds = [k for k in kinds_of(levels) if frozenset(k.items()) in {c.of for c in counts}]
        found = len(protect(counts, width=K))
        used += found
        needed += fewest(kinds, counts, found)
        cells += len(counts)
    with capsys.disabled():
        print(f"\nwithheld besides: {used} of {cells} counts, fewest possible {needed}")
    assert needed > 0
    assert used <= 1.25 * needed


def test_a_thousand_cells_take_seconds_at_most() -> None:
    numbers = np.random.default_rng(3).poisson(np.random.default_rng(4).gamma(3, 6.5, (10, 10, 10)))
    counts = []
    for kept in itertools.product([True, False], repeat=3):
        axes = tuple(i for i in range(3) if not kept[i])
        margin = numbers.sum(axis=axes)
        for cell in np.ndindex(*margin.shape):
            names = [n for n, k in zip("abc", kept, strict=True) if k]
            of = frozenset(zip(names, map(str, cell), strict=True))
            n = int(margin[cell])
            counts.append(CountedSet(n, of, of, not 0 < n < K))
    started = time.perf_counter()
    more = protect(counts, width=K)
    assert time.perf_counter() - started < 10  # a slow machine's; about 1 s elsewhere
    assert len(small(counts)) < len(small(counts) | more) < 300
