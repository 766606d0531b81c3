"""Noisy counts made consistent: the laws of a projection, on integers."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.aggregates.table import Key
from federated_analytics.errors import ShapeError
from federated_analytics.privacy.consistency import (
    Relation,
    consistent,
    falling,
    margins,
    monotone,
    projected,
)

SEX = [("sex", level) for level in ("F", "M", "Unknown")]
AGE = [("age", level) for level in ("0 to 17", "18 to 64", "65 to 150", "Unknown")]


def table(*, crossed: bool) -> list[Key]:
    alone = [Key((level,), "x", "", "persons") for level in (*SEX, *AGE)]
    both = [Key((s, a), "x", "", "persons") for s in SEX for a in AGE]
    return [Key((), "x", "", "persons"), *alone, *(both if crossed else [])]


def hold(counts: Mapping[Key, int], relations: list[Relation[Key]]) -> bool:
    return all(counts[r.whole] == sum(counts[p] for p in r.parts) for r in relations)


NOISY = st.floats(-200, 1_000, allow_nan=False)


@st.composite
def noisy_tables(draw: st.DrawFn) -> tuple[dict[Key, float], dict[Key, float]]:
    keys = table(crossed=draw(st.booleans()))
    counts = {key: draw(NOISY) for key in keys}
    return counts, {key: draw(st.floats(0.1, 400)) for key in keys}


@settings(max_examples=60, deadline=None)
@given(noisy_tables())
def test_margins_agree_and_counts_are_whole_and_not_negative(
    noisy: tuple[dict[Key, float], dict[Key, float]],
) -> None:
    counts, variances = noisy
    relations = margins(counts)
    found = consistent(counts, variances, relations)
    assert hold(found, relations)
    assert all(type(n) is int and n >= 0 for n in found.values())
    assert list(found) == list(counts)


@settings(max_examples=60, deadline=None)
@given(noisy_tables())
def test_what_is_consistent_stays(noisy: tuple[dict[Key, float], dict[Key, float]]) -> None:
    counts, variances = noisy
    relations = margins(counts)
    found = consistent(counts, variances, relations)
    again = {key: float(n) for key, n in found.items()}
    assert consistent(again, variances, relations) == found


@settings(max_examples=40, deadline=None)
@given(noisy_tables())
def test_the_projection_is_the_nearest_point(
    noisy: tuple[dict[Key, float], dict[Key, float]],
) -> None:
    """Variational inequality: no consistent point lies on the far side of the projection."""
    counts, variances = noisy
    relations = margins(counts)
    near = projected(counts, variances, relations)
    assert min(near.values()) >= 0
    for relation in relations:
        parts = sum(near[p] for p in relation.parts)
        assert near[relation.whole] == pytest.approx(parts, abs=1e-4)
    draws = random.Random(0)
    for _ in range(5):
        start = {key: draws.uniform(0, 500) for key in counts}
        other = projected(start, dict.fromkeys(counts, 1.0), relations)
        away = sum((counts[k] - near[k]) * (other[k] - near[k]) / variances[k] for k in counts)
        size = sum(abs(counts[k] - near[k]) * (1 + abs(other[k])) / variances[k] for k in counts)
        assert away <= 1e-5 * (1 + size)


def test_a_total_and_its_parts_share_the_difference_by_variance() -> None:
    """Parts of variance 1, a total of variance 2, 8 apart: each takes its own share of the 8."""
    counts = {"total": 100.0, "a": 50.0, "b": 42.0}
    found = projected(counts, {"total": 2.0, "a": 1.0, "b": 1.0}, [Relation("total", ("a", "b"))])
    assert found == pytest.approx({"total": 96.0, "a": 52.0, "b": 44.0})


def test_the_surer_number_moves_less() -> None:
    counts = {"total": 100.0, "a": 40.0, "b": 40.0}
    sure = {"total": 1e-6, "a": 100.0, "b": 100.0}
    assert consistent(counts, sure, [Relation("total", ("a", "b"))]) == {
        "total": 100,
        "a": 50,
        "b": 50,
    }


def test_negative_counts_take_from_the_others() -> None:
    """Cutting at 0 alone would leave the parts' sum 30 above the total."""
    counts = {"total": 100.0, "a": 130.0, "b": -30.0}
    found = consistent(counts, dict.fromkeys(counts, 1.0), [Relation("total", ("a", "b"))])
    assert found["b"] == 0
    assert found["total"] == found["a"] == 115


