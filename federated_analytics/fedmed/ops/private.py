"""The original's maps, by name: what each is here. They run at the server, behind its policy."""

from __future__ import annotations

from typing import Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments
from federated_analytics.fedmed.ops import releases

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
def sum(rows: Any) -> Aggregate:
    """Sum of a Series, as centred moments; for owners' own operations to wrap."""
    from federated_analytics.fedmed.reduce import moments_of

    return moments_of(_present(rows))


@releases(Moments)
def sqsum(rows: Any) -> Aggregate:
    """Sum of squares of a Series."""
    from federated_analytics.fedmed.reduce import moments_of

    return moments_of(_present(rows) ** 2)


@releases(Count)
def num(rows: Any) -> Aggregate:
    """Rows of a Series, those without a value among them."""
    import pandas as pd

    return Count(len(pd.Series(rows)))


def _present(rows: Any) -> Any:
    import pandas as pd

    return pd.Series(rows).dropna().to_numpy(dtype="float64")
