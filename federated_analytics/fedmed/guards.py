"""What an expression may single out: masks are counted, and no column may be a mask in disguise.

Element-wise arithmetic can write a condition without a comparison: `0 ** abs(id - 17)` is 1 for
one person and 0 for everybody else. So every part of an expression is looked at:

- a mask's true rows and its false rows are nobody or at least k persons, and neither differs from
  rows that were asked for before by 1 to k - 1 persons (R5);
- of any other computed part, the persons who do not have its most frequent value are nobody or at
  least k, and fewer than k persons make up no more than p of the deviations from its median (R3);
- so are the persons for whom a part has a value;
- where a part is no sum of others (`NONLINEAR`) and takes few values, each is that of at least k
  persons, and none of persons who differ by few from others that were asked for (R5):
  `0 ** abs(mask * (id - 17))` is 1 for those outside of the mask, and for one person more.

What a few values are is told by bins: of `LEVEL_BINS` between the smallest and the largest at most
`MOST_LEVELS` hold a value, and no more than two side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from federated_analytics.aggregates.table import Strata
from federated_analytics.errors import RequestRefused, TooSimilar
from federated_analytics.fedmed.expression import (
    ARITY,
    Apply,
    Column,
    Constant,
    Expression,
    Filter,
)
from federated_analytics.fedmed.fragments import DATE, NUMBER, TRUTH

if TYPE_CHECKING:
    from federated_analytics.privacy.person_bitmap import PersonBitmap

MOST_SEEN = 10_000
"""Expressions that are not looked at again; what they single out was compared and is kept."""


NONLINEAR = frozenset({"mul", "div", "pow", "abs", "round", "year", "month", "day"})
"""A sum over any other operation follows from the sums over its operands; but for owners' own."""
LEVEL_BINS, MOST_LEVELS = 256, 16


def level_runs(places: Sequence[int]) -> list[range] | None:
    """The values of a part that takes few: bins side by side. None where it takes many, or one.

    Args:
        places: of the bins that hold a value, in any order.
    """
    runs: list[range] = []
    for place in sorted(places) if len(places) <= MOST_LEVELS else ():
        if runs and place == runs[-1].stop:
            runs[-1] = range(runs[-1].start, place + 1)
        else:
            runs.append(range(place, place + 1))
    return runs if len(runs) > 1 and all(len(run) <= 2 for run in runs) else None


class SinglesOut(RequestRefused):
    """A part of an expression that tells fewer than k persons apart from the others."""

    code = "singles_out"


class Parts(Protocol):
    """What is looked at of a part's rows, wherever they are.

    `with_value` and `with_truth` give who has a row with a value (of all operands), or for which it
    is true, and who has one without. `strata` gives the persons of each group, `levels` those of
    each value where a part takes few, and None where it takes many. `around_mean` tells
    of the deviations from the mean of the values that are there: how many values there are, the
    largest deviation, and what the sum of all is at least. `spread` tells of those from the
    median: how many are not 0, the sum of the `top` largest, and of all.
    """

    @property
    def everybody(self) -> PersonBitmap: ...
    def lacks_values(self, *operands: Any) -> bool: ...
    def with_value(self, *operands: Any) -> tuple[PersonBitmap, PersonBitmap]: ...
    def with_truth(self, rows: Any) -> tuple[PersonBitmap, PersonBitmap]: ...
    def strata(self, by: tuple[Any, ...]) -> Mapping[tuple[str, ...], PersonBitmap]: ...
    def levels(self, rows: Any) -> Sequence[PersonBitmap] | None: ...
    def around_mean(self, rows: Any) -> tuple[int, float, float]: ...
    def spread(self, rows: Any, top: int) -> tuple[int, float, float]: ...


