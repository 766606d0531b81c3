"""R9: noise of the stated size, from OpenDP, on every public cell and at the stated cost.

OpenDP's generator cannot be seeded. A test that draws therefore allows what happens by chance
once in a million runs.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import BudgetSpent, ConfigError, RequestRefused
from federated_analytics.privacy.consistency import margins
from federated_analytics.privacy.noise import noisy
from federated_analytics.privacy.noise_plan import (
    Family,
    Mechanism,
    NoiseStatement,
    cost,
    families,
    plan,
    statements,
)
from federated_analytics.privacy.noise_statistics import (
    STATISTICS,
    PublicDomain,
    Statistic,
    statistic_of,
)

RARE = 1e-6
LOW, HIGH, MOST, BINS = 40.0, 260.0, 12, 300
MECHANISMS: tuple[Mechanism, ...] = ("gaussian", "laplace")


def cells(count: int, kind: type[Aggregate] = Count, name: str = "category") -> list[Key]:
    return [Key((), "bp", f"{i:05d}", name) for i in range(count)]


def domain(*keys: Key, kind: type[Aggregate] = Count) -> PublicDomain:
    return PublicDomain(dict.fromkeys(keys, kind), {"bp": (LOW, HIGH)}, {"bp": MOST}, {"bp": BINS})


def aggregate(kind: type[Aggregate], persons: Sequence[tuple[float, int]]) -> Aggregate:
    """What the database makes of persons, each with a value and a number of records."""
    if kind is Count:
        return Count(len(persons))
    if kind is Records:
        return Records(sum(records for _, records in persons), len(persons))
    if kind is Moments:
        each = (Moments(1, value, 0.0) for value, _ in persons)
        return reduce(Moments.merge, each, Moments.zero())
    bins = (min(int((v - LOW) / (HIGH - LOW) * BINS), BINS - 1) for v, _ in persons)
    return IntervalCounts.of((i, i + 1, 1) for i in bins)


PERSON = st.tuples(st.floats(LOW, HIGH) | st.sampled_from([LOW, HIGH]), st.integers(1, MOST))


@pytest.mark.parametrize("kind", STATISTICS)
@settings(max_examples=100, deadline=None)
@given(persons=st.lists(PERSON, max_size=40), one=PERSON)
def test_one_person_moves_a_cell_by_no_more_than_is_noised(
    kind: type[Aggregate], persons: list[tuple[float, int]], one: tuple[float, int]
) -> None:
    statistic = statistic_of(kind, "bp", domain())
    without = statistic.encode(aggregate(kind, persons))
    with_one = statistic.encode(aggregate(kind, [*persons, one]))
    moved = [b - a for a, b in zip(without, with_one, strict=True)]
    assert math.hypot(*moved) <= statistic.l2
    assert sum(map(abs, moved)) <= statistic.l1


@pytest.mark.parametrize("kind", STATISTICS)
def test_the_sensitivity_is_not_larger_than_need_be(kind: type[Aggregate]) -> None:
    statistic = statistic_of(kind, "bp", domain())
    moved = statistic.encode(aggregate(kind, [(HIGH, MOST)]))
    assert math.hypot(*moved) >= 0.99 * statistic.l2


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", STATISTICS)
def test_the_loss_that_opendp_proves_is_the_formulas(
    kind: type[Aggregate], mechanism: Mechanism
) -> None:
    """Gaussian: ρ = l2² / 2σ². Laplace: ε = l1 / b, ρ = ε² / 2, and its variance is 2b²."""
    key = Key((), "bp", "", "cell")
    found = noisy({}, domain(key, kind=kind), rho=0.05, mechanism=mechanism)
    statistic, told = statistic_of(kind, "bp", domain()), found.statements[0]
    lattice = told.scale / next(iter(statistic.units.values()))
    by_hand = (
        statistic.l2**2 / (2 * lattice**2)
        if mechanism == "gaussian"
        else (statistic.l1 / (lattice / math.sqrt(2))) ** 2 / 2
    )
    assert found.rho == pytest.approx(by_hand, rel=1e-9)
    assert 0.05 * (1 - 1e-9) < found.rho <= 0.05


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_noise_has_the_stated_variance_and_no_bias(mechanism: Mechanism) -> None:
    keys = cells(4_000)
    table: dict[Key, Aggregate] = {key: Count(50) for key in keys}
    found = noisy(table, domain(*keys), rho=0.02, mechanism=mechanism)
    scale = found.statements[0].scale
    errors = np.array([found.estimates[key][0] - 50 for key in keys])
    # A sum of n squares of Laplace noise varies 2.5 times as much as of Gaussian noise.
    wide = 1 if mechanism == "gaussian" else math.sqrt(2.5)
    low, high = (chi2.ppf(p, len(keys)) / len(keys) for p in (RARE / 2, 1 - RARE / 2))
    ratio = float((errors**2).mean()) / scale**2
    assert 1 - wide * (1 - low) < ratio < 1 + wide * (high - 1)
    assert abs(errors.mean()) < norm.isf(RARE / 2) * scale / math.sqrt(len(keys))
    within = np.mean(np.abs(errors) < found.statements[0].accuracy95)
    assert within > 0.95 - norm.isf(RARE) * math.sqrt(0.95 * 0.05 / len(keys))


def test_estimates_of_moments_are_unbiased_and_as_wide_as_stated() -> None:
    draws = random.Random(3)
    exact = aggregate(Moments, [(draws.gauss(120, 15), 1) for _ in range(500)])
    assert isinstance(exact, Moments)
    keys = cells(3_000)
    found = noisy(dict.fromkeys(keys, exact), domain(*keys, kind=Moments), rho=0.05)
    middle = (LOW + HIGH) / 2
    offset = exact.mean - middle
    truth = (exact.n, exact.n * offset, exact.m2 + exact.n * offset**2)
    for i, told in enumerate(found.statements):
        errors = np.array([found.estimates[key][i] - truth[i] for key in keys])
        low, high = (chi2.ppf(p, len(keys)) / len(keys) for p in (RARE / 2, 1 - RARE / 2))
        assert low < float((errors**2).mean()) / told.scale**2 < high, told.statistic
        assert abs(errors.mean()) < norm.isf(RARE / 2) * told.scale / math.sqrt(len(keys))


def test_neighbouring_tables_are_hard_to_tell_apart() -> None:
    """The likelihood of each outcome on two tables that differ by one person, by counting.

    Laplace noise of ε keeps the ratio below exp(ε) for any set of outcomes.
    """
    epsilon, size = 0.5, 40_000
    keys = cells(size)
    counted = []
    for persons in (20, 21):
        table: dict[Key, Aggregate] = dict.fromkeys(keys, Count(persons))
        drawn = noisy(table, domain(*keys), rho=epsilon**2 / 2, mechanism="laplace")
        counted.append(Counter(int(drawn.estimates[key][0]) for key in keys))
    for outcome in range(14, 28):
        first, second = counted[0][outcome], counted[1][outcome]
        error = norm.isf(RARE / 50) * math.sqrt(1 / first + 1 / second)
        assert abs(math.log(first / second)) < epsilon + error
    below = [sum(n for outcome, n in c.items() if outcome <= 20) for c in counted]
    # Far less noise than asked would pull these two apart: the audit can fail.
    assert math.log(below[0] / below[1]) < epsilon + 0.1


def test_noise_does_not_follow_a_seed() -> None:
    keys = cells(50)
    drawn = []
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)
        drawn.append(noisy({}, domain(*keys), rho=0.01).estimates)
    assert drawn[0] != drawn[1]


def test_every_public_cell_is_noised_and_no_other_leaves() -> None:
    keys = cells(200)
    secret = Key((), "bp", "a rare text", "category")
    table: dict[Key, Aggregate] = {keys[0]: Count(1_000), secret: Count(1)}
    found = noisy(table, domain(*keys), rho=0.01)
    assert list(found.table) == keys
    assert len({found.estimates[key] for key in keys[1:]}) > 10
    assert any(found.table[key] != Count(0) for key in keys[1:])


@pytest.mark.parametrize("kind", STATISTICS)
def test_the_cells_of_an_empty_site_are_those_of_any(kind: type[Aggregate]) -> None:
    keys = cells(20)
    persons = [(100.0, 3)] * 50
    full = noisy({keys[0]: aggregate(kind, persons)}, domain(*keys, kind=kind), rho=0.1)
    empty = noisy({}, domain(*keys, kind=kind), rho=0.1)
    assert list(full.table) == list(empty.table)
    assert full.statements == empty.statements
    assert full.rho == empty.rho


@settings(max_examples=60, deadline=None)
@given(st.lists(PERSON, max_size=30), st.sampled_from([1e-6, 1e-3, 0.1, 10.0]))
def test_released_numbers_are_possible_ones(persons: list[tuple[float, int]], rho: float) -> None:
    keys = {Key((), "bp", "", kind.__name__): kind for kind in STATISTICS}
    public = PublicDomain(keys, {"bp": (LOW, HIGH)}, {"bp": MOST}, {"bp": 20})
    table = {
        key: aggregate(kind, persons) for key, kind in keys.items() if kind is not IntervalCounts
    }
    for value in noisy(table, public, rho=rho).table.values():
        assert all(type(n) is int and n >= 0 for n in value.support)
        if isinstance(value, Records):
            assert value.records >= value.persons
        if isinstance(value, Moments) and value.n:
            assert LOW <= value.mean <= HIGH
            most = value.n * (value.mean - LOW) * (HIGH - value.mean)
            assert 0 <= value.m2 <= most * (1 + 1e-9) + 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nothing_that_is_not_finite_is_released(bad: float) -> None:
    key = Key((), "bp", "", "moments")
    for broken in (Moments(10, bad, 1.0), Moments(10, 100.0, bad), Moments(2**60, 1e300, 1e300)):
        value = noisy({key: broken}, domain(key, kind=Moments), rho=0.1).table[key]
        assert isinstance(value, Moments)
        assert math.isfinite(value.mean)
        assert math.isfinite(value.m2)


def test_much_loss_gives_exact_numbers() -> None:
    """Encoding and decoding are each other's inverse, up to the lattice."""
    draws = random.Random(4)
    persons = [(draws.gauss(120, 15), draws.randint(1, MOST)) for _ in range(2_000)]
    for kind in STATISTICS:
        key = Key((), "bp", "", "cell")
        exact = aggregate(kind, persons)
        found = noisy({key: exact}, domain(key, kind=kind), rho=1e12).table[key]
        if isinstance(exact, Moments) and isinstance(found, Moments):
            assert found.n == exact.n
            assert found.mean == pytest.approx(exact.mean, abs=1e-3)
            assert found.sd == pytest.approx(exact.sd, abs=1e-2)
        else:
            assert found == exact


