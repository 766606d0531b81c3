"""Numbers of persons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from federated_analytics.aggregates.base import Aggregate, nearest_multiple


@dataclass(frozen=True)
class Count(Aggregate):
    """Number of distinct persons.

    Shapes: persons: int
    Units: persons
    Merge: sum; exact (federated equals pooled)
    Discloses: itself
    """

    persons: int

    @classmethod
    def zero(cls) -> Self:
        return cls(0)

    def merge(self, other: Self) -> Self:
        return type(self)(self.persons + other.persons)

    def rounded(self, base: int) -> Self:
        return type(self)(nearest_multiple(self.persons, base))

    @property
    def support(self) -> tuple[int, ...]:
        return (self.persons,)
