"""What every aggregate is: a commutative monoid of numbers that knows its support."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any, Self

from federated_analytics.errors import ShapeError

STAYS = {"stays": True}
"""Metadata of a dataclass field that the policy reads and that never travels."""


@dataclasses.dataclass(frozen=True)
class PublicScale:
    """What everybody knows of a variable: sums about it need no look at the data.

    Fields:
        centre, half: the middle of its plausible range, and half its length; in its unit
        bins: how many intervals or steps its public grid has
        columns: of several variables together, the centre and half of each
    """

    centre: float = 0.0
    half: float = 1.0
    bins: int = 0
    columns: tuple[tuple[float, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Aggregate(ABC):
    """Sufficient statistics that merge exactly: associative, commutative, with an identity.

    Subclasses are frozen dataclasses of numbers and tuples. Fields marked `STAYS` are seen by
    the site's policy and are never encoded for the wire.
    """

    @classmethod
    @abstractmethod
    def zero(cls) -> Self:
        """The identity of `merge`: what a site without any person holds."""

    @abstractmethod
    def merge(self, other: Self) -> Self:
        """The aggregate of both sets of persons, which must not overlap."""

    @property
    @abstractmethod
    def support(self) -> tuple[int, ...]:
        """Persons behind each released number, one count a number; 0 where nobody is."""

    def largest_share(self) -> float:
        """At most this part of a released sum is one person's; 0.0 where nothing is summed."""
        return 0.0

    def rounded(self, base: int) -> Self:
        """This aggregate with its counts of persons and records rounded to multiples of `base`."""
        return self

    def guarded(self, min_count: int) -> Self | None:
        """This aggregate with no number that rests on 1 … min_count-1 persons.

        Returns None when it cannot be had: the aggregate is then withheld whole.
        """
        return None if any(0 < n < min_count for n in self.support) else self

    @classmethod
    def additive_size(cls, scale: PublicScale) -> int:
        """How many integers `additive` gives; 0 where the aggregate has no such form."""
        return 0

    def additive(self, scale: PublicScale) -> tuple[int, ...]:
        """Integers whose element-wise sum over sites stands for the merged aggregate."""
        raise ShapeError(f"{type(self).__name__} is no sum of integers.")

    @classmethod
    def from_additive(cls, numbers: Sequence[int], scale: PublicScale) -> Self:
        """The aggregate that a sum of `additive` stands for; ShapeError where it is of none."""
        raise ShapeError(f"{cls.__name__} is no sum of integers.")


@cache
def aggregate_types() -> dict[str, type[Aggregate]]:
    """Every aggregate of this folder by class name: a file here is an aggregate."""
    package = importlib.import_module(__package__ or "")
    found: dict[str, type[Aggregate]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for value in vars(module).values():
            if _is_concrete(value) and value.__module__ == module.__name__:
                found[value.__name__] = value
    return dict(sorted(found.items()))


def _is_concrete(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Aggregate) and value is not Aggregate


def nearest_multiple(count: int, base: int) -> int:
    """`count` rounded to a multiple of `base`, halves up; off by at most base / 2."""
    return (2 * count + base) // (2 * base) * base


def counts_in(numbers: Sequence[int], size: int) -> tuple[int, ...]:
    """`numbers` as counts; ShapeError where there are not `size` of them or one is negative."""
    if len(numbers) != size or min(numbers, default=0) < 0:
        raise ShapeError(f"{size} counts are expected.")
    return tuple(numbers)
