"""R4: all quantiles of one feature stand on the same intervals, and on a histogram's edges.

If women's intervals ended elsewhere than everybody's, their differences would tell of a few
persons, and R2 would have to withhold one or the other whole. Intervals are joined until each
holds enough persons, or nobody, in every stratum that is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_analytics.aggregates.interval_counts import IntervalCounts, common_ends
from federated_analytics.aggregates.person_set import Interval, PersonSet
from federated_analytics.aggregates.table import Key
from federated_analytics.privacy.draft import Draft

Place = tuple[str, str]
"""A population and a dimension of numbers."""


@dataclass(frozen=True)
class _Cell:
    draft: int
    key: Key
    raw: IntervalCounts


def align_intervals(drafts: Sequence[Draft], min_count: int) -> list[Draft]:
    """The drafts with the intervals of each feature's quantiles the same in all cells."""
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
    for place, found in cells.items():
        allowed = _positions(drafts, found[0], edges[place]) if edges[place] else None
        ends = common_ends([cell.raw for cell in found], min_count, allowed)
        for cell in found:
            aligned[cell.draft][cell.key] = cell.raw.joined_at(ends)
    return [Draft(d.evidence, a, d.withheld) for d, a in zip(drafts, aligned, strict=True)]


def _dimension(draft: Draft, key: Key, value: IntervalCounts) -> str:
    """The dimension that the intervals of a cell divide."""
    ((dimension, _),) = _of_interval(draft, key, value, 0)
    return dimension


def _of_interval(draft: Draft, key: Key, value: IntervalCounts, position: int) -> PersonSet:
    """The condition that one interval of the grid is, strata left out."""
    whole = Key((), key.variable, key.level, key.name)
    one = IntervalCounts(((position, position + 1, 1),), value.bins)
    ((_, of),) = draft.evidence.counted(whole, one)
    return of


def _intervals(draft: Draft, key: Key) -> Iterator[tuple[str, Interval]]:
    for _, of in draft.evidence.counted(key, draft.evidence.table[key]):
        for dimension, level in of:
            if not isinstance(level, str):
                yield dimension, level


def _positions(drafts: Sequence[Draft], cell: _Cell, edges: set[float]) -> set[int]:
    """The indices of the grid that lie on one of `edges`."""
    found = set()
    for i in range(cell.raw.bins):
        ((_, interval),) = _of_interval(drafts[cell.draft], cell.key, cell.raw, i)
        if interval[0] in edges:
            found.add(i)
    return found
