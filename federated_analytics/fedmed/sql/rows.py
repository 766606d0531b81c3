"""Expressions as SQL that cannot fail on any row: a missing value is NULL, and so is no number.

PostgreSQL ends a statement with an error where a product overflows or underflows, and that one
row is why would be told. So each number carries bounds of its magnitude. Those of a column hold by
its type, or are made to hold (`SMALLEST`, `LARGEST`); where an operation might leave what a double
holds, its operands are held to them first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from federated_analytics.errors import did_you_mean
from federated_analytics.fedmed import dates
from federated_analytics.fedmed.evaluate import Observe, dated_constant, is_of_dates, moved_kind
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
from federated_analytics.fedmed.fragments import DATE, NUMBER, TEXT, TRUTH, Keys
from federated_analytics.fedmed.rows import (
    LARGEST,
    OtherRows,
    UnknownColumn,
    UnknownRowOperation,
    WrongKind,
)

if TYPE_CHECKING:
    from federated_analytics.fedmed.privacy import Saturation

SMALLEST = 1e-140
"""Numbers of a table nearer to 0 count as 0, and those beyond `LARGEST` as missing."""

_EDGE = 1e300
_LOG = 140 * math.log(10)
_NUMERIC = (NUMBER, TRUTH)
_ISO = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?$"
Sql = sa.ColumnElement[Any]


@dataclass(frozen=True)
class SqlRows:
    """The rows of an expression.

    Fields:
        value: NULL where a row has no value
        kind: "number" (a double), "text", "truth" or "date" (a timestamp)
        where: text and SQL of the masks that the rows fulfil
        low, high: the magnitude of a number that is not 0 lies between them
        whole: a number without a fraction, below 2^53
        constant: of a constant, which is the same for each row
        is_name: the value is a column's name: to repeat it costs nothing
    """

    value: Sql
    kind: str
    where: tuple[tuple[str, Sql], ...] = ()
    low: float = SMALLEST
    high: float = LARGEST
    whole: bool = False
    scalar: bool = False
    constant: Any = None
    is_name: bool = False

    @property
    def extent(self) -> object:
        """Of two parts with one text, whether they are over the same rows."""
        return tuple(text for text, _ in self.where)


@dataclass
class Relation:
    """The table's columns under short names, and what is computed on the way, layer by layer.

    Fields:
        columns: by path: the value's SQL on the table itself, kind, bounds
        person: whose a row is, as a bigint; None where nobody asks
    """

    source: sa.FromClause
    columns: dict[Keys, SqlRows]
    person: Sql | None
    _layers: list[tuple[str, Sql]] = field(default_factory=list)

    def column(self, path: Keys) -> SqlRows:
        held = self.columns[path]
        name = f"c{list(self.columns).index(path)}"
        return replace(held, value=sa.column(name, held.value.type), is_name=True)

    def named(self, rows: SqlRows) -> SqlRows:
        """The same, computed in a layer below, so that it may be repeated."""
        if rows.is_name or rows.scalar:
            return rows
        name = f"e{len(self._layers)}"
        self._layers.append((name, rows.value))
        return replace(rows, value=sa.column(name, rows.value.type), is_name=True)

    def rows(self) -> sa.FromClause:
        """What a statement selects from; `person` is among its columns."""
        labels = [held.value.label(f"c{i}") for i, held in enumerate(self.columns.values())]
        if self.person is not None:
            labels.append(self.person.label("person"))
        found: sa.FromClause = sa.select(*labels).select_from(self.source).subquery("rows0")
        for i, (name, value) in enumerate(self._layers):
            # OFFSET 0 keeps the planner from writing the value out wherever it is named.
            layer = sa.select(sa.text("*"), value.label(name)).select_from(found)
            found = layer.offset(sa.literal_column("0")).subquery(f"rows{i + 1}")
        return found


@dataclass(frozen=True)
class SqlEvaluation:
    """Expressions on one table's columns, as SQL.

    Args:
        own: the table's name as a fragment.
        parses_dates: the database tells text that is a date from other text (PostgreSQL 16).
    """

    relation: Relation
    own: str
    parses_dates: bool
    observe: Observe = lambda expression, rows: None

    def rows(self, expression: Expression) -> SqlRows:
        """The rows of an expression. RequestRefused where it cannot be evaluated."""
        found = self._rows(expression)
        if not found.scalar:
            self.observe(expression, found)
        return found

    def _rows(self, expression: Expression) -> SqlRows:
        if isinstance(expression, Column):
            return self._column(expression)
        if isinstance(expression, Constant):
            return constant(expression.value)
        if isinstance(expression, Filter):
            rows, mask = self.rows(expression.rows), self.rows(expression.mask)
            if mask.kind != TRUTH:
                raise WrongKind("A mask is true or false for each row.", where=_place(expression))
            where = _common([rows, mask], expression)
            if not mask.is_name:
                mask = self.relation.named(mask)
            return replace(rows, where=(*where, (str(expression.mask), mask.value)))
        return self._applied(expression)

    def _column(self, column: Column) -> SqlRows:
        if column.fragment and column.fragment != self.own:
            raise OtherRows(
                "A column of a database's table is combined with columns of the same table.",
                where=_place(column),
                remedy="Join them in the database, and offer the view as a fragment.",
            )
        if column.path not in self.relation.columns:
            names = ["".join(f"[{k!r}]" for k in keys) for keys in self.relation.columns]
            asked = "".join(f"[{key!r}]" for key in column.path) or "(the fragment)"
            raise UnknownColumn(
                f"There is no column {asked[:100]}.",
                where=self.own,
                remedy=f"{did_you_mean(asked, names)} There are: {', '.join(names)[:200]}.".strip(),
            )
        return self.relation.column(column.path)

    def _applied(self, apply: Apply) -> SqlRows:
        arguments = [self.rows(argument) for argument in apply.arguments]
        if all(argument.scalar for argument in arguments):
            raise WrongKind("An operation has a column among its operands.", where=_place(apply))
        where = _common(arguments, apply)
        if apply.name in COMPARISONS:
            found = self._compared(apply, *arguments)
        elif apply.name in LOGIC or apply.name == "not":
            found = _logical(apply, arguments)
        elif apply.name in ("add", "sub") and is_of_dates(argument.kind for argument in arguments):
            found = self._moved(apply, *arguments)
        elif apply.name in ARITHMETIC or apply.name in ("neg", "abs"):
            found = self._computed(apply, arguments)
        elif apply.name == ROUND:
            found = self._rounded(apply, *arguments)
        elif apply.name in PARTS:
            found = self._dated(apply, arguments[0])
        else:
            raise UnknownRowOperation(
                f"The operation {apply.name[:60]!r} cannot be done in the database.",
                where=_place(apply),
                remedy="The server's own operations are for fragments that it holds in memory.",
            )
        return replace(found, where=where, scalar=False, constant=None, is_name=False)

    def _compared(self, apply: Apply, left: SqlRows, right: SqlRows) -> SqlRows:
        """As pandas: a missing value equals nothing, and is different from everything."""
        kinds = {left.kind, right.kind}
        if kinds == {DATE, TEXT}:
            left, right = (self._moment(apply, side) for side in (left, right))
        elif kinds <= set(_NUMERIC):
            left, right = number(left), number(right)
        elif len(kinds) > 1:
            raise WrongKind(
                f"A {left.kind} is not compared with a {right.kind}.",
                where=_place(apply),
                remedy="Write the constant as the column's kind: 3, '3', True or '2020-01-31'.",
            )
        a, b = left.value, right.value
        if left.kind == right.kind == TEXT and apply.name not in ("eq", "ne"):
            a, b = sa.collate(a, "C"), sa.collate(b, "C")
        compared = {
            "eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b,
        }[apply.name]  # fmt: skip
        return SqlRows(_known(compared, apply.name == "ne"), TRUTH)

    def _moment(self, apply: Apply, rows: SqlRows) -> SqlRows:
        if rows.kind == DATE:
            return rows
        if not rows.scalar:
            return self._parsed(apply, rows)
        import pandas as pd

        try:
            moment = pd.to_datetime(pd.Series([rows.constant]), format="ISO8601")[0]
        except ValueError as error:
            raise WrongKind(
                "A date is written as ISO 8601 text: '2020-01-31'.", where=_place(apply)
            ) from error
        if moment.tzinfo is not None:
            moment = moment.tz_convert(None)
        value = None if pd.isna(moment) else moment.to_pydatetime()
        return SqlRows(sa.literal(value, sa.DateTime()), DATE, scalar=True)

    def _parsed(self, apply: Apply, rows: SqlRows) -> SqlRows:
        if not self.parses_dates:
            raise WrongKind(
                "Text is read as dates by PostgreSQL 16 or later.",
                where=_place(apply),
                remedy="Offer a column of dates: a view can change it over.",
            )
        text = self.relation.named(rows).value
        is_date = sa.and_(
            text.regexp_match(_ISO), sa.func.pg_input_is_valid(text, sa.literal("timestamp"))
        )
        # Any other form of CASE might be evaluated before its condition.
        return SqlRows(sa.case((is_date, sa.cast(text, sa.DateTime()))), DATE)

    def _dated(self, apply: Apply, rows: SqlRows) -> SqlRows:
        if rows.kind not in (DATE, TEXT):
            raise WrongKind(f"{apply.name} is for dates, not for {rows.kind}.", where=_place(apply))
        moment = self._moment(apply, rows)
        if apply.name == "date":
            return moment
        if apply.name == "days":
            return days(self.relation, moment)
        part: Sql = sa.cast(sa.extract(apply.name, moment.value), sa.Double())
        return SqlRows(part, NUMBER, low=1, high=10_000, whole=True)

    def _moved(self, apply: Apply, left: SqlRows, right: SqlRows) -> SqlRows:
        """A number of days between dates, or dates that are moved by days."""
        left, right = (_dated_constant(apply, side) for side in (left, right))
        if moved_kind(apply, left.kind, right.kind) == NUMBER:
            return difference(self.relation, left, right)
        if left.kind != DATE:
            left, right = right, left
        moment, by = self.relation.named(left), self.held(number(right), named=True)
        if by.scalar and (by.constant is None or abs(by.constant) > dates.REACH):
            return SqlRows(sa.cast(sa.null(), sa.DateTime()), DATE)
        away: Sql = -by.value if apply.name == "sub" else by.value
        # Far from every date the sum of a timestamp and an interval is an error.
        start = self.relation.named(days(self.relation, moment)).value
        first, last = (dates.days_of(day) for day in (dates.FIRST, dates.LAST))
        near = (start + away).between(sa.literal(first), sa.literal(last))
        microseconds: Sql = sa.func.round(away * float(dates.DAY), type_=sa.Double())
        step: Sql = sa.literal_column("interval '1 microsecond'", sa.Interval())
        later: Sql = sa.type_coerce(moment.value + microseconds * step, sa.DateTime())
        found = SqlRows(sa.type_coerce(sa.case((near, later)), sa.DateTime()), DATE)
        return replace(found, value=datable(self.relation.named(found).value))

    def _rounded(self, apply: Apply, rows: SqlRows, step: SqlRows) -> SqlRows:
        """The nearest multiple of the step, halves up: the operations that NumPy does."""
        if rows.kind not in _NUMERIC:
            raise WrongKind(f"round is for numbers, not for {rows.kind}.", where=_place(apply))
        size = constant(float(step.constant))
        shifted = self._arithmetic("add", self._arithmetic("div", number(rows), size), HALF)
        whole: Sql = sa.func.floor(shifted.value, type_=sa.Double())
        steps = SqlRows(whole, NUMBER, low=1.0, high=shifted.high + 1, whole=shifted.high < 2**52)
        return self._arithmetic("mul", steps, size)

    def _computed(self, apply: Apply, arguments: list[SqlRows]) -> SqlRows:
        """Arithmetic; what is no number (a division by zero, an overflow) is missing."""
        for argument in arguments:
            if argument.kind not in _NUMERIC:
                raise WrongKind(
                    f"Arithmetic is for numbers, not for {argument.kind}.", where=_place(apply)
                )
        numbers = [number(a) for a in arguments]
        if apply.name == "neg":
            return replace(numbers[0], value=-numbers[0].value)
        if apply.name == "abs":
            return replace(numbers[0], value=sa.func.abs(numbers[0].value, type_=sa.Double()))
        return self._arithmetic(apply.name, *numbers)

    def _arithmetic(self, name: str, a: SqlRows, b: SqlRows) -> SqlRows:
        """An operation on two numbers, held to bounds first where it might leave a double's."""
        found = self._tried(name, a, b)
        if found is None:
            found = self._tried(name, self.held(a), self.held(b))
        assert found is not None  # within the bounds that `held` sets, each can be done
        return found

    def _tried(self, name: str, a: SqlRows, b: SqlRows) -> SqlRows | None:
        """The operation, where no row can make it fail; None otherwise."""
        whole = a.whole and b.whole and name in ("add", "sub", "mul")
        if name in ("add", "sub"):
            value = a.value + b.value if name == "add" else a.value - b.value
            low, high = min(a.low, b.low) * 2.0**-54, a.high + b.high
        elif name == "mul":
            value, low, high = a.value * b.value, a.low * b.low, a.high * b.high
        elif name == "div":
            value = a.value / sa.func.nullif(b.value, 0.0, type_=sa.Double())
            low, high = a.low / b.high, a.high / b.low
        else:
            return self._power(a, b)
        if whole:
            low, whole = 1.0, high < 2**53
        if low < 1 / _EDGE or high > _EDGE:
            return None
        return SqlRows(value, NUMBER, low=low, high=high, whole=whole)

    def _power(self, a: SqlRows, b: SqlRows) -> SqlRows:
        exponent = b.constant if b.scalar else None
        if isinstance(exponent, int | float) and 0 < exponent <= 8 and exponent == int(exponent):
            ends = [_raised(end, exponent) for end in (a.low, a.high)]
            if ends[0] >= 1 / _EDGE and ends[1] <= _EDGE:
                raised: Sql = sa.func.power(a.value, float(exponent), type_=sa.Double())
                whole = a.whole and ends[1] < 2**53
                return SqlRows(raised, NUMBER, low=ends[0], high=ends[1], whole=whole)
        base, power = self.held(a, named=True), self.held(b, named=True)
        x, y = base.value, power.value
        logarithm = y * sa.func.ln(sa.func.abs(x))
        value = sa.case(
            (sa.or_(x.is_(None), y.is_(None)), sa.null()),
            (y == 0, 1.0),
            (sa.and_(x == 0, y > 0), 0.0),
            (x == 0, sa.null()),
            (sa.and_(x < 0, y != sa.func.floor(y)), sa.null()),
            (logarithm > _LOG, sa.null()),
            (logarithm < -_LOG, 0.0),
            else_=sa.func.power(x, y),
        )
        return SqlRows(sa.type_coerce(value, sa.Double()), NUMBER)

    def held(self, rows: SqlRows, *, named: bool = False) -> SqlRows:
        """A number between the bounds: beyond them it is missing, below them it is 0."""
        if rows.scalar:
            return _held_constant(rows)
        if not named and rows.low >= SMALLEST and rows.high <= LARGEST:
            return rows
        rows = self.relation.named(rows)
        if rows.low >= SMALLEST and rows.high <= LARGEST:
            return rows
        value = within_bounds(rows.value)
        held = SqlRows(value, NUMBER, rows.where, whole=rows.whole)
        return self.relation.named(held) if named else held


