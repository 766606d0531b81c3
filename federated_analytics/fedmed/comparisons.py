"""Rows against rows: masks."""

from __future__ import annotations

from typing import Any

from federated_analytics.fedmed.expression import Apply
from federated_analytics.fedmed.fragments import DATE, TEXT
from federated_analytics.fedmed.rows import (
    NUMERIC,
    SAFE,
    Array,
    Rows,
    WrongKind,
    all_present,
    mask_of,
    series_of,
    without_zone,
)


def compared(apply: Apply, left: Rows, right: Rows) -> Rows:
    """As pandas: a missing value equals nothing, and is different from everything."""
    import numpy as np

    a, b = _comparable(apply, left, right)
    operation: dict[str, Any] = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }
    if DATE not in (left.kind, right.kind) and left.kind == TEXT:
        result = _texts_compared(operation[apply.name], left, right)
    else:
        with np.errstate(invalid="ignore"):
            result = operation[apply.name](a, b)
    if not (left.is_complete and right.is_complete):
        present = all_present([left, right])
        result = np.where(present, result, apply.name == "ne").astype(bool)
    return mask_of(result)


def _texts_compared(operation: Any, left: Rows, right: Rows) -> Array:
    import numpy as np

    for rows, other in ((left, right), (right, left)):
        if "codes" in rows.kept and other.scalar:
            codes, levels = rows.kept["codes"]
            pairs = (np.array([*levels, ""], dtype=object), other.values)  # last, of no value
            table = operation(*(pairs if rows is left else reversed(pairs))).astype(bool)
            return table[codes]
    present = all_present([left, right])
    result = np.zeros(len(present), dtype=bool)
    a, b = (rows.values if rows.scalar else rows.values[present] for rows in (left, right))
    if present.any():
        result[present] = operation(a, b).astype(bool)
    return result


def _comparable(apply: Apply, left: Rows, right: Rows) -> tuple[Array, Array]:
    kinds = {left.kind, right.kind}
    if kinds <= set(NUMERIC):
        return _beside(left, right), _beside(right, left)
    if kinds in ({TEXT}, {DATE}):
        return left.values, right.values
    if kinds == {DATE, TEXT}:
        return _moments_of(left, apply), _moments_of(right, apply)
    raise WrongKind(
        f"A {left.kind} is not compared with a {right.kind}.",
        where=str(apply)[:200],
        remedy="Write the constant as the column's kind: 3, '3', True or '2020-01-31'.",
    )


def _beside(rows: Rows, other: Rows) -> Array:
    """The numbers, in few bytes where whole ones are compared with one of these: 50.0 is 50."""
    import numpy as np

    if rows.scalar and other.values.dtype == np.int64 and rows.values.dtype.kind in "if":
        value = rows.values[0].item()
        if abs(value) <= SAFE and value == int(value):
            return int(value)
    if other.scalar and "whole" in rows.kept and isinstance(_beside(other, rows), int):
        return rows.kept["whole"]
    return rows.values


def _moments_of(rows: Rows, apply: Apply) -> Array:
    import pandas as pd

    if rows.kind == DATE:
        return rows.values
    try:
        return without_zone(pd.to_datetime(series_of(rows), format="ISO8601", utc=True))
    except ValueError as error:
        raise WrongKind(
            "A date is written as ISO 8601 text: '2020-01-31'.", where=str(apply)[:200]
        ) from error