def test_quantiles_are_as_good_as_stated() -> None:
    draws = random.Random(5)
    exact = aggregate(IntervalCounts, [(draws.gauss(120, 15), 1) for _ in range(3_000)])
    assert isinstance(exact, IntervalCounts)
    keys = [Key((), "bp", str(i), "intervals") for i in range(15)]
    public = PublicDomain(
        dict.fromkeys(keys, IntervalCounts),
        bins={"bp": BINS},
        exclusive=frozenset({"intervals"}),
    )
    found = noisy(dict.fromkeys(keys, exact), public, rho=0.01)
    below = next(s for s in found.statements if s.statistic == "persons_below")
    errors = []
    for key in keys:
        value = found.table[key]
        assert isinstance(value, IntervalCounts)
        for edge in range(20, BINS, 20):
            errors.append(value.persons_below(edge)[0] - exact.persons_below(edge)[0])
    # Cut at 0, 300 bins of noise 17 would put 2,000 persons too many above the last edge.
    assert max(map(abs, errors)) < norm.isf(RARE / len(errors)) * below.scale
    assert float(np.sqrt(np.mean(np.square(errors)))) < below.scale


SEXES = [("sex", level) for level in ("F", "M", "Unknown")]
AGES = [("age", str(level)) for level in range(5)]


