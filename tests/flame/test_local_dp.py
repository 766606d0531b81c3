"""The Laplace mechanism: its distribution, its price, and what it refuses."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from federated_analytics.flame.local_dp import CannotAddNoise, noisy


@pytest.mark.parametrize(("epsilon", "sensitivity"), [(1.0, 1.0), (0.5, 3.0), (2.0, 0.1)])
def test_the_noise_is_laplace_with_scale_sensitivity_over_epsilon(
    epsilon: float, sensitivity: float
) -> None:
    drawn = noisy(np.full(20_000, 10.0), epsilon=epsilon, sensitivity=sensitivity)
    # One chance in 10^6 to fail wrongly; a scale wrong by 5 % fails nearly always.
    assert stats.kstest(drawn, stats.laplace(10.0, sensitivity / epsilon).cdf).pvalue > 1e-6
    assert np.std(drawn) == pytest.approx(math.sqrt(2) * sensitivity / epsilon, rel=0.05)


def test_a_number_gives_a_number_with_the_same_noise() -> None:
    drawn = [noisy(5, epsilon=1.0, sensitivity=2.0) for _ in range(1_500)]
    assert all(type(each) is float for each in drawn)
    assert stats.kstest(drawn, stats.laplace(5.0, 2.0).cdf).pvalue > 1e-6


@pytest.mark.parametrize("value", [3, 2.5, np.float32(1.5), np.int64(7)])
def test_every_kind_of_number(value: Any) -> None:
    drawn = noisy(value, epsilon=1e6, sensitivity=1.0)
    assert type(drawn) is float
    assert drawn == pytest.approx(float(value), abs=1e-3)


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3), (2, 2, 2)])
def test_an_array_keeps_its_shape_and_order(shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    drawn = noisy(array, epsilon=1e6, sensitivity=1.0)
    assert isinstance(drawn, np.ndarray)
    assert drawn.shape == shape
    np.testing.assert_allclose(drawn, array, atol=1e-3)


def test_the_price_is_charged_before_and_covers_what_was_asked() -> None:
    charged: list[float] = []
    noisy(1.0, epsilon=0.7, sensitivity=3.0, charge=charged.append)
    assert charged == pytest.approx([0.7], rel=1e-6)
    assert charged[0] >= 0.7


class Spent(Exception):
    pass


def test_a_spent_budget_releases_nothing() -> None:
    def refuse(epsilon: float) -> None:
        raise Spent

    with pytest.raises(Spent):
        noisy(1.0, epsilon=0.7, sensitivity=3.0, charge=refuse)


@pytest.mark.parametrize(
    "value",
    [
        *("5", None, True, [1.0, 2.0], {"mean": 1.0}, b"1", 1 + 2j, math.nan, math.inf),
        *(np.array([each]) for each in ("a", True, 1j, None, math.nan)),
        np.bool_(True),
        np.ma.masked_array([1.0], [True]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_noise_is_refused_and_costs_nothing(value: Any) -> None:
    charged: list[float] = []
    with pytest.raises(CannotAddNoise) as caught:
        noisy(value, epsilon=1.0, sensitivity=1.0, charge=charged.append)
    assert caught.value.remedy
    assert charged == []


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "1", None, True, [1.0]])
@pytest.mark.parametrize("name", ["epsilon", "sensitivity"])
def test_parameters_are_finite_and_positive(name: str, bad: Any) -> None:
    with pytest.raises(CannotAddNoise, match=name):
        noisy(1.0, **{"epsilon": 1.0, "sensitivity": 1.0, name: bad})


def test_a_scale_that_no_float_holds_is_refused() -> None:
    with pytest.raises(CannotAddNoise):
        noisy(1.0, epsilon=1e-300, sensitivity=1e300)


def test_nobody_can_set_a_seed() -> None:
    assert set(inspect.signature(noisy).parameters) == {
        "value",
        "epsilon",
        "sensitivity",
        "charge",
    }
    np.random.seed(1)
    first = noisy(0.0, epsilon=1.0, sensitivity=1.0)
    np.random.seed(1)
    assert noisy(0.0, epsilon=1.0, sensitivity=1.0) != first
