"""Operations that a configuration names: by the original's paths, or the owner's own.

An owner's own reduction is a plain function of pandas Series that returns an aggregate, or a table
of them by level, and says which aggregate by a decorator; one that gives a number for each row says
that. What is not stated is refused.

>>> import pandas as pd
>>> from federated_analytics.aggregates.count import Count
>>> @releases(Count)
... def adults(ages: pd.Series) -> Count:
...     return Count(int((ages >= 18).sum()))
>>> adults(pd.Series([10, 20, 30]))
Count(persons=2)
>>> @element_wise
... def decade(ages: pd.Series) -> pd.Series:
...     return ages // 10 * 10
>>> decade(pd.Series([18, 20, 39])).tolist()
[10, 20, 30]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.errors import RequestRefused

Released = Aggregate | Mapping[str, Aggregate]
Operation = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])
STATED = "__releases__"
ELEMENT_WISE = "__element_wise__"
_MODULES = ("binary", "private", "public")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class WrongRelease(RequestRefused):
    """An owner's operation that returned something else than it states."""

    code = "wrong_release"
    default_remedy = "The server's owner finds the cause in its own log."


def releases(kind: type[Aggregate]) -> Callable[[F], F]:
    """States which aggregate an owner's operation returns; the policy looks at its support.

    The operation may also return a table: a dict of such aggregates by level. A level's text
    leaves with its aggregate, or not at all.
    """
    if not (isinstance(kind, type) and issubclass(kind, Aggregate)):
        raise TypeError("releases takes an aggregate: @fm.ops.releases(Count)")

    def stated(operation: F) -> F:
        @functools.wraps(operation)
        def checked(*rows: Any, **params: Any) -> Any:
            found = operation(*rows, **params)
            cells = found.values() if isinstance(found, Mapping) else [found]
            if any(type(cell) is not kind for cell in cells):
                raise WrongRelease(f"The operation did not return the {kind.__name__} it states.")
            return found

        setattr(checked, STATED, kind)
        return checked  # type: ignore[return-value]

    return stated


def element_wise(operation: F) -> F:
    """States that an owner's operation gives a number or truth value for each row.

    Nothing of it leaves by itself: what is computed of its rows goes the way of every expression.
    """
    setattr(operation, ELEMENT_WISE, True)
    return operation
