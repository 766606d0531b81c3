"""What an expression may single out: masks are counted, and no column may be a mask in disguise.

Element-wise arithmetic can write a condition without a comparison: `0 ** abs(id - 17)` is 1 for
one person and 0 for everybody else. So every part of an expression is looked at:

- a mask's true rows and its false rows are nobody or at least k persons, and neither differs from
  rows that were asked for before by 1 to k - 1 persons (R5);
- of any other computed part, the persons who do not have its most frequent value are nobody or at
  least k, and fewer than k persons make up no more than p of the deviations from its median (R3);
- so are the persons for whom a part has a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from federated_analytics.errors import RequestRefused
from federated_analytics.fedmed.expression import Apply, Column, Expression, Filter
from federated_analytics.fedmed.fragments import DATE, NUMBER, TRUTH

if TYPE_CHECKING:
    from federated_analytics.privacy.person_bitmap import PersonBitmap

MOST_SEEN = 10_000
"""Expressions that are not looked at again; what they single out was compared and is kept."""


class SinglesOut(RequestRefused):
    """A part of an expression that tells fewer than k persons apart from the others."""

    code = "singles_out"


class Parts(Protocol):
    """What is looked at of a part's rows, wherever they are.

    `with_value` and `with_truth` give who has a row with a value, or for which it is true, and who
    has one without. `spread` tells of the deviations from the median of the values that are there:
    how many are not 0, the sum of the `top` largest, and of all.
    """

    @property
    def everybody(self) -> PersonBitmap: ...
    def lacks_values(self, rows: Any) -> bool: ...
    def with_value(self, rows: Any) -> tuple[PersonBitmap, PersonBitmap]: ...
    def with_truth(self, rows: Any) -> tuple[PersonBitmap, PersonBitmap]: ...
    def spread(self, rows: Any, top: int) -> tuple[int, float, float]: ...


@dataclass
class Guard:
    """Looks at the parts of the expressions of one fragment's version.

    Args:
        k: the policy's minimum count; 1 lets everything pass.
        share: the policy's dominance.
        parts: the rows, and whose they are.
        compare: refuses a set of persons too similar to one that was asked for (R5).
    """

    k: int
    share: float
    parts: Parts
    compare: Callable[[PersonBitmap, str], None]
    _seen: set[tuple[str, object]] = field(default_factory=set)

    def look(self, expression: Expression, rows: Any) -> None:
        """RequestRefused where a part singles persons out; `rows` are those of the part."""
        if self.k <= 1 or isinstance(expression, Filter):
            return
        seen = str(expression), rows.extent
        if seen in self._seen:
            return
        if isinstance(expression, Column):
            if self.parts.lacks_values(rows):
                self._divided(expression, self.parts.with_value(rows), "with a value")
        elif rows.kind == TRUTH:
            self._divided(expression, self.parts.with_truth(rows), "for which it is true")
        elif isinstance(expression, Apply) and rows.kind in (NUMBER, DATE):
            self._divided(expression, self.parts.with_value(rows), "with a value")
            self._concentrated(expression, rows)
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen.add(seen)

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
            for persons in sides:
                self.compare(persons, _place(expression))

    def _concentrated(self, expression: Expression, rows: Any) -> None:
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


def _place(expression: Expression) -> str:
    return str(expression)[:200]