@dataclass
class Guard:
    """Looks at the parts of the expressions of one fragment's version.

    Args:
        k: the policy's minimum count; 1 lets everything pass.
        share: the policy's dominance.
        parts: the rows, and whose they are.
        compare: refuses sets of persons too similar to others that were asked for (R5).
        compare_groups: of the persons of groups, tells which are too similar.
    """

    k: int
    share: float
    parts: Parts
    compare: Callable[[Sequence[PersonBitmap], str], None]
    compare_groups: Callable[[Mapping[Strata, PersonBitmap]], frozenset[Strata]]
    _seen: set[tuple[str, object]] = field(default_factory=set)
    _groups: dict[tuple[tuple[str, ...], object], frozenset[Strata]] = field(default_factory=dict)

    def look(self, expression: Expression, rows: Any) -> None:
        """RequestRefused where a part singles persons out; `rows` are those of the part."""
        if self.k <= 1 or isinstance(expression, Filter):
            return
        seen = str(expression), rows.extent
        if seen in self._seen:
            return
        if rows.kind == TRUTH:
            self._divided(expression, self.parts.with_truth(rows), "for which it is true")
        is_mask = isinstance(expression, Apply) and rows.kind == TRUTH  # has a value everywhere
        if not is_mask and self.parts.lacks_values(rows):
            self._divided(expression, self.parts.with_value(rows), "with a value")
        if isinstance(expression, Apply) and rows.kind in (NUMBER, DATE):
            self._concentrated(expression, rows)
            if expression.name in NONLINEAR or expression.name not in ARITY:
                self._divided_by_value(expression, rows)
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen.add(seen)

    def look_together(self, expressions: Sequence[Expression], operands: Sequence[Any]) -> None:
        """The same for the rows that have a value of all of several operands."""
        if self.k > 1 and len(operands) > 1 and self.parts.lacks_values(*operands):
            sides = self.parts.with_value(*operands)
            self._divided(expressions[0], sides, "with a value of every column")

    def similar(self, by: Sequence[Expression], groups: Sequence[Any]) -> frozenset[Strata]:
        """Groups that are too similar to rows that were asked for before: nothing is told of them.

        Args:
            by, groups: what the rows are grouped by, and the rows of each of these.
        """
        if self.k <= 1 or not by:
            return frozenset()
        seen = tuple(map(str, by)), groups[0].extent
        if seen not in self._groups:
            sets = {
                tuple((str(e), level) for e, level in zip(by, levels, strict=True)): persons
                for levels, persons in self.parts.strata(tuple(groups)).items()
                if len(persons) >= self.k
            }
            self._groups[seen] = self.compare_groups(sets)
        return self._groups[seen]

    def _divided(
        self, expression: Expression, sides: tuple[PersonBitmap, PersonBitmap], which: str
    ) -> None:
        """Both sides of a division of the rows hold nobody or enough persons."""
        for persons, text in zip(sides, (which, f"not {which}"), strict=True):
            if 0 < len(persons) < self.k:
                raise SinglesOut(
                    f"The rows {text} are of too few persons.",
                    where=_place(expression),
                    remedy=f"Ask for conditions that at least {self.k} persons fulfil, and at "
                    f"least {self.k} do not.",
                )
        if all(map(len, sides)):
            self.compare(sides, _place(expression))

    def _divided_by_value(self, expression: Apply, rows: Any) -> None:
        """Where few values are taken, each is of enough persons, who are no others but for few."""
        if _is_multiple(expression):
            return
        levels = self.parts.levels(rows) or ()
        # The values of columns themselves may be rare: nothing is singled out by asking for them.
        of_columns = all(isinstance(a, Column | Constant) for a in expression.arguments)
        if not of_columns and any(len(persons) < self.k for persons in levels):
            raise SinglesOut(
                "It has a value of its own for too few persons.",
                where=_place(expression),
                remedy=f"Ask for what is the same for at least {self.k} persons, or for none.",
            )
        place = _place(expression)
        sets: dict[Strata, PersonBitmap] = {
            ((place, str(i)),): p for i, p in enumerate(levels) if len(p) >= self.k
        }
        if self.compare_groups(sets):
            raise TooSimilar(
                "It divides the rows almost as they were divided before.",
                where=place,
                remedy=f"Ask for what tells no other persons apart, or at least {self.k} others.",
            )

    def _concentrated(self, expression: Expression, rows: Any) -> None:
        if rows.kind == NUMBER and self._is_spread(*self.parts.around_mean(rows)):
            return
        some, largest, total = self.parts.spread(rows, self.k - 1)
        if not some:
            return
        if some < self.k or (math.isfinite(total) and largest > self.share * total):
            raise SinglesOut(
                "The values of a few persons make up most of what it computes.",
                where=_place(expression),
                remedy="Ask for the columns themselves, or for conditions that more persons "
                "fulfil.",
            )

    def _is_spread(self, n: int, largest: float, total: float) -> bool:
        """Whether the deviations from the mean prove what is asked of those from the median.

        The sum of those from the mean is at most twice that from the median, and the two are no
        further apart than the mean deviation from the median: if k - 1 times the largest is less
        than the share of half the sum, so is the sum of the k - 1 largest from the median.
        """
        top = self.k - 1
        left = self.share - top / n if n else 0.0
        return left > 0 and math.isfinite(total) and top * largest < left * total / 2


def _is_multiple(expression: Apply) -> bool:
    fixed = [isinstance(argument, Constant) for argument in expression.arguments]
    return (expression.name == "mul" and any(fixed)) or (expression.name == "div" and fixed[1])


def _place(expression: Expression) -> str:
    return str(expression)[:200]
