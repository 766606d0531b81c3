"""Answers of server owners' own operations, which may be of any aggregate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments
from federated_analytics.fedmed import finalize
from federated_analytics.fedmed.lazy import Outcome
from federated_analytics.fedmed.values import Answered

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData


def ask(data: FedData, name: str, params: Mapping[str, Any]) -> Answered:
    """Ask an operation of the servers' own, and merge what they release."""
    query = data._query(name, name, params)

    def compute() -> Outcome[Any]:
        state, gathered = finalize.state(query)
        found = _outcome_value(state)
        return Outcome(found, gathered.missing, None, gathered.marks, gathered.versions)

    return Answered([query], compute)


def _outcome_value(state: Aggregate | None) -> Any:
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