def test_consistency_lowers_the_error() -> None:
    draws = random.Random(1)
    keys = table(crossed=True)
    relations = margins(keys)
    exact = {key: 10 for key in keys if len(key.strata) == 2}
    for key in keys:
        if key not in exact:
            exact[key] = sum(
                n for k, n in exact.items() if len(k.strata) == 2 and {*key.strata} <= {*k.strata}
            )
    before = after = 0.0
    for _ in range(100):
        noisy = {key: exact[key] + draws.gauss(0, 6) for key in keys}
        found = consistent(noisy, dict.fromkeys(keys, 36.0), relations)
        before += sum((max(0, round(noisy[k])) - exact[k]) ** 2 for k in keys)
        after += sum((found[k] - exact[k]) ** 2 for k in keys)
    assert after < 0.8 * before


def test_margins_of_crossed_strata_go_through_each_alone() -> None:
    relations = margins(table(crossed=True))
    assert len(relations) == 2 + len(SEX) + len(AGE)
    overall = [r for r in relations if not r.whole.strata]
    assert sorted(len(r.parts) for r in overall) == [len(SEX), len(AGE)]
    one = next(r for r in relations if r.whole.strata == (("sex", "F"),))
    assert {dict(p.strata)["sex"] for p in one.parts} == {"F"}
    assert len(one.parts) == len(AGE)


def test_margins_keep_variables_apart() -> None:
    keys = [Key((), v, "", "persons") for v in "xy"] + [Key((SEX[0],), "x", "", "persons")]
    assert {r.whole.variable for r in margins(keys)} == {"x"}


def test_three_ways_of_a_thousand_cells() -> None:
    draws = random.Random(2)
    axes = [[(name, str(i)) for i in range(10)] for name in "abc"]
    keys = [Key((), "x"), *(Key((level,), "x") for axis in axes for level in axis)]
    keys += [Key((a, b, c), "x") for a in axes[0] for b in axes[1] for c in axes[2]]
    noisy = {key: draws.gauss(2 if len(key.strata) == 3 else 200, 10) for key in keys}
    relations = margins(keys)
    found = consistent(noisy, dict.fromkeys(keys, 100.0), relations)
    assert hold(found, relations)
    # Cut at 0, 1,000 cells of 2 ± 10 would add up to more than 5,000.
    assert found[keys[0]] < 2_500


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-100, 1_000, allow_nan=False), max_size=40))
def test_cumulative_counts_never_fall(values: list[float]) -> None:
    found = monotone(values)
    assert found == sorted(found)
    assert all(type(n) is int and n >= 0 for n in found)
    assert monotone([float(n) for n in found]) == found


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-100, 1_000, allow_nan=False), min_size=1, max_size=12), st.integers(0, 900)
)
def test_an_attrition_never_rises_and_ends_at_its_population(
    values: list[float], last: int
) -> None:
    found = falling(values, last)
    assert found == sorted(found, reverse=True)
    assert (len(found), found[-1]) == (len(values), last)
    assert all(type(n) is int for n in found)
    assert falling([float(n) for n in found], last) == found


def test_an_attrition_is_the_nearest_that_never_rises() -> None:
    """Against all: the least sum of squares among integers that fall to the last."""
    values, last = [9.0, 4.0, 7.0, -29.0, 3.0], 2
    every = itertools.product(range(10), repeat=4)
    falls = [s for s in every if list(s) == sorted(s, reverse=True) and s[-1] >= last]

    def distance(steps: Iterable[int]) -> float:
        return sum((a - b) ** 2 for a, b in zip(steps, values[:-1], strict=True))

    found = falling(values, last)
    assert distance(found[:-1]) == min(map(distance, falls))
    assert falling([], 5) == []


def test_cumulative_counts_are_the_isotonic_regression() -> None:
    """Barlow et al. (1972): violators are replaced by their weighted mean."""
    assert monotone([1, 8, 4, 9]) == [1, 6, 6, 9]
    assert monotone([1, 8, 4, 9], [1, 3, 1, 1]) == [1, 5, 5, 9]
    assert monotone([]) == []


@pytest.mark.parametrize(
    ("counts", "variances", "relations"),
    [
        ({"a": math.nan}, {"a": 1.0}, []),
        ({"a": math.inf}, {"a": 1.0}, []),
        ({"a": 1.0}, {"a": 0.0}, []),
        ({"a": 1.0}, {"a": math.inf}, []),
        ({"a": 1.0}, {}, []),
        ({"a": 1.0}, {"a": 1.0}, [Relation("a", ("b",))]),
        (
            {"a": 1.0, "b": 1.0},
            {"a": 1.0, "b": 1.0},
            [Relation("a", ("b",)), Relation("b", ("a",))],
        ),
    ],
)
def test_what_cannot_be_made_consistent_is_refused(
    counts: dict[str, float], variances: dict[str, float], relations: list[Relation[str]]
) -> None:
    with pytest.raises(ShapeError):
        consistent(counts, variances, relations)
