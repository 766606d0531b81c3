"""R2: no withheld count, and no count of a few persons, can be computed from released ones.

The attacker knows every released count, that counts are not negative, every linear relation among
them (totals, margins, the same dimension in two codings, other analyses of the same population),
and what the rules tell: a count withheld as too small is of 1 to width - 1 persons, one withheld
to protect it of `width` or more. After `protect`, in what he knows,

- every withheld count lies in an interval that spans `width` without what the rules tell, and
  with it every small one can still be anything from 1 to width - 1 (as far as the rules alone
  leave that open: two small cells of a small margin add up to at most width - 1);
- no set of persons that he can form as cells, margins, runs of intervals or differences of
  two counts lies between 1 and width - 1.

A grouping whose counts contradict others, or that makes a table of more than `MOST_COLUMNS` cells,
is withheld whole: then nothing finer than its margins is told.

Intervals are those of linear programming. That they hold whole numbers, and which of several
possible patterns was withheld, is not made use of.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from federated_analytics.privacy.cells_behind import cells_behind
from federated_analytics.privacy.count_relations import CountedSet, Relations, relations
from federated_analytics.privacy.disclosure_bounds import ElasticTable
from federated_analytics.privacy.hidden_sets import few_persons
from federated_analytics.privacy.suppression_pattern import Pattern
from federated_analytics.privacy.suppression_search import Search

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["CountedSet", "protect"]

MOST_COLUMNS = 5_000
"""Cells of which a proof is tried; it then takes a minute."""


def protect(
    counts: Sequence[CountedSet], *, width: int, partial: frozenset[str] = frozenset()
) -> set[Hashable]:
    """Groups to withhold besides, so that no withheld count can be told from the released ones.

    Args:
        counts: all counts of one population, released and withheld.
        width: of the interval that must stay open; the smallest count that may be told.
        partial: dimensions where persons may be outside of every level that is named.
    """
    if width <= 1 or not _is_anything_hidden(counts, width, partial):
        return set()
    before = {count.group for count in counts if not count.released}
    withheld = before | {count.group for count in counts if 0 < count.persons < width}
    left = list(counts)
    while left and (found := _table_behind(left, partial)) is None:
        dims = _unprovable(left, partial)
        withheld |= {count.group for count in left if count.dimensions == dims}
        left = [count for count in left if count.dimensions != dims]
    if not left or found is None:
        return withheld - before
    known, cells = found
    hidden = few_persons(known, cells, _persons(left, known), width)
    if hidden or not withheld.isdisjoint(count.group for count in left):
        pattern = Pattern(left, known.sum_of, withheld, width)
        if not Search(pattern, ElasticTable(known, cells), hidden).run():
            return {count.group for count in counts} - before
        withheld |= pattern.withheld
    return withheld - before


def _table_behind(
    counts: Sequence[CountedSet], partial: frozenset[str]
) -> tuple[Relations, Numbers] | None:
    """The relations among counts, and a table that has them.

    Returns None where no persons have such counts, or the table is too large to prove anything.
    """
    known = relations(counts, partial)
    persons = _persons(counts, known)
    if any(count.persons != persons[known.sum_of[count.of]] for count in counts):
        return None
    cells = cells_behind(known, persons)
    if cells is None:
        return None
    known = known.without_empty(cells)
    return None if known.size - len(known.doubtful) > MOST_COLUMNS else (known, cells)


def _persons(counts: Sequence[CountedSet], known: Relations) -> list[int]:
    """Shape: one a sum."""
    persons = [0] * len(known.sums)
    for count in counts:
        persons[known.sum_of[count.of]] = count.persons
    return persons


def _unprovable(counts: Sequence[CountedSet], partial: frozenset[str]) -> frozenset[str]:
    """The dimensions of a finest grouping that makes the proof impossible, or has most counts."""
    asked = {count.dimensions for count in counts}
    finest = [dims for dims in asked if not any(dims < other for other in asked)]
    finest.sort(key=lambda dims: (-sum(c.dimensions == dims for c in counts), sorted(dims)))
    for dims in finest:
        if _table_behind([c for c in counts if c.dimensions <= dims], partial) is None:
            return dims
    return finest[0]


def _is_anything_hidden(counts: Sequence[CountedSet], width: int, partial: frozenset[str]) -> bool:
    return any(
        not c.released
        or 0 < c.persons < width
        or any(name in partial or not isinstance(level, str) for name, level in c.of)
        for c in counts
    )
