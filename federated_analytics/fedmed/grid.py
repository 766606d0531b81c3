"""A public grid of numbers that needs no look at the data: three significant digits.

Its edges are 0 and ±d.dd × 10^e for e from -9 to 14; beyond ±10^15 lies one open interval on each
side. Interval i reaches from `edge(i)` up to but not including `edge(i + 1)`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIRST, _LAST = -9, 15


@cache
def _edges() -> tuple[float, ...]:
    positive = [
        float(f"{digits}e{exponent - 2}")
        for exponent in range(_FIRST, _LAST)
        for digits in range(100, 1_000)
    ]
    positive.append(float(f"1e{_LAST}"))
    return (*(-edge for edge in reversed(positive)), 0.0, *positive)


@cache
def _edges_array() -> NDArray[np.float64]:
    import numpy as np

    return np.array(_edges())


def edges() -> tuple[float, ...]:
    """Every edge, from the lowest."""
    return _edges()


def bins() -> int:
    """How many intervals there are."""
    return len(_edges()) + 1


def edge(index: int) -> float:
    """The lower edge of an interval; of `bins()`, the upper end of the last."""
    if index <= 0:
        return -math.inf
    return math.inf if index > len(_edges()) else _edges()[index - 1]


def index(value: float) -> int:
    """The interval that holds a value.

    >>> edge(index(1.2345)), edge(index(1.2345) + 1)
    (1.23, 1.24)
    """
    return bisect_right(_edges(), value)


def indices(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The interval of each value."""
    import numpy as np

    return np.searchsorted(_edges_array(), values, side="right").astype(np.int64)