def stratified() -> dict[Key, type[Aggregate]]:
    strata = [(), *((s,) for s in SEXES), *((a,) for a in AGES)]
    strata += [(s, a) for s in SEXES for a in AGES]
    return {Key(place, "persons", "", "persons"): Count for place in strata}


def test_strata_and_exclusive_levels_are_paid_once() -> None:
    few, many = domain(*cells(2)), domain(*cells(2_000))
    assert list(families(few)) == list(families(many)) == [Family((), "bp", "category")]
    assert statements(few, 0.1) == statements(many, 0.1)
    assert cost(few, 5.0) == cost(many, 5.0) == pytest.approx(1 / 50)


def test_groupings_variables_and_names_are_paid_one_by_one() -> None:
    public = PublicDomain(stratified())
    assert [f.strata for f in families(public)] == [(), ("age",), ("sex",), ("sex", "age")]
    assert cost(public, 5.0) == pytest.approx(4 / 50)
    more = {**public.keys, Key((), "persons", "", "other"): Count, Key((), "x", "", "y"): Count}
    assert cost(PublicDomain(more), 5.0) == pytest.approx(6 / 50)


def test_steps_of_an_attrition_share_persons_and_are_paid_each() -> None:
    steps = domain(*cells(7, name="step"))
    assert len(families(steps)) == 7
    assert cost(steps, 5.0) == pytest.approx(7 / 50)


