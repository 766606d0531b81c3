"""Aggregates as sums of integers: what is added up stands for what is merged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.aggregates.base import Aggregate, PublicScale, aggregate_types
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.dyadic_blocks import block_count, blocks_of, position_of
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.normal_equations import NormalEquations
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.risk_table import RiskTable
from federated_analytics.errors import ShapeError

SCALE = PublicScale(centre=150.0, half=130.0, bins=40)
VALUES = st.lists(st.floats(20, 280, allow_subnormal=False), max_size=40)
PARTS = st.lists(VALUES, min_size=1, max_size=7)


def _moments(values: Sequence[float]) -> Moments:
    state = Moments.zero()
    for value in values:
        state = state.merge(Moments(1, value, 0.0))
    return state


def _intervals(values: Sequence[float], k: int = 1) -> IntervalCounts:
    bins = sorted(int(v - 20) * 40 // 261 for v in values)
    return IntervalCounts.of(((b, b + 1, 1) for b in bins), 40).guarded(k) or IntervalCounts.zero()


COLUMNS = PublicScale(columns=((0.5, 0.5), (150.0, 130.0), (0.0, 1e4)))


def _equations(values: Sequence[float]) -> NormalEquations:
    """Of each value: whether it is above 150, itself, and a third that follows it roughly."""
    state = NormalEquations.zero()
    for i, value in enumerate(values):
        row = (float(value > 150), value, 3 * value + i % 5)
        state = state.merge(NormalEquations(1, row, (0.0,) * 6))
    return state


def _risks(values: Sequence[float], k: int) -> RiskTable:
    steps = [int(v - 20) * 40 // 261 for v in values]
    state = RiskTable.of((s, s + 1, int(s % 3 > 0), int(s % 3 == 0)) for s in steps)
    return state.guarded(k) or RiskTable.zero()


def _summed(states: Sequence[Aggregate], scale: PublicScale = SCALE) -> Aggregate:
    vectors = [state.additive(scale) for state in states]
    total = [sum(column) for column in zip(*vectors, strict=True)]
    assert {len(v) for v in vectors} == {states[0].additive_size(scale)}
    return type(states[0]).from_additive(total, scale)


@given(parts=PARTS)
def test_counts_add_up(parts: list[list[float]]) -> None:
    n = sum(map(len, parts))
    assert _summed([Count(len(p)) for p in parts]) == Count(n)
    assert _summed([Records(3 * len(p), len(p)) for p in parts]) == Records(3 * n, n)


@settings(deadline=None)
@given(parts=PARTS)
def test_moments_are_those_of_all_values_together(parts: list[list[float]]) -> None:
    """The oracle is exact: fractions over the pooled values."""
    found = _summed([_moments(p) for p in parts])
    values = [Fraction(v) for part in parts for v in part]
    assert isinstance(found, Moments)
    assert found.n == len(values)
    if values:
        mean = sum(values) / len(values)
        squares = sum((v - mean) ** 2 for v in values)
        assert math.isclose(found.mean, mean, rel_tol=1e-12)
        assert math.isclose(found.m2, squares, rel_tol=1e-9, abs_tol=1e-16)


def test_moments_far_from_the_centre_keep_their_spread() -> None:
    """Values that differ in the tenth digit: sums of squares in floating point would lose them."""
    values = [279.0 + i * 1e-9 for i in range(1_000)]
    found = _summed([_moments(values[:300]), _moments(values[300:])])
    assert isinstance(found, Moments)
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / 1_000
    squares = sum((v - mean) ** 2 for v in exact)
    assert math.isclose(found.m2, squares, rel_tol=1e-4)
    assert math.isclose(found.mean, mean, rel_tol=1e-15)


def test_equal_values_have_no_spread() -> None:
    found = _summed([_moments([120.1] * n) for n in (3, 5, 11)])
    assert found == Moments(19, 120.1, 0.0, residual=found.residual)  # type: ignore[attr-defined]


@given(parts=PARTS, k=st.integers(1, 9))
def test_bounds_of_intervals_add_up(parts: list[list[float]], k: int) -> None:
    states = [_intervals(p, k) for p in parts]
    merged = IntervalCounts.zero()
    for state in states:
        merged = merged.merge(state)
    found = _summed(states)
    assert isinstance(found, IntervalCounts)
    assert found.n == merged.n
    for edge in range(41):
        assert found.persons_below(edge) == merged.persons_below(edge)


@given(parts=PARTS, k=st.integers(1, 9))
def test_risk_tables_add_up(parts: list[list[float]], k: int) -> None:
    states = [_risks(p, k) for p in parts]
    merged = RiskTable.zero()
    for state in states:
        merged = merged.merge(state)
    assert _summed(states) == merged


@settings(deadline=None)
@given(parts=PARTS)
def test_normal_equations_are_those_of_all_rows_together(parts: list[list[float]]) -> None:
    """The oracle is exact: fractions over the pooled rows."""
    found = _summed([_equations(p) for p in parts], COLUMNS)
    assert isinstance(found, NormalEquations)
    rows = [
        [Fraction(x) for x in (float(v > 150), v, 3 * v + i % 5)]
        for part in parts
        for i, v in enumerate(part)
    ]
    assert found.n == len(rows)
    if not rows:
        return
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    for i, mean in enumerate(means):
        assert math.isclose(found.means[i], mean, rel_tol=1e-12, abs_tol=1e-15)
        for j in range(i, 3):
            product = sum((row[i] - mean) * (row[j] - means[j]) for row in rows)
            size = 1e-9 * max(1.0, float(means[i] * means[j]) * len(rows))
            assert math.isclose(found.product(i, j), product, rel_tol=1e-9, abs_tol=size)


def test_a_constant_column_stays_one() -> None:
    """Whether a column varies decides whether it has a coefficient."""
    found = _summed([_equations([160.1] * n) for n in (7, 9)], COLUMNS)
    assert isinstance(found, NormalEquations)
    assert found.product(0, 0) == found.product(1, 1) == found.product(0, 1) == 0.0
    assert found.product(2, 2) > 0


@pytest.mark.parametrize("block", [(0, 3), (2, 6), (1, 3), (0, 0), (64, 128), (-1, 0), (3, 2)])
def test_an_interval_that_is_no_block_is_refused(block: tuple[int, int]) -> None:
    with pytest.raises(ShapeError):
        RiskTable.of([(*block, 1, 0)]).additive(SCALE)


def test_each_block_has_its_own_number() -> None:
    for steps in (1, 2, 5, 40, 64):
        blocks = list(blocks_of(steps))
        assert [position_of(b, steps) for b in blocks] == list(range(block_count(steps)))
        assert max(high for _, high in blocks) >= steps


@given(values=VALUES, k=st.integers(1, 9))
def test_one_site_alone_round_trips(values: list[float], k: int) -> None:
    for state in (Count(len(values)), Records(2 * len(values), len(values)), _intervals(values, k)):
        assert type(state).from_additive(state.additive(SCALE), SCALE) == state


ALL = PublicScale(centre=150.0, half=130.0, bins=40, columns=COLUMNS.columns)


SUMS = (Count, IntervalCounts, Moments, NormalEquations, Records, RiskTable)


@pytest.mark.parametrize("kind", SUMS)
def test_zero_is_zeros(kind: type[Aggregate]) -> None:
    size = kind.additive_size(ALL)
    assert size
    assert kind.zero().additive(ALL) == (0,) * size
    assert kind.from_additive((0,) * size, ALL) == kind.zero()
    with pytest.raises(ShapeError):
        kind.from_additive((0,) * (size + 1), ALL)
    with pytest.raises(ShapeError):
        kind.from_additive((-1,) * size, ALL)


def test_an_aggregate_without_such_a_form_says_so() -> None:
    others = [kind for kind in aggregate_types().values() if kind not in SUMS]
    for kind in others:
        assert not kind.additive_size(ALL)
        with pytest.raises(ShapeError, match="no sum of integers"):
            kind.zero().additive(ALL)
        with pytest.raises(ShapeError, match="no sum of integers"):
            kind.from_additive((), ALL)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (Count, (-1,)),
        (Count, (1, 2)),
        (Records, (5,)),
        (Moments, (0, 1, 0)),
        (Moments, (-2, 0, 0)),
        (Moments, (2, 2**80, 2**77)),  # a sum of squares below that of the mean
        (IntervalCounts, (1, *[0] * 79)),
        (IntervalCounts, (0, 1, *[0] * 38, 1, *[0] * 39)),  # ends before it starts
    ],
)
def test_what_no_persons_make_is_refused(kind: type[Aggregate], numbers: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        kind.from_additive(numbers, SCALE)
