"""R10: losses add up as ρ, are told as ε, and are refused when the budget is spent."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.errors import BudgetSpent, PolicyError
from federated_analytics.privacy.accounting import (
    SECONDS_A_DAY,
    Budget,
    Charge,
    compose,
    epsilon_of,
    quote,
    remaining,
    require,
    rho_of,
    spent,
)

MONTH = Budget(1.0, 1e-6, 30)
NOW = 1_000 * SECONDS_A_DAY


def plain_bound(rho: float, delta: float) -> float:
    """Bun & Steinke (2016), proposition 1.3: looser than what is used."""
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def renyi_bound(rho: float, delta: float) -> float:
    """Canonne, Kamath & Steinke (2020), corollary 13, minimised over a grid of orders."""
    orders = (1 + 10 ** (x / 500) for x in range(-1500, 3000))
    return min(
        rho * a + (math.log(1 / (a * delta)) + (a - 1) * math.log(1 - 1 / a)) / (a - 1)
        for a in orders
    )


@pytest.mark.parametrize("rho", [1e-4, 1e-3, 0.03125, 0.1, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("delta", [1e-4, 1e-6, 1e-10])
def test_conversion_equals_the_published_formula(rho: float, delta: float) -> None:
    converted = epsilon_of(rho, delta)
    assert converted == pytest.approx(max(0.0, renyi_bound(rho, delta)), rel=1e-4)
    assert converted <= plain_bound(rho, delta)


@pytest.mark.parametrize("rho", [0.01, 0.1, 1.0])
def test_conversion_is_no_better_than_gaussian_noise_allows(rho: float) -> None:
    """Balle & Wang (2018), theorem 8: the exact δ of Gaussian noise at the ε that is told."""
    from scipy.special import ndtr

    delta = 1e-6
    epsilon, sigma = epsilon_of(rho, delta), 1 / math.sqrt(2 * rho)
    a, b = 1 / (2 * sigma), epsilon * sigma
    exact = ndtr(a - b) - math.exp(epsilon) * ndtr(-a - b)
    assert exact <= delta


def test_a_known_value() -> None:
    """Gaussian noise of deviation 4 on a count: ρ = 1/32, as OpenDP's documentation has it."""
    assert epsilon_of(1 / 32, 1e-6) == pytest.approx(1.1429, abs=1e-4)


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-9])
def test_rho_is_the_largest_that_epsilon_allows(epsilon: float, delta: float) -> None:
    rho = rho_of(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon < epsilon_of(rho * (1 + 1e-6), delta)


def test_conversion_at_the_ends() -> None:
    assert epsilon_of(0.0, 1e-6) == 0.0
    assert epsilon_of(1e9, 1e-6) == math.inf
    assert rho_of(1e8, 1e-6) == 1e4
    for rho, delta in ((-1.0, 1e-6), (math.nan, 1e-6), (1.0, 0.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match="rho must not be negative"):
            epsilon_of(rho, delta)
    with pytest.raises(ValueError, match="epsilon must be positive"):
        rho_of(0.0, 1e-6)


def test_epsilon_rises_with_rho() -> None:
    told = [epsilon_of(10.0**x, 1e-6) for x in range(-6, 4)]
    assert all(a < b for a, b in pairwise(told))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 10), max_size=20), st.randoms())
def test_composition_is_a_sum_in_any_order(losses: list[float], random: object) -> None:
    charges = [Charge(rho, rho * 1e-9) for rho in losses]
    whole = compose(charges)
    random.shuffle(charges)  # type: ignore[attr-defined]
    assert compose(charges) == whole
    assert whole.rho == pytest.approx(sum(losses))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_charge_cannot_give_back(bad: float) -> None:
    with pytest.raises(ValueError, match="a charge has"):
        Charge(bad)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ((0.0, 1e-6, 30), "epsilon"),
        ((-1.0, 1e-6, 30), "epsilon"),
        ((math.nan, 1e-6, 30), "epsilon"),
        ((101.0, 1e-6, 30), "epsilon"),
        ((1.0, 0.0, 30), "delta"),
        ((1.0, 0.5, 30), "delta"),
        ((1.0, 1e-6, 0), "period_days"),
    ],
)
def test_an_impossible_budget_names_its_key(values: tuple[float, float, int], key: str) -> None:
    with pytest.raises(PolicyError) as told:
        Budget(*values)
    assert told.value.where == f"budget.{key}"
    assert "such as" in told.value.remedy


