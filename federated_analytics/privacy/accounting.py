"""R10: what releases cost together: zero-concentrated privacy loss inside, (ε, δ) outside.

Losses are added as ρ, which composes by plain sums and tightly for Gaussian noise; ε and δ are
what a policy is written in and what an analyst reads. Nothing is stored here: `privacy.ledger`
keeps the charges.

References: Bun & Steinke (2016), Concentrated Differential Privacy, TCC; Canonne, Kamath &
    Steinke (2020), The Discrete Gaussian for Differential Privacy, NeurIPS 33, corollary 13
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from federated_analytics.errors import BudgetSpent, PolicyError

SECONDS_A_DAY = 86_400
_LEAST, _MOST = 1e-18, 1e4
"""The values of ρ that are converted: below no noise is drawable, above no privacy is left."""


@dataclass(frozen=True)
class Budget:
    """How much one analyst may learn of one data set in any `period_days` days on end.

    Args:
        epsilon: most privacy loss in the period; > 0 and at most 100
        delta: probability with which that bound may fail; > 0 and below 0.01
        period_days: charges older than this no longer count; >= 1

    Raises:
        PolicyError: a value out of its bounds.
    """

    epsilon: float
    delta: float
    period_days: int

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 100:
            raise _unusable("epsilon", "Write a number above 0 and at most 100, such as 1.0.")
        if not 0 < self.delta < 0.01:
            raise _unusable("delta", "Write less than 1 in the number of persons, such as 1e-6.")
        if not 1 <= self.period_days <= 36_525:
            raise _unusable("period_days", "Write whole days from 1 to 36525, such as 30.")

    @property
    def rho(self) -> float:
        """The whole budget as ρ, for a period whose charges all have delta = 0."""
        return rho_of(self.epsilon, self.delta)

    def since(self, now: float) -> float:
        """Unix seconds from which charges count at `now`.

        The period slides: a budget that starts anew at fixed dates could be spent twice within
        two days, before and after such a date.
        """
        return now - self.period_days * SECONDS_A_DAY


@dataclass(frozen=True)
class Charge:
    """What one release cost: `rho`-zCDP except with probability `delta`.

    Args:
        analyst, dataset: whose budget, and over which data
        at: Unix seconds
    """

    rho: float
    delta: float = 0.0
    analyst: str = ""
    dataset: str = ""
    at: float = 0.0

    def __post_init__(self) -> None:
        usable = math.isfinite(self.rho) and self.rho >= 0 and 0 <= self.delta < 1
        if not usable or not math.isfinite(self.at):
            raise ValueError("a charge has 0 <= rho < inf, 0 <= delta < 1 and a finite time")


@dataclass(frozen=True)
class Remaining:
    """A budget's state: ρ left, what is spent as (ε, δ), and ε that could still be reached."""

    rho: float
    delta: float
    epsilon_spent: float
    epsilon_total: float

    @classmethod
    def of(cls, budget: Budget, spent: Charge) -> Self:
        """What `budget` leaves after the composed charge `spent`."""
        delta = budget.delta - spent.delta
        if delta <= 0:
            return cls(0.0, 0.0, math.inf, budget.epsilon)
        left = max(0.0, rho_of(budget.epsilon, delta) - spent.rho)
        return cls(left, delta, epsilon_of(spent.rho, delta), budget.epsilon)


@dataclass(frozen=True)
class Quote:
    """What an answer would cost, before anything is spent.

    Fields:
        rho: its own loss
        epsilon_alone: the same as ε, were it the only release of the period
        epsilon_before, epsilon_after: of the period, without and with it
        affordable: the budget covers it
    """

    rho: float
    delta: float
    epsilon_alone: float
    epsilon_before: float
    epsilon_after: float
    affordable: bool


def compose(charges: Iterable[Charge]) -> Charge:
    """All `charges` together, whoever made them; sequential composition is a sum.

    References: Bun & Steinke (2016), lemma 2.3
    """
    held = tuple(charges)
    return Charge(math.fsum(c.rho for c in held), math.fsum(c.delta for c in held))


