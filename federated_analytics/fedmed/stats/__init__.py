"""Statistics of a data set as functions, as the original has them.

>>> from federated_analytics import fedmed as fm
>>> data = fm.FedData([fm.Local([1, 2, 3]), fm.Local([4])])
>>> fm.stats.mean(data), fm.stats.var(data, df=1)
(2.5, 1.6666666666666667)
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING

from federated_analytics.fedmed.stats import test

if TYPE_CHECKING:
    from datetime import date

    from federated_analytics.fedmed.data import FedData
    from federated_analytics.fedmed.tables import Histogram, Table
    from federated_analytics.fedmed.values import Number, Values

__all__ = [
    "corr",
    "counts",
    "cov",
    "hist",
    "len",
    "max",
    "mean",
    "median",
    "min",
    "pearson",
    "quantile",
    "round",
    "set",
    "sqsum",
    "std",
    "sum",
    "test",
    "var",
    "wilcoxon",
]


def sum(data: FedData) -> Number:
    """Sum of the values."""
    return data.sum()


def len(data: FedData) -> Number:
    """Number of rows."""
    return data.len()


def min(data: FedData) -> Number:
    """Smallest value, as far as the servers' policies show it."""
    return data.min()


def max(data: FedData) -> Number:
    """Largest value, as far as the servers' policies show it."""
    return data.max()


def sqsum(data: FedData) -> Number:
    """Sum of the squares."""
    return data.sqsum()


def set(data: FedData) -> Values:
    """The different values, as far as the servers' policies show them."""
    return data.set()


def mean(data: FedData) -> Number:
    """Mean of the values."""
    return data.mean()


def var(data: FedData, df: int = 0) -> Number:
    """Variance of denominator n - df: 0 unless told, as the original's function has it."""
    return data.var(df)


def std(data: FedData, df: int = 0) -> Number:
    """Standard deviation: the square root of `var`."""
    return data.std(df)


def median(data: FedData) -> Number:
    """The quantile of 0.5, between guaranteed bounds."""
    return data.median()


def quantile(data: FedData, q: builtins.float) -> Number:
    """A quantile between guaranteed bounds."""
    return data.quantile(q)


def hist(data: FedData, bins: int | Sequence[builtins.float | date | str] = 10) -> Histogram:
    """Rows in bins: of given edges, or so many between the smallest and the largest value."""
    return data.hist(bins)


def counts(data: FedData) -> Table:
    """Rows of each value, most frequent first."""
    return data.counts()


def round(data: FedData, step: builtins.float = 1) -> FedData:
    """Each value's nearest multiple of a step, halves up; stays at the servers.

    >>> from federated_analytics import fedmed as fm
    >>> data = fm.FedData([fm.Local([-1.25, 0.2, 0.25])])
    >>> sorted(fm.stats.round(data, 0.5).set())
    [-1, 0, 0.5]
    """
    return data.operator("round", step)


def corr(x: FedData, y: FedData) -> Number:
    """Pearson's correlation over the rows that have both."""
    from federated_analytics.fedmed import comoments

    return comoments.correlation(x, y)


def cov(x: FedData, y: FedData) -> Number:
    """Covariance (denominator n - 1) over the rows that have both."""
    from federated_analytics.fedmed import comoments

    return comoments.covariance(x, y)


pearson = corr


def wilcoxon(x1: FedData, x2: FedData) -> test.TestResult:
    """Wilcoxon's signed-rank test of the differences x1 - x2, row by row; two-tailed."""
    return test.Wilcoxon().result(x1, x2)
