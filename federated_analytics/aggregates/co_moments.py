"""Means and centred second moments of several numbers a person: covariances, correlations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Self

from federated_analytics.aggregates.base import STAYS, Aggregate
from federated_analytics.errors import ShapeError


@dataclass(frozen=True)
class CoMoments(Aggregate):
    """Persons with all p values, the values' means, and sums of products of deviations.

    Shapes: n: int; means: float[p]; products: float[p (p + 1) / 2], the upper triangle by rows
    Units: persons; each value's unit; their products
    Merge: pairwise update of centred co-moments; stable, exact up to floating point
    Discloses: n; what n values disclose, so see `fewest`
    `fewest` is the smallest group of persons that the numbers single out beyond n. `share` is the
    largest part of a value's sum, or of its sum of squared deviations, that one person is. Both
    stay.
    Raises: ShapeError if the numbers of values differ

    References: Chan, Golub & LeVeque (1979), Stanford STAN-CS-79-773; Pébay (2008), SAND2008-6212
    """

    n: int
    means: tuple[float, ...]
    products: tuple[float, ...]
    fewest: int = field(default=0, metadata=STAYS, compare=False)
    share: float = field(default=0.0, metadata=STAYS, compare=False)

    @classmethod
    def zero(cls) -> Self:
        return cls(0, (), ())

    def merge(self, other: Self) -> Self:
        if not self.n or not other.n:
            return self if self.n else other
        if len(self.means) != len(other.means):
            raise ShapeError("Co-moments of different numbers of values cannot be merged.")
        n = self.n + other.n
        delta = [b - a for a, b in zip(self.means, other.means, strict=True)]
        means = tuple(a + d * (other.n / n) for a, d in zip(self.means, delta, strict=True))
        weight = self.n * (other.n / n)
        pairs = _pairs(len(delta))
        products = tuple(
            a + b + weight * delta[i] * delta[j]
            for a, b, (i, j) in zip(self.products, other.products, pairs, strict=True)
        )
        fewest = min((f for f in (self.fewest, other.fewest) if f), default=0)
        return type(self)(n, means, products, fewest, max(self.share, other.share))

    def largest_share(self) -> float:
        return self.share

    def rounded(self, base: int) -> Self:
        from federated_analytics.aggregates.base import nearest_multiple

        n = nearest_multiple(self.n, base)
        if n < 2 or self.n < 2:
            return self.zero() if not n else dataclasses.replace(self, n=n)
        scale = (n - 1) / (self.n - 1)
        return dataclasses.replace(self, n=n, products=tuple(p * scale for p in self.products))

    @property
    def support(self) -> tuple[int, ...]:
        return (self.n, self.fewest)

    @property
    def matrix(self) -> tuple[tuple[float, ...], ...]:
        """Sums of products of deviations, p × p, symmetric."""
        size = len(self.means)
        of = dict(zip(_pairs(size), self.products, strict=True))
        return tuple(tuple(of[min(i, j), max(i, j)] for j in range(size)) for i in range(size))


def _pairs(size: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(size) for j in range(i, size)]