def difference(relation: Relation, left: SqlRows, right: SqlRows) -> SqlRows:
    """Days from `right` to `left`, by the operations of `dates.difference`."""
    seconds = sa.cast(sa.extract("epoch", left.value - right.value), sa.Numeric())
    microseconds: Sql = sa.cast(seconds * 1_000_000, sa.BigInteger())
    every = relation.named(SqlRows(microseconds, NUMBER)).value
    rest: Sql = sa.func.mod(every, sa.literal(dates.DAY, sa.BigInteger()), type_=sa.BigInteger())
    day: Sql = sa.literal(float(dates.DAY), sa.Double())
    whole = sa.cast(every - rest, sa.Double()) / day
    found: Sql = sa.type_coerce(whole + sa.cast(rest, sa.Double()) / day, sa.Double())
    return SqlRows(found, NUMBER, low=1e-11, high=float(dates.REACH))


def days(relation: Relation, rows: SqlRows) -> SqlRows:
    """Dates as days since 1970-01-01."""
    epoch = SqlRows(sa.literal(dates.EPOCH, sa.DateTime()), DATE)
    return replace(difference(relation, rows, epoch), where=rows.where)


def ordered(relation: Relation, rows: SqlRows) -> SqlRows:
    """Numbers as they are, and dates as days since 1970-01-01."""
    return days(relation, rows) if rows.kind == DATE else rows


