"""Count, mean and centred second moment of one number a person."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Self

from federated_analytics.aggregates.base import STAYS, Aggregate, PublicScale, nearest_multiple
from federated_analytics.errors import ShapeError

ADDITIVE_STEPS = 2**80
"""Steps of the fixed-point sums in half the plausible range, or in its square."""
ADDITIVE_ROUNDING = Fraction(2 * 1_000, ADDITIVE_STEPS)
"""What rounding at 1,000 sites can make of a sum of squares: below it, all values are equal."""


@dataclass(frozen=True)
class Moments(Aggregate):
    """Persons with a value, their mean, and their sum of squared deviations from it.

    Shapes: n: int; mean, m2, residual: float (0.0 when n is 0)
    Units: persons; the feature's unit; its square; the feature's unit
    Merge: Chan, Golub & LeVeque (1979); stable, exact up to floating point
    Discloses: n; through mean and m2 whatever n values disclose, so see `fewest`
    `residual` is what `mean` lost to rounding: where the values are many times larger than their
    spread (1,000,000.1, 1,000,000.3 …), the difference of two sites' means needs it.
    `fewest` is the smallest group of persons that the numbers single out beyond n itself: the
    persons whose value is not 0, and for a 0/1 column also those whose value is 0. `extreme` is
    the largest absolute value. Both stay.

    References: Chan, Golub & LeVeque (1979), Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances, Stanford STAN-CS-79-773
    """

    n: int
    mean: float
    m2: float
    fewest: int = field(default=0, metadata=STAYS, compare=False)
    residual: float = 0.0
    extreme: float = field(default=0.0, metadata=STAYS, compare=False)
    one_sign: bool = field(default=True, metadata=STAYS, compare=False)
    least: float = field(default=math.inf, metadata=STAYS, compare=False)
    greatest: float = field(default=-math.inf, metadata=STAYS, compare=False)

    @classmethod
    def zero(cls) -> Self:
        return cls(0, 0.0, 0.0)

    def merge(self, other: Self) -> Self:
        if not other.n:
            return self
        if not self.n:
            return other
        n = self.n + other.n
        delta = (other.mean - self.mean) + (other.residual - self.residual)
        mean, lost = two_sum(self.mean, delta * (other.n / n))
        mean, residual = two_sum(mean, lost + self.residual)
        m2 = self.m2 + other.m2 + delta * delta * (self.n * (other.n / n))
        fewest = min((f for f in (self.fewest, other.fewest) if f), default=0)
        extreme = max(self.extreme, other.extreme)
        # Not by the sign of a product, which may underflow to 0.
        apart = self.mean < 0 < other.mean or other.mean < 0 < self.mean
        one_sign = self.one_sign and other.one_sign and not apart
        ends = min(self.least, other.least), max(self.greatest, other.greatest)
        return type(self)(n, mean, m2, fewest, residual, extreme, one_sign, *ends)

    def largest_share(self) -> float:
        """Of the sum of absolute values: exact where all have one sign, else at most this.

        Σ|x| is at least Σx² / max|x|, so a sum of both signs needs no scan of its own.
        """
        absolute = abs(self.total)
        if not self.one_sign and self.extreme:
            absolute = max(absolute, (self.m2 + self.n * self.mean**2) / self.extreme)
        of_sum = self.extreme / absolute if absolute else 0.0
        return min(1.0, max(of_sum, self._share_of_squares()))

    def _share_of_squares(self) -> float:
        """What one person's deviation makes up of m2, with what it moves the others' mean.

        A value d from the mean of n adds d² n / (n - 1): where that is nearly all of m2, the
        value is the mean and the root of m2 (n - 1) / n.
        """
        if self.n < 2 or not self.m2:
            return 0.0
        farthest = max(0.0, self.greatest - self.mean, self.mean - self.least)
        return farthest**2 / self.m2 * self.n / (self.n - 1)

    def rounded(self, base: int) -> Self:
        """n to a multiple of `base`, and m2 with it, so that the standard deviation stays."""
        n = nearest_multiple(self.n, base)
        if n < 2 or self.n < 2:
            return self.zero() if not n else dataclasses.replace(self, n=n)
        return dataclasses.replace(self, n=n, m2=self.m2 * (n - 1) / (self.n - 1))

    @property
    def support(self) -> tuple[int, ...]:
        return (self.n, self.fewest)

    @property
    def total(self) -> float:
        """Sum of the values, in the feature's unit."""
        return self.n * self.mean + self.n * self.residual

    @property
    def variance(self) -> float:
        """Sample variance (denominator n-1); NaN below two persons."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    @property
    def sd(self) -> float:
        """Sample standard deviation; NaN below two persons."""
        return math.sqrt(self.variance) if self.n > 1 else math.nan

    @classmethod
    def additive_size(cls, scale: PublicScale) -> int:
        return 3

    def additive(self, scale: PublicScale) -> tuple[int, ...]:
        """n, Σu and Σu² in steps of 2^-80, where u = (value - centre) / half.

        Rounded once, from exact fractions: off by at most half a step each.
        """
        if not self.n:
            return 0, 0, 0
        half = Fraction(scale.half)
        offset = (Fraction(self.mean) + Fraction(self.residual) - Fraction(scale.centre)) / half
        squares = Fraction(self.m2) / half**2 + self.n * offset**2
        sums = (self.n * offset, squares)
        return self.n, *in_steps(sums)

    @classmethod
    def from_additive(cls, numbers: Sequence[int], scale: PublicScale) -> Self:
        """Exact but for the steps: the mean to 2^-80 of the range, m2 to 2^-68 of its square."""
        if len(numbers) != 3 or numbers[0] < 0 or (not numbers[0] and any(numbers)):
            raise ShapeError("These are not the sums of any moments.")
        n, half = numbers[0], Fraction(scale.half)
        if not n:
            return cls.zero()
        first, second = (Fraction(total, ADDITIVE_STEPS) for total in numbers[1:])
        exact = Fraction(scale.centre) + half * first / n
        mean = float(exact)
        about_mean = second - first**2 / n
        rounding = ADDITIVE_ROUNDING * (1 + abs(first / n))
        if about_mean < -rounding:
            raise ShapeError("These are not the sums of any moments.")
        m2 = float(about_mean * half**2) if n > 1 and about_mean > rounding else 0.0
        return cls(n, mean, m2, residual=float(exact - Fraction(mean)))


def in_steps(sums: Iterable[Fraction]) -> tuple[int, ...]:
    """Sums in steps of 2^-80, each rounded once."""
    return tuple(round(total * ADDITIVE_STEPS) for total in sums)


def two_sum(a: float, b: float) -> tuple[float, float]:
    """a + b rounded, and exactly what the rounding lost.

    References: Knuth (1997), The Art of Computer Programming 2, section 4.2.2, theorem B
    """
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
