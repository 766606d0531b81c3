"""What a server's owner and a client write themselves, for tests to name by its dotted path."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from federated_analytics import fedmed as fm
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.extremes import Extremes
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.normal_equations import NormalEquations
from federated_analytics.fedmed import ops

SECRET = "31415.9265"


def plain(rows: Any) -> Any:
    return rows


@ops.releases(Moments)
def total(rows: pd.Series) -> Moments:
    return ops.private.sum(rows)


@ops.releases(Count)
def adults(ages: pd.Series, least: int = 18) -> Count:
    return Count(int((ages >= least).sum()))


@ops.releases(Count)
def by_decade(ages: pd.Series) -> dict[str, Count]:
    decades = ages.dropna() // 10 * 10
    return {f"{int(d)} to {int(d) + 9}": Count(int(n)) for d, n in decades.value_counts().items()}


@ops.releases(NormalEquations)
def model(rows: pd.Series) -> NormalEquations:
    return NormalEquations.zero()


@ops.element_wise
def squared(rows: pd.Series) -> pd.Series:
    return rows * rows


@ops.element_wise
def bmi(weight: pd.Series, height: pd.Series, factor: float = 1.0) -> pd.Series:
    return factor * weight / height**2


@ops.element_wise
def is_long(names: pd.Series) -> pd.Series:
    return names.str.len() > 3


@ops.element_wise
def capped(rows: pd.Series) -> pd.Series:
    rows[rows > 60] = 60  # its own copy
    return rows


# What goes wrong


@ops.releases(Count)
def raises(rows: pd.Series) -> Count:
    raise ValueError(f"the first is {rows.iloc[0]}, {SECRET}")


@ops.releases(Count)
def raises_ours(rows: pd.Series) -> Count:
    raise ops.WrongRelease(f"the first is {rows.iloc[0]}, {SECRET}")


@ops.releases(Count)
def leaves(rows: pd.Series) -> Count:
    sys.exit(SECRET)


@ops.releases(Count)
def prints(rows: pd.Series) -> Count:
    print(SECRET, rows.iloc[0])
    return Count(len(rows))


@ops.releases(Count)
def another_type(rows: pd.Series) -> Any:
    return float(rows.iloc[0])


@ops.releases(Count)
def another_aggregate(rows: pd.Series) -> Any:
    return Extremes(len(rows), rows.min(), rows.max())


@ops.releases(Count)
def no_whole_number(rows: pd.Series) -> Any:
    return Count(len(rows) + 0.5)  # type: ignore[arg-type]


@ops.releases(Count)
def negative(rows: pd.Series) -> Count:
    return Count(-len(rows))


@ops.releases(Moments)
def not_finite(rows: pd.Series) -> Moments:
    return Moments(len(rows), float("nan"), 1.0)


@ops.releases(Count)
def numbered(rows: pd.Series) -> Any:
    return {1: Count(len(rows))}


@ops.element_wise
def fewer_rows(rows: pd.Series) -> pd.Series:
    return rows.iloc[1:]


@ops.element_wise
def another_order(rows: pd.Series) -> pd.Series:
    return rows.sort_values()


@ops.element_wise
def one_number(rows: pd.Series) -> float:
    return float(rows.sum())


@ops.element_wise
def texts(rows: pd.Series) -> pd.Series:
    return rows.astype(str)


@ops.element_wise
def rows_raise(rows: pd.Series) -> pd.Series:
    raise KeyError(f"{SECRET} {rows.iloc[0]}")


@ops.element_wise
def rows_print(rows: pd.Series) -> pd.Series:
    print(SECRET)
    return rows


# The client's


def spread_of(parts: Sequence[Moments]) -> tuple[int, float]:
    """How many parts there are, and the first's total."""
    return len(parts), parts[0].total


def tables_apart(parts: Sequence[dict[str, Count]]) -> list[list[str]]:
    return [sorted(part) for part in parts]


assert fm.ops is ops
