"""Expressions on a fragment's rows, by NumPy: values, which of them are there, which rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import RequestRefused, did_you_mean
from federated_analytics.fedmed.expression import (
    ARITHMETIC,
    COMPARISONS,
    LOGIC,
    Apply,
    Column,
    Constant,
    Expression,
    Filter,
)
from federated_analytics.fedmed.fragments import DATE, NUMBER, TEXT, TRUTH, Fragment

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Array = Any
Find = Callable[[str], Fragment]
Observe = Callable[["Expression", Any], None]
OwnRows = Callable[[str], Callable[..., Any] | None]


class UnknownColumn(RequestRefused):
    """A column that a fragment does not have."""

    code = "unknown_column"


class UnknownRowOperation(RequestRefused):
    """An operation on rows that the server does not offer."""

    code = "unknown_operation"


class WrongKind(RequestRefused):
    """An operation on a kind of value that it is not for."""

    code = "wrong_kind"


class OtherRows(RequestRefused):
    """Two columns, or a column and a mask, that are not of the same rows."""

    code = "other_rows"
    default_remedy = "Combine columns of the same fragments and the same filter."


@dataclass(frozen=True)
class Rows:
    """The rows of an expression.

    Fields:
        values: float64, int64, bool, datetime64 or object of text; one a row
        present: which rows have a value
        kind: "number", "text", "truth" or "date"
        positions: of the rows in the fragment; None where they are all of its rows
        scalar: the same value for each row, of a constant
        kept: what was computed of just these rows; those of a column outlive the request
    """

    values: Array
    present: Array
    kind: str
    positions: NDArray[np.int64] | None = None
    scalar: bool = False
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def extent(self) -> object:
        """Of two parts with one text, whether they are over the same rows."""
        return len(self.values)

    def floats(self) -> Array:
        """The values that are there, as float64."""
        import numpy as np

        return np.asarray(self.values[self.present], dtype=np.float64)


@dataclass(frozen=True)
class Evaluation:
    """Evaluates expressions on one version of each fragment.

    Args:
        find: a fragment by name.
        own: the fragment that a column without another name is of.
        observe: told of every part of an expression with its rows, before it is used.
        own_rows: a server owner's own operation on rows, by name.
    """

    find: Find
    own: str
    observe: Observe = lambda expression, rows: None
    own_rows: OwnRows = lambda name: None

    def rows(self, expression: Expression) -> Rows:
        """The rows of an expression. RequestRefused where it cannot be evaluated."""
        found = self._rows(expression)
        if not found.scalar:
            self.observe(expression, found)
        return found

    def _rows(self, expression: Expression) -> Rows:
        if isinstance(expression, Column):
            return self._column(expression)
        if isinstance(expression, Constant):
            return _constant(expression)
        if isinstance(expression, Filter):
            return _filtered(self.rows(expression.rows), self.rows(expression.mask), expression)
        return self._applied(expression)

    def _column(self, column: Column) -> Rows:
        fragment = self.find(column.fragment or self.own)
        if column.path in fragment.kept:
            rows: Rows = fragment.kept[column.path]
            return rows
        series = fragment.columns.get(column.path)
        if series is None:
            names = [
                "".join(f"[{k!r}]" for k in keys) or "(the fragment)" for keys in fragment.kinds
            ]
            asked = "".join(f"[{key!r}]" for key in column.path) or "(the fragment)"
            hint = did_you_mean(asked, names)
            raise UnknownColumn(
                f"There is no column {asked[:100]}.",
                where=column.fragment or self.own,
                remedy=f"{hint} There are: {', '.join(names)[:200]}.".strip(),
            )
        stored = _stored(series, fragment.kinds[column.path])
        fragment.kept[column.path] = stored
        return stored

    def _applied(self, apply: Apply) -> Rows:
        arguments = [self.rows(argument) for argument in apply.arguments]
        if all(argument.scalar for argument in arguments):
            raise WrongKind("An operation has a column among its operands.", where=str(apply)[:200])
        positions = _common_positions(arguments, apply)
        if apply.name in COMPARISONS:
            found = _compared(apply, *arguments)
        elif apply.name in LOGIC or apply.name == "not":
            found = _logical(apply, arguments)
        elif apply.name in ARITHMETIC or apply.name in ("neg", "abs"):
            found = _computed(apply, arguments)
        elif apply.name in ("date", "year", "month", "day"):
            found = _dated(apply, arguments[0])
        else:
            found = self._owners(apply, arguments)
        return replace(found, positions=positions)

    def _owners(self, apply: Apply, arguments: list[Rows]) -> Rows:
        import numpy as np

        from federated_analytics.fedmed.own_operations import by_row

        own = self.own_rows(apply.name)
        if own is None:
            raise UnknownRowOperation(f"The server has no operation {apply.name[:60]!r} on rows.")
        values = by_row(own, arguments, apply.name)
        kind = TRUTH if values.dtype.kind == "b" else NUMBER
        return Rows(values, _all_present(arguments) & np.isfinite(values), kind)


def _stored(series: pd.Series, kind: str) -> Rows:
    """The rows of a fragment's column."""
    import numpy as np

    present = series.notna().to_numpy()
    if kind == TRUTH:
        return Rows(series.fillna(False).to_numpy(dtype=bool), present, kind)
    values = series.to_numpy()
    if kind == NUMBER and values.dtype == np.float64:
        present = np.isfinite(values)
    return Rows(values, present, kind)


