"""The smallest and the largest value: for owners who let them leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from federated_analytics.aggregates.base import STAYS, Aggregate


@dataclass(frozen=True)
class Extremes(Aggregate):
    """Rows with a value, and the smallest and largest of the values.

    Shapes: n: int; low, high: float (0.0 when n is 0)
    Units: persons; the feature's unit
    Merge: minimum and maximum; exact
    Discloses: the values of one or two persons, so nothing but a minimum count of 1 lets it leave,
        or the site's owner: `let_out`, which stays
    """

    n: int
    low: float
    high: float
    let_out: bool = field(default=False, metadata=STAYS, compare=False)

    @classmethod
    def zero(cls) -> Self:
        return cls(0, 0.0, 0.0)

    def merge(self, other: Self) -> Self:
        if not self.n or not other.n:
            return self if self.n else other
        n, low = self.n + other.n, min(self.low, other.low)
        return type(self)(n, low, max(self.high, other.high), self.let_out and other.let_out)

    def end(self, *, largest: bool) -> Self:
        """One of the two values alone, for an owner who lets that one leave."""
        value = self.high if largest else self.low
        return type(self)(self.n, value, value, let_out=True)

    @property
    def support(self) -> tuple[int, ...]:
        return (self.n,) if self.let_out else (self.n, min(self.n, 1))
