"""Whose rows each count of an ask is of, so that R2 sees which counts follow from others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.person_set import ANY_VALUE, PersonSet
from federated_analytics.aggregates.person_set import MISSING as NO_VALUE
from federated_analytics.aggregates.table import Key
from federated_analytics.fedmed.expression import Apply, Constant, Expression, Filter
from federated_analytics.fedmed.protocol import RELEASES, Ask
from federated_analytics.fedmed.reduce import MISSING, REDUCTIONS, Table


@dataclass(frozen=True)
class Counts:
    """The persons of each count of an ask, so that R2 sees which follow from others.

    Where no row of a group lacks a value, all of it has one: its count is that of the group, and
    nothing more is to be remembered of the expression.
    """

    ask: Ask
    found: Table

    def __call__(self, key: Key, value: Aggregate) -> Iterator[tuple[int, PersonSet]]:
        is_own = self.ask.op not in REDUCTIONS
        if self.ask.op == "describe" or (is_own and not key.level):
            return
        rows = self.ask.rows[0]
        of = {(f"mask {mask}", "true") for mask in _masks(rows)} | {
            (str(e), level) for e, (_, level) in zip(self.ask.by, key.strata, strict=True)
        }
        if is_own:  # the levels of an owner's table may add up to what else is told
            persons = int(getattr(value, "persons", getattr(value, "n", 0)))
            of_all = ", ".join(str(_below(e)) for e in self.ask.rows)
            yield persons, frozenset({*of, (f"own {key.name} {of_all}", key.level)})
        elif key.name == "len":
            assert isinstance(value, Count)
            yield value.persons, frozenset(of)
        elif key.name in ("set", "counts"):
            assert isinstance(value, Count)
            yield value.persons, frozenset({*of, (f"level {_below(rows)}", key.level)})
        elif key.name == MISSING:
            assert isinstance(value, Count)
            if value.persons or self.ask.op in _OF_INTERVALS:
                yield value.persons, frozenset({*of, (self._value, NO_VALUE)})
        elif self._lacks_none(key) and not isinstance(value, IntervalCounts):
            yield int(getattr(value, "n", 0)), frozenset(of)
        else:
            yield int(getattr(value, "n", 0)), frozenset({*of, (self._value, ANY_VALUE)})

    @property
    def _value(self) -> str:
        needed = frozenset[str]().union(*(_needed(_below(rows)) for rows in self.ask.rows))
        return "value " + " and ".join(sorted(needed))

    def _lacks_none(self, key: Key) -> bool:
        missing = self.found.get(replace(key, level="", name=MISSING))
        return isinstance(missing, Count) and not missing.persons


_OF_INTERVALS = frozenset(op for op, kind in RELEASES.items() if kind == "IntervalCounts")
"""Their intervals are parts of the dimension of the values, which they name in any case."""
_KEEPING = frozenset({"add", "sub", "mul", "neg", "abs", "round"})
"""Operations whose result is there where all operands are."""


def _needed(expression: Expression) -> frozenset[str]:
    """Whose values must be there for the expression to have one, as texts."""
    if isinstance(expression, Apply) and expression.name in _KEEPING:
        return frozenset[str]().union(*map(_needed, expression.arguments))
    return frozenset() if isinstance(expression, Constant) else frozenset({str(expression)})


def _masks(expression: Expression) -> list[str]:
    found = []
    while isinstance(expression, Filter):
        found.append(str(expression.mask))
        expression = expression.rows
    return found


def _below(expression: Expression) -> Expression:
    while isinstance(expression, Filter):
        expression = expression.rows
    return expression
