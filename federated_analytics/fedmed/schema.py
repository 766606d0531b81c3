"""What columns the fragments have, and which operations fit their kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from federated_analytics.aggregates.records import Records
from federated_analytics.fedmed import dates
from federated_analytics.fedmed.batch import Query, Reply, Source
from federated_analytics.fedmed.errors import WrongKind
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
from federated_analytics.fedmed.gathered import Gathered, gather
from federated_analytics.fedmed.protocol import Ask

NUMBER, TEXT, TRUTH, DATE = "number", "text", "truth", "date"
_NUMERIC = {NUMBER, TRUTH}
Path = tuple[str, ...]


@dataclass(frozen=True)
class ColumnSchema:
    """One column over all fragments, by fragment in their order.

    Fields:
        kinds: None where it has no such column
        rows, values: rows, and those with a value; None where a policy does not say
    """

    kinds: tuple[str | None, ...]
    rows: tuple[int | None, ...]
    values: tuple[int | None, ...]

    @property
    def kind(self) -> str | None:
        """The kind at all fragments; None where they differ or one lacks the column."""
        found = {self.kind_at(i) for i, n in enumerate(self.values) if n != 0} or {*self.kinds}
        return found.pop() if len(found) == 1 else None

    def kind_at(self, position: int) -> str | None:
        """The kind at one fragment; None where no value tells it."""
        return None if self.values[position] == 0 else self.kinds[position]


@dataclass(eq=False)
class Root:
    """The fragments behind a data set, and what they say of their columns, asked for once."""

    sources: tuple[Source, ...]
    partial: bool = False
    _query: Query | None = field(default=None, init=False)
    _columns: dict[Path, ColumnSchema] | None = field(default=None, init=False)

    def query(self) -> Query:
        """Asks each fragment for its columns; goes out with whatever else is pending."""
        if self._query is None or (self._query.is_answered and not self.is_known):
            asks = tuple(Ask(s.fragment, "describe", (Column(),)) for s in self.sources)
            self._query = Query(self.sources, asks, self.partial)
        return self._query

    @property
    def is_known(self) -> bool:
        """Whether the fragments have said what their columns are."""
        if self._query is None or not self._query.is_answered:
            return False
        answered = [isinstance(reply, Reply) for reply in self._query.replies]
        return any(answered) if self.partial else all(answered)

    def forget(self) -> None:
        """Ask again when the columns are next needed."""
        self._query = self._columns = None

    @property
    def columns(self) -> dict[Path, ColumnSchema]:
        """Columns by path, () where the fragment is itself a column. AskFailed where unknown."""
        if self._columns is None:
            self._columns = _columns(gather(self.query()), self.sources)
        return self._columns

    def has_same_fragments(self, other: Root) -> bool:
        return self.sources == other.sources


def _columns(gathered: Gathered, sources: tuple[Source, ...]) -> dict[Path, ColumnSchema]:
    position = {(s.server, s.fragment): i for i, s in enumerate(sources)}
    kinds: dict[Path, list[str | None]] = {}
    records: dict[Path, list[Records | None]] = {}
    for part in gathered.parts:
        i = position[part.server, part.fragment]
        for (_, variable, level), state in part.cells.items():
            path = path_of(variable)
            kinds.setdefault(path, [None] * len(sources))[i] = level
            held = records.setdefault(path, [None] * len(sources))
            held[i] = state if isinstance(state, Records) else None
    return {
        path: ColumnSchema(
            tuple(each),
            tuple(r.records if r is not None else None for r in records[path]),
            tuple(r.persons if r is not None else None for r in records[path]),
        )
        for path, each in kinds.items()
    }


def path_of(variable: str) -> Path:
    """A column's path from the text that names it in an answer: a JSON list of keys."""
    if not variable.startswith("["):
        return (variable,) if variable else ()
    try:
        keys = json.loads(variable)
    except ValueError:
        return (variable,)
    return tuple(map(str, keys)) if isinstance(keys, list) else (variable,)


Lookup = Callable[[Column], str | None]


def kind_of(expression: Expression, lookup: Lookup) -> str | None:
    """Kind of an expression's rows; None where its columns are not known yet.

    Raises:
        WrongKind: an operation does not fit the kinds of its operands.
    """
    if isinstance(expression, Column):
        return lookup(expression)
    if isinstance(expression, Constant):
        return kind_of_constant(expression.value)
    if isinstance(expression, Filter):
        return kind_of(expression.rows, lookup)
    kinds = [kind_of(argument, lookup) for argument in expression.arguments]
    return _applied(expression.name, kinds, expression)