def test_levels_are_paid_each_unless_declared_exclusive() -> None:
    assert cost(domain(*cells(3, name="of a new analysis")), 1.0) == pytest.approx(3 / 2)


def test_the_answer_costs_no_more_than_was_asked_and_hardly_less() -> None:
    public = PublicDomain(stratified())
    found = noisy({}, public, rho=0.04)
    assert 0.04 * (1 - 1e-9) < found.rho <= 0.04
    assert math.fsum(plan(public, 0.04).values()) <= 0.04


def test_every_count_of_persons_carries_the_noise_that_was_priced() -> None:
    keys = {
        Key((), "bp", "", "persons"): Count,
        Key((), "bp", "", "records"): Records,
        Key((), "bp", "", "moments"): Moments,
        Key((), "bp", "", "intervals"): IntervalCounts,
    }
    public = PublicDomain(keys, {"bp": (LOW, HIGH)}, {"bp": MOST}, {"bp": BINS})
    told = statements(public, cost(public, 7.0))
    persons = [s.scale for s in told if s.statistic in ("persons", "persons_in_interval")]
    assert persons == pytest.approx([7.0] * 4)
    assert {s.statistic for s in told} == {
        "persons",
        "records",
        "sum",
        "sum_of_squares",
        "persons_in_interval",
        "persons_below",
    }


def test_weights_move_the_noise() -> None:
    public = PublicDomain(stratified())
    overall = Family((), "persons", "persons")
    told = {s.family: s.scale for s in statements(public, 0.1, weights={overall: 50.0})}
    assert told[overall] == pytest.approx(told[Family(("sex",), "persons", "persons")] / 10)
    for bad in ({overall: 0.0}, {overall: math.nan}, {Family((), "unknown", ""): 1.0}):
        with pytest.raises(ConfigError):
            plan(public, 0.1, weights=bad)


def test_margins_agree_after_noise_at_no_cost() -> None:
    public = PublicDomain(stratified())
    table: dict[Key, Aggregate] = {
        key: Count({0: 300, 1: 80, 2: 20}[len(key.strata)]) for key in public.keys
    }
    found = noisy(table, public, rho=0.01)
    agreed = found.consistent(margins(public.keys))
    for relation in margins(public.keys):
        whole, parts = agreed[relation.whole], [agreed[p] for p in relation.parts]
        assert whole == reduce(lambda a, b: a.merge(b), parts)
    assert list(agreed) == list(found.table)
    assert min(min(value.support) for value in agreed.values()) >= 0