def datable(moment: Sql) -> Sql:
    """Without infinity and the years that Python does not have."""
    first, last = (sa.literal(end, sa.DateTime()) for end in (datetime.min, datetime.max))
    return sa.type_coerce(sa.case((moment.between(first, last), moment)), sa.DateTime())


def within_bounds(value: Sql) -> Sql:
    """A double between the bounds; NaN is greater than every number to PostgreSQL."""
    of: sa.types.TypeEngine[Any] = sa.Double()
    if isinstance(value.type, sa.Numeric) and not isinstance(value.type, sa.Float):
        of = sa.Numeric()  # it may be beyond what a double holds, and is compared as it is
    least, most = (sa.cast(sa.literal(f"{end:e}", sa.Text()), of) for end in (SMALLEST, LARGEST))
    size = sa.func.abs(value, type_=of)
    held = sa.case((size > most, sa.null()), (size < least, 0.0), else_=sa.cast(value, sa.Double()))
    return sa.type_coerce(held, sa.Double())


def constant(value: Any) -> SqlRows:
    """The rows of a constant."""
    if isinstance(value, bool):
        return SqlRows(sa.literal(value, sa.Boolean()), TRUTH, scalar=True, constant=value)
    if isinstance(value, str):
        if "\x00" in value or (not value.isprintable() and not _is_encodable(value)):
            raise WrongKind("No text of a database is like this one.", where=repr(value)[:200])
        return SqlRows(sa.literal(value, sa.Text()), TEXT, scalar=True, constant=value)
    size = abs(float(value)) or 1.0
    return SqlRows(
        sa.literal(float(value), sa.Double()), NUMBER, low=size, high=size, scalar=True,
        constant=value, whole=float(value).is_integer() and size < 2**53,
    )  # fmt: skip


