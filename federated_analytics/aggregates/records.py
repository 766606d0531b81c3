"""Numbers of records, with the persons they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from federated_analytics.aggregates.base import Aggregate


@dataclass(frozen=True)
class Records(Aggregate):
    """Number of records (measurements, visits …) and of the persons who have one.

    Shapes: records, persons: int; records >= persons
    Units: records; persons
    Merge: sum; exact
    Discloses: both numbers; both rest on `persons`
    """

    records: int
    persons: int

    @classmethod
    def zero(cls) -> Self:
        return cls(0, 0)

    def merge(self, other: Self) -> Self:
        return type(self)(self.records + other.records, self.persons + other.persons)

    @property
    def support(self) -> tuple[int, ...]:
        return (self.persons,)
