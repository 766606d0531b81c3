"""Intervals that include the noise cover what they are about, 95 times of 100."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from scipy.stats import norm

from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.table import Key
from federated_analytics.analyses.confidence import (
    count_interval,
    mean_interval,
    proportion_interval,
)
from federated_analytics.privacy.noise import noisy
from federated_analytics.privacy.noise_plan import NoiseStatement
from federated_analytics.privacy.noise_statistics import PublicDomain

DRAWS = 2_000
FALSE_ALARM = 1e-6
BOUNDS = (40.0, 260.0)
MEAN, SD = 128.0, 18.0


def covers(share: float, *, at_least: float = 0.95, at_most: float = 1.0) -> None:
    """The share of DRAWS lies where a true coverage of `at_least` … `at_most` puts it."""
    error = norm.isf(FALSE_ALARM) * math.sqrt(0.95 * 0.05 / DRAWS)
    assert at_least - error < share < at_most + error


def keys(count: int) -> list[Key]:
    return [Key((), "bp", f"{i:05d}", "category") for i in range(count)]


def noisy_moments(
    persons: int, rho: float, sites: int = 1, bounds: tuple[float, float] = BOUNDS
) -> tuple[list[Moments], dict[str, NoiseStatement]]:
    """Means of DRAWS fresh samples, with noise, merged over sites."""
    draws = np.random.default_rng(7)
    places = keys(DRAWS)
    public = PublicDomain(dict.fromkeys(places, Moments), {"bp": bounds})
    merged = [Moments.zero()] * DRAWS
    for _ in range(sites):
        values = draws.normal(MEAN, SD, (DRAWS, persons)).clip(*bounds)
        exact = {
            key: Moments(persons, float(row.mean()), float(((row - row.mean()) ** 2).sum()))
            for key, row in zip(places, values, strict=True)
        }
        found = noisy(exact, public, rho=rho)
        for i, key in enumerate(places):
            value = found.table[key]
            assert isinstance(value, Moments)
            merged[i] = merged[i].merge(value)
    return merged, {told.statistic: told for told in found.statements}


@pytest.mark.parametrize(
    ("persons", "rho", "sites", "bounds"),
    [
        (500, 0.05, 1, BOUNDS),
        (200, 0.5, 1, BOUNDS),
        (100, 5.0, 1, BOUNDS),
        (300, 0.1, 3, BOUNDS),
        (500, 0.1, 1, (40.0, 1_000.0)),
    ],
)
def test_means_are_covered(
    persons: int, rho: float, sites: int, bounds: tuple[float, float]
) -> None:
    found, told = noisy_moments(persons, rho, sites, bounds)
    held = sum(
        low <= MEAN <= high
        for low, high in (
            mean_interval(
                moments,
                bounds,
                n_variance=sites * told["persons"].variance,
                sum_variance=sites * told["sum"].variance,
            )
            for moments in found
        )
    )
    covers(held / DRAWS, at_most=0.97)


def test_an_interval_without_the_noise_would_not_cover() -> None:
    found, _ = noisy_moments(500, 0.05)
    held = sum(
        low <= MEAN <= high
        for low, high in (
            mean_interval(moments, BOUNDS, n_variance=0.0, sum_variance=0.0) for moments in found
        )
    )
    assert held / DRAWS < 0.8


def test_without_noise_the_interval_is_students() -> None:
    """0, 1 … 9: mean 4.5, s² = 55 / 6, t(0.975, 9) = 2.262157."""
    exact = reduce(Moments.merge, (Moments(1, float(x), 0.0) for x in range(10)))
    half = 2.262157 * math.sqrt(55 / 6 / 10)
    found = mean_interval(exact, (0.0, 9.0), n_variance=0.0, sum_variance=0.0)
    assert found == pytest.approx((4.5 - half, 4.5 + half), abs=1e-5)


@pytest.mark.parametrize("n", [0, 1, 20])
def test_of_too_few_persons_nothing_is_known(n: int) -> None:
    found = mean_interval(Moments(n, 100.0, 5.0), BOUNDS, n_variance=400.0, sum_variance=1.0)
    assert found == BOUNDS


def test_counts_are_covered() -> None:
    places = keys(DRAWS)
    found = noisy({}, PublicDomain(dict.fromkeys(places, Count)), rho=0.02)
    variance = found.statements[0].variance
    held = sum(
        low <= 0 <= high
        for low, high in (count_interval(found.estimates[k][0], variance) for k in places)
    )
    covers(held / DRAWS)
    assert count_interval(100.0, 25.0) == (89, 111)
    assert count_interval(-40.0, 25.0) == (0, 0)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.97])
def test_proportions_are_covered(share: float) -> None:
    draws = np.random.default_rng(8)
    whole, scale = 800, 6.0
    part = draws.binomial(whole, share, DRAWS) + draws.normal(0, scale, DRAWS)
    noisy_whole = whole + draws.normal(0, scale, DRAWS)
    held = 0
    for a, b in zip(part, noisy_whole, strict=True):
        low, high = proportion_interval(float(a), float(b), scale**2, scale**2)
        assert 0 <= low <= high <= 1
        held += low <= share <= high
    covers(held / DRAWS)


def test_of_a_whole_below_its_noise_nothing_is_known() -> None:
    assert proportion_interval(3.0, 8.0, 25.0, 25.0) == (0.0, 1.0)
    assert proportion_interval(3.0, -8.0, 25.0, 25.0) == (0.0, 1.0)
    assert proportion_interval(0.0, 0.0, 0.0, 0.0) == (0.0, 1.0)
