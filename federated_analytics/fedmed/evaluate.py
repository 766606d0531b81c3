"""Expressions on a fragment's rows, by NumPy: values, which of them are there, which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import did_you_mean
from federated_analytics.fedmed import dates
from federated_analytics.fedmed.comparisons import compared
from federated_analytics.fedmed.expression import (
    ARITHMETIC,
    COMPARISONS,
    LOGIC,
    PARTS,
    ROUND,
    Apply,
    Column,
    Constant,
    Expression,
    Filter,
)
from federated_analytics.fedmed.fragments import DATE, NUMBER, TEXT, TRUTH, Fragment
from federated_analytics.fedmed.rows import (
    NUMERIC,
    SAFE,
    Array,
    OtherRows,
    Rows,
    UnknownColumn,
    UnknownRowOperation,
    WrongKind,
    all_present,
    is_held,
    mask_of,
    series_of,
    without_zone,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Find = Callable[[str], Fragment]
Observe = Callable[["Expression", Any], None]
OwnRows = Callable[[str], Callable[..., Any] | None]


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
            found = compared(apply, *arguments)
        elif apply.name in LOGIC or apply.name == "not":
            found = _logical(apply, arguments)
        elif apply.name in ("add", "sub") and is_of_dates(argument.kind for argument in arguments):
            found = _moved(apply, *arguments)
        elif apply.name in ARITHMETIC or apply.name in ("neg", "abs"):
            found = _computed(apply, arguments)
        elif apply.name == ROUND:
            found = _rounded(apply, *arguments)
        elif apply.name in PARTS:
            found = _dated(apply, arguments[0])
        else:
            found = self._owners(apply, arguments)
        return replace(found, positions=positions)

    def _owners(self, apply: Apply, arguments: list[Rows]) -> Rows:

        from federated_analytics.fedmed.own_operations import by_row

        own = self.own_rows(apply.name)
        if own is None:
            raise UnknownRowOperation(f"The server has no operation {apply.name[:60]!r} on rows.")
        values = by_row(own, arguments, apply.name)
        kind = TRUTH if values.dtype.kind == "b" else NUMBER
        return Rows(values, all_present(arguments) & is_held(values), kind)


def _stored(series: pd.Series, kind: str) -> Rows:
    """The rows of a fragment's column."""
    import numpy as np

    present = series.notna().to_numpy()
    if kind == TRUTH:
        return Rows(series.fillna(False).to_numpy(dtype=bool), present, kind)
    values = series.to_numpy()
    if kind == NUMBER and values.dtype == np.float64:
        present = is_held(values)
    if kind == DATE:
        present = dates.is_in_range(values)
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
    kept = mask.truths
    positions = np.flatnonzero(kept) if positions is None else positions[kept]
    return Rows(rows.values[kept], rows.present[kept], rows.kind, positions)


def _logical(apply: Apply, arguments: list[Rows]) -> Rows:

    if any(a.kind != TRUTH for a in arguments):
        raise WrongKind("&, | and ~ are for masks.", where=str(apply)[:200])
    held = [a.truths for a in arguments]
    if apply.name == "not":
        result = ~held[0]
    elif apply.name == "and":
        result = held[0] & held[1]
    else:
        result = held[0] | held[1]
    return mask_of(result)


def _computed(apply: Apply, arguments: list[Rows]) -> Rows:
    """Arithmetic; what is not finite (a division by zero, an overflow) is missing."""
    import numpy as np

    for argument in arguments:
        if argument.kind not in NUMERIC:
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
    present = all_present(arguments)
    if result.dtype == np.float64:
        present = present & is_held(result)
    return Rows(result, present, NUMBER)


def _number(rows: Rows) -> Array:
    import numpy as np

    if rows.values.dtype.kind in "bi":
        return rows.values.astype(np.int64)
    return rows.values.astype(np.float64)


