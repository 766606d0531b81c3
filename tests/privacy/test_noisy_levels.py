"""Levels that few persons have stay unknown; those that many have are told."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from federated_analytics.errors import BudgetSpent
from federated_analytics.privacy.noisy_levels import told_levels

RHO, DELTA = 0.02, 1e-8


def test_a_level_of_many_is_told_and_one_of_a_single_person_is_not() -> None:
    persons = {"Female": 400, "Male": 380, **{f"rare {i}": 1 for i in range(500)}}
    found = told_levels(persons, rho=RHO, delta=DELTA)
    assert found.names == ("Female", "Male")


def test_the_threshold_follows_from_delta() -> None:
    """One person's level passes when the noise, of deviation 5, reaches threshold - 1."""
    found = told_levels({"a": 100}, rho=RHO, delta=DELTA)
    assert found.scale == pytest.approx(5.0)
    assert norm.sf(found.threshold - 1, scale=5.0) <= DELTA
    assert norm.sf(found.threshold - 3, scale=5.0) > DELTA
    assert 0 < found.delta <= DELTA
    assert RHO * (1 - 1e-9) < found.rho <= RHO


def test_a_single_person_passes_as_often_as_delta_says() -> None:
    """With a δ of one in twenty, as the only way to see it happen."""
    rare = {f"rare {i}": 1 for i in range(20_000)}
    found = told_levels(rare, rho=RHO, delta=0.05)
    share, error = len(found.names) / len(rare), norm.isf(1e-6) * math.sqrt(0.05 / len(rare))
    assert found.delta / 2 < share < found.delta + error


def test_levels_near_the_threshold_are_told_by_chance() -> None:
    threshold = told_levels({"a": 1}, rho=RHO, delta=DELTA).threshold
    near = {f"near {i}": threshold for i in range(400)}
    assert 100 < len(told_levels(near, rho=RHO, delta=DELTA).names) < 330


def test_an_empty_column_costs_the_same() -> None:
    empty, full = told_levels({}, rho=RHO, delta=DELTA), told_levels({"a": 9}, rho=RHO, delta=DELTA)
    assert empty.names == ()
    assert (empty.rho, empty.delta, empty.threshold) == (full.rho, full.delta, full.threshold)


@pytest.mark.parametrize(
    ("rho", "delta"), [(0.0, 1e-6), (math.nan, 1e-6), (math.inf, 1e-6), (0.1, 0.0), (0.1, 1e-17)]
)
def test_without_loss_no_level_is_told(rho: float, delta: float) -> None:
    with pytest.raises(BudgetSpent):
        told_levels({"a": 1_000}, rho=rho, delta=delta)
