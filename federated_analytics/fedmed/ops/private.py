"""The original's maps, by name: what each is here. They run at the server, behind its policy.

Each takes the rows of a column and gives the aggregate that leaves for it, or a table of them by
level, so that an owner's own operation can wrap it:

>>> import pandas as pd
>>> from federated_analytics.fedmed import ops
>>> ages = pd.Series([31.0, 42.0, None, 50.0])
>>> ops.private.sum(ages).total, ops.private.num(ages).persons
(123.0, 4)
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, TypeVar

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.co_moments import CoMoments
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.fedmed.ops import releases

if TYPE_CHECKING:
    from collections.abc import Sequence

A = TypeVar("A", bound=Aggregate)
REDUCTIONS = {
    "sum": "sum",
    "num": "len",
    "min": "min",
    "max": "max",
    "sqsum": "sqsum",
    "unique": "set",
    "moments": "moments",
    "quantiles": "quantiles",
    "hist": "hist",
    "counts": "counts",
    "missing": "missing",
    "comoments": "comoments",
}
"""A name of this module → the operation of a request that it allows."""


@releases(Moments)
def sum(rows: Any) -> Moments:
    """Sum of a column, as centred moments.

    >>> sum([1, 2, 3]).total
    6.0
    """
    return _one("sum", Moments, rows)


@releases(Moments)
def sqsum(rows: Any) -> Moments:
    """Sum of squares of a column, as the moments of the squares.

    >>> sqsum([1, 2, 3]).total
    14.0
    """
    return _one("sqsum", Moments, rows)


@releases(Moments)
def moments(rows: Any) -> Moments:
    """Mean, variance and number of a column's values.

    >>> found = moments([1, 2, 3])
    >>> found.n, found.mean, found.variance
    (3, 2.0, 1.0)
    """
    return _one("moments", Moments, rows)


@releases(Count)
def num(rows: Any) -> Count:
    """Rows of a column, those without a value among them.

    >>> num([1, None, 3])
    Count(persons=3)
    """
    return _one("len", Count, rows)


@releases(Count)
def missing(rows: Any) -> Count:
    """Rows of a column without a value.

    >>> missing([1, None, 3])
    Count(persons=1)
    """
    return _one("missing", Count, rows)


@releases(IntervalCounts)
def min(rows: Any) -> IntervalCounts:
    """Rows on the public grid of numbers; the policy widens its bins until each holds enough.

    >>> from federated_analytics.fedmed import grid
    >>> low, high, rows = min([1.5, 2.5]).intervals[0]
    >>> grid.NUMBERS.edge(low), grid.NUMBERS.edge(high), rows
    (1.5, 1.51, 1)
    """
    return _one("min", IntervalCounts, rows)


@releases(IntervalCounts)
def max(rows: Any) -> IntervalCounts:
    """Rows on the public grid of numbers, as of `min`.

    >>> max([1.5, 2.5]) == min([1.5, 2.5])
    True
    """
    return _one("max", IntervalCounts, rows)


@releases(IntervalCounts)
def quantiles(rows: Any) -> IntervalCounts:
    """Rows on the public grid of numbers, from which every quantile follows between bounds.

    >>> quantiles([1.5, 2.5]).n
    2
    """
    return _one("quantiles", IntervalCounts, rows)


@releases(IntervalCounts)
def hist(rows: Any, edges: Sequence[float]) -> IntervalCounts:
    """Rows between edges.

    >>> hist([1, 2, 2, 5], edges=[0, 2, 6]).intervals
    ((0, 1, 1), (1, 2, 3))
    """
    return _one("hist", IntervalCounts, rows, edges=[float(edge) for edge in edges])


@releases(Count)
def unique(rows: Any) -> dict[str, Count]:
    """Each value as text, with its rows: a value leaves where enough rows have it.

    >>> unique(["a", "b", "a"])
    {'a': Count(persons=2), 'b': Count(persons=1)}
    """
    return _levels("set", rows)


@releases(Count)
def counts(rows: Any) -> dict[str, Count]:
    """Rows of each value, as of `unique`.

    >>> counts([True, False, True])
    {'True': Count(persons=2), 'False': Count(persons=1)}
    """
    return _levels("counts", rows)


@releases(CoMoments)
def comoments(*rows: Any) -> CoMoments:
    """Means and centred products of columns, or of the columns of a DataFrame.

    >>> comoments([1, 2, 3], [2, 4, 6]).products
    (2.0, 4.0, 8.0)
    """
    import pandas as pd

    if builtins.len(rows) == 1 and isinstance(rows[0], pd.DataFrame):
        rows = tuple(rows[0][name] for name in rows[0].columns)
    return _one("comoments", CoMoments, *rows)


def _one(op: str, kind: type[A], *columns: Any, **params: Any) -> A:
    [found] = _cells(op, columns, params).values()
    assert isinstance(found, kind)
    return found


def _levels(op: str, rows: Any) -> dict[str, Count]:
    found = _cells(op, (rows,), {})
    return {level: cell for level, cell in found.items() if isinstance(cell, Count)}


def _cells(op: str, columns: tuple[Any, ...], params: dict[str, Any]) -> dict[str, Aggregate]:
    """What a request for an operation finds in these columns, by level."""
    from federated_analytics.fedmed.evaluate import Evaluation
    from federated_analytics.fedmed.expression import Column
    from federated_analytics.fedmed.fragments import Fragment
    from federated_analytics.fedmed.protocol import Ask
    from federated_analytics.fedmed.reduce import reduced

    fragment = Fragment.of({str(i): column for i, column in enumerate(columns)})
    asked = tuple(Column((str(i),)) for i in range(builtins.len(columns)))
    evaluation = Evaluation(lambda name: fragment, "")
    operands = tuple(evaluation.rows(column) for column in asked)
    found = reduced(Ask("", op, asked, (), params), operands, (), exact=False)
    return {key.level: cell for key, cell in found.items() if key.name == op}