def is_of_dates(kinds: Iterable[str]) -> bool:
    """Whether a sum or a difference is one of dates: no number is added to text."""
    return bool({DATE, TEXT} & set(kinds))


def moved_kind(apply: Apply, left: str, right: str) -> str:
    """Kind of a sum or a difference with dates; WrongKind where there is none."""
    numeric = {left, right} & set(NUMERIC)
    if apply.name == "sub" and left == right == DATE:
        return NUMBER
    if numeric and DATE in (left, right) and (apply.name == "add" or left == DATE):
        return DATE
    raise WrongKind(
        f"There is no {left} {'+' if apply.name == 'add' else '-'} {right}.",
        where=str(apply)[:200],
        remedy="A date less a date is a number of days, and a date plus or less days is a date; "
        "`.date()` reads text.",
    )


def dated_constant(apply: Apply, text: str) -> datetime:
    """The date that a text constant of a sum or a difference is."""
    found = dates.parsed(text)
    if found is None:
        raise WrongKind("A date is written as ISO 8601 text: '2020-01-31'.", where=str(apply)[:200])
    return found


def _moved(apply: Apply, left: Rows, right: Rows) -> Rows:
    """A number of days between dates, or dates that are moved by days."""
    import numpy as np

    left, right = (_dated_constant(apply, side) for side in (left, right))
    present = all_present([left, right])
    if moved_kind(apply, left.kind, right.kind) == NUMBER:
        return Rows(dates.difference(left.values, right.values), present, NUMBER)
    if left.kind != DATE:
        left, right = right, left
    by = right.values.astype(np.float64)
    values, near = dates.moved(left.values, -by if apply.name == "sub" else by)
    return Rows(values, present & near, DATE)


def _dated_constant(apply: Apply, rows: Rows) -> Rows:
    import numpy as np

    if not rows.scalar or rows.kind != TEXT:
        return rows
    moment = dated_constant(apply, str(rows.values[0]))
    return replace(rows, values=np.array([moment], dtype="datetime64[us]"), kind=DATE)


def _rounded(apply: Apply, rows: Rows, step: Rows) -> Rows:
    """The nearest multiple of the step, halves up."""
    import numpy as np

    if rows.kind not in NUMERIC:
        raise WrongKind(f"round is for numbers, not for {rows.kind}.", where=str(apply)[:200])
    size = float(step.values[0])
    with np.errstate(all="ignore"):
        result = np.floor(rows.values.astype(np.float64) / size + 0.5) * size
    return Rows(result, rows.present & is_held(result), NUMBER)


def _stays_whole(name: str, numbers: list[Array]) -> bool:
    """Whether an operation on int64 gives whole numbers that do not overflow."""
    import numpy as np

    largest = [int(np.abs(n).max()) if len(n) else 0 for n in numbers]
    if name in ("add", "sub"):
        return sum(largest) < SAFE
    if name == "mul":
        return largest[0] * largest[1] < SAFE
    return name in ("neg", "abs")


def _dated(apply: Apply, rows: Rows) -> Rows:
    import numpy as np
    import pandas as pd

    if rows.kind not in (DATE, TEXT):
        raise WrongKind(f"{apply.name} is for dates, not for {rows.kind}.", where=str(apply)[:200])
    series = series_of(rows)
    if rows.kind == TEXT:  # a lone surrogate would be an error, and is no date
        series = series.where([isinstance(v, str) and v.isascii() for v in rows.values], None)
    read = pd.to_datetime(series, format="ISO8601", errors="coerce", utc=True)
    values = without_zone(read)
    present = rows.present & dates.is_in_range(values)
    if apply.name == "date":
        return Rows(values, present, DATE)
    if apply.name == "days":
        return Rows(dates.days(values), present, NUMBER)
    moments = pd.Series(values)
    part = getattr(moments.dt, apply.name).to_numpy(dtype=np.float64, na_value=np.nan)
    return Rows(part, present, NUMBER)
