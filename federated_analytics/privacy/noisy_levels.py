"""Which levels a text column has, where nothing public says so: learnt at a cost.

A level that only a few persons have is itself a disclosure, so its presence must be noised like
a count: a level is told when its noisy number of persons reaches a threshold that the level of
one single person would pass with probability δ at most.

References: Korolova, Kenthapadi, Mishra & Ntoulas (2009), Releasing Search Queries and Clicks
    Privately, WWW; Rogers (2023), A Unifying Privacy Analysis Framework for Unknown Domain
    Algorithms in Differential Privacy, arXiv 2309.09170; OpenDP 0.16
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federated_analytics.errors import BudgetSpent

LEAST_DELTA = 1e-15
"""Below it, doubles cannot tell the threshold's probability from zero."""


@dataclass(frozen=True)
class Levels:
    """The levels that are told, in order, and what telling them cost.

    Fields:
        names: each belonged to about `threshold` persons or more
        threshold: noisy number of persons from which a level is told
        scale: standard deviation of the noise, persons
        rho, delta: the cost; the noisy numbers themselves are not told again
    """

    names: tuple[str, ...]
    threshold: int
    scale: float
    rho: float
    delta: float


def told_levels(persons: Mapping[str, int], *, rho: float, delta: float) -> Levels:
    """The levels of a column that enough persons have.

    Args:
        persons: persons with each level; a person has at most one level
        rho, delta: the cost allowed; δ >= 1e-15

    Raises:
        BudgetSpent: no loss, or a δ too small to tell any level with.
    """
    if not (0 < rho < math.inf and LEAST_DELTA <= delta < 1):
        raise BudgetSpent("No privacy loss is left to learn a column's levels with.")
    scale = (1 + 1e-12) / math.sqrt(2 * rho)
    threshold = 4 + math.ceil(40 * scale)
    low = 2
    while threshold - low > 1:
        middle = (low + threshold) // 2
        low, threshold = (low, middle) if _delta(scale, middle) <= delta else (middle, threshold)
    measurement = _measurement(scale, threshold)
    spent, _ = measurement.map(_ONE_PERSON)
    # The measurement's answer comes in the order of a hash table.
    names = tuple(sorted(measurement(dict(persons))))
    return Levels(names, threshold, scale, float(spent), _delta(scale, threshold))


_ONE_PERSON = (1, 1, 1)
"""One person is in 1 level and moves it by 1: distances L0, L2 and L∞."""


def _delta(scale: float, threshold: int) -> float:
    """Most that the level of one single person can have as the probability to be told.

    OpenDP 0.16 states the tail of continuous noise, Pr[N >= threshold - 1], but adds noise of
    whole steps, which reaches it more often: for deviation 5 and threshold 10, 0.044 where 0.036
    is stated. One step lower bounds it (Canonne, Kamath & Steinke 2020, proposition 25).
    """
    _, stated = _measurement(scale, threshold - 1).map(_ONE_PERSON)
    return float(stated)


def _measurement(scale: float, threshold: int) -> Any:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp.m.make_gaussian_threshold(
        dp.map_domain(dp.atom_domain(T=str), dp.atom_domain(T="i64")),
        dp.l02inf_distance(dp.absolute_distance(T="i64")),
        scale=scale,
        threshold=threshold,
    )
