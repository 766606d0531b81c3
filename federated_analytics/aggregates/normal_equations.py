"""Means and centred cross-products of several columns: the state behind a linear regression."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Self

from federated_analytics.aggregates.base import STAYS, Aggregate, PublicScale, nearest_multiple
from federated_analytics.aggregates.moments import ADDITIVE_ROUNDING, ADDITIVE_STEPS, in_steps
from federated_analytics.errors import ShapeError

PERSONS_A_PARAMETER = 10
"""R7: a site with fewer complete persons for each parameter sends nothing."""


@dataclass(frozen=True)
class NormalEquations(Aggregate):
    """X'X, X'y and y'y of persons without a missing value, as means and products about them.

    Shapes: n: int; means: float[m]; products: float[m (m + 1) / 2], the upper triangle by rows;
        m = columns of X without the intercept, and y as the last. Of nobody, both are empty
    Units: persons; those of the columns; those of two columns multiplied
    Merge: Chan, Golub & LeVeque (1979) for each pair; stable, exact up to floating point
    Discloses: n; the sum of each column and of each product of two. For 0/1 columns these are
        counts of persons, so see `fewest`
    `indicators` are the positions of the 0/1 columns. `fewest` is the smallest group of persons
    that the numbers single out (below an indicator, its complement, a product of two, a value
    that is not 0; 0 where there is none), `share` the largest part of a column's sum that is one
    person's. These stay.

    Raises: ShapeError where two that hold persons have different columns
    References: Chan, Golub & LeVeque (1979), Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances, Stanford STAN-CS-79-773
    """

    n: int
    means: tuple[float, ...]
    products: tuple[float, ...]
    indicators: tuple[int, ...] = field(default=(), metadata=STAYS, compare=False)
    fewest: int = field(default=0, metadata=STAYS, compare=False)
    share: float = field(default=0.0, metadata=STAYS, compare=False)

    def __post_init__(self) -> None:
        m = len(self.means)
        if len(self.products) != m * (m + 1) // 2 or self.n < 0:
            raise ShapeError("The products are not those of the columns.", where="products")

    @classmethod
    def zero(cls) -> Self:
        return cls(0, (), ())

    def merge(self, other: Self) -> Self:
        if not other.n:
            return self
        if not self.n:
            return other
        if len(self.means) != len(other.means):
            raise ShapeError(
                f"{len(self.means)} columns cannot be merged with {len(other.means)}.",
                where="means",
            )
        n = self.n + other.n
        delta = [b - a for a, b in zip(self.means, other.means, strict=True)]
        means = tuple(a + d * (other.n / n) for a, d in zip(self.means, delta, strict=True))
        weight = self.n * (other.n / n)
        pairs = zip(pair_positions(len(means)), self.products, other.products, strict=True)
        products = tuple(a + b + delta[i] * delta[j] * weight for (i, j), a, b in pairs)
        fewest = min((f for f in (self.fewest, other.fewest) if f), default=0)
        share = max(self.share, other.share)
        return type(self)(n, means, products, self.indicators, fewest, share)

    @property
    def support(self) -> tuple[int, ...]:
        return (self.n, self.fewest)

    @property
    def parameters(self) -> int:
        """Coefficients that these persons determine: columns of X that vary, and the intercept."""
        covariates = len(self.means) - 1
        return 1 + sum(self.product(i, i) > 0 for i in range(covariates)) if self.n else 0

    def largest_share(self) -> float:
        return self.share

    def guarded(self, min_count: int) -> Self | None:
        """R7: withheld whole with more parameters than persons / 10, or with a small group."""
        if self.parameters * PERSONS_A_PARAMETER > self.n:
            return None
        return super().guarded(min_count)

    def rounded(self, base: int) -> Self:
        """n, and each indicator's and each of their products' count, to multiples of `base`.

        What is left of the products is scaled with n, so that the covariances stay.
        """
        n = nearest_multiple(self.n, base)
        if not n or self.n < 2:
            return self.zero() if not n else dataclasses.replace(self, n=n)
        binary = set(self.indicators)
        means = tuple(
            nearest_multiple(round(self.n * mean), base) / n if i in binary else mean
            for i, mean in enumerate(self.means)
        )
        products = []
        for i, j in pair_positions(len(means)):
            if i in binary and j in binary:
                both = nearest_multiple(self.count(i, j), base)
                products.append(both - n * means[i] * means[j])
            else:
                products.append(self.product(i, j) * (n - 1) / (self.n - 1))
        return dataclasses.replace(self, n=n, means=means, products=tuple(products))

    @classmethod
    def additive_size(cls, scale: PublicScale) -> int:
        m = len(scale.columns)
        return 1 + m + m * (m + 1) // 2 if m else 0

    def additive(self, scale: PublicScale) -> tuple[int, ...]:
        """n, Σu and Σuv in steps of 2^-80, where u = (value - centre) / half of its column."""
        if not self.n:
            return (0,) * self.additive_size(scale)
        if len(scale.columns) != len(self.means):
            raise ShapeError("The columns are not those of the study.", where="means")
        halves = [Fraction(half) for _, half in scale.columns]
        about = zip(self.means, scale.columns, strict=True)
        offsets = [
            (Fraction(mean) - Fraction(centre)) / Fraction(half) for mean, (centre, half) in about
        ]
        pairs = zip(pair_positions(len(offsets)), self.products, strict=True)
        second = (
            Fraction(total) / (halves[i] * halves[j]) + self.n * offsets[i] * offsets[j]
            for (i, j), total in pairs
        )
        return self.n, *in_steps((*(self.n * offset for offset in offsets), *second))

    @classmethod
    def from_additive(cls, numbers: Sequence[int], scale: PublicScale) -> Self:
        """Exact but for the steps; a column that is constant up to them has products of 0."""
        if len(numbers) != cls.additive_size(scale) or numbers[0] < 0:
            raise ShapeError("These are not the sums of any columns.")
        n, m = numbers[0], len(scale.columns)
        if not n:
            return cls.zero()
        first = [Fraction(total, ADDITIVE_STEPS) for total in numbers[1 : m + 1]]
        pairs = zip(pair_positions(m), numbers[m + 1 :], strict=True)
        about = {
            (i, j): Fraction(total, ADDITIVE_STEPS) - first[i] * first[j] / n
            for (i, j), total in pairs
        }
        noise = [ADDITIVE_ROUNDING * (1 + abs(total / n)) for total in first]
        if any(about[i, i] < -noise[i] for i in range(m)):
            raise ShapeError("These are not the sums of any columns.")
        flat = [about[i, i] <= noise[i] for i in range(m)]
        halves = [Fraction(half) for _, half in scale.columns]
        products = tuple(
            0.0 if flat[i] or flat[j] else float(total * halves[i] * halves[j])
            for (i, j), total in about.items()
        )
        centres = [Fraction(centre) for centre, _ in scale.columns]
        means = zip(centres, halves, first, strict=True)
        return cls(n, tuple(float(c + half * total / n) for c, half, total in means), products)

    def product(self, i: int, j: int) -> float:
        """Sum over persons of the product of columns i and j, each about its mean."""
        i, j = min(i, j), max(i, j)
        return self.products[i * len(self.means) - i * (i - 1) // 2 + j - i]

    def count(self, i: int, j: int) -> int:
        """Persons with 1 in both of the 0/1 columns i and j (the same one, for its own count)."""
        return round(self.product(i, j) + self.n * self.means[i] * self.means[j])


def pair_positions(columns: int) -> list[tuple[int, int]]:
    """Pairs of columns in the order of `products`."""
    return list(combinations_with_replacement(range(columns), 2))


def smallest_group(
    state: NormalEquations, levels: Mapping[int, tuple[float, float]], others: Sequence[int]
) -> int:
    """The smallest group of persons that columns of two values, one or two at a time, make.

    Args:
        levels: the lower and the upper value of each column that takes only two.
        others: sizes of further groups that can be told.

    Returns:
        persons; 0 where there is no group but everybody.
    """
    groups = list(others)
    upper = {i: _persons_at(state, i, *ends) for i, ends in levels.items()}
    for i, j in combinations_with_replacement(sorted(levels), 2):
        heights = [levels[k][1] - levels[k][0] for k in (i, j)]
        # Through the covariance of the two as 0/1 columns; of one with itself, its own count.
        both = state.product(i, j) / heights[0] / heights[1] + upper[i] * (upper[j] / state.n)
        both = round(both) if i != j else upper[i]
        groups += [both, upper[i] - both, upper[j] - both, state.n - upper[i] - upper[j] + both]
    return min((group for group in groups if 0 < group < state.n), default=0)


def _persons_at(state: NormalEquations, i: int, low: float, high: float) -> int:
    return round(state.n * (state.means[i] - low) / (high - low))


@dataclass(frozen=True)
class LinearFit:
    """Ordinary least squares.

    Fields:
        coefficients, errors: of the intercept, then of each column of X, with standard errors;
            NaN where a column is constant or follows from those before it
        degrees: persons less coefficients
        residual_sd: in the unit of y; NaN without degrees of freedom
        r_squared: part of y's variance that the columns explain; NaN where y is constant
    """

    coefficients: tuple[float, ...]
    errors: tuple[float, ...]
    degrees: int
    residual_sd: float
    r_squared: float


TOLERANCE = 1e-10
"""A column of whose variance less than this is its own is taken to follow from the others."""


def least_squares(state: NormalEquations) -> LinearFit:
    """The fit that the normal equations determine.

    Solved on columns of unit variance by a Cholesky factor, with the columns that follow from
    earlier ones left out.

    References: Golub & Van Loan (2013), Matrix Computations, section 5.3.2
    """
    import numpy as np

    m = len(state.means)
    full = np.zeros((m, m))
    for (i, j), value in zip(pair_positions(m), state.products, strict=True):
        full[i, j] = full[j, i] = value
    kept = _independent(full[:-1, :-1])
    scale = np.sqrt(full[kept, kept])
    matrix = full[np.ix_(kept, kept)] / np.outer(scale, scale)
    right = full[kept, -1] / scale
    inverse = np.linalg.inv(matrix) if kept else np.zeros((0, 0))
    slopes = np.linalg.solve(matrix, right) if kept else np.zeros(0)
    total = float(full[-1, -1])
    # Of the slopes as computed: their errors then matter in the second order only.
    unexplained = max(0.0, total - 2 * slopes @ right + slopes @ matrix @ slopes)
    degrees = state.n - len(kept) - 1
    variance = unexplained / degrees if degrees > 0 else math.nan
    centre = np.array([state.means[i] for i in kept]) / scale
    intercept = state.means[-1] - float(slopes @ centre)
    leverage = 1 / state.n + float(centre @ inverse @ centre)
    coefficients, errors = [math.nan] * m, [math.nan] * m
    coefficients[0], errors[0] = intercept, math.sqrt(variance * leverage)
    for at, i in enumerate(kept):
        coefficients[i + 1] = float(slopes[at] / scale[at])
        errors[i + 1] = float(math.sqrt(variance * inverse[at, at]) / scale[at])
    r_squared = 1 - float(unexplained) / total if total > 0 else math.nan
    sd = math.sqrt(variance)
    return LinearFit(tuple(coefficients), tuple(errors), degrees, sd, r_squared)


def _independent(matrix: object) -> list[int]:
    """Positions of the columns that do not follow from those before, by Cholesky's pivots."""
    import numpy as np

    left = np.array(matrix, dtype=float)
    own = left.diagonal().copy()
    kept: list[int] = []
    for i in range(len(left)):
        if own[i] <= 0 or left[i, i] <= TOLERANCE * own[i]:
            left[i, :] = left[:, i] = 0.0
            continue
        kept.append(i)
        left = left - np.outer(left[:, i], left[i, :]) / left[i, i]
    return kept
