"""The original's reduces, by name: how a client puts the servers' answers together.

>>> from federated_analytics.fedmed import ops
>>> merged = ops.public.sum([ops.private.sum([1, 2]), ops.private.sum([3])])
>>> merged.total
6.0
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.errors import ShapeError

A = TypeVar("A", bound=Aggregate)
NAMES = ("sum", "min", "max", "union")
FITTING = {
    "sum": "sum",
    "len": "sum",
    "sqsum": "sum",
    "min": "min",
    "max": "max",
    "set": "union",
}
"""The reduce of each of the original's operations."""


def sum(parts: Sequence[A]) -> A:
    """Counts or moments of all servers together.

    >>> from federated_analytics.aggregates.count import Count
    >>> sum([Count(2), Count(3)])
    Count(persons=5)
    """
    return _merged(parts)


def min(parts: Sequence[A]) -> A:
    """What smallest values follow from, of all servers together.

    >>> from federated_analytics.aggregates.extremes import Extremes
    >>> min([Extremes(3, 1.0, 4.0), Extremes(2, 2.0, 9.0)]).low
    1.0
    """
    return _merged(parts)


def max(parts: Sequence[A]) -> A:
    """What largest values follow from, of all servers together.

    >>> from federated_analytics.aggregates.extremes import Extremes
    >>> max([Extremes(3, 1.0, 4.0), Extremes(2, 2.0, 9.0)]).high
    9.0
    """
    return _merged(parts)


def union(parts: Iterable[Mapping[str, Aggregate]]) -> frozenset[str]:
    """The values, as text, that at least one server shows.

    >>> from federated_analytics.aggregates.count import Count
    >>> sorted(union([{"a": Count(7), "b": Count(9)}, {"b": Count(8)}]))
    ['a', 'b']
    """
    return frozenset(level for part in parts for level in part)


def _merged(parts: Sequence[A]) -> A:
    if not parts:
        raise ShapeError("Of no server there is nothing to merge.")
    return functools.reduce(lambda a, b: a.merge(b), parts)
