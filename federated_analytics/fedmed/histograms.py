"""Histograms over all fragments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed import finalize
from federated_analytics.fedmed.batch import Query
from federated_analytics.fedmed.lazy import Outcome
from federated_analytics.fedmed.tables import Histogram

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

MAX_BINS = 9_999


def histogram(data: FedData, bins: int | Sequence[float]) -> Histogram:
    """Rows of `data` in bins of given edges, or in so many between its ends."""
    if isinstance(bins, bool) or (isinstance(bins, int) and not 1 <= bins <= MAX_BINS):
        raise ValueError(f"bins is a number from 1 to {MAX_BINS}, or a list of edges")
    if isinstance(bins, int):
        return _between_ends(data, bins)
    edges = [float(edge) for edge in bins]
    if len(edges) < 2 or any(b <= a for a, b in itertools.pairwise(edges)):
        raise ValueError("edges are at least two numbers that rise")
    query = _asked(data, edges)
    return Histogram([query], lambda: _finished(query, edges))


def _between_ends(data: FedData, bins: int) -> Histogram:
    low, high = data.min(), data.max()

    def compute() -> Outcome[Any]:
        start, stop = _finite(low.bounds), _finite(high.bounds[::-1])
        if not stop > start:
            start, stop = (start - 0.5, start + 0.5) if math.isfinite(start) else (0.0, 1.0)
        edges = [start + i * (stop - start) / bins for i in range(bins)] + [stop]
        return _finished(_asked(data, edges), edges)

    return Histogram([*low.queries, *high.queries], compute)


def _finite(bounds: Sequence[float]) -> float:
    return next((edge for edge in bounds if math.isfinite(edge)), math.nan)


def _asked(data: FedData, edges: list[float]) -> Query:
    return data._query("hist", "hist", {"edges": list(edges)})


def _finished(query: Query, edges: Sequence[float]) -> Outcome[Any]:
    state, gathered = finalize.state(query)
    kept, counts = finalize.binned(state, edges)
    marks = gathered.marks
    if len(kept) < len(edges):
        marks = (*marks, "bins of too few rows are joined with their neighbours")
    value = (tuple(kept), tuple(counts))
    return Outcome(value, gathered.missing, None, marks, gathered.versions)
