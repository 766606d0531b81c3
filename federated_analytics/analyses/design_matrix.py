"""The columns of a regression for each person, and their sums as normal equations, in SQL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.normal_equations import (
    NormalEquations,
    pair_positions,
    smallest_group,
)
from federated_analytics.analyses.base import Row, grouped
from federated_analytics.errors import StudyError
from federated_analytics.omop.frame import Frame, NotFinite
from federated_analytics.omop.tables import Statement

MAX_COLUMNS = 51
"""Columns with the outcome: PostgreSQL returns at most 1,664 columns, and each pair is one."""


@dataclass(frozen=True)
class Column:
    """A column of numbers: a numeric feature, or 1 at one level of another and else 0.

    Fields:
        level: the level at which it is 1; None for a number
        levels: all levels that are known, the reference first; a person at any other has none
    """

    feature: str
    level: str | None = None
    levels: tuple[str, ...] = ()


def sums(frame: Frame, by: Sequence[str], columns: Sequence[Column]) -> Statement:
    """By strata, of persons without a missing value: their number, and the columns' sums.

    For each column i: mean_i, minimum_i and maximum_i from the frame's origin, and not_zero_i,
    the persons whose value is not 0; for each two, product_i_j about their means. OFFSET 0 has
    each column computed once, not again in every product. regr_sxy updates its sums with each
    value, without the sum of squares whose difference loses digits.

    Raises:
        StudyError: more columns than one SELECT can answer.
    References: Youngs & Cramer (1971), Technometrics 13:657, for regr_sxy
    """
    if len(columns) > MAX_COLUMNS:
        raise StudyError(
            f"The features make {len(columns) - 1} columns; at most {MAX_COLUMNS - 1} are asked.",
            where="features",
            remedy="Leave out some, or list fewer levels.",
        )
    size = range(len(columns))
    inner = sa.select(
        *(frame.strata[s].label(f"s_{i}") for i, s in enumerate(by)),
        *(_value(frame, column).label(f"z_{i}") for i, column in enumerate(columns)),
    ).select_from(frame.relation)
    every = inner.offset(sa.literal_column("0")).subquery("person_columns")
    known = (every.c[f"z_{i}"].is_not(None) for i in size)
    rows = sa.select(every).where(*known).subquery("complete")
    z = [rows.c[f"z_{i}"] for i in size]
    asked: list[sa.ColumnElement[Any]] = [sa.func.count().label("n")]
    for i, column in enumerate(columns):
        asked += [
            sa.func.avg(z[i]).label(f"mean_{i}"),
            sa.func.min(z[i]).label(f"minimum_{i}"),
            sa.func.max(z[i]).label(f"maximum_{i}"),
            sa.func.count(sa.func.nullif(z[i], -_origin(frame, column))).label(f"not_zero_{i}"),
        ]
    for i, j in pair_positions(len(columns)):
        asked.append(sa.func.regr_sxy(z[i], z[j]).label(f"product_{i}_{j}"))
    strata = {name: rows.c[f"s_{i}"] for i, name in enumerate(by)}
    return grouped(Frame(rows, {}, strata, frame.cdm), by, asked)


def _origin(frame: Frame, column: Column) -> float:
    """A number near the column's values, from which they are counted."""
    return 0.0 if column.level else frame.columns[column.feature].origin


def _value(frame: Frame, column: Column) -> sa.ColumnElement[Any]:
    """A person's number in a column; NULL where the value is missing or of no known level."""
    held = frame.columns[column.feature]
    one, zero = (sa.cast(sa.literal_column(digit), sa.Double) for digit in "10")
    if column.level and held.feature.type == "boolean":
        return sa.case((held.value.is_(sa.true()), one), (held.value.is_(sa.false()), zero))
    if column.level:
        text = sa.cast(held.value, sa.Text)
        return sa.case((text == column.level, one), (text.in_(column.levels), zero))
    value = sa.cast(held.value, sa.Double)
    return value - sa.cast(held.origin, sa.Double) if held.origin else value


def equations(frame: Frame, columns: Sequence[Column], row: Row) -> NormalEquations:
    """The normal equations in a row of `sums`, with the groups that they single out."""
    n, size = int(row["n"]), range(len(columns))
    if not n:
        return NormalEquations.zero()
    means, least, most = (
        [float(row[f"{name}_{i}"]) for i in size] for name in ("mean", "minimum", "maximum")
    )
    # The sum of many equal values may not be a multiple of them to the last digit.
    products = tuple(
        0.0 if least[i] == most[i] or least[j] == most[j] else float(row[f"product_{i}_{j}"])
        for i, j in pair_positions(len(columns))
    )
    if not all(map(math.isfinite, (*means, *products))):
        raise NotFinite
    state = NormalEquations(n, tuple(means), products)
    levels = {i: (least[i], most[i]) for i in size if _takes_two(state, i, least[i], most[i])}
    numbers = [i for i, column in enumerate(columns) if not column.level]
    others = [int(row[f"not_zero_{i}"]) for i in numbers]
    fewest = smallest_group(state, levels, [*others, *_references(columns, state)])
    origins = [_origin(frame, column) for column in columns]
    shifted = tuple(origin + mean for origin, mean in zip(origins, means, strict=True))
    share = 0.0
    for i in numbers:
        low, high = least[i] + origins[i], most[i] + origins[i]
        extreme, one_sign = max(abs(low), abs(high)), low >= 0 or high <= 0
        ends = (extreme, one_sign, low, high)
        column = Moments(n, shifted[i], state.product(i, i), 0, 0.0, *ends)
        share = max(share, column.largest_share())
    indicators = tuple(i for i in size if i not in numbers)
    return NormalEquations(n, shifted, products, indicators, fewest, share)


def _takes_two(state: NormalEquations, i: int, least: float, most: float) -> bool:
    """Whether a column takes two values only: its variance is then the most that it can be.

    References: Bhatia & Davis (2000), American Mathematical Monthly 107:353
    """
    mean = state.means[i]
    greatest = state.n * (mean - least) * (most - mean)
    return least < most and state.product(i, i) >= greatest * (1 - 1e-9)


def _references(columns: Sequence[Column], state: NormalEquations) -> list[int]:
    """Persons at the reference level of each feature that has one."""
    rest = {column.feature: state.n for column in columns if column.level}
    for i, column in enumerate(columns):
        if column.level:
            rest[column.feature] -= state.count(i, i)
    return list(rest.values())
