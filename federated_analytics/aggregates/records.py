"""Numbers of records, with the persons they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from federated_analytics.aggregates.base import (
    STAYS,
    Aggregate,
    PublicScale,
    counts_in,
    nearest_multiple,
)


@dataclass(frozen=True)
class Records(Aggregate):
    """Number of records (measurements, visits …) and of the persons who have one.

    Shapes: records, persons: int; records >= persons
    Units: records; persons
    Merge: sum; exact
    Discloses: both numbers; both rest on `persons`
    `most` is the largest number of records of one person. It stays.
    """

    records: int
    persons: int
    most: int = field(default=0, metadata=STAYS, compare=False)

    @classmethod
    def zero(cls) -> Self:
        return cls(0, 0)

    def merge(self, other: Self) -> Self:
        return type(self)(
            self.records + other.records,
            self.persons + other.persons,
            max(self.most, other.most),
        )

    def largest_share(self) -> float:
        return self.most / self.records if self.records else 0.0

    def rounded(self, base: int) -> Self:
        records, persons = (nearest_multiple(n, base) for n in (self.records, self.persons))
        return type(self)(records, persons)

    @property
    def support(self) -> tuple[int, ...]:
        return (self.persons,)

    @classmethod
    def additive_size(cls, scale: PublicScale) -> int:
        return 2

    def additive(self, scale: PublicScale) -> tuple[int, ...]:
        return self.records, self.persons

    @classmethod
    def from_additive(cls, numbers: Sequence[int], scale: PublicScale) -> Self:
        return cls(*counts_in(numbers, 2))
