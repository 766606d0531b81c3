"""The smallest and the largest value: for owners who let them leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from federated_analytics.aggregates.base import Aggregate


@dataclass(frozen=True)
class Extremes(Aggregate):
    """Rows with a value, and the smallest and largest of the values.

    Shapes: n: int; low, high: float (0.0 when n is 0)
    Units: persons; the feature's unit
    Merge: minimum and maximum; exact
    Discloses: the values of one or two persons, so nothing but a minimum count of 1 lets it leave
    """

    n: int
    low: float
    high: float

    @classmethod
    def zero(cls) -> Self:
        return cls(0, 0.0, 0.0)

    def merge(self, other: Self) -> Self:
        if not self.n or not other.n:
            return self if self.n else other
        n, low = self.n + other.n, min(self.low, other.low)
        return type(self)(n, low, max(self.high, other.high))

    @property
    def support(self) -> tuple[int, ...]:
        return (self.n, min(self.n, 1))
