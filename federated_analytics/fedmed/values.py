"""What a reduction gives: numbers, sets and tables that are asked for when they are used."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Set
from datetime import date, datetime, time
from typing import Any, cast

from federated_analytics.fedmed import dates
from federated_analytics.fedmed.lazy import Lazy, Outcome, combined, joined


class Number(Lazy[Any]):
    """A number over all fragments; it behaves as one, and is asked for when it is used.

    Arithmetic with other numbers stays lazy; `float`, `int`, comparison, `format` and printing
    ask. `repr` says how many rows had no value, and bounds where the number is not exact.
    Of dates it is a `datetime.date`, or a `datetime` where there is a time: one less another is a
    number of days, and one plus or less days is a date.

    >>> from federated_analytics import fedmed as fm
    >>> data = fm.FedData([fm.Local([1, 2, 3]), fm.Local([4, None])])
    >>> data.sum() / data.mean() + 1
    5.0 (1 missing)
    >>> born = fm.FedData([fm.Local({"born": ["1990-05-01", "1990-05-04"]})])["born"].date()
    >>> print(born.min(), born.max() - born.min())
    1990-05-01 3.0
    """

    def item(self) -> Any:
        """The number as Python's own."""
        return self.value

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The true number lies between them; both are the number where it is exact."""
        outcome = self.outcome
        if outcome.bounds is not None:
            return outcome.bounds
        exact = outcome.value if isinstance(outcome.value, date) else float(outcome.value)
        return exact, exact

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __complex__(self) -> complex:
        return complex(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __str__(self) -> str:
        marks = self.outcome.marks
        return f"{self.value} ({'; '.join(marks)})" if marks else str(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        return np.asarray(self.value, dtype=dtype)

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.value, digits)

    def __trunc__(self) -> int:
        whole: int = math.trunc(self.value)
        return whole

    def __floor__(self) -> int:
        whole: int = math.floor(self.value)
        return whole

    def __ceil__(self) -> int:
        whole: int = math.ceil(self.value)
        return whole

    def __eq__(self, other: object) -> bool:
        left, right = _alike(self.value, _plain(other))
        return bool(left == right)

    def __lt__(self, other: Any) -> bool:
        left, right = _alike(self.value, _plain(other))
        return bool(left < right)

    def __le__(self, other: Any) -> bool:
        left, right = _alike(self.value, _plain(other))
        return bool(left <= right)

    def __gt__(self, other: Any) -> bool:
        left, right = _alike(self.value, _plain(other))
        return bool(left > right)

    def __ge__(self, other: Any) -> bool:
        left, right = _alike(self.value, _plain(other))
        return bool(left >= right)

    def __add__(self, other: Any) -> Number:
        return _binary(_sum, self, other)

    def __radd__(self, other: Any) -> Number:
        return _binary(_sum, other, self)

    def __sub__(self, other: Any) -> Number:
        return _binary(_difference, self, other)

    def __rsub__(self, other: Any) -> Number:
        return _binary(_difference, other, self)

    def __mul__(self, other: Any) -> Number:
        return _binary(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Number:
        return _binary(operator.mul, other, self)

    def __truediv__(self, other: Any) -> Number:
        return _binary(_divided, self, other)

    def __rtruediv__(self, other: Any) -> Number:
        return _binary(_divided, other, self)

    def __floordiv__(self, other: Any) -> Number:
        return _binary(operator.floordiv, self, other)

    def __mod__(self, other: Any) -> Number:
        return _binary(operator.mod, self, other)

    def __pow__(self, other: Any) -> Number:
        return _binary(operator.pow, self, other)

    def __rpow__(self, other: Any) -> Number:
        return _binary(operator.pow, other, self)

    def __neg__(self) -> Number:
        return _binary(operator.mul, self, -1)

    def __pos__(self) -> Number:
        return self

    def __abs__(self) -> Number:
        return Number(self.queries, combined(abs, [self]), [self])


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """A date and a moment as two moments: Python compares no others."""
    if isinstance(left, datetime) != isinstance(right, datetime):
        left, right = (
            datetime.combine(side, time()) if type(side) is date else side for side in (left, right)
        )
    return left, right


def _sum(left: Any, right: Any) -> Any:
    """A date plus a number of days is a date."""
    if isinstance(left, date) and not isinstance(right, date):
        return dates.date_of(dates.days_of(left) + right)
    if isinstance(right, date) and not isinstance(left, date):
        return dates.date_of(left + dates.days_of(right))
    return left + right


def _difference(left: Any, right: Any) -> Any:
    """A date less a date is a number of days, and less a number of days a date."""
    if isinstance(left, date) and isinstance(right, date):
        return dates.days_of(left) - dates.days_of(right)
    return dates.date_of(dates.days_of(left) - right) if isinstance(left, date) else left - right


def _divided(left: float, right: float) -> float:
    """NaN or an infinity where the divisor is 0, as pandas has it: 0 rows have no mean."""
    if right:
        return left / right
    return math.nan if not left or math.isnan(left) else math.copysign(math.inf, left)


def _plain(value: object) -> Any:
    return value.value if isinstance(value, Number) else value


_MONOTONE = (_sum, _difference, operator.mul, _divided)


def _binary(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Number:
    """A lazy function of two numbers, at least one of them a `Number`."""
    operands = [side for side in (left, right) if isinstance(side, Number)]
    for side in (left, right):
        if not isinstance(side, Number | int | float | date):
            try:
                float(side)
            except (TypeError, ValueError):
                return cast(Number, NotImplemented)

    def compute() -> Outcome[Any]:
        value = function(_plain(left), _plain(right))
        outcome = joined(value, [operand.outcome for operand in operands])
        bounds = _bounds(function, left, right)
        if bounds is None:
            return outcome
        marks = tuple(m for m in outcome.marks if not m.startswith("of a number that is known"))
        return Outcome(value, outcome.missing, bounds, marks, outcome.versions)

    queries = dict.fromkeys(q for operand in operands for q in operand.queries)
    return Number(queries, compute, operands)


def _bounds(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Of +, -, × and ÷ of numbers between bounds: the corners, where no divisor may be 0."""
    approximate = any(isinstance(s, Number) and s.outcome.bounds for s in (left, right))
    if not approximate or function not in _MONOTONE:
        return None
    sides = [s.bounds if isinstance(s, Number) else (s, s) for s in (left, right)]
    if function is _divided and sides[1][0] <= 0 <= sides[1][1]:
        return None
    corners = [function(a, b) for a in sides[0] for b in sides[1]]
    if any(corner != corner for corner in corners):  # NaN alone
        return None
    return min(corners, key=_order), max(corners, key=_order)


def _order(value: Any) -> float:
    return dates.days_of(value) if isinstance(value, date) else value


class Values(Lazy[frozenset[Any]], Set[Any]):
    """The different values over all fragments, as a set.

    >>> from federated_analytics import fedmed as fm
    >>> sorted(fm.FedData([fm.Local(["a", "b"]), fm.Local(["b"])]).set())
    ['a', 'b']
    """

    def __contains__(self, item: object) -> bool:
        return item in self.value

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, Values) else other)

    @classmethod
    def _from_iterable(cls, it: Any) -> Any:
        return frozenset(it)

    def _shown(self) -> str:
        items = sorted(self.value, key=lambda v: (str(type(v)), v))
        return "{" + ", ".join(map(repr, items)) + "}" if items else "set()"


class Answered(Lazy[Any]):
    """What a server owner's own operation gave, of any type."""

    def __str__(self) -> str:
        return str(self.value)