HALF = constant(0.5)


def _dated_constant(apply: Apply, rows: SqlRows) -> SqlRows:
    """A text constant of a sum or a difference is a date."""
    if not rows.scalar or rows.kind != TEXT:
        return rows
    moment = dated_constant(apply, str(rows.constant))
    return replace(rows, value=sa.literal(moment, sa.DateTime()), kind=DATE)


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _held_constant(rows: SqlRows) -> SqlRows:
    size = abs(float(rows.constant))
    if size > LARGEST:
        none: Sql = sa.cast(sa.null(), sa.Double())
        return replace(rows, value=none, constant=None, low=1.0, high=1.0)
    return constant(0.0) if size < SMALLEST else rows


def number(rows: SqlRows) -> SqlRows:
    """A truth value as 0 or 1."""
    if rows.kind != TRUTH:
        return rows
    if rows.scalar:
        return constant(int(rows.constant))
    value: Sql = sa.cast(sa.cast(rows.value, sa.Integer()), sa.Double())
    return replace(rows, value=value, kind=NUMBER, low=1.0, high=1.0, whole=True, is_name=False)


def saturated(relation: Relation, rows: SqlRows, saturation: Saturation) -> SqlRows:
    """Numbers held to the owner's range, as `Saturation.applied` holds them in memory."""
    if rows.kind != NUMBER:
        return rows
    rows = relation.named(rows)
    ends = saturation.low, saturation.high
    value: Sql = sa.func.least(sa.func.greatest(rows.value, ends[0]), ends[1], type_=sa.Double())
    held: Sql = sa.type_coerce(sa.case((rows.value.is_not(None), value)), sa.Double())
    return SqlRows(within_bounds(relation.named(SqlRows(held, NUMBER)).value), NUMBER, rows.where)


def _logical(apply: Apply, arguments: list[SqlRows]) -> SqlRows:
    if any(a.kind != TRUTH for a in arguments):
        raise WrongKind("&, | and ~ are for masks.", where=_place(apply))
    held = [_known(a.value, False) for a in arguments]
    if apply.name == "not":
        return SqlRows(sa.not_(held[0]), TRUTH)
    joined = sa.and_(*held) if apply.name == "and" else sa.or_(*held)
    return SqlRows(joined.self_group(), TRUTH)


def _known(value: Sql, default: bool) -> Sql:
    return sa.func.coalesce(value, sa.true() if default else sa.false(), type_=sa.Boolean())


def _common(arguments: list[SqlRows], place: Expression) -> tuple[tuple[str, Sql], ...]:
    columns = [a for a in arguments if not a.scalar]
    if any(other.extent != columns[0].extent for other in columns[1:]):
        raise OtherRows("The operands are not of the same rows.", where=_place(place))
    return columns[0].where


def _raised(size: float, exponent: float) -> float:
    try:
        return float(size**exponent)
    except OverflowError:
        return math.inf


def _place(expression: Expression) -> str:
    return str(expression)[:200]