def _constant(constant: Constant) -> Rows:
    import numpy as np

    value = constant.value
    kind = TRUTH if isinstance(value, bool) else TEXT if isinstance(value, str) else NUMBER
    dtype = object if kind == TEXT else None
    return Rows(np.array([value], dtype=dtype), np.array([True]), kind, scalar=True)


def _common_positions(arguments: list[Rows], apply: Expression) -> NDArray[np.int64] | None:
    import numpy as np

    columns = [a for a in arguments if not a.scalar]
    first = columns[0]
    for other in columns[1:]:
        same = len(first) == len(other) and (
            first.positions is other.positions
            or (
                first.positions is not None
                and other.positions is not None
                and np.array_equal(first.positions, other.positions)
            )
        )
        if not same:
            raise OtherRows("The operands are not of the same rows.", where=str(apply)[:200])
    return first.positions


def _filtered(rows: Rows, mask: Rows, place: Expression) -> Rows:
    import numpy as np

    if mask.kind != TRUTH:
        raise WrongKind("A mask is true or false for each row.", where=str(place)[:200])
    positions = _common_positions([rows, mask], place)
    kept = mask.values & mask.present
    positions = np.flatnonzero(kept) if positions is None else positions[kept]
    return Rows(rows.values[kept], rows.present[kept], rows.kind, positions)


def _all_present(arguments: list[Rows]) -> Array:
    import numpy as np

    size = max(len(a) for a in arguments if not a.scalar)
    present = np.ones(size, dtype=bool)
    for argument in arguments:
        if not argument.scalar:
            present = present & argument.present
    return present


def _compared(apply: Apply, left: Rows, right: Rows) -> Rows:
    """As pandas: a missing value equals nothing, and is different from everything."""
    import numpy as np

    present = _all_present([left, right])
    a, b = _comparable(apply, left, right)
    operation: dict[str, Any] = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }
    if DATE not in (left.kind, right.kind) and left.kind == TEXT:
        result = _texts_compared(operation[apply.name], a, b, present)
    else:
        with np.errstate(invalid="ignore"):
            result = operation[apply.name](a, b)
    result = np.where(present, result, apply.name == "ne").astype(bool)
    return Rows(result, np.ones(len(result), dtype=bool), TRUTH)


def _texts_compared(operation: Any, a: Array, b: Array, present: Array) -> Array:
    import numpy as np

    result = np.zeros(len(present), dtype=bool)
    left = a if len(a) == 1 else a[present]
    right = b if len(b) == 1 else b[present]
    if present.any():
        result[present] = operation(left, right).astype(bool)
    return result


