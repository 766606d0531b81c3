"""Operations that a configuration names: by the original's paths, or the owner's own.

An owner's own operation is a plain function of pandas Series that returns an aggregate, and says
which one by a decorator; what is not stated is refused.

>>> import pandas as pd
>>> from federated_analytics.aggregates.count import Count
>>> @releases(Count)
... def adults(ages: pd.Series) -> Count:
...     return Count(int((ages >= 18).sum()))
>>> adults(pd.Series([10, 20, 30]))
Count(persons=2)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.errors import RequestRefused

Operation = Callable[..., Aggregate]
STATED = "__releases__"


class WrongRelease(RequestRefused):
    """An owner's operation that returned something else than it states."""

    code = "wrong_release"
    default_remedy = "The server's owner finds the cause in its own log."


def releases(kind: type[Aggregate]) -> Callable[[Callable[..., Any]], Operation]:
    """States which aggregate an owner's operation returns; the policy looks at its support."""

    def stated(operation: Callable[..., Any]) -> Operation:
        @functools.wraps(operation)
        def checked(*rows: Any, **params: Any) -> Aggregate:
            found = operation(*rows, **params)
            if type(found) is not kind:
                raise WrongRelease(f"The operation did not return the {kind.__name__} it states.")
            return found

        setattr(checked, STATED, kind)
        return checked

    return stated
