"""Public grids that need no look at the data: numbers of three significant digits, and months.

The edges of numbers are 0 and ±d.dd × 10^e for e from -9 to 14; beyond ±10^15 lies one open
interval on each side. Those of dates are the firsts of the months from 1800 to 2200, in days since
1970-01-01, open on both sides. Interval i reaches from `edge(i)` up to but not including
`edge(i + 1)`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIRST, _LAST = -9, 15
_YEARS = (1800, 2200)


def _three_digits() -> tuple[float, ...]:
    positive = [
        float(f"{digits}e{exponent - 2}")
        for exponent in range(_FIRST, _LAST)
        for digits in range(100, 1_000)
    ]
    positive.append(float(f"1e{_LAST}"))
    return (*(-edge for edge in reversed(positive)), 0.0, *positive)


def _months() -> tuple[float, ...]:
    first, last = _YEARS
    starts = [date(year, month, 1) for year in range(first, last) for month in range(1, 13)]
    return tuple(float((day - date(1970, 1, 1)).days) for day in [*starts, date(last, 1, 1)])


@dataclass(frozen=True)
class Grid:
    """Intervals of the number line, open at both ends.

    Args:
        made: gives the edges, from the lowest; asked once, when they are needed.
    """

    made: Callable[[], tuple[float, ...]]

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """Every edge, from the lowest."""
        return self.made()

    @cached_property
    def _array(self) -> NDArray[np.float64]:
        import numpy as np

        return np.array(self.edges)

    @property
    def bins(self) -> int:
        """How many intervals there are."""
        return len(self.edges) + 1

    def edge(self, index: int) -> float:
        """The lower edge of an interval; of `bins`, the upper end of the last."""
        if index <= 0:
            return -math.inf
        return math.inf if index > len(self.edges) else self.edges[index - 1]

    def index(self, value: float) -> int:
        """The interval that holds a value.

        >>> NUMBERS.edge(NUMBERS.index(1.2345)), NUMBERS.edge(NUMBERS.index(1.2345) + 1)
        (1.23, 1.24)
        """
        return bisect_right(self.edges, value)

    def indices(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """The interval of each value."""
        import numpy as np

        return np.searchsorted(self._array, values, side="right").astype(np.int64)


NUMBERS = Grid(_three_digits)
MONTHS = Grid(_months)
