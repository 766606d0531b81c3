"""Statistics of a data set as functions, as the original has them.

>>> from federated_analytics import fedmed as fm
>>> data = fm.FedData([fm.Local([1, 2, 3]), fm.Local([4])])
>>> fm.stats.mean(data), fm.stats.var(data, df=1)
(2.5, 1.6666666666666667)
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from federated_analytics.fedmed.stats import test

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData
    from federated_analytics.fedmed.values import Number, Values

__all__ = [
    "corr",
    "cov",
    "len",
    "max",
    "mean",
    "median",
    "min",
    "pearson",
    "quantile",
    "set",
    "sqsum",
    "std",
    "sum",
    "test",
    "var",
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


def corr(x: FedData, y: FedData) -> Number:
    """Pearson's correlation over the rows that have both."""
    from federated_analytics.fedmed import comoments

    return comoments.correlation(x, y)


def cov(x: FedData, y: FedData) -> Number:
    """Covariance (denominator n - 1) over the rows that have both."""
    from federated_analytics.fedmed import comoments

    return comoments.covariance(x, y)


pearson = corr
