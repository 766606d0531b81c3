"""Covariances and correlations of columns, from merged centred co-moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.fedmed import finalize
from federated_analytics.fedmed.errors import Mismatch
from federated_analytics.fedmed.gathered import Gathered
from federated_analytics.fedmed.lazy import Outcome
from federated_analytics.fedmed.reductions import NUMERIC
from federated_analytics.fedmed.schema import check_kind
from federated_analytics.fedmed.tables import Rows, Table
from federated_analytics.fedmed.values import Number

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

Matrix = Callable[[Any], list[list[float]]]


def matrix(data: FedData, columns: Sequence[str], compute: Matrix) -> Table:
    """A matrix over named columns; over all of numbers where none is named."""
    names = list(columns) or [
        path[-1] for path, c in data.schema.items() if len(path) == 1 and c.kind in NUMERIC
    ]
    if len(names) < 2:
        raise Mismatch("A matrix is of at least two columns.", remedy="Name them.")
    each = [data[name] for name in names]
    for column in each:
        check_kind("a matrix", NUMERIC, column._kind(), str(column._rows[0]))
    query = each[0]._query("comoments", "comoments", more=each[1:])

    def finish() -> Outcome[Rows]:
        state, gathered = finalize.state(query)
        size = len(names)
        numbers = compute(state) if _has_rows(state) else [[math.nan] * size] * size
        rows = {(name,): tuple(row) for name, row in zip(names, numbers, strict=True)}
        return _outcome(Rows(("column",), tuple(names), rows), gathered)

    return Table([query], finish)


def covariances(state: Any) -> list[list[float]]:
    """Denominator n - 1; NaN of fewer than two rows."""
    n = state.n
    return [[value / (n - 1) if n > 1 else math.nan for value in row] for row in _centred(state)]


def correlations(state: Any) -> list[list[float]]:
    """NaN where a column does not vary."""
    centred = _centred(state)
    lengths = [math.sqrt(row[i]) for i, row in enumerate(centred)]
    return [
        [
            (1.0 if i == j else max(-1.0, min(1.0, value / lengths[i] / lengths[j])))
            if lengths[i] and lengths[j]
            else math.nan
            for j, value in enumerate(row)
        ]
        for i, row in enumerate(centred)
    ]


def correlation(x: FedData, y: FedData) -> Number:
    """Pearson's correlation of two columns over the rows that have both."""
    return _of_two(x, y, lambda state: correlations(state)[0][1])


def covariance(x: FedData, y: FedData) -> Number:
    """Covariance (denominator n - 1) of two columns over the rows that have both."""
    return _of_two(x, y, lambda state: covariances(state)[0][1])


def _of_two(x: FedData, y: FedData, compute: Callable[[Any], float]) -> Number:
    from federated_analytics.fedmed import rows_of

    aligned = rows_of.aligned(x, [y])
    if aligned is None:
        raise TypeError("both are data sets over the same rows")
    roots, (rows,) = aligned
    other = x._with(tuple(rows), x._masks, roots)
    for one in (x, other):
        check_kind("a correlation", NUMERIC, one._kind(), str(one._rows[0]))
    query = x._query("comoments", "comoments", more=[other])

    def finish() -> Outcome[Any]:
        state, gathered = finalize.state(query)
        return _outcome(compute(state) if _has_rows(state) else math.nan, gathered)

    return Number([query], finish)


def _has_rows(state: Aggregate | None) -> bool:
    return bool(state is not None and any(state.support))


def _centred(state: Aggregate) -> list[list[float]]:
    """Σ(x - mean x)(y - mean y) for each pair of columns."""
    held: Any = state
    return [list(row) for row in held.matrix]


def _outcome(value: Any, gathered: Gathered) -> Outcome[Any]:
    return Outcome(value, gathered.missing, None, gathered.marks, gathered.versions)
