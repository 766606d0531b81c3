"""The reductions of a data set, the same for one number and for a number a group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

from federated_analytics.fedmed import finalize
from federated_analytics.fedmed.expression import Scalar
from federated_analytics.fedmed.finalize import Finish
from federated_analytics.fedmed.schema import DATE, NUMBER, TEXT, TRUTH

R = TypeVar("R")
Kinds = frozenset[str]
Params = Mapping[str, Scalar | list[Scalar]]
NUMERIC = frozenset({NUMBER, TRUTH})
ORDERED = NUMERIC | {DATE}
ANY = ORDERED | {TEXT}
"""Kinds of values that a reduction is for."""


class Reductions(ABC, Generic[R]):
    """What all servers compute on their rows and the client merges. Rows without a value are
    skipped, as pandas does.

    `mean`, `median`, `quantile`, `min` and `max` of dates are dates: a `datetime.date`, or a
    `datetime` where there is a time.
    """

    @abstractmethod
    def _reduce(
        self, name: str, op: str, finish: Finish, wants: Kinds, params: Params | None = None
    ) -> R: ...

    def sum(self) -> R:
        """Sum of the values; of a mask, the rows for which it is true."""
        return self._reduce("sum", "sum", finalize.total, NUMERIC)

    def len(self) -> R:
        """Number of rows, those without a value among them."""
        return self._reduce("len", "len", finalize.rows, ANY)

    def sqsum(self) -> R:
        """Sum of the squares. For variances use `var`, which does not lose digits."""
        return self._reduce("sqsum", "sqsum", finalize.total, NUMERIC)

    def mean(self) -> R:
        """Mean of the values; NaN of none."""
        return self._reduce("mean", "moments", finalize.mean, ORDERED)

    def var(self, df: int = 1) -> R:
        """Variance of denominator n - df, from merged centred moments.

        Args:
            df: 1 for a sample, as pandas has it; 0 for the whole population.
        """
        return self._reduce("var", "moments", finalize.variance(df), NUMERIC)

    def std(self, df: int = 1) -> R:
        """Standard deviation: the square root of `var`."""
        return self._reduce("std", "moments", finalize.deviation(df), NUMERIC)

    def min(self) -> R:
        """Smallest value; where a policy holds, the edge of the outermost bin of enough rows.

        Bins are public: numbers of three significant digits, months of dates.
        """
        return self._reduce("min", "min", finalize.extreme(False), ORDERED)

    def max(self) -> R:
        """Largest value; where a policy holds, the edge of the outermost bin of enough rows."""
        return self._reduce("max", "max", finalize.extreme(True), ORDERED)

    def median(self) -> R:
        """The quantile of 0.5, between guaranteed bounds."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> R:
        """Quantile (Hyndman & Fan's type 7) between guaranteed bounds.

        Args:
            q: between 0 and 1, both outside.
        """
        if not 0 < q < 1:
            raise ValueError("q lies between 0 and 1; for the ends use min() and max()")
        return self._reduce("quantile", "quantiles", finalize.quantile(q), ORDERED)

    def count_missing(self) -> R:
        """Rows without a value."""
        return self._reduce("count_missing", "missing", finalize.rows, ANY)
