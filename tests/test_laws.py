"""The laws of a commutative monoid, once for every aggregate, on states built by operations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import fields
from functools import reduce

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from federated_analytics import wire
from federated_analytics.aggregates.base import Aggregate, aggregate_types
from federated_analytics.aggregates.co_moments import CoMoments
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.extremes import Extremes
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.normal_equations import NormalEquations
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.risk_table import RiskTable

Maker = Callable[[list[float]], Aggregate]


def _moments(values: list[float]) -> Moments:
    return reduce(Moments.merge, (Moments(1, v, 0.0) for v in values), Moments.zero())


def _intervals(values: list[float]) -> IntervalCounts:
    return IntervalCounts.of((int(abs(v)) % 50, int(abs(v)) % 50 + 1, 1) for v in values)


def _extremes(values: list[float]) -> Extremes:
    return reduce(Extremes.merge, (Extremes(1, v, v) for v in values), Extremes.zero())


def _co_moments(values: list[float]) -> CoMoments:
    rows = ((v / 1e3, (v * 7 % 11) / 1e3) for v in values)
    single = (CoMoments(1, row, (0.0, 0.0, 0.0)) for row in rows)
    return reduce(CoMoments.merge, single, CoMoments.zero())


def _normal_equations(values: list[float]) -> NormalEquations:
    """x and y of 21 persons a value: two parameters need 20."""
    rows = (((v + 7 * i) / 1e6, (v - i * i) / 1e6) for v in values for i in range(21))
    single = (NormalEquations(1, row, (0.0, 0.0, 0.0)) for row in rows)
    return reduce(NormalEquations.merge, single, NormalEquations.zero())


def _risk_table(values: list[float]) -> RiskTable:
    """Everybody is censored, or has an event after a day that is a multiple of three."""
    days = [int(abs(v)) % 50 for v in values]
    return RiskTable.of((d, d + 1, int(d % 3 == 0), int(d % 3 > 0)) for d in days)


MAKERS: dict[str, Maker] = {
    "CoMoments": _co_moments,
    "Count": lambda values: Count(len(values)),
    "Extremes": _extremes,
    "IntervalCounts": _intervals,
    "Moments": _moments,
    "NormalEquations": _normal_equations,
    "Records": lambda values: Records(2 * len(values), len(values)),
    "RiskTable": _risk_table,
}

VALUES = st.lists(st.floats(-1e6, 1e6, allow_nan=False), max_size=30)


def test_every_aggregate_has_a_generator() -> None:
    assert sorted(MAKERS) == sorted(aggregate_types())


def same(a: Aggregate, b: Aggregate) -> bool:
    return all(_alike(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def _alike(x: object, y: object) -> bool:
    if isinstance(x, tuple) and isinstance(y, tuple) and len(x) == len(y):
        return all(map(_alike, x, y))
    if isinstance(x, float) and isinstance(y, float):
        return math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-4)
    return x == y


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None)
@given(a=VALUES, b=VALUES, c=VALUES)
@example(a=[], b=[-1.0], c=[2.2250738585072014e-308, -1.7392621139428537e-192])
def test_merge_is_a_commutative_monoid(
    name: str, a: list[float], b: list[float], c: list[float]
) -> None:
    make = MAKERS[name]
    x, y, z = make(a), make(b), make(c)
    assert same(x.merge(type(x).zero()), x)
    assert same(type(x).zero().merge(x), x)
    assert same(x.merge(y), y.merge(x))
    assert same(x.merge(y).merge(z), x.merge(y.merge(z)))
    assert same(x.merge(y).merge(z), make(a + b + c))


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None)
@given(values=VALUES)
def test_the_wire_round_trips(name: str, values: list[float]) -> None:
    state = MAKERS[name](values)
    assert wire.from_plain(Aggregate, wire.to_plain(state), "state") == state


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=100, deadline=None)
@given(values=VALUES, k=st.integers(1, 12))
def test_no_guarded_aggregate_rests_on_fewer_than_k(name: str, values: list[float], k: int) -> None:
    state = MAKERS[name](values)
    safe = state.guarded(k)
    if safe is not None:
        assert not [n for n in safe.support if 0 < n < k]
    if isinstance(state, RiskTable):
        assert (safe is None) == any(
            0 < n < k for n in (state.events, state.persons - state.events)
        )
    elif isinstance(state, Extremes):
        assert (safe is None) == (bool(values) and k > 1)
    elif len(values) >= k or not values:
        assert safe is not None


def test_intervals_keep_everybody_and_lie_on_the_grid() -> None:
    rng = random.Random(1)
    state = IntervalCounts.of((v, v + 1, 1) for v in (rng.randrange(40) for _ in range(200)))
    safe = state.guarded(7)
    assert safe is not None
    assert safe.n == 200
    assert all(low < high for low, high, _ in safe.intervals)
    assert [high for _, high, _ in safe.intervals[:-1]] <= [low for low, _, _ in safe.intervals[1:]]


def test_what_stays_is_not_encoded() -> None:
    assert wire.to_plain(Moments(9, 1.5, 2.0, fewest=7)) == ["Moments", 9, 1.5, 2.0, 0.0]


def test_moments_that_single_out_a_few_persons_are_withheld() -> None:
    """A 0/1 column of which three are 1: the mean alone would tell three."""
    assert Moments(1000, 0.003, 2.991, fewest=3).guarded(5) is None
    assert Moments(1000, 0.3, 210.0, fewest=300).guarded(5) is not None
