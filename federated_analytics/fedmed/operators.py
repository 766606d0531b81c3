"""Element-wise operations on rows that stay at the servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Self

from federated_analytics.fedmed.expression import Scalar


class RowOperators(ABC):
    """Arithmetic, comparisons and logic, row by row; each gives a new data set and asks nothing.

    A date less a date is a number of days, with fractions where there are times; a date plus or
    less days is a date. Constants are Python's dates, pandas' Timestamps or ISO 8601 text.
    """

    __array_ufunc__ = None  # NumPy's numbers leave an operation to the data set

    @abstractmethod
    def _apply(self, name: str, *others: Any, reflected: bool = False) -> Self: ...

    def __add__(self, other: Any) -> Self:
        return self._apply("add", other)

    def __radd__(self, other: Any) -> Self:
        return self._apply("add", other, reflected=True)

    def __sub__(self, other: Any) -> Self:
        return self._apply("sub", other)

    def __rsub__(self, other: Any) -> Self:
        return self._apply("sub", other, reflected=True)

    def __mul__(self, other: Any) -> Self:
        return self._apply("mul", other)

    def __rmul__(self, other: Any) -> Self:
        return self._apply("mul", other, reflected=True)

    def __truediv__(self, other: Any) -> Self:
        return self._apply("div", other)

    def __rtruediv__(self, other: Any) -> Self:
        return self._apply("div", other, reflected=True)

    def __pow__(self, other: Any) -> Self:
        return self._apply("pow", other)

    def __rpow__(self, other: Any) -> Self:
        return self._apply("pow", other, reflected=True)

    def __neg__(self) -> Self:
        return self._apply("neg")

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return self._apply("abs")

    def __round__(self, digits: int | None = None) -> Self:
        """Rounded to decimal digits, halves up; to whole numbers without `digits`."""
        if not digits or digits < 0:
            return self.operator("round", int(10 ** -(digits or 0)))
        scale = int(10**digits)
        return (self * scale).operator("round", 1) / scale

    def __eq__(self, other: Any) -> Self:  # type: ignore[override]
        return self._apply("eq", other)

    def __ne__(self, other: Any) -> Self:  # type: ignore[override]
        return self._apply("ne", other)

    def __lt__(self, other: Any) -> Self:
        return self._apply("lt", other)

    def __le__(self, other: Any) -> Self:
        return self._apply("le", other)

    def __gt__(self, other: Any) -> Self:
        return self._apply("gt", other)

    def __ge__(self, other: Any) -> Self:
        return self._apply("ge", other)

    def __and__(self, other: Any) -> Self:
        return self._apply("and", other)

    def __rand__(self, other: Any) -> Self:
        return self._apply("and", other, reflected=True)

    def __or__(self, other: Any) -> Self:
        return self._apply("or", other)

    def __ror__(self, other: Any) -> Self:
        return self._apply("or", other, reflected=True)

    def __invert__(self) -> Self:
        return self._apply("not")

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        raise TypeError("whether rows are true is not one answer: use `.sum()` of the mask")

    def isin(self, values: Iterable[Scalar]) -> Self:
        """A mask: the value is one of these."""
        masks = [self._apply("eq", value) for value in values]
        if not masks:
            return (self == self) & (self != self)
        while len(masks) > 1:  # by halves: a server limits how deep an expression is
            pairs = [a | b for a, b in zip(masks[::2], masks[1::2], strict=False)]
            masks = [*pairs, *masks[len(pairs) * 2 :]]
        return masks[0]

    def date(self) -> Self:
        """ISO 8601 text as dates."""
        return self._apply("date")

    def year(self) -> Self:
        return self._apply("year")

    def month(self) -> Self:
        return self._apply("month")

    def day(self) -> Self:
        return self._apply("day")

    def days(self) -> Self:
        """Dates as days since 1970-01-01, with fractions where there are times."""
        return self._apply("days")

    def operator(self, name: str, *others: Any) -> Self:
        """An element-wise operation by its name: of the servers' own, or one of FedMed's.

        `data.operator("round", step)` is the nearest multiple of a step, halves up.
        """
        return self._apply(name, *others)
