"""Histograms over all fragments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed import dates, finalize
from federated_analytics.fedmed.batch import Query
from federated_analytics.fedmed.lazy import Outcome
from federated_analytics.fedmed.reductions import NUMERIC, ORDERED
from federated_analytics.fedmed.schema import DATE, check_kind
from federated_analytics.fedmed.tables import Histogram

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

MAX_BINS = 9_999
Edge = float | date


def histogram(data: FedData, bins: int | Sequence[float | date | str]) -> Histogram:
    """Rows of `data` in bins of given edges, or in so many between its ends."""
    if isinstance(bins, bool) or (isinstance(bins, int) and not 1 <= bins <= MAX_BINS):
        raise ValueError(f"bins is a number from 1 to {MAX_BINS}, or a list of edges")
    if isinstance(bins, int):
        return _between_ends(data, bins)
    edges = [_edge(edge) for edge in bins]
    places = list(map(_place, edges))
    if len({isinstance(edge, date) for edge in edges}) > 1:
        raise ValueError("edges are numbers, or dates")
    if len(edges) < 2 or any(b <= a for a, b in itertools.pairwise(places)):
        raise ValueError("edges are at least two numbers or dates that rise")
    check_kind("hist()", _wanted(edges), data._kind(), str(data._rows[0]))
    query = _asked(data, edges)
    return Histogram([query], lambda: _finished(data, query, edges))


def _edge(edge: float | date | str) -> Edge:
    """A number, or a date as Python's own; ISO 8601 text is one."""
    if isinstance(edge, date):
        edge = dates.as_text(edge)
    if not isinstance(edge, str):
        return float(edge)
    moment = dates.parsed(edge)
    if moment is None:
        raise ValueError("an edge is a number, or a date as ISO 8601 text: '2020-01-31'")
    return dates.day_or_moment(moment)


def _place(edge: Edge) -> float:
    return dates.days_of(edge) if isinstance(edge, date) else edge


def _wanted(edges: Sequence[Edge]) -> frozenset[str]:
    return frozenset({DATE}) if isinstance(edges[0], date) else NUMERIC


def _between_ends(data: FedData, bins: int) -> Histogram:
    check_kind("hist()", ORDERED, data._kind(), str(data._rows[0]))
    low, high = data.min(), data.max()

    def compute() -> Outcome[Any]:
        start, stop = _finite(low.bounds), _finite(high.bounds[::-1])
        is_empty = math.isnan(start)
        if not stop > start:
            start, stop = (start - 0.5, start + 0.5) if not is_empty else (0.0, 1.0)
        places = [start + i * (stop - start) / bins for i in range(bins)] + [stop]
        is_date = isinstance(low.value, date)
        edges: list[Edge] = [dates.date_of(p) for p in places] if is_date else [*places]
        return _finished(data, _asked(data, edges), edges, any_kind=is_empty)

    return Histogram([*low.queries, *high.queries], compute, [low, high])


def _finite(bounds: Sequence[Any]) -> float:
    ends = (_place(edge) for edge in bounds if edge not in (date.min, date.max))
    return next((end for end in ends if math.isfinite(end)), math.nan)


def _asked(data: FedData, edges: Sequence[Edge]) -> Query:
    places = [_place(edge) for edge in edges]
    return data._query("hist", "hist", {"edges": [*places]}, wants=_wanted(edges))


def _finished(
    data: FedData, query: Query, edges: Sequence[Edge], *, any_kind: bool = False
) -> Outcome[Any]:
    state, gathered = finalize.state(query)
    if not any_kind:
        check_kind("hist()", _wanted(edges), gathered.kind, str(data._rows[0]))
    kept, counts = finalize.binned(state, edges)
    marks = gathered.marks
    if len(kept) < len(edges):
        marks = (*marks, "bins of too few rows are joined with their neighbours")
    value = (tuple(kept), tuple(counts))
    return Outcome(value, gathered.missing, None, marks, gathered.versions)
