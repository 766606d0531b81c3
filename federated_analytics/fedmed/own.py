"""Answers of server owners' own operations, which may be of any aggregate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments
from federated_analytics.fedmed import finalize
from federated_analytics.fedmed.batch import Query
from federated_analytics.fedmed.gathered import Gathered, Part, gather, whole
from federated_analytics.fedmed.lazy import Outcome
from federated_analytics.fedmed.tables import Rows, Table
from federated_analytics.fedmed.values import Answered

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

Reduce = Callable[[Sequence[Any]], Any]
_ONE = ((), "", "")
"""The place of an answer that is no table."""


def ask(
    data: FedData, name: str, params: Mapping[str, Any], reduce: Reduce | None = None
) -> Answered:
    """Ask an operation of the servers' own, and put together what they release.

    Args:
        reduce: the client's own function of the servers' aggregates, or of their tables: a dict
            of aggregates by level for each server. Without, aggregates are merged.
    """
    query = data._query(name, name, params)

    def compute() -> Outcome[Any]:
        gathered = gather(query)
        if any(place != _ONE for place in gathered.places()):
            return _table(query, gathered, reduce)
        gathered = whole(gathered, query.partial)
        parts = [part.cells[_ONE] for part in gathered.parts if _ONE in part.cells]
        found = reduce(parts) if reduce else _number(gathered.merged(_ONE))
        return _outcome(found, gathered, ())

    return Answered([query], compute)


def _table(query: Query, gathered: Gathered, reduce: Reduce | None) -> Outcome[Any]:
    """A table by level; a level that a server may have kept back is None."""
    marks = tuple(finalize.withheld_marks(gathered))
    if reduce is not None:
        return _outcome(reduce([_levels(part) for part in gathered.parts]), gathered, marks)
    rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for place in sorted(gathered.places()):
        shown = query.partial or not gathered.lacking(place)
        rows[place[2],] = (_number(gathered.merged(place)) if shown else None,)
    table = Rows(("level",), (query.asks[0].op,), rows)
    outcome: Outcome[Rows] = _outcome(table, gathered, marks)
    return _outcome(Table([query], lambda: outcome), gathered, marks)


def _levels(part: Part) -> dict[str, Aggregate]:
    return {level: cell for (_, _, level), cell in part.cells.items()}


def _outcome(value: Any, gathered: Gathered, more: tuple[str, ...]) -> Outcome[Any]:
    marks = (*gathered.marks, *more)
    return Outcome(value, gathered.missing, None, marks, gathered.versions)


def _number(state: Aggregate | None) -> Any:
    """A count's or a sum's number; of any other aggregate, its numbers by name."""
    if state is None:
        return None
    if isinstance(state, Count):
        return state.persons
    if isinstance(state, Moments):
        return state.total
    fields = [f.name for f in dataclasses.fields(state) if not f.metadata.get("stays")]
    if len(fields) == 1:
        return getattr(state, fields[0])
    return {name: getattr(state, name) for name in fields}