def spent(
    budget: Budget, charges: Iterable[Charge], now: float, *, analyst: str, dataset: str
) -> Charge:
    """What one analyst spent of one data set in the period that ends at `now`.

    A charge later than `now` counts: a clock that was set back renews no budget.
    """
    since = budget.since(now)
    return compose(
        c for c in charges if (c.analyst, c.dataset) == (analyst, dataset) and c.at > since
    )


def remaining(
    budget: Budget, charges: Iterable[Charge], now: float, *, analyst: str, dataset: str
) -> Remaining:
    """What one analyst may still spend of one data set at `now` (Unix seconds)."""
    return Remaining.of(budget, spent(budget, charges, now, analyst=analyst, dataset=dataset))


def quote(budget: Budget, already: Charge, wanted: Charge) -> Quote:
    """What `wanted` would cost after `already`: spends nothing, raises nothing."""
    after = compose((already, wanted))
    left = Remaining.of(budget, already)
    delta = budget.delta - after.delta
    affordable = delta > 0 and after.rho <= rho_of(budget.epsilon, delta)
    alone = budget.delta - wanted.delta
    return Quote(
        rho=wanted.rho,
        delta=wanted.delta,
        epsilon_alone=epsilon_of(wanted.rho, alone) if alone > 0 else math.inf,
        epsilon_before=left.epsilon_spent,
        epsilon_after=epsilon_of(after.rho, delta) if delta > 0 else math.inf,
        affordable=affordable,
    )


def require(budget: Budget, already: Charge, wanted: Charge) -> None:
    """BudgetSpent where `budget` does not cover `wanted` after `already`."""
    told = quote(budget, already, wanted)
    if not told.affordable:
        raise BudgetSpent(
            f"The answer would bring the privacy loss of the last {budget.period_days} days to "
            f"epsilon = {told.epsilon_after:.3g} of {budget.epsilon:g}."
        )


@lru_cache(maxsize=4_096)
def epsilon_of(rho: float, delta: float) -> float:
    """Smallest ε such that `rho`-zCDP is known to give (ε, `delta`)-differential privacy.

    OpenDP's conversion. 0 for rho = 0, infinite for a rho above 10,000; a rho so small that no
    noise could have been drawn for it counts as the least that could.
    """
    if not 0 < delta < 1 or not rho >= 0:
        raise ValueError("rho must not be negative, and delta lies between 0 and 1")
    if rho == 0:
        return 0.0
    if rho > _MOST:
        return math.inf
    import opendp.prelude as dp

    dp.enable_features("contrib")
    # Any rho-zCDP measurement has the same conversion; this one is never run. Its own map may
    # be smaller than rho by rounding, so it is made with a little less noise.
    scale = (1 - 1e-12) / math.sqrt(2 * max(rho, _LEAST))
    space = dp.atom_domain(T="i64"), dp.absolute_distance(T=float)
    converted: Any = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*space, scale=scale))
    return max(0.0, float(converted.map(1.0).epsilon(delta)))


@lru_cache(maxsize=1_024)
def rho_of(epsilon: float, delta: float) -> float:
    """Largest ρ whose `epsilon_of` at `delta` is at most `epsilon`; by bisection, from below."""
    if not 0 < epsilon < math.inf:
        raise ValueError("epsilon must be positive and finite")
    low, high = 0.0, _MOST
    if epsilon_of(high, delta) <= epsilon:
        return high
    # The ends' order of magnitude differs widely: bisect the exponent, then the number.
    for _ in range(200):
        middle = math.sqrt(max(low, _LEAST) * high)
        if not low < middle < high or high - low <= 1e-12 * high:
            break
        if epsilon_of(middle, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low


def _unusable(key: str, remedy: str) -> PolicyError:
    return PolicyError("The privacy budget cannot be used.", where=f"budget.{key}", remedy=remedy)