def test_counts_and_steps_are_made_consistent_side_by_side() -> None:
    keys = {Key((), "bp", "", "moments"): Moments, **dict.fromkeys(cells(3, name="step"), Count)}
    found = noisy({}, PublicDomain(keys, {"bp": (LOW, HIGH)}), rho=0.1)
    agreed = found.consistent([])
    assert list(agreed) == list(found.table)
    assert agreed[Key((), "bp", "", "moments")] is found.table[Key((), "bp", "", "moments")]
    only = noisy({}, domain(Key((), "bp", "", "moments"), kind=Moments), rho=0.1)
    assert only.consistent([]) == only.table


@dataclass(frozen=True)
class Unbounded(Aggregate):
    """An aggregate whose dependence on one person nobody has worked out."""

    @classmethod
    def zero(cls) -> Self:
        return cls()

    def merge(self, other: Self) -> Self:
        return self

    @property
    def support(self) -> tuple[int, ...]:
        return ()


@pytest.mark.parametrize("kind", [Unbounded, Records, Moments, IntervalCounts])
def test_what_cannot_be_bounded_is_refused_with_a_remedy(kind: type[Aggregate]) -> None:
    key = Key((), "bp", "", "cell")
    for act in (
        lambda d: noisy({}, d, rho=0.1),
        lambda d: statements(d, 0.1),
        lambda d: cost(d, 1),
    ):
        with pytest.raises(RequestRefused) as told:
            act(PublicDomain({key: kind}))
        assert told.value.where == "bp"
        assert told.value.remedy


@pytest.mark.parametrize(
    "bounds",
    [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf), (0.0, 1e-320), (-1e308, 1e308)],
)
def test_impossible_bounds_are_refused(bounds: tuple[float, float]) -> None:
    key = Key((), "bp", "", "cell")
    with pytest.raises(RequestRefused):
        noisy({}, PublicDomain({key: Moments}, {"bp": bounds}), rho=0.1)


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf, 1e-40])
def test_no_loss_gives_no_answer(rho: float) -> None:
    with pytest.raises(BudgetSpent):
        noisy({}, domain(*cells(1)), rho=rho)


def test_cells_of_another_type_than_declared_are_an_error() -> None:
    key = cells(1)[0]
    with pytest.raises(ConfigError, match="not the Count"):
        noisy({key: Records(1, 1)}, domain(key), rho=0.1)
    mixed = {cells(2)[0]: Count, cells(2)[1]: Records}
    with pytest.raises(ConfigError, match="different types"):
        families(PublicDomain(mixed))
    with pytest.raises(ConfigError, match="standard deviation"):
        cost(domain(key), 0.0)


def test_a_statement_says_what_a_reader_needs() -> None:
    (told,) = statements(domain(*cells(3)), 0.02)
    assert isinstance(told, NoiseStatement)
    assert (told.statistic, told.mechanism) == ("persons", "gaussian")
    assert told.scale == pytest.approx(5.0)
    assert told.variance == pytest.approx(25.0)
    assert told.accuracy95 == 11.0


def test_wide_noise_is_stated_without_adding_up_its_masses() -> None:
    for mechanism in MECHANISMS:
        (told,) = statements(domain(*cells(1)), 1e-16, mechanism=mechanism)
        assert told.accuracy95 == pytest.approx(
            told.scale * (1.959964 if mechanism == "gaussian" else math.log(20) / math.sqrt(2)),
            rel=1e-4,
        )


def test_the_tree_of_one_bin_is_a_count() -> None:
    public = PublicDomain({}, bins={"bp": 1})
    statistic: Statistic = statistic_of(IntervalCounts, "bp", public)
    assert (statistic.l1, statistic.l2) == (1.0, 1.0)
    assert statistic.encode(IntervalCounts.of([(0, 1, 7)])) == [7]
    assert statistic.decode([-3]) == IntervalCounts.zero()
