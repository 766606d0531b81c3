"""R4: all quantiles of one feature stand on the same intervals, and on a histogram's edges.

If women's intervals ended elsewhere than everybody's, their differences would tell of a few
persons, and R2 would have to withhold one or the other whole. Intervals are joined until each
holds enough persons, or nobody, in every stratum that is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from federated_analytics.aggregates.interval_counts import IntervalCounts, common_ends
from federated_analytics.aggregates.person_set import Interval, PersonSet
from federated_analytics.aggregates.table import Key
from federated_analytics.privacy.draft import Draft

Place = tuple[str, str]
"""A population and a dimension of numbers."""


RULE = "R4"
FEWEST_INTERVALS = 20


@dataclass(frozen=True)
class _Cell:
    draft: int
    key: Key
    raw: IntervalCounts

    @property
    def grouping(self) -> tuple[str, ...]:
        """The strata that the persons are grouped by."""
        return tuple(name for name, _ in self.key.strata)


def align_intervals(drafts: Sequence[Draft], min_count: int) -> list[Draft]:
    """The drafts with the intervals of each feature's quantiles the same in all cells."""
    values = (value for draft in drafts for value in draft.evidence.table.values())
    if not any(isinstance(value, IntervalCounts) for value in values):
        return list(drafts)
    cells: dict[Place, list[_Cell]] = defaultdict(list)
    edges: dict[Place, set[float]] = defaultdict(set)
    for i, draft in enumerate(drafts):
        population = draft.evidence.population
        for key, value in draft.evidence.table.items():
            if isinstance(value, IntervalCounts):
                if key in draft.cells and value.n:
                    dimension = _dimension(draft, key, value)
                    cells[population, dimension].append(_Cell(i, key, value))
            elif key.level:
                for dimension, interval in _intervals(draft, key):
                    edges[population, dimension] |= set(interval)
    aligned = [dict(draft.cells) for draft in drafts]
    dropped: dict[int, list[Key]] = defaultdict(list)
    for place, found in cells.items():
        allowed = _positions(drafts, found[0], edges[place]) if edges[place] else None
        kept, ends = _fine_enough(found, min_count, allowed)
        for cell in found:
            if cell in kept:
                aligned[cell.draft][cell.key] = cell.raw.joined_at(ends)
            else:
                dropped[cell.draft].append(cell.key)
        for cell in kept:
            for i, key in _bins_to_withhold(drafts, cell, place, ends, min_count):
                dropped[i].append(key)
    made = [Draft(d.evidence, a, d.withheld) for d, a in zip(drafts, aligned, strict=True)]
    return [draft.without(dropped[i], RULE) for i, draft in enumerate(made)]


def _bins_to_withhold(
    drafts: Sequence[Draft], cell: _Cell, place: Place, ends: Sequence[int], min_count: int
) -> Iterator[tuple[int, Key]]:
    """Bins of a histogram of the same persons, so that no withheld one follows from an interval.

    Within an interval whose total leaves, at least two bins stay withheld, of enough persons
    together; the smallest are added.
    """
    population, dimension = place
    conditions = set(_conditions(drafts[cell.draft], cell, dimension))
    starts = _of_intervals(drafts[cell.draft], cell.key, cell.raw, ends[:-1])
    lows = [next(iter(of))[1][0] for of in starts]
    bins: dict[int, list[tuple[int, int, Key]]] = defaultdict(list)
    for i, draft in enumerate(drafts):
        if draft.evidence.population != population:
            continue
        for key, value in draft.evidence.table.items():
            if isinstance(value, IntervalCounts) or not key.level:
                continue
            for persons, of in draft.evidence.counted(key, value):
                level = dict(of).get(dimension)
                if not isinstance(level, tuple) or of - {(dimension, level)} not in conditions:
                    continue
                bins[bisect_right(lows, level[0])].append((persons, i, key))
    for inside in bins.values():
        held = [n for n, i, key in inside if key not in drafts[i].cells]
        for persons, i, key in sorted(inside, key=lambda one: one[0]):
            if not held or (len(held) > 1 and sum(held) >= min_count):
                break
            if key in drafts[i].cells:
                held.append(persons)
                yield i, key


def _conditions(draft: Draft, cell: _Cell, dimension: str) -> Iterator[PersonSet]:
    """What else the persons of a cell have in common."""
    for _, of in draft.evidence.counted(cell.key, cell.raw):
        yield frozenset(c for c in of if c[0] != dimension)


def _fine_enough(
    cells: Sequence[_Cell], min_count: int, allowed: set[int] | None
) -> tuple[list[_Cell], list[int]]:
    """As many groupings of persons as share enough intervals, and where these end.

    A median of "20 to 80" serves nobody: the grouping with the fewest persons in a group, of the
    most strata, is withheld first.
    """
    kept = list(cells)
    while True:
        ends = common_ends([cell.raw for cell in kept], min_count, allowed)
        groupings = {cell.grouping for cell in kept}
        if len(ends) > FEWEST_INTERVALS or len(groupings) == 1:
            return kept, ends
        fewest = {g: min(c.raw.n for c in kept if c.grouping == g) for g in groupings}
        worst = min(groupings, key=lambda g: (-len(g), fewest[g], g))
        kept = [cell for cell in kept if cell.grouping != worst]


def _dimension(draft: Draft, key: Key, value: IntervalCounts) -> str:
    """The dimension that the intervals of a cell divide."""
    (((dimension, _),),) = _of_intervals(draft, key, value, [0])
    return dimension


def _of_intervals(
    draft: Draft, key: Key, value: IntervalCounts, positions: Iterable[int]
) -> list[PersonSet]:
    """The conditions that intervals of the grid are, strata left out."""
    whole = Key((), key.variable, key.level, key.name)
    asked = IntervalCounts(tuple((i, i + 1, 1) for i in positions), value.bins)
    return [of for _, of in draft.evidence.counted(whole, asked)]


def _intervals(draft: Draft, key: Key) -> Iterator[tuple[str, Interval]]:
    for _, of in draft.evidence.counted(key, draft.evidence.table[key]):
        for dimension, level in of:
            if not isinstance(level, str):
                yield dimension, level


def _positions(drafts: Sequence[Draft], cell: _Cell, edges: set[float]) -> set[int]:
    """The indices of the grid that lie on one of `edges`."""
    draft, size = drafts[cell.draft], range(cell.raw.bins)
    grid = _of_intervals(draft, cell.key, cell.raw, size)
    lows = (interval[0] for ((_, interval),) in grid)
    return {i for i, low in zip(size, lows, strict=True) if low in edges}
