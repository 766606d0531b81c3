"""Count, mean and centred second moment of one number a person."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

from federated_analytics.aggregates.base import STAYS, Aggregate


@dataclass(frozen=True)
class Moments(Aggregate):
    """Persons with a value, their mean, and their sum of squared deviations from it.

    Shapes: n: int; mean, m2: float (0.0 when n is 0)
    Units: persons; the feature's unit; its square
    Merge: Chan, Golub & LeVeque (1979); stable, exact up to floating point
    Discloses: n; through mean and m2 whatever n values disclose, so see `fewest`
    `fewest` is the smallest group of persons that the numbers single out beyond n itself: the
    persons whose value is not 0, and for a 0/1 column also those whose value is 0. It stays.

    References: Chan, Golub & LeVeque (1979), Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances, Stanford STAN-CS-79-773
    """

    n: int
    mean: float
    m2: float
    fewest: int = field(default=0, metadata=STAYS, compare=False)

    @classmethod
    def zero(cls) -> Self:
        return cls(0, 0.0, 0.0)

    def merge(self, other: Self) -> Self:
        if not other.n:
            return self
        if not self.n:
            return other
        n = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        m2 = self.m2 + other.m2 + delta * delta * (self.n * (other.n / n))
        fewest = min((f for f in (self.fewest, other.fewest) if f), default=0)
        return type(self)(n, mean, m2, fewest)

    @property
    def support(self) -> tuple[int, ...]:
        return (self.n, self.fewest)

    @property
    def total(self) -> float:
        """Sum of the values, in the feature's unit."""
        return self.n * self.mean

    @property
    def variance(self) -> float:
        """Sample variance (denominator n-1); NaN below two persons."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    @property
    def sd(self) -> float:
        """Sample standard deviation; NaN below two persons."""
        return math.sqrt(self.variance) if self.n > 1 else math.nan
