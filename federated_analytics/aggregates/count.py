"""Numbers of persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from federated_analytics.aggregates.base import (
    Aggregate,
    PublicScale,
    counts_in,
    nearest_multiple,
)


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

    @classmethod
    def additive_size(cls, scale: PublicScale) -> int:
        return 1

    def additive(self, scale: PublicScale) -> tuple[int, ...]:
        return (self.persons,)

    @classmethod
    def from_additive(cls, numbers: Sequence[int], scale: PublicScale) -> Self:
        return cls(*counts_in(numbers, 1))