def at(day: float, rho: float = 0.01, analyst: str = "ada", dataset: str = "cdm") -> Charge:
    return Charge(rho, 0.0, analyst, dataset, NOW - day * SECONDS_A_DAY)


def test_only_own_charges_of_the_period_count() -> None:
    charges = [at(0), at(29.9), at(30.1), at(1, analyst="bob"), at(1, dataset="other")]
    assert spent(MONTH, charges, NOW, analyst="ada", dataset="cdm").rho == pytest.approx(0.02)
    left = remaining(MONTH, charges, NOW, analyst="ada", dataset="cdm")
    assert left.rho == pytest.approx(MONTH.rho - 0.02)
    assert left.epsilon_spent == pytest.approx(epsilon_of(0.02, 1e-6))
    assert left.epsilon_total == 1.0


def test_a_clock_set_back_renews_nothing() -> None:
    later = at(-400)
    assert spent(MONTH, [later], NOW, analyst="ada", dataset="cdm").rho == later.rho


def test_no_period_of_any_start_holds_more_than_the_budget() -> None:
    charges: list[Charge] = []
    for day in range(0, 90, 3):
        now = NOW + day * SECONDS_A_DAY
        held = spent(MONTH, charges, now, analyst="ada", dataset="cdm")
        wanted = Charge(MONTH.rho / 4, 0.0, "ada", "cdm", now)
        if quote(MONTH, held, wanted).affordable:
            charges.append(wanted)
    assert len(charges) > 8
    for first in charges:
        window = [c for c in charges if first.at <= c.at < first.at + 30 * SECONDS_A_DAY]
        assert math.fsum(c.rho for c in window) <= MONTH.rho * (1 + 1e-12)


def test_a_quote_is_told_before_it_is_spent() -> None:
    told = quote(MONTH, Charge(0.01), Charge(0.005))
    assert told.affordable
    assert told.epsilon_alone == pytest.approx(epsilon_of(0.005, 1e-6))
    assert told.epsilon_before == pytest.approx(epsilon_of(0.01, 1e-6))
    assert told.epsilon_after == pytest.approx(epsilon_of(0.015, 1e-6))


def test_the_last_of_the_budget_can_be_spent_and_no_more() -> None:
    already = Charge(MONTH.rho * 0.75)
    require(MONTH, already, Charge(MONTH.rho * 0.25))
    with pytest.raises(BudgetSpent) as told:
        require(MONTH, already, Charge(MONTH.rho * 0.2501))
    assert told.value.code == "budget_spent"
    assert told.value.remedy


def test_delta_that_is_spent_leaves_nothing() -> None:
    gone = Charge(0.0, 1e-6)
    assert not quote(MONTH, gone, Charge(1e-6)).affordable
    assert not quote(MONTH, Charge(0.0), gone).affordable
    left = remaining(
        MONTH, [Charge(0.0, 1e-6, "ada", "cdm", NOW)], NOW, analyst="ada", dataset="cdm"
    )
    assert (left.rho, left.delta) == (0.0, 0.0)


def test_a_part_of_delta_spent_makes_the_rest_dearer() -> None:
    left = remaining(
        MONTH, [Charge(0.0, 5e-7, "ada", "cdm", NOW)], NOW, analyst="ada", dataset="cdm"
    )
    assert 0 < left.rho == pytest.approx(rho_of(1.0, 5e-7))
    assert left.rho < MONTH.rho
