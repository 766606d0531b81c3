"""What a reduction gives: numbers, sets and tables that are asked for when they are used."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Set
from typing import Any, cast

from federated_analytics.fedmed.lazy import Lazy, Outcome, combined, joined

Real = int | float


class Number(Lazy[Real]):
    """A number over all fragments; it behaves as one, and is asked for when it is used.

    Arithmetic with other numbers stays lazy; `float`, `int`, comparison, `format` and printing
    ask. `repr` says how many rows had no value, and bounds where the number is not exact.

    >>> from federated_analytics import fedmed as fm
    >>> data = fm.FedData([fm.Local([1, 2, 3]), fm.Local([4, None])])
    >>> data.sum() / data.mean() + 1
    5.0 (1 missing)
    """

    def item(self) -> Real:
        """The number as Python's own."""
        return self.value

    @property
    def bounds(self) -> tuple[float, float]:
        """The true number lies between them; both are the number where it is exact."""
        outcome = self.outcome
        return outcome.bounds or (float(outcome.value), float(outcome.value))

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
        return math.trunc(self.value)

    def __floor__(self) -> int:
        return math.floor(self.value)

    def __ceil__(self) -> int:
        return math.ceil(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == _plain(other))

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < _plain(other))

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= _plain(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > _plain(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= _plain(other))

    def __add__(self, other: Any) -> Number:
        return _binary(operator.add, self, other)

    def __radd__(self, other: Any) -> Number:
        return _binary(operator.add, other, self)

    def __sub__(self, other: Any) -> Number:
        return _binary(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Number:
        return _binary(operator.sub, other, self)

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
        return Number(self.queries, combined(abs, [self]))


def _divided(left: Real, right: Real) -> float:
    """NaN or an infinity where the divisor is 0, as pandas has it: 0 rows have no mean."""
    if right:
        return left / right
    return math.nan if not left or math.isnan(left) else math.copysign(math.inf, left)


def _plain(value: object) -> Any:
    return value.value if isinstance(value, Number) else value


_MONOTONE = (operator.add, operator.sub, operator.mul, _divided)


def _binary(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Number:
    """A lazy function of two numbers, at least one of them a `Number`."""
    operands = [side for side in (left, right) if isinstance(side, Number)]
    for side in (left, right):
        if not isinstance(side, Number | int | float):
            try:
                float(side)
            except (TypeError, ValueError):
                return cast(Number, NotImplemented)

    def compute() -> Outcome[Real]:
        value = function(_plain(left), _plain(right))
        outcome = joined(value, [operand.outcome for operand in operands])
        bounds = _bounds(function, left, right)
        if bounds is None:
            return outcome
        marks = tuple(m for m in outcome.marks if not m.startswith("of a number that is known"))
        return Outcome(value, outcome.missing, bounds, marks, outcome.versions)

    return Number([q for operand in operands for q in operand.queries], compute)


def _bounds(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Of +, -, × and ÷ of numbers between bounds: the corners, where no divisor may be 0."""
    approximate = any(isinstance(s, Number) and s.outcome.bounds for s in (left, right))
    if not approximate or function not in _MONOTONE:
        return None
    sides = [s.bounds if isinstance(s, Number) else (s, s) for s in (left, right)]
    if function is _divided and sides[1][0] <= 0 <= sides[1][1]:
        return None
    corners = [function(a, b) for a in sides[0] for b in sides[1]]
    return None if any(map(math.isnan, corners)) else (min(corners), max(corners))


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