def one_kind(kinds: Sequence[str | None], servers: Sequence[str], place: str) -> str | None:
    """The kind that all fragments have; None where it is not known.

    Raises:
        WrongKind: they differ, so that nothing is one number over all of them.
    """
    found = dict(zip(kinds, servers, strict=True))
    found.pop(None, None)
    if set(found) == _NUMERIC:
        return NUMBER
    if len(found) > 1:
        each = " and ".join(f"{kind} at {server}" for kind, server in found.items())
        raise WrongKind(
            f"The fragments differ: {each}.",
            where=place[:300],
            remedy="Register fragments whose columns are of one kind.",
        )
    return next(iter(found), None)


def _applied(name: str, kinds: list[str | None], place: Expression) -> str | None:
    if name in ("add", "sub"):
        return _moved(name, kinds, place)
    if name in ARITHMETIC or name in ("neg", "abs", ROUND):
        _want(kinds, _NUMERIC, place)
        return NUMBER
    if name in LOGIC or name == "not":
        _want(kinds, {TRUTH}, place)
        return TRUTH
    if name in COMPARISONS:
        _comparable(kinds, place)
        return TRUTH
    if name in PARTS:
        _want(kinds, {DATE, TEXT}, place)
        return DATE if name == "date" else NUMBER
    return None


def _moved(name: str, kinds: list[str | None], place: Expression) -> str | None:
    """Of a sum or a difference: of numbers, of dates, or of dates and days.

    Where only one of two kinds is known, the other is what fits it.
    """
    assert isinstance(place, Apply)
    left, right = map(_kind_of_operand, place.arguments, kinds)
    _want([left, right], {*_NUMERIC, DATE}, place)
    if DATE not in (left, right):
        return NUMBER if left and right else None
    if name == "sub" and right == DATE and left in (DATE, None):
        return NUMBER
    if name == "sub" and left == DATE and right != DATE:
        return DATE if right else None
    if name == "add" and left != right:
        return DATE
    raise WrongKind(
        f"There is no {left} {ARITHMETIC[name]} {right}.",
        where=str(place)[:300],
        remedy="A date less a date is a number of days, and a date plus or less days is a date.",
    )


def _kind_of_operand(operand: Expression, kind: str | None) -> str | None:
    """A text constant in a sum or a difference is a date."""
    if isinstance(operand, Constant) and isinstance(operand.value, str):
        return DATE if dates.parsed(operand.value) else TEXT
    return kind


def check_kind(name: str, wanted: frozenset[str], kind: str | None, place: str) -> None:
    """WrongKind where a reduction is not for values of a kind that is known."""
    if kind is not None and kind not in wanted:
        raise WrongKind(
            f"{name} is for {' and '.join(sorted(wanted))} values, not for {kind}.",
            where=place[:300],
        )


def _want(kinds: list[str | None], wanted: set[str], place: Expression) -> None:
    for kind in kinds:
        if kind is not None and kind not in wanted:
            raise WrongKind(
                f"This is for {' and '.join(sorted(wanted))} values, not for {kind}.",
                where=str(place)[:300],
                remedy="`data` shows the kind of each column.",
            )


def _comparable(kinds: list[str | None], place: Expression) -> None:
    left, right = ("number" if k in _NUMERIC else k for k in kinds)
    if left is None or right is None or left == right:
        return
    if {left, right} == {DATE, TEXT}:
        return  # a date is compared with ISO 8601 text
    raise WrongKind(
        f"A {kinds[0]} is not compared with a {kinds[1]}.",
        where=str(place)[:300],
        remedy="Write the constant as the column's kind: 3, '3', True or '2020-01-31'.",
    )


def kind_of_constant(value: Any) -> str:
    if isinstance(value, bool):
        return TRUTH
    return NUMBER if isinstance(value, int | float) else TEXT


def decoded(level: str, kind: str | None) -> Any:
    """A value from its text in an answer; the text itself where its kind is not known."""
    if kind == TRUTH and level.lower() in ("true", "false"):
        return level.lower() == "true"
    if kind == NUMBER:
        try:
            number = float(level)
        except ValueError:
            return level
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == DATE:
        try:
            moment = datetime.fromisoformat(level)
        except ValueError:
            return level
        return dates.day_or_moment(moment)
    return level


def constant(value: Any) -> Constant:
    """A constant of an expression from a Python or NumPy value. TypeError for any other."""
    if isinstance(value, date):
        return Constant(dates.as_text(value))
    if type(value).__name__ == "datetime64":
        return constant(datetime.fromisoformat(str(value)))
    item = getattr(value, "item", None)
    if callable(item) and not isinstance(value, bool | int | float | str):
        value = item()
    if isinstance(value, bool | int | float | str):
        return Constant(value)
    raise TypeError(f"{type(value).__name__} is no number, truth value, text or date")