_NUMERIC = (NUMBER, TRUTH)


def _comparable(apply: Apply, left: Rows, right: Rows) -> tuple[Array, Array]:
    kinds = {left.kind, right.kind}
    if kinds <= set(_NUMERIC) or (len(kinds) == 1 and TEXT in kinds):
        return left.values, right.values
    if kinds == {DATE}:
        return left.values, right.values
    if kinds == {DATE, TEXT}:
        return _moments_of(left, apply), _moments_of(right, apply)
    raise WrongKind(
        f"A {left.kind} is not compared with a {right.kind}.",
        where=str(apply)[:200],
        remedy="Write the constant as the column's kind: 3, '3', True or '2020-01-31'.",
    )


def _moments_of(rows: Rows, apply: Expression) -> Array:
    import pandas as pd

    if rows.kind == DATE:
        return rows.values
    try:
        return pd.to_datetime(pd.Series(rows.values), format="ISO8601").to_numpy()
    except ValueError as error:
        raise WrongKind(
            "A date is written as ISO 8601 text: '2020-01-31'.", where=str(apply)[:200]
        ) from error


def _logical(apply: Apply, arguments: list[Rows]) -> Rows:
    import numpy as np

    if any(a.kind != TRUTH for a in arguments):
        raise WrongKind("&, | and ~ are for masks.", where=str(apply)[:200])
    held = [a.values & a.present for a in arguments]
    if apply.name == "not":
        result = ~held[0]
    elif apply.name == "and":
        result = held[0] & held[1]
    else:
        result = held[0] | held[1]
    return Rows(result, np.ones(len(result), dtype=bool), TRUTH)


def _computed(apply: Apply, arguments: list[Rows]) -> Rows:
    """Arithmetic; what is not finite (a division by zero, an overflow) is missing."""
    import numpy as np

    for argument in arguments:
        if argument.kind not in _NUMERIC:
            raise WrongKind(
                f"Arithmetic is for numbers, not for {argument.kind}.", where=str(apply)[:200]
            )
    numbers = [_number(a) for a in arguments]
    operation: dict[str, Any] = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.true_divide,
        "pow": np.power,
        "neg": np.negative,
        "abs": np.abs,
    }
    whole = all(n.dtype == np.int64 for n in numbers)
    if whole and not _stays_whole(apply.name, numbers):
        numbers = [n.astype(np.float64) for n in numbers]
    with np.errstate(all="ignore"):
        result = operation[apply.name](*numbers)
    present = _all_present(arguments)
    if result.dtype == np.float64:
        present = present & np.isfinite(result)
    return Rows(result, present, NUMBER)


def _number(rows: Rows) -> Array:
    import numpy as np

    if rows.values.dtype.kind in "bi":
        return rows.values.astype(np.int64)
    return rows.values.astype(np.float64)


_SAFE = 2**53
"""Whole numbers up to here are the same as float64, so nothing is lost by changing over."""


def _stays_whole(name: str, numbers: list[Array]) -> bool:
    """Whether an operation on int64 gives whole numbers that do not overflow."""
    import numpy as np

    largest = [int(np.abs(n).max()) if len(n) else 0 for n in numbers]
    if name in ("add", "sub"):
        return sum(largest) < _SAFE
    if name == "mul":
        return largest[0] * largest[1] < _SAFE
    return name in ("neg", "abs")


def _dated(apply: Apply, rows: Rows) -> Rows:
    import numpy as np
    import pandas as pd

    if rows.kind not in (DATE, TEXT):
        raise WrongKind(f"{apply.name} is for dates, not for {rows.kind}.", where=str(apply)[:200])
    moments = pd.to_datetime(pd.Series(rows.values), format="ISO8601", errors="coerce")
    present = rows.present & moments.notna().to_numpy()
    if apply.name == "date":
        return Rows(moments.to_numpy(), present, DATE)
    part = getattr(moments.dt, apply.name).to_numpy(dtype=np.float64, na_value=np.nan)
    return Rows(part, present, NUMBER)
